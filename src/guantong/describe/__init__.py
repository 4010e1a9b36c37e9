"""Describes each machine, part and dataset as an Asset Administration Shell and a catalogue entry, with lineage both ways."""
