"""What a Sparkplug host application knows of edge nodes, and what it decides for each message. No network and no clock of its own.

An edge node numbers its messages 0 to 255 and begins anew with its birth. A number too early waits a while for the one before it; then
the node is asked for its birth, once. Nothing is read by an alias that the present birth has not named: after a missing number the
later messages are held until the birth comes, and read by the old names only if the birth carries the same bdSeq, that is, if the node
has not begun a new session meanwhile (where it has, what was held goes on record as missing).
Source: Sparkplug 3.0.0, 5.4 (edge node sessions), 6.4.19-6.4.22, operational behavior of the host: reordering, rebirth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["ASK_AGAIN_S", "HELD", "EdgeNode", "Missing", "Topic", "node_death_counts", "topic_of"]

T = TypeVar("T")

HELD = 1_000
"""Most messages of one edge node that wait for a number or a birth."""
ASK_AGAIN_S = 30.0
"""An edge node that was asked for its birth and gave none is asked again after so long."""

VERBS = ("NBIRTH", "NDEATH", "DBIRTH", "DDEATH", "NDATA", "DDATA", "NCMD", "DCMD")


@dataclass(frozen=True, slots=True)
class Topic:
    """``spBv1.0/<group>/<verb>/<node>[/<device>]``."""

    group: str
    verb: str
    node: str
    device: str | None

    @property
    def edge(self) -> str:
        """Group and node: the descriptor of the edge node."""
        return f"{self.group}/{self.node}"

    @property
    def source(self) -> str:
        """Group, node and device: what metrics belong to."""
        return self.edge if self.device is None else f"{self.edge}/{self.device}"


def topic_of(text: str) -> Topic | None:
    """A topic taken apart; None for one that is not of an edge node (4.1)."""
    parts = text.split("/")
    if len(parts) not in (4, 5) or parts[0] != "spBv1.0" or parts[2] not in VERBS or not all(parts):
        return None
    if (parts[2][0] == "D") != (len(parts) == 5):
        return None
    return Topic(parts[1], parts[2], parts[3], parts[4] if len(parts) == 5 else None)


def node_death_counts(now: int | None, dying: int | None) -> bool:
    """Whether a death belongs to the present session: the same bdSeq, or one of them carries none (5.10)."""
    return now is None or dying is None or now == dying


@dataclass(frozen=True, slots=True)
class Missing:
    """Numbers that never came, counted from the birth on without wrapping."""

    first: int
    last: int
    start: int
    """Time of the last message before (ns)."""
    end: int
    reason: str


@dataclass(slots=True)
class EdgeNode(Generic[T]):
    """One edge node as the host sees it. ``T`` is a message as the reader holds it."""

    name: str
    online: bool = False
    bdseq: int | None = None
    next: int = 0
    """The number that must come next, counted from the birth on without wrapping."""
    last_at: int = 0
    """When the last message in order was received (ns)."""
    early: dict[int, tuple[T, int]] = field(default_factory=dict)
    """Messages that came before their turn, by number, with the time they came at."""
    waits_since: float | None = None
    """Since when a number is missing (s)."""
    asked_at: float | None = None
    """When the node was asked for its birth; None: not, or it came."""

    def accept(self, seq: int | None, message: T, at: int, now_s: float) -> list[T]:
        """Messages that can be read now, in order. ``at``: when it came (ns)."""
        if seq is None or not 0 <= seq <= 255:
            return [message]  # without a number order can't be checked
        ahead = (seq - self.next) % 256
        if ahead >= 128:
            # from the past: it was read before, or given up; its values have their own times
            return [message]
        number = self.next + ahead
        if ahead or self.asked_at is not None:
            if len(self.early) < HELD:
                self.early[number] = (message, at)
            if self.waits_since is None:
                self.waits_since = now_s
            return []
        ready = [message]
        self.next, self.last_at = number + 1, at
        while self.next in self.early:
            held, came = self.early.pop(self.next)
            ready.append(held)
            self.next, self.last_at = self.next + 1, came
        self.waits_since = None if not self.early else now_s
        return ready

    def must_ask(self, now_s: float, reorder_s: float) -> bool:
        """Whether the node must be asked for its birth now; says so once and then again after ASK_AGAIN_S only."""
        if self.asked_at is not None:
            if now_s - self.asked_at < ASK_AGAIN_S:
                return False
        elif self.online and (self.waits_since is None or now_s - self.waits_since < reorder_s):
            return False
        self.asked_at = now_s
        return True

    def born(self, bdseq: int | None, at: int) -> tuple[list[T], list[Missing], list[T]]:
        """A birth: messages held that may still be read by the old names, what is missing, and messages held in vain."""
        same = self.online and bdseq is not None and bdseq == self.bdseq
        numbers = sorted(self.early)
        missing: list[Missing] = []
        place, start = self.next, self.last_at
        readable: list[T] = []
        lost: list[T] = []
        for number in numbers:
            message, came = self.early[number]
            if number > place and same:
                missing.append(Missing(place, number - 1, start, came, "a message never came"))
            place, start = number + 1, came
            (readable if same else lost).append(message)
        if numbers and not same and self.online:
            missing.append(Missing(self.next, numbers[-1], self.last_at, at, "the edge node began a new session"))
        self.early.clear()
        self.online, self.bdseq = True, bdseq
        self.next, self.last_at = 1, at
        self.waits_since = self.asked_at = None
        return readable, missing, lost

    def started_at(self, seq: int | None) -> None:
        """The number of the birth, where it is not 0 as it must be."""
        if seq is not None and 0 <= seq <= 255:
            self.next = seq + 1

    def died(self, at: int) -> list[T]:
        """The node is gone; messages held that nobody can put in order any more."""
        lost = [message for message, _ in self.early.values()]
        self.early.clear()
        self.online = False
        self.last_at = at
        self.waits_since = self.asked_at = None
        return lost
