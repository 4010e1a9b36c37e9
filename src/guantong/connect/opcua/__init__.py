"""OPC UA: one session, one subscription, every value with its status code, source time and server time; nothing silently lost.

The stack is asyncua; session, reconnect and subscription are our own (see :mod:`.subscription` for why).
"""

from guantong.connect.opcua.reader import OpcUaReader, look
from guantong.connect.opcua.rules import OVERFLOW, PROFILES, Profile, channel_of, profile_of, unece_code

__all__ = ["OVERFLOW", "PROFILES", "OpcUaReader", "Profile", "channel_of", "look", "profile_of", "unece_code"]
