"""One run: two companies, the people who work there, what goes wrong between, and the end of the day."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import gc
import hashlib
import json
import logging
import random
import shutil
import tempfile
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from tests.simulation.disk import Crashed, Disk, simulated_disks
from tests.simulation.loop import SimClock, VirtualLoop
from tests.simulation.network import Moods, SimHttp, SimNetwork

from guantong.base.canonical import b64url
from guantong.base.errors import Corrupt, GuantongError
from guantong.base.keys import P256Key
from guantong.config import load
from guantong.node import Node

__all__ = ["Company", "Failure", "Outcome", "World", "run_seed"]

T = TypeVar("T")
SUPPLIER, CUSTOMER = "supplier", "customer"
_OWNER: contextvars.ContextVar[Company | None] = contextvars.ContextVar("company", default=None)
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Failure(AssertionError):
    """An invariant does not hold."""


@dataclass(slots=True)
class Outcome:
    """What a run was."""

    seed: int
    trace_hash: str
    events: list[str]
    seconds: float
    """Simulated."""
    crashes: int
    lost_files: int
    figures: dict[str, int] = field(default_factory=dict)


class Company:
    """One node, its disk, and the machine that both are on."""

    def __init__(self, world: World, name: str, port: int) -> None:
        self.world = world
        self.name = name
        self.address = f"http://localhost:{port}"
        self.directory = world.root / name
        self.rng = random.Random(f"{world.seed} {name}")
        shutil.copytree(_template(), self.directory)
        keys = {key: b64url(self.rng.randbytes(32)) for key in ("evidence", "witness")}
        scalar = self.rng.randrange(1, _P256_ORDER).to_bytes(32, "big")
        keys["token"] = b64url(P256Key(scalar).private_bytes())
        (self.directory / "keys.json").write_text(json.dumps(keys), "utf-8")
        self.disk = Disk(self.directory, random.Random(f"{world.seed} {name} disk"))
        self.disk.settle()
        self.disk.on_death = self._stop_soon
        self.crashes_left = self.rng.choice((0, 1, 1, 2, 3))
        self.crashes = 0
        self.boots = 0
        self.node: Node | None = None
        self.app: Any = None
        self.running = asyncio.Event()
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self._context = contextvars.copy_context()
        self._context.run(_OWNER.set, self)
        self._dying: asyncio.Task[None] | None = None

    def spawn(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """A task that dies with the node."""
        return self.world.loop.create_task(work, name=name, context=self._context)

    async def start(self) -> None:
        """Start on what the disk has, again and again until a start is not cut short."""
        while not self.running.is_set():
            task = self.spawn(self._boot(), f"boot {self.name}")
            await asyncio.wait({task})
            if self._dying is not None:
                await asyncio.wait({self._dying})
                return
            error = None if task.cancelled() else task.exception()
            if error is not None:
                raise error

    async def _boot(self) -> None:
        self.boots += 1
        draws = random.Random(f"{self.world.seed} {self.name} {self.boots}")
        if self.crashes_left and self.world.trouble:
            self.disk.crash_at = self.disk.points + self.rng.choice((1, 5, 40, 150)) + self.rng.randrange(40)
            self.disk.crash_before = self.rng.random() < 0.5
        config = load({"node.directory": self.directory, "web.public-url": self.address}, environment={})
        self.node = node = Node(
            config,
            clock=self.world.clock,
            http=SimHttp(self.world.network, self),
            random=draws.randbytes,
            new_id=lambda: uuid.UUID(int=draws.getrandbits(128), version=4).urn,
            inline=True,
        )
        await node.start()
        self.app = node.app
        self.world.trace("up", self.name, self.boots)
        self.running.set()

    def _stop_soon(self) -> None:
        self.app = None
        self.running.clear()
        # in the world's context: whoever wrote last dies with the rest
        self._dying = self.world.loop.create_task(
            self._die(), name=f"crash {self.name}", context=self.world.context.copy()
        )

    async def _die(self) -> None:
        """The process is gone: nothing is stopped, its tasks only end. Then its machine starts again."""
        self.crashes += 1
        self.crashes_left -= 1
        self.world.trace("crash", self.name, self.disk.points)
        await self._end_tasks()
        if self.node is not None:
            self.node.records.engine.dispose()
            self.node = None
        self.disk.crash()
        await asyncio.sleep(self.rng.choice((0.05, 2.0, 20.0)) * self.rng.random())
        self._dying = None
        await self.start()

    async def _end_tasks(self) -> None:
        for _ in range(100):
            if not self.tasks:
                return
            for task in list(self.tasks):
                task.cancel()
            await asyncio.sleep(0)
        raise Failure(f"tasks outlive their process: {[task.get_name() for task in self.tasks]}")

    async def stop(self) -> None:
        """Stop as told."""
        assert self.node is not None
        task = self.spawn(self.node.stop(), "stop")
        await asyncio.wait({task})
        self.app = None
        await self._end_tasks()
        self.node.records.engine.dispose()
        if task.exception() is not None:
            raise task.exception()  # type: ignore[misc]


class World:
    """Everything of one run. ``trouble`` off: a quiet day, the same journey."""

    def __init__(self, seed: int, loop: VirtualLoop, root: Path, *, trouble: bool = True, echo: bool = False) -> None:
        self.seed = seed
        self.loop = loop
        self.root = root
        self.trouble = trouble
        self.echo = echo
        self.context = contextvars.copy_context()
        self.clock = SimClock(loop)
        self.rng = random.Random(f"{seed} world")
        self.events: list[str] = []
        self.errors: list[str] = []
        """What rooms logged as errors while their node was alive: nobody foresaw them."""
        self.network = SimNetwork(
            random.Random(f"{seed} network"),
            Moods.of(self.rng) if trouble else Moods(),
            self.trace,
            early=random.Random(f"{seed} early"),
        )
        self.companies = [Company(self, SUPPLIER, 7001), Company(self, CUSTOMER, 7002)]
        for company in self.companies:
            self.network.companies[company.address.removeprefix("http://")] = company

    def trace(self, *words: object) -> None:
        """One event of the run; the hash over all of them shows that a replay is the same."""
        line = f"{self.loop.time():.6f} " + " ".join(map(str, words))
        self.events.append(line)
        if self.echo:
            print(line, flush=True)

    async def do(self, company: Company, name: str, step: Callable[[Node], Awaitable[T]], *, tries: int = 80) -> T:
        """A person does something until it is done: over crashes, refusals and silence."""
        error: BaseException | None = None
        for attempt in range(tries):
            await company.running.wait()
            assert company.node is not None
            task = company.spawn(_call(step, company.node), name)
            await asyncio.wait({task})
            error = None if task.cancelled() else task.exception()
            if task.cancelled() or isinstance(error, Crashed):
                self.trace("cut short", company.name, name)
                continue
            if error is None:
                self.trace("done", company.name, name)
                return task.result()
            if not isinstance(error, GuantongError) or isinstance(error, Corrupt):
                raise error
            self.trace("failed", company.name, name, error.code)
            await asyncio.sleep(0.3 + 0.2 * attempt)
        raise Failure(f"{name} of {company.name} never succeeds: {error!r}")

    async def weather(self) -> None:
        """Cut the network now and then."""
        for _ in range(self.rng.choice((0, 1, 2))):
            await asyncio.sleep(self.rng.random() * 30)
            length = self.rng.choice((0.5, 5.0, 45.0)) * self.rng.random()
            self.network.cut_until = self.loop.time() + length
            self.trace("cut", f"{length:.3f}")

    async def calm(self) -> None:
        """No more trouble; both nodes up; wait until nothing is under way."""
        self.trouble = False
        self.network.heal()
        self.trace("healed")
        for company in self.companies:
            company.crashes_left = 0
            company.disk.crash_at = None
        for company in self.companies:
            await company.running.wait()
        for _ in range(3):
            for company in self.companies:
                assert company.node is not None
                await asyncio.wait_for(company.node.outbox.drained(), 900)
            await asyncio.sleep(12)


async def _call(step: Callable[[Node], Awaitable[T]], node: Node) -> T:
    return await step(node)


@functools.cache
def _template() -> Path:
    """A node's directory as its first start leaves it: schemas made, nothing in them."""
    import atexit

    from guantong.base.clock import SystemClock
    from guantong.keep.log import Log
    from guantong.keep.model import KeepSettings
    from guantong.records.schema import migrate
    from guantong.records.service import Records

    folder = Path(tempfile.mkdtemp(prefix="guantong-template-", dir=_memory()))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    records = Records(f"sqlite:///{folder / 'records.db'}", SystemClock(), inline=True)
    records.open(migrate)
    records.close()
    (folder / "blobs").mkdir()
    log = Log(folder / "keep" / "log.db", SystemClock(), KeepSettings(), inline=True)
    log.open()
    log.close()
    return folder


