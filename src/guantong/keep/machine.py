"""What keep asks of the machine: free disk space, and whether its clock can be trusted."""

from __future__ import annotations

import ctypes
import shutil
import sys
from pathlib import Path

from guantong.base.clock import NS, Clock
from guantong.keep.model import ClockCheck

__all__ = ["OwnClock", "free_bytes", "kernel_clock"]

STA_UNSYNC = 0x0040
"""Status bit of adjtimex(2): the clock does not follow a time source."""


def free_bytes(directory: Path) -> int:
    """Bytes that this user may still write on the disk of a directory."""
    return shutil.disk_usage(directory).free


class OwnClock:
    """Watches the wall clock against the monotonic one, from the start of the node."""

    def __init__(self, clock: Clock, last_at: int) -> None:
        self._clock = clock
        now = clock.now()
        self._back_s = max(0, last_at - now) / NS
        self._offset = now / NS - clock.monotonic()
        self._jumped_s = 0.0

    def check(self) -> ClockCheck:
        """What can be told now."""
        moved = self._clock.now() / NS - self._clock.monotonic() - self._offset
        if abs(moved) > abs(self._jumped_s):
            self._jumped_s = moved
        synchronised, error_s = kernel_clock()
        return ClockCheck(self._back_s, self._jumped_s, synchronised, error_s)


class _Timex(ctypes.Structure):
    """struct timex of adjtimex(2); only its first fields are read."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 512),
    )


def kernel_clock() -> tuple[bool | None, float | None]:
    """Whether the kernel's clock follows a time source, and its largest error in seconds; None where the system does not say."""
    if sys.platform != "linux":
        return None, None
    try:
        asked = _Timex()
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(asked))
    except (OSError, AttributeError):
        return None, None
    if state < 0:
        return None, None
    return not asked.status & STA_UNSYNC, asked.maxerror / 1e6
