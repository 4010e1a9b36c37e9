"""Offers data as products and carries them to partners under contract over the Dataspace Protocol, with receipts signed by both sides."""