def _memory() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


class _Watching(logging.Handler):
    """Errors that rooms log while their process is alive."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._errors = errors

    def emit(self, record: logging.LogRecord) -> None:
        company = _OWNER.get()
        if company is None or company.disk.alive:
            kind = record.exc_info[0] if record.exc_info else None
            if kind is None or not issubclass(kind, Crashed):
                self._errors.append(
                    f"{record.name}: {record.getMessage()}" + (f" {record.exc_info[1]!r}" if record.exc_info else "")
                )


def _tasks_of_companies(loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> asyncio.Task[Any]:
    task: asyncio.Task[Any] = asyncio.Task(work, loop=loop, **options)
    context = options.get("context")
    owner = context.get(_OWNER) if context is not None else _OWNER.get()
    if owner is not None:
        owner.tasks[task] = None
        task.add_done_callback(lambda done: owner.tasks.pop(done, None))
    return task


@contextlib.contextmanager
def _quiet(errors: list[str]) -> Iterator[None]:
    logger = logging.getLogger("guantong")
    handler = _Watching(errors)
    before, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.ERROR)
    logger.propagate = False
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()
        logger.removeHandler(handler)
        logger.setLevel(before)
        logger.propagate = propagate


def run_seed(seed: int, *, trouble: bool = True, echo: bool = False) -> Outcome:
    """One run from its seed. Raises whatever went wrong, with the seed in its notes."""
    from tests.simulation.invariants import check
    from tests.simulation.journey import journey

    root = Path(tempfile.mkdtemp(prefix="guantong-sim-", dir=_memory()))
    loop = VirtualLoop()
    loop.set_task_factory(_tasks_of_companies)
    asyncio.set_event_loop(loop)
    world: World | None = None

    async def whole() -> dict[str, int]:
        nonlocal world
        world = World(seed, loop, root, trouble=trouble, echo=echo)
        errors = world.errors

        def unseen(_: Any, context: dict[str, Any]) -> None:
            error = context.get("exception")
            if not isinstance(error, (Crashed, asyncio.CancelledError)):
                errors.append(f"{context.get('message')}: {error!r}")

        loop.set_exception_handler(unseen)
        with _quiet(errors), simulated_disks([company.disk for company in world.companies]):
            return await asyncio.wait_for(_day(world, journey, check), 100_000)

    try:
        figures = loop.run_until_complete(whole())
        assert world is not None
        if world.errors:
            raise Failure("; ".join(world.errors[:3]))
        text = "\n".join(world.events)
        return Outcome(
            seed,
            hashlib.sha256(text.encode()).hexdigest(),
            world.events,
            loop.time(),
            sum(company.crashes for company in world.companies),
            sum(company.disk.lost for company in world.companies),
            figures,
        )
    except BaseException as error:
        error.add_note(f"seed {seed}: replay it with  python -m tests.simulation --seed {seed}")
        if world is not None and world.errors:
            error.add_note("logged: " + "; ".join(world.errors[:5]))
        raise
    finally:
        with contextlib.suppress(BaseException):
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
        asyncio.set_event_loop(None)
        loop.close()
        shutil.rmtree(root, ignore_errors=True)


async def _day(world: World, journey: Any, check: Any) -> dict[str, int]:
    for company in world.companies:
        world.loop.create_task(company.start(), name=f"start {company.name}")
    storms = world.loop.create_task(world.weather()) if world.trouble else None
    try:
        story = await journey(world)
    finally:
        if storms is not None:
            storms.cancel()
    figures: dict[str, int] = await check(world, story)
    for company in world.companies:
        await company.stop()
    return figures
