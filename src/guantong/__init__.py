"""guantong (贯通): from a machine's port to a partner's screen, linked right through."""

__version__ = "0.1.0"
