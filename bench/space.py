"""A space of three companies in three networks, one of them behind a router: founded, joined, traded in, proven; with the time it took.

    python -m bench.space [--json] [--keep DIRECTORY]

The leader and a customer have addresses in the open network. The supplier's PC is in a network of its own behind a router that lets
connections out and none in: nobody outside has a route to it, and the router (below, its own program) only carries what was opened from
inside. The supplier joins with one command and gets its address at the leader's relay. Then the customer asks for its catalogue,
negotiates, receives the data, both sides sign the receipt, and a stranger's verifier checks the package. Every step is a command that a
person would type; ``docs/how-to/join-a-space.md`` shows them, and a test compares.

Checked at the end: the negotiation is final, the rows delivered are the rows that were there, both signed, the package verifies with the
keys that the customer exports, nobody could connect to the supplier, and a member that was revoked gets nothing any more. Ends with 1 if
not. Needs Linux, ``unshare``, ``nsenter`` and ``ip``; no root where unprivileged user namespaces are allowed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import json
import os
import re
import resource
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from bench.edge import Networks, certificate, clean, run, until  # noqa: E402 - found beside this file, also as a script

LEADER, CUSTOMER, ROUTER = "10.77.0.1", "10.77.0.2", "10.77.1.2"
INSIDE, SUPPLIER = "192.168.77.1", "192.168.77.2"
PORT, ROWS = 8443, 600
GUANTONG = [sys.executable, "-m", "guantong.cli"]
SPACE, FIRM = "Gear makers", "Zhou Gears"
GROUPS = frozenset({"contracts", "datasets", "govern", "products", "rights", "signals", "sources", "space", "trust"})
PAGES = tuple(ROOT / "docs/how-to" / f"join-a-space{language}.md" for language in ("", ".zh-CN"))
_IP_TRANSPARENT = 19


# ---- the router: lets connections out and none in


async def router() -> None:
    """Carry each connection that was opened from inside to where it was meant for."""
    door = socket.socket()
    door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    door.setsockopt(
        socket.SOL_IP, _IP_TRANSPARENT, 1
    )  # it answers in the name of whomever the connection was meant for
    door.bind(("0.0.0.0", PORT))

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while piece := await reader.read(65_536):
                writer.write(piece)
                await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = writer.get_extra_info("sockname")[:2]
        try:
            there, thither = await asyncio.open_connection(host, port)
        except OSError:
            writer.close()
            return
        await asyncio.gather(pump(reader, thither), pump(there, writer))
        writer.close()
        thither.close()

    server = await asyncio.start_server(carry, sock=door)
    async with server:
        await server.serve_forever()


# ---- the networks


class Town(Networks):
    """Four networks and what runs in them. Runs inside ``unshare -rn``: this process is at the leader's."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.customer, self.router, self.supplier = self.network(), self.network(), self.network()
        self.join("out0", f"{LEADER}/24", self.customer, "out1", f"{CUSTOMER}/24")
        self.join("net0", "10.77.1.1/24", self.router, "net1", f"{ROUTER}/24")
        run(*self.inside(self.customer, "ip", "route", "add", "default", "via", LEADER))
        run(*self.inside(self.router, "ip", "route", "add", "default", "via", "10.77.1.1"))
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        run(
            *self.inside(self.router, "ip", "link", "add", "in0", "type", "veth", "peer", "name", "in1", "netns"),
            str(self.supplier.pid),
        )
        for zone, name, address in ((self.router, "in0", INSIDE), (self.supplier, "in1", SUPPLIER)):
            run(*self.inside(zone, "ip", "addr", "add", f"{address}/24", "dev", name))
            run(*self.inside(zone, "ip", "link", "set", name, "up"))
        run(*self.inside(self.supplier, "ip", "route", "add", "default", "via", INSIDE))
        # whatever comes from inside is handed to the router's program, wherever it is meant for
        run(*self.inside(self.router, "ip", "rule", "add", "iif", "in0", "lookup", "100", "pref", "0"))
        run(*self.inside(self.router, "ip", "route", "add", "local", "0.0.0.0/0", "dev", "lo", "table", "100"))
        self.start("router", self.inside(self.router, sys.executable, "-m", "bench.space", "--router"))


