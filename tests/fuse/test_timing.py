"""Clocks and lateness of a source, on seeded series."""

from __future__ import annotations

import numpy as np
import pytest

from guantong.base.clock import NS
from guantong.fuse.identity import NEVER
from guantong.fuse.model import FuseSettings
from guantong.fuse.timing import SourceClock, SourceLateness

SETTINGS = FuseSettings()


def arrivals(seed: int, seconds: float, *, rate: float = 8.0, jitter: float = 0.02) -> tuple[np.ndarray, np.ndarray]:
    """(receive, source) of a source whose clock is right."""
    dice = np.random.default_rng(seed)
    source = (np.arange(int(seconds * rate)) / rate * NS).astype(np.int64) + 10**18
    receive = source + (0.005 * NS + dice.exponential(jitter, len(source)) * NS).astype(np.int64)
    return np.maximum.accumulate(receive), source


def feed(clock: SourceClock, receive: np.ndarray, source: np.ndarray, piece: int = 7) -> np.ndarray:
    return np.concatenate(
        [clock.feed(receive[at : at + piece], source[at : at + piece]) for at in range(0, len(receive), piece)]
    )


@pytest.mark.parametrize("seed", range(1, 11))
@pytest.mark.parametrize("offset", [-37.0, 37.0, 3600.0])
def test_a_clock_that_is_off_for_a_stretch_is_found_with_its_offset(seed: int, offset: float) -> None:
    receive, source = arrivals(seed, 30)
    off = slice(80, 160)
    source[off] += int(offset * NS)
    clock = SourceClock(SETTINGS)
    aligned = feed(clock, receive, source)
    clock.close()

    (run,) = clock.closed
    assert run.add is not None
    assert -run.add / NS == pytest.approx(offset, abs=0.1)
    assert run.uncertainty < 0.2 * NS
    assert abs(run.start - int(receive[80])) < NS
    assert abs(run.end - int(receive[159])) < NS
    corrected = aligned != NEVER
    assert not corrected[:80].any()
    assert not corrected[160:].any()
    assert corrected[110:160].all()
    assert np.abs(aligned[110:160] - receive[110:160]).max() < 0.5 * NS


@pytest.mark.parametrize("seed", range(1, 11))
def test_a_right_clock_with_jitter_and_stale_first_values_is_left_alone(seed: int) -> None:
    receive, source = arrivals(seed, 60, jitter=0.1)
    source[:20] -= np.random.default_rng(seed).integers(1, 10**6, 20) * NS  # last values of signals that seldom change
    clock = SourceClock(SETTINGS)
    aligned = feed(clock, receive, source)
    clock.close()

    assert clock.closed == []
    assert (aligned == NEVER).all()


@pytest.mark.parametrize("seed", range(1, 11))
def test_a_burst_of_buffered_readings_is_no_clock_that_is_off(seed: int) -> None:
    receive, source = arrivals(seed, 30)
    receive[80:160] = receive[160]  # ten seconds held back, then sent at once
    clock = SourceClock(SETTINGS)
    feed(clock, receive, source, piece=200)
    clock.close()

    assert clock.closed == []


def late_of(signal: np.ndarray, time: np.ndarray, receive: np.ndarray) -> list[tuple[int, int]]:
    lateness = SourceLateness(SETTINGS)
    for at in range(0, len(time), 4):
        part = slice(at, at + 4)
        lateness.feed(signal[part], time[part], receive[part], np.full(len(time[part]), at))
    return [(one.signal, one.time) for one in lateness.ripe(2**62)]


def test_readings_held_back_while_others_go_on_are_late() -> None:
    time = np.repeat(np.arange(100) * NS // 4, 2) + 10**18
    signal = np.tile([1, 2], 100)
    receive = time + NS // 100
    held = (signal == 1) & (np.arange(200) >= 60) & (np.arange(200) < 80)
    receive[held] += 7 * NS
    order = np.argsort(receive, kind="stable")

    late = late_of(signal[order], time[order], receive[order])
    assert late == [(1, int(at)) for at in time[held]]


def test_the_first_old_value_of_each_signal_is_not_late_and_order_within_one_message_does_not_matter() -> None:
    time = np.array([100, 20, 3, 101, 102, 103, 104, 105], np.int64) * NS + 10**18
    receive = np.full(8, 105 * NS + 10**18)
    assert late_of(np.array([1, 2, 3, 1, 1, 1, 1, 1]), time, receive) == []

    lateness = SourceLateness(SETTINGS)
    lateness.feed(np.array([1, 2]), time[:2], receive[:2], np.array([1, 1]))
    assert lateness.pending == []
    # one message: all of signal 1, then all of signal 2
    back = np.array([101, 120, 140, 101, 120, 140], np.int64) * NS + 10**18
    lateness.feed(np.array([1, 1, 1, 2, 2, 2]), back, np.full(6, 141 * NS + 10**18), np.full(6, 2))
    assert lateness.pending == []
