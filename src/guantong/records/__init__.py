"""The durable floor: a unit of work writes state, outbox, evidence leaves, counters and lineage edges whole or not at all."""

from guantong.records.model import Edge, Message
from guantong.records.service import Queued, Records, Step
from guantong.records.tables import METADATA, table

__all__ = ["METADATA", "Edge", "Message", "Queued", "Records", "Step", "table"]
