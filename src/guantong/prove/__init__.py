"""Puts every recorded step into a transparency log, has it witnessed, and packs proofs that strangers verify with their own tools."""
