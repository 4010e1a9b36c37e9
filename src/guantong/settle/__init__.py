"""Turns receipts into invoices that both sides derive for themselves; a difference is a dispute that names the receipts."""