class Company:
    """One company: its network, its directory, what it types."""

    def __init__(
        self, networks: Networks, name: str, zone: subprocess.Popen[bytes] | None, address: str, say: Any
    ) -> None:
        folder = networks.folder
        self.name, self.zone, self.directory, self._networks, self._say = name, zone, folder / name, networks, say
        self.environment = {
            "GUANTONG_WEB_CA_FILE": str(folder / "node.crt"),
            "GUANTONG_WEB_PARTNER_NETWORKS": "10.77.0.0/24",
            "GUANTONG_EXCHANGE_CLAIMS_CACHE_S": "5",
            "GUANTONG_NODE_NAME": {"leader": "Gear Works", "customer": "Drives Ltd"}.get(name, FIRM),
        }
        if address:
            self.environment |= {
                "GUANTONG_WEB_TLS_CERTIFICATE": str(folder / "node.crt"),
                "GUANTONG_WEB_TLS_KEY": str(folder / "node.key"),
                "GUANTONG_WEB_PUBLIC_URL": f"https://{address}:{PORT}",
                "GUANTONG_WEB_HOST": address,
                "GUANTONG_WEB_PORT": str(PORT),
            }
        self.typed: list[list[str]] = []
        self.process: subprocess.Popen[bytes] | None = None

    def types(self, *command: str) -> Any:
        """A command, and its answer as JSON."""
        self.typed.append([*command])
        self._say(f"{self.name}: guantong {' '.join(command)[:100]}")
        where = ["--directory", str(self.directory), "--json"]
        for _ in range(5):
            done = subprocess.run(
                Networks.inside(self.zone, *GUANTONG, *command, *where),
                cwd=ROOT, env=clean() | self.environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if "web.port-in-use" not in done.stderr:
                break
            time.sleep(2)  # a node on a crowded machine that took more than three seconds to say that it is up
        if done.returncode:
            raise SystemExit(f"{self.name}: guantong {' '.join(command)}: exit {done.returncode}\n{done.stderr}")
        return json.loads(done.stdout)

    def run(self) -> None:
        """Run the node."""
        self.typed.append(["run"])
        self._say(f"{self.name}: guantong run")
        command = Networks.inside(self.zone, *GUANTONG, "run", "--directory", str(self.directory))
        self.process = self._networks.start(self.name, command, **self.environment)
        until((self.directory / "address").exists, f"the node of the {self.name}", 60)
        self.did = json.loads((self.directory / "address").read_text())["participant"]

    def stop(self) -> None:
        """Stop the node as Ctrl-C does."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)


def asks(one: Company, other: Company) -> subprocess.CompletedProcess[str]:
    """One company asks another for its catalogue, however that ends."""
    base = other.environment["GUANTONG_WEB_PUBLIC_URL"]
    command = [*GUANTONG, "catalogue", base, other.did, "--directory", str(one.directory), "--json"]
    return subprocess.run(
        Networks.inside(one.zone, *command),
        cwd=ROOT, env=clean() | one.environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


def reached(zone: subprocess.Popen[bytes] | None, address: str, port: int) -> bool:
    """Whether a connection to an address can be opened from a network."""
    code = f"import socket; socket.create_connection(('{address}', {port}), 2).close()"
    done = subprocess.run(Networks.inside(zone, sys.executable, "-c", code), capture_output=True, check=False)
    return done.returncode == 0


def day(file: Path) -> None:
    """A recording of a machine: one reading a second."""
    first = datetime.datetime(2026, 11, 24, 8, tzinfo=datetime.UTC)
    lines = (
        f"{(first + datetime.timedelta(seconds=at)).strftime('%Y-%m-%dT%H:%M:%S.000Z')}|load|{20 + at % 7}\n"
        for at in range(ROWS)
    )
    file.write_text("".join(lines))


# ---- the story


def play(folder: Path, say: Any) -> dict[str, Any]:
    """The whole story; returns what was seen and how long each part took."""
    certificate(folder, (LEADER, CUSTOMER))
    day(folder / "day.shdr")
    networks = Town(folder)
    found: dict[str, Any] = {}
    began = time.monotonic()

    def took(name: str) -> None:
        found[f"{name}_s"] = round(time.monotonic() - began - sum(v for k, v in found.items() if k.endswith("_s")), 1)

    try:
        leader = Company(networks, "leader", None, LEADER, say)
        customer = Company(networks, "customer", networks.customer, CUSTOMER, say)
        supplier = Company(networks, "supplier", networks.supplier, "", say)
        leader.run()
        leader.types("space", "init", SPACE)
        first = leader.types("space", "invite", "--name", "Drives Ltd")["link"]
        second = leader.types("space", "invite", "--name", FIRM)["link"]
        took("found")
        customer.run()
        joined = customer.types("space", "join", first, "--name", "Drives Ltd")
        took("join")
        seat = supplier.types("space", "join", second, "--name", FIRM)
        supplier.run()
        took("join_behind_router")
        found["issued"] = [joined["issued"], seat["issued"]]
        found["seat"] = seat["participant"]
        found["members"] = sorted(one["name"] for one in customer.types("space", "members")["members"])
        inner = int((supplier.directory / "port").read_text())
        found["reached_from_outside"] = [
            reached(zone, SUPPLIER, port) for zone in (None, networks.customer) for port in (inner, PORT)
        ]
        supplier.types("sources", "add", str(folder / "day.shdr"), "--name", "mill")
        until(lambda: len(_items(supplier.types("signals", "list"), "signals")) == 1, "the signal", 60)
        supplier.types("datasets", "define", "spindle", "--title", "Spindle load")
        supplier.types("rights", "state", "spindle", "--source", "own production", "--evidence", "mill 4")
        supplier.types("govern", "grade")
        supplier.types("rehearse", "spindle", "--visible-to", customer.did)
        supplier.types("products", "offer", "spindle", "--title", "Spindle load", "--visible-to", customer.did)
        took("offer")
        address = "https://" + seat["participant"].removeprefix("did:web:").replace(":", "/").replace("%3A", ":")
        base = f"{address}/dsp/2025-1"
        offers = customer.types("catalogue", base, seat["participant"])["offers"]
        talk = customer.types("negotiate", base, seat["participant"], offers[0]["id"])
        took("negotiate")
        given = customer.types("receive", talk["agreement"])
        took("transfer")
        until(
            lambda: (
                [one["state"] for one in _items(customer.types("contracts", "show", talk["agreement"]), "receipts")]
                == ["acknowledged"]
            ),
            "the receipt of both",
            30,
        )
        took("receipt")
        found |= {"state": talk["state"], "rows": given["rows"], "through": base}
        package = folder / "evidence.guantong.zip"
        customer.types("package", talk["agreement"], "--out", str(package))
        trust = folder / "trust.txt"
        customer.types("trust", "export", "--out", str(trust))
        verdict = subprocess.run(
            [*GUANTONG, "verify", "--trust", str(trust), str(package)], cwd=ROOT, capture_output=True, check=False
        )
        found["verify_exit"] = verdict.returncode
        took("evidence")
        found["relayed"] = [(one["name"], one["connected"]) for one in leader.types("space", "show")["relayed"]]
        before = asks(supplier, customer)
        leader.types("space", "revoke", seat["participant"])
        time.sleep(6)  # claims-cache-s above, and one
        after = asks(supplier, customer)
        found["revoked"] = [before.returncode, after.returncode]
        found["revoked_told"] = (after.stderr.strip().splitlines() or [""])[0][:300]
        took("revoke")
        found["minutes"] = round((time.monotonic() - began) / 60, 2)
        found["load"] = round(os.getloadavg()[0], 1)
        found["typed"] = {one.name: steps(one.typed) for one in (leader, customer, supplier)}
        for one in (supplier, customer, leader):
            one.stop()
    finally:
        networks.close()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    found["cpu_s"] = round(used.ru_utime + used.ru_stime, 1)
    return found


def steps(typed: Sequence[Sequence[str]]) -> list[str]:
    """Names of the commands in a list of typed lines; one that is typed again to look once more counts once."""
    found: list[str] = []
    for words in typed:
        name = " ".join(words[:2] if words[0] in GROUPS else words[:1])
        if not found or found[-1] != name or name == "space invite":
            found.append(name)
    return found


def shown(page: str) -> dict[str, list[str]]:
    """The commands that the how-to shows, by company: its blocks are marked with who types them."""
    found: dict[str, list[list[str]]] = {}
    for who, block in re.findall(r"^```sh (\w+)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        found.setdefault(who, []).extend(shlex.split(line)[1:] for line in block.splitlines())
    return {who: steps(typed) for who, typed in found.items()}


def _items(data: Any, name: str) -> list[Any]:
    rows = data[name] if isinstance(data, dict) else data
    return list(rows["items"] if isinstance(rows, dict) else rows)


def verdict(found: dict[str, Any]) -> list[str]:
    """What is wrong; nothing if everything is as it should be."""
    checks = {
        "a membership did not come": found["issued"] == [True, True],
        "the supplier has no seat at the relay": found["seat"].startswith(f"did:web:{LEADER}%3A{PORT}:p:"),
        "the members are others": found["members"] == sorted(["Gear Works", "Drives Ltd", FIRM]),
        "somebody could connect to the supplier": not any(found["reached_from_outside"]),
        "the negotiation is not final": found["state"] == "FINALIZED",
        "rows are missing or too many": found["rows"] == ROWS,
        "the evidence does not verify": found["verify_exit"] == 0,
        "the relay says it was not connected": found["relayed"] == [("zhou-gears", True)],
        "who was revoked is still a member": found["revoked"][0] == 0
        and found["revoked"][1] != 0
        and found["revoked_told"].startswith("exchange.answer-unusable"),
        "the how-to shows other commands": all(found["typed"] == shown(page.read_text("utf-8")) for page in PAGES),
    }
    return [what for what, true in checks.items() if not true]


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = argparse.ArgumentParser(prog="python -m bench.space", description="Three companies, one behind a router.")
    options.add_argument("--json", action="store_true")
    options.add_argument("--keep", type=Path, help="directory in which everything stays")
    options.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--router", action="store_true", help=argparse.SUPPRESS)
    given = options.parse_args(arguments)
    if given.router:
        asyncio.run(router())
        return 0
    if not given.inside:
        missing = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
        if missing:
            print(f"needs {', '.join(missing)}", file=sys.stderr)
            return 2
        again = [sys.executable, "-m", "bench.space", "--inside", *(sys.argv[1:] if arguments is None else arguments)]
        return subprocess.run(["unshare", "-rn", *again], cwd=ROOT, check=False).returncode
    with contextlib.ExitStack() as stack:
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        found = play(folder, lambda text: print(text, file=sys.stderr, flush=True))
    found["wrong"] = verdict(found)
    if given.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<24} {value}")
    return int(bool(found["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
