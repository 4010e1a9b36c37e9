"""Reads machines and systems through their own interfaces into batches of readings, each with its source time, status and sequence."""

from guantong.connect.model import ConnectSettings, Form, Imported, Interface, Property, Proposal, Scorecard

__all__ = ["ConnectSettings", "Form", "Imported", "Interface", "Property", "Proposal", "Scorecard"]
