"""A first helping of each fuzz target, the same each time; ``python -m tests.fuzz`` goes on for as long as wanted, guided by coverage."""

from __future__ import annotations

import contextlib
import random
from pathlib import Path

import pytest
from tests.fuzz.targets import LIMIT, TARGETS, seeds

from guantong.base.errors import GuantongError

EXECUTIONS = 150
FOUND = {
    "modbus": (b"//[\rq:///", b"9?quantity=\xb30"),
    "sparkplug-batch": (b"\x08" + b"\xff" * 9 + b"\x01" + b"\x12\x06\x10\x01\x20\x03\x50\x05",),
    "opcua": (
        bytes.fromhex(
            "0100430306926d756a7cdd0100000000000000000000000000000000070000001e8e6d75ed0000000100000001002b0301b80000000a0000"
            "000000000003010100000000010000000308010000000000000000000000020000000323fbffffffffffffff000000000300000003080000"
            "000000010000c7c7c7c70000000000040300000b00000d800000f83f0000000005000000030c04000000746508fbffffffffffffff000000"
            "00030000000308000000000001000000030dfbffffff00f83f0000000005000000000000ff5503ca5a5d38530000000000000000f03f0000"
            "0000000000400000000008000000000000"
        ),
        bytes.fromhex(
            "010043034672972c647cdd010000000000000000000000000000000007000000126f972c647cdd010100000001002b0301b80000000a000000000000"
            "00037e0100000000010000000308010000000000000000000000000200030008fbffffffffffffff0000030000000308000000000001000000000000"
            "04000000030b000000000001009b023874972c00f83f002c647cdd0100000000000000000000000000000000010000000000030f020000ffffffffff"
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff0000010000000007000000038b647cdd010000000000"
            "000000000000000000000000000023000000f83f00000000000002000000000000000000f03f"
        ),
    ),
}
"""What longer fuzzing once found, so that it stays mended."""


def mutated(data: bytes, chance: random.Random) -> bytes:
    """The data with a few pieces cut, doubled, turned over or replaced."""
    found = bytearray(data)
    for _ in range(chance.randint(1, 6)):
        place, size = chance.randrange(len(found) + 1), chance.choice((1, 1, 2, 4, 16, 200))
        match chance.randrange(4):
            case 0:
                del found[place : place + size]
            case 1:
                found[place:place] = found[place : place + size]
            case 2:
                found[place : place + size] = bytes(chance.randrange(256) for _ in range(size))
            case _:
                found[place:place] = chance.choice((b"\xff", b"\0", b"<", b"|", b"9" * 25, b"\xc3(", b'"', b"\n"))
    return bytes(found[:LIMIT])


# pyarrow cannot hand a row over whose bytes are no text, says so to nobody, and then refuses the file: that we tell
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_spoilt_input_raises_nothing_but_our_own_errors(name: str, data_dir: Path) -> None:
    chance = random.Random(7)
    known = [one for one in seeds(name, data_dir) if one]
    refused = 0
    for number in range(EXECUTIONS):
        data = known[number] if number < len(known) else mutated(chance.choice(known)[:30_000], chance)
        try:
            TARGETS[name](data)
        except GuantongError:
            refused += 1

    assert known
    assert refused < EXECUTIONS, "nothing was read at all: the seeds are worth nothing"


@pytest.mark.parametrize("name, number", [(name, number) for name, all in FOUND.items() for number in range(len(all))])
def test_what_was_found_once_is_mended(name: str, number: int) -> None:
    with contextlib.suppress(GuantongError):
        TARGETS[name](FOUND[name][number])
