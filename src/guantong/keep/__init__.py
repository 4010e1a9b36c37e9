"""留存 keep: every batch goes to a durable log before anything else sees it, then into tables that open tools can read."""

from guantong.keep.model import Filter, KeepSettings, KeepStats, Logged, clean_measurement_schema, clean_schema
from guantong.keep.ports import Blobs

__all__ = [
    "Blobs",
    "Filter",
    "KeepSettings",
    "KeepStats",
    "Logged",
    "clean_measurement_schema",
    "clean_schema",
]
