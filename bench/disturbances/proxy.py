"""A TCP line that can be cut, black-holed, delayed and made to flap."""

from __future__ import annotations

import asyncio
import contextlib


class Line:
    """Passes bytes between those who connect to ``port`` and 127.0.0.1:``target``."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.opened = 0
        """Connections taken so far."""
        self._server: asyncio.Server | None = None
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._swallowing = False
        self._delay_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Take connections, on the same port as before."""
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
            self.port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Reset every connection and refuse new ones."""
        server, self._server = self._server, None
        if server is not None:
            server.close()
        self._reset()
        if server is not None:
            await server.wait_closed()

    async def cut_for(self, seconds: float) -> None:
        """Down for so long, then up."""
        await self.cut()
        await asyncio.sleep(seconds)
        await self.open()

    async def swallow_for(self, seconds: float) -> None:
        """A black hole: connections stay open, and what is sent vanishes; those that were open then stay dead for good."""
        self._swallowing = True
        dead = list(self._pairs)
        await asyncio.sleep(seconds)
        self._swallowing = False
        self._dead = dead  # kept open on purpose: nobody is told

    async def delay(self, seconds: float) -> None:
        """Each piece waits so long before it is passed on."""
        self._delay_s = seconds

    async def flap(self, times: int, *, up_s: float, down_s: float) -> None:
        """Up and down."""
        for _ in range(times):
            await self.cut_for(down_s)
            await asyncio.sleep(up_s)

    async def close(self) -> None:
        """The end."""
        await self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _reset(self) -> None:
        for pair in list(self._pairs):
            for writer in pair:
                writer.transport.abort()
        self._pairs.clear()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.opened += 1
        born_swallowed = self._swallowing
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.transport.abort()
            self._tasks.discard(task)
            return
        pair = (writer, back)
        self._pairs.add(pair)
        hole = [born_swallowed]
        try:
            await asyncio.gather(self._pass(reader, back, hole), self._pass(there, writer, hole))
        except asyncio.CancelledError:
            pass
        finally:
            self._pairs.discard(pair)
            for one in pair:
                one.transport.abort()
            self._tasks.discard(task)

    async def _pass(self, source: asyncio.StreamReader, to: asyncio.StreamWriter, hole: list[bool]) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            while data := await source.read(65536):
                hole[0] = hole[0] or self._swallowing  # once a byte is gone, the stream can't be mended
                if hole[0]:
                    continue
                if self._delay_s:
                    await asyncio.sleep(self._delay_s)
                to.write(data)
                await to.drain()
        if not hole[0]:
            to.close()
