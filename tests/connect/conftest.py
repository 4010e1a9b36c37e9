"""Fixtures for connect's tests; the peers themselves are in ``connect_peers.py``."""

from __future__ import annotations

import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from guantong.base.clock import SystemClock
from guantong.connect.delivery import Delivery
from guantong.connect.model import ConnectSettings, Interface
from guantong.connect.service import Connect
from guantong.records import METADATA, Records

sys.path.insert(0, str(Path(__file__).parent))  # tests are not a package

from connect_peers import QUICK, SUPPLIER, Adapter, Agent, ListSink, PlainHttp


@pytest.fixture
def sink() -> ListSink:
    return ListSink()


@pytest.fixture
def memory() -> Any:
    opened = Records("sqlite://", SystemClock(), inline=True)
    opened.open(METADATA.create_all)
    yield opened
    opened.close()


@pytest.fixture
async def connect(memory: Records, sink: ListSink) -> AsyncIterator[Connect]:
    http = PlainHttp()
    stage = Connect(memory, sink, SystemClock(), http, QUICK)
    await stage.start()
    yield stage
    await stage.stop()
    await http.close()


@pytest.fixture
async def adapter() -> AsyncIterator[Adapter]:
    peer = Adapter()
    await peer.open()
    yield peer
    await peer.cut()


@pytest.fixture
async def agent(data_dir: Any) -> AsyncIterator[Agent]:
    peer = Agent((data_dir / "nist_smstestbed/agent/Devices.xml").read_bytes())
    await peer.open()
    yield peer
    await peer.cut()


@pytest.fixture
def delivery(sink: ListSink) -> Delivery:
    return Delivery(SUPPLIER, Interface("log", "shdr-log", "file:///log"), sink, SystemClock(), ConnectSettings())


@pytest.fixture
def unused_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
