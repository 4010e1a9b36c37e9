"""The stock asyncua client as a gateway, as its documentation shows it: auto_reconnect, a subscription, a handler (see the package for the port)."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from asyncua import Client, ua

URI = "urn:machine.example"
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Handler:
    """Writes down what it is told."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.lines: list[str] = []

    def datachange_notification(self, node: Any, value: Any, data: Any) -> None:
        status = data.monitored_item.Value.StatusCode
        if value is None or (status is not None and status.value & 0x80000000):
            return
        moment = data.monitored_item.Value.SourceTimestamp
        at = (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment) - EPOCH
        number = int(str(value).partition(" ")[0])
        self.lines.append(
            json.dumps([self.names[str(node.nodeid)], number, at // timedelta(microseconds=1) * 1000, len(self.lines)])
        )


async def run(given: dict[str, Any]) -> None:
    (source,) = given["sources"]
    client = Client(source["url"], auto_reconnect=True, reconnect_max_delay=2.0)
    client.name = given["name"]
    client.session_timeout = 600_000
    loop = asyncio.get_running_loop()
    for _ in range(10):  # a busy machine is no disturbance
        with contextlib.suppress(OSError, TimeoutError):
            await client.connect()
            break
        await asyncio.sleep(1)
    index = await client.get_namespace_index(URI)
    nodes = [client.get_node(ua.NodeId(name, index)) for name in source["signals"]]
    handler = Handler({str(node.nodeid): name for node, name in zip(nodes, source["signals"], strict=True)})
    terms = source.get("terms", {})
    parameters = ua.CreateSubscriptionParameters()
    parameters.RequestedPublishingInterval = float(terms.get("interval_ms", 100))
    parameters.RequestedLifetimeCount = 6000
    parameters.RequestedMaxKeepAliveCount = 30
    parameters.MaxNotificationsPerPublish = 0
    parameters.PublishingEnabled = True
    subscription = await client.create_subscription(parameters, handler)  # type: ignore[arg-type]
    queue = int(terms.get("queue", 6000))
    with contextlib.suppress(ua.UaError):
        for begin in range(0, len(nodes), 1000):
            await subscription.subscribe_data_change(nodes[begin : begin + 1000], queuesize=queue, sampling_interval=0)
    print("up", flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while (line := await reader.readline()) and line.strip() != b"stop":
        pass
    Path(given["ledger"]).write_text("\n".join(handler.lines) + "\n", "utf-8")
    with contextlib.suppress(Exception):
        async with asyncio.timeout(3):
            await client.disconnect()


def main() -> None:
    logging.basicConfig(level="CRITICAL")
    asyncio.run(run(json.loads(Path(sys.argv[1]).read_text("utf-8"))))


if __name__ == "__main__":
    main()
