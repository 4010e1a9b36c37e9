"""Makes one chain of many sources: clocks, units, names, duplicates and parts are reconciled, each correction on record."""
