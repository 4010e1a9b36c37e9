"""Mutations of real files, and the three promises each parser keeps: no crash, no hang, no unbounded memory.

A target says what its seeds are and what one input does; the only exceptions it may let out are guantong's own. Inputs grow from seeds by
byte and text mutations; one that makes the target say something new (its ``trace``) joins the seeds, so that the search goes deeper.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import resource
import signal
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from guantong.base.errors import GuantongError

__all__ = ["Finding", "Outcome", "Target", "attack"]

HANG_S = 5
"""An input that takes longer is a finding."""
MEMORY_BYTES = 1 << 30
"""Growth of the process beyond this is a finding."""
_INTERESTING = (
    b"",
    b"\0",
    b"\xff",
    b"|",
    b"||",
    b"\n",
    b"\r\n",
    b"<",
    b">",
    b"&",
    b"&lt;",
    b"<!--",
    b"<![CDATA[",
    b'<!DOCTYPE a [<!ENTITY b "c">]>',
    b"NaN",
    b"-1",
    b"1e999",
    b"9" * 40,
    b"\xef\xbb\xbf",
    b"T",
    b"Z",
    b"UNAVAILABLE",
    b"* PING",
    b"<<<<<<<",
    b"=======",
    "主轴".encode(),
    b"\xc3\x28",
)


@dataclass(frozen=True, slots=True)
class Target:
    """One parser."""

    name: str
    seeds: Callable[[Path], Sequence[bytes]]
    """From the folder of real data; must give at least one where the folder is not there."""
    one: Callable[[bytes], Hashable]
    """Feed one input; returns what it came to (kinds of outcome, not values), so that new ones are told from old."""
    invariant: str
    """What must hold of every input."""


@dataclass(frozen=True, slots=True)
class Finding:
    """An input that broke a promise."""

    target: str
    what: str
    data: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()[:16]


@dataclass(slots=True)
class Outcome:
    """What an attack came to."""

    target: str
    seed: int
    executions: int = 0
    corpus: int = 0
    seconds: float = 0.0
    findings: list[Finding] = field(default_factory=list)


class _Hang(BaseException):
    """Not an Exception: no parser may catch it."""


def mutate(data: bytes, chance: random.Random, others: Sequence[bytes]) -> bytes:
    """One to six changes."""
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        size = len(found)
        place = chance.randrange(size + 1)
        kind = chance.randrange(9)
        if kind == 0 and size:
            found[place % size] = chance.randrange(256)
        elif kind == 1 and size:
            found[place % size] ^= 1 << chance.randrange(8)
        elif kind == 2:
            found[place:place] = chance.choice(_INTERESTING)
        elif kind == 3:
            del found[place : place + chance.choice((1, 2, 8, 64, 1024))]
        elif kind == 4:
            piece = found[place : place + chance.choice((1, 8, 64, 512))]
            found[place:place] = piece * chance.choice((1, 2, 20))
        elif kind == 5 and others:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            found[place : place + chance.choice((0, 16, 128))] = other[start : start + chance.choice((4, 32, 256))]
        elif kind == 6:
            del found[place:]
        elif kind == 7 and size >= 4:
            found[place % (size - 3) : place % (size - 3) + 4] = chance.choice(
                (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\0", b"\0\0\0\x80")
            )
        else:
            digits = [index for index in range(min(size, 4096)) if 48 <= found[index] <= 57]
            if digits:
                at = chance.choice(digits)
                found[at : at + 1] = chance.choice((b"-", b".", b"99999999999999999999", b"e", b"0"))
    return bytes(found[: 1 << 20])


@contextlib.contextmanager
def _limit(seconds: int) -> Iterator[None]:
    def ring(_: int, __: FrameType | None) -> None:
        raise _Hang

    # processor time: a busy machine is no finding
    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def attack(
    target: Target, folder: Path, *, seed: int, seconds: float | None = None, executions: int | None = None
) -> Outcome:
    """Feed mutated inputs for so long, or so many of them. Deterministic for a seed and a number of executions."""
    chance = random.Random(seed)
    corpus = [bytes(one) for one in target.seeds(folder)]
    if not corpus:
        raise ValueError(f"{target.name} has no seed")
    with contextlib.suppress(Exception, _Hang), _limit(HANG_S):
        target.one(corpus[0])  # what is imported at the first use is not the input's time
    seen: set[Hashable] = set()
    outcome = Outcome(target.name, seed)
    began = time.monotonic()
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    while (executions is None or outcome.executions < executions) and (
        seconds is None or time.monotonic() - began < seconds
    ):
        index = outcome.executions
        data = corpus[index] if index < len(corpus) and not seen else mutate(chance.choice(corpus), chance, corpus)
        outcome.executions += 1
        try:
            with _limit(HANG_S):
                said = target.one(data)
        except GuantongError as error:
            said = error.code
        except _Hang:
            outcome.findings.append(Finding(target.name, f"took longer than {HANG_S} s", data))
            continue
        except Exception as error:
            last = error.__traceback__
            while last is not None and last.tb_next is not None:
                last = last.tb_next
            place = f"{Path(last.tb_frame.f_code.co_filename).name}:{last.tb_lineno}" if last is not None else ""
            outcome.findings.append(Finding(target.name, f"{type(error).__name__} at {place}: {error}"[:200], data))
            continue
        if said not in seen:
            seen.add(said)
            if len(corpus) < 2000 and len(data) < 200_000:
                corpus.append(data)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) * 1024
        if grown > MEMORY_BYTES:
            outcome.findings.append(Finding(target.name, f"{grown >> 20} MiB more memory", data))
            base += grown // 1024
    outcome.corpus, outcome.seconds = len(corpus), time.monotonic() - began
    return outcome
