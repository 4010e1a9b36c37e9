"""Writes every batch to a durable log before anything else sees it, then into tables that open tools can read."""
