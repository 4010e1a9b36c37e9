"""Reads machines and systems through their own interfaces into batches of readings, each with its source time, status and sequence."""
