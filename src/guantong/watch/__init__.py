"""Reads the chain for availability, quality, energy and carbon, warns early, and tells how long supply lasts."""
