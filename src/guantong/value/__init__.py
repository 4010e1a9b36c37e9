"""States what the data cost, in a ledger of its own, and appraises what it is worth, with every factor traced."""
