"""Two zones, for real: a gateway and a node in two network namespaces, separated for a while, and the ledger afterwards.

    python -m bench.edge [--minutes 10 | --seconds 20] [--rate 20] [--json]

The machine network is a namespace of its own with one wire (veth) to the office. In it an adapter speaks SHDR to the gateway on loopback
and writes down how many readings it sent: what was ``offered`` comes from that file. The node listens in the office over TLS. Half of the
given time is before and after the separation at most; during it the wire is down. When the wire is back the node is killed (SIGKILL)
while it takes what waited, and started again.

Checked at the end, by DuckDB on the node's Delta files and by /proc: every reading offered is there once, with none missing and none
twice; the gateway listened nowhere; no connection to the machine network was opened from the office. Ends with 1 if not. Needs Linux,
``unshare``, ``nsenter`` and ``ip`` (iproute2); no root where unprivileged user namespaces are allowed.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import ipaddress
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OFFICE, MACHINES, PORT = "10.77.0.1", "10.77.0.2", 8443
GUANTONG = [sys.executable, "-m", "guantong.cli"]


# ---- the adapter: a peer of its own, in the machine network


async def adapter(port: int, rate: float, folder: Path) -> None:
    """Send ``counter`` (0, 1, 2, …) ``rate`` times a second to the one who connects, until the file ``halt`` is there; then say how many."""
    sent = 0

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent

        async def listen() -> None:
            while line := await reader.readline():
                if line.startswith(b"* PING"):
                    writer.write(b"* PONG 10000\n")

        (folder / "begun").write_text(str(sent))
        task = asyncio.create_task(listen())
        due = time.monotonic()
        while not (folder / "halt").exists():
            now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
            writer.write(f"{now}|counter|{sent}\n".encode())
            await writer.drain()
            sent += 1
            (folder / "offered.new").write_text(str(sent))
            (folder / "offered.new").replace(folder / "offered")
            due += 1 / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
        (folder / "halted").touch()
        await task

    server = await asyncio.start_server(speak, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


# ---- the scene


def certificate(folder: Path, addresses: Sequence[str] = (OFFICE,)) -> None:
    """A certificate of the nodes' own, for their addresses."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "node.example")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=30))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(one)) for one in addresses]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "node.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "node.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )


class Networks:
    """Networks joined by wires, and what runs in them. Runs inside ``unshare -rn``: this process is in the first."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[bytes]] = []
        self.logs: list[Any] = []
        run("ip", "link", "set", "lo", "up")

    def network(self) -> subprocess.Popen[bytes]:
        """A further network; the process that holds it."""
        zone = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        self.running.append(zone)
        until(
            lambda: Path(f"/proc/{zone.pid}/ns/net").readlink() != Path("/proc/self/ns/net").readlink(), "a network", 10
        )
        run(*self.inside(zone, "ip", "link", "set", "lo", "up"))
        return zone

    def join(self, here: str, address: str, zone: subprocess.Popen[bytes], there: str, other: str) -> None:
        """A wire between this network and another, with an address at each end."""
        run("ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", str(zone.pid))
        run("ip", "addr", "add", address, "dev", here)
        run("ip", "link", "set", here, "up")
        run(*self.inside(zone, "ip", "addr", "add", other, "dev", there))
        run(*self.inside(zone, "ip", "link", "set", there, "up"))

    @staticmethod
    def inside(zone: subprocess.Popen[bytes] | None, *command: str) -> list[str]:
        """A command in a network; None: in this one."""
        return [*command] if zone is None else ["nsenter", "-t", str(zone.pid), "-n", *command]

    def start(self, name: str, command: Sequence[str], **environment: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{name}.log").open("ab")
        self.logs.append(log)
        process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log, env=clean() | environment)
        self.running.append(process)
        return process

    def close(self) -> None:
        for process in reversed(self.running):
            if process.poll() is None:
                process.terminate()
        for process in self.running:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for log in self.logs:
            log.close()


class Scene(Networks):
    """The office, where this process is, and the machine network behind one wire."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.zone = self.network()
        self.join("veth0", f"{OFFICE}/24", self.zone, "veth1", f"{MACHINES}/24")

    def there(self, *command: str) -> list[str]:
        """A command in the machine network."""
        return self.inside(self.zone, *command)

    def wire(self, state: str) -> None:
        """Put the wire up or down."""
        run("ip", "link", "set", "veth0", state)


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("GUANTONG_")}


def run(*command: str, **environment: str) -> str:
    """Run to the end; its output, or the reason it gave."""
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=clean() | environment, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def until(true: Any, what: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if true():
                return
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    raise SystemExit(f"waited {seconds:.0f} s for {what}")


def listening(pid: int) -> set[str]:
    """Inodes of listening sockets that the process holds (IPv4 and IPv6)."""
    held = {str(one.readlink()) for one in Path(f"/proc/{pid}/fd").iterdir() if one.is_symlink()}
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and f"socket:[{fields[9]}]" in held:
                found.add(fields[1])
    return found


def opened_towards(pid: int, address: str) -> set[str]:
    """Connections in the process's network that go to the address from a port that nobody listens on, so were opened there."""
    packed = ipaddress.ip_address(address).packed[::-1].hex().upper()
    lines = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    doors = {fields[1].split(":")[1] for fields in lines if fields[3] == "0A"}
    return {
        f"{fields[1]}->{fields[2]}"
        for fields in lines
        if fields[2].startswith(packed + ":") and fields[1].split(":")[1] not in doors
    }


def play(folder: Path, away_s: float, rate: float, say: Any) -> dict[str, Any]:
    """The whole scene; returns the ledger."""
    certificate(folder)
    scene = Scene(folder)
    office, hall = folder / "office", folder / "hall"
    tls = {
        "GUANTONG_WEB_TLS_CERTIFICATE": str(folder / "node.crt"),
        "GUANTONG_WEB_TLS_KEY": str(folder / "node.key"),
        "GUANTONG_WEB_PUBLIC_URL": f"https://{OFFICE}:{PORT}",
        "GUANTONG_WEB_HOST": OFFICE,
        "GUANTONG_WEB_PORT": str(PORT),
    }
    trust = {"GUANTONG_WEB_CA_FILE": str(folder / "node.crt")}

    def node() -> subprocess.Popen[bytes]:
        process = scene.start("node", [*GUANTONG, "run", "--directory", str(office)], **tls)
        until((office / "address").exists, "the node", 60)
        return process

    def waiting() -> int:
        return int(json.loads(run(*GUANTONG, "edge", "status", "--directory", str(hall), "--json"))["waiting"])

    def offered() -> int:
        return int((folder / "offered").read_text())

    def begun() -> int:
        # the number that the gateway's connection began with: what the probe was sent before is nobody's to keep
        return int((folder / "begun").read_text())

    opened: set[str] = set()
    try:
        first = node()
        code = json.loads(run(*GUANTONG, "edges", "invite", "--directory", str(office), "--json", **tls))["code"]
        url = f"https://{OFFICE}:{PORT}"
        run(*scene.there(*GUANTONG, "edge", "enrol", url, code, "--name", "hall", "--directory", str(hall)), **trust)
        scene.start(
            "adapter", scene.there(sys.executable, "-m", "bench.edge", "--adapter", str(folder), "--rate", str(rate))
        )
        time.sleep(1)
        run(
            *scene.there(*GUANTONG, "edge", "add", "shdr://127.0.0.1:7878", "--name", "mill", "--directory", str(hall)),
            **trust,
        )
        gateway = scene.start("gateway", scene.there(*GUANTONG, "edge", "run", "--directory", str(hall)), **trust)
        time.sleep(1)
        until(lambda: waiting() >= 0 and (hall / "log.db-wal").exists(), "the gateway", 60)
        until(lambda: offered() > begun() + 3 * rate, "readings", 60)
        until(lambda: waiting() <= 3, "the node to have them", 60)
        say(f"connected: {offered() - begun()} readings offered")
        opened |= opened_towards(first.pid, MACHINES)
        scene.wire("down")
        cut, at_cut = time.monotonic(), offered()
        while (left := cut + away_s - time.monotonic()) > 0:
            time.sleep(min(30.0, left))
            say(f"separated for {time.monotonic() - cut:.0f} s: {waiting()} entries wait")
        held, at_return = waiting(), offered()
        scene.wire("up")
        until(lambda: waiting() < held, "the first of them to arrive", 60)
        first.send_signal(signal.SIGKILL)
        first.wait()
        (office / "address").unlink(missing_ok=True)
        say(f"the wire is back; node killed with {waiting()} entries waiting")
        second = node()
        time.sleep(2)
        (folder / "halt").touch()
        until((folder / "halted").exists, "the adapter to halt", 20)
        time.sleep(1)
        until(lambda: waiting() == 0, "the node to have everything", 120)
        opened |= opened_towards(second.pid, MACHINES)
        doors = listening(gateway.pid)
        told = json.loads(run(*GUANTONG, "edges", "list", "--directory", str(office), "--json", **tls))["edges"][0]
        account = json.loads(run(*GUANTONG, "status", "--directory", str(office), "--json", **tls))
        second.send_signal(signal.SIGTERM)
        second.wait(60)
        before, total = begun(), offered()
    finally:
        scene.close()
    return {
        "separated_s": away_s,
        "offered": total - before,
        "offered_while_separated": at_return - at_cut,
        "entries_that_waited": held,
        **ledger(office, before, total),
        "edge": {name: told[name] for name in ("name", "position", "frames", "rows")},
        "gateway_listens": sorted(doors),
        "opened_towards_machines": sorted(opened),
        "stations": len(account["stations"]),
    }


def ledger(office: Path, begin: int, end: int) -> dict[str, int]:
    """What the node's Delta files hold of the numbers ``begin`` to ``end - 1``, by DuckDB: kept, missing, twice."""
    import duckdb
    from deltalake import DeltaTable

    (place,) = [one.parent for one in (office / "keep/tables").rglob("_delta_log") if one.parent.name == "readings"]
    files = DeltaTable(str(place)).file_uris()
    with duckdb.connect() as connection:
        rows, distinct, least, most = connection.execute(
            "SELECT count(*), count(DISTINCT value_i64), min(value_i64), max(value_i64) FROM read_parquet(?) WHERE value_i64 IS NOT NULL",
            [files],
        ).fetchall()[0]
    return {"kept": rows, "missing": end - begin - distinct, "twice": rows - distinct, "least": least, "most": most}


def verdict(found: dict[str, Any]) -> list[str]:
    """What is wrong; nothing if the ledger is exact and all connections went out."""
    wrong = [name for name in ("missing", "twice") if found[name]]
    if found["kept"] != found["offered"]:
        wrong.append("kept is not offered")
    if found["gateway_listens"]:
        wrong.append("the gateway listens")
    if found["opened_towards_machines"]:
        wrong.append("a connection was opened from the office")
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """The command."""
    options = argparse.ArgumentParser(
        prog="python -m bench.edge", description="Two zones and a separation, with the ledger."
    )
    options.add_argument("--minutes", type=float)
    options.add_argument("--seconds", type=float, default=20.0)
    options.add_argument("--rate", type=float, default=20.0)
    options.add_argument("--json", action="store_true")
    options.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options.add_argument("--adapter", type=Path, help=argparse.SUPPRESS)
    given = options.parse_args(arguments)
    if given.adapter is not None:
        asyncio.run(adapter(7878, given.rate, given.adapter))
        return 0
    if not given.inside:
        missing = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
        if missing:
            print(f"needs {', '.join(missing)}", file=sys.stderr)
            return 2
        again = [sys.executable, "-m", "bench.edge", "--inside", *(sys.argv[1:] if arguments is None else arguments)]
        return subprocess.run(["unshare", "-rn", *again], cwd=ROOT, check=False).returncode
    away = given.minutes * 60 if given.minutes is not None else given.seconds
    with tempfile.TemporaryDirectory() as folder:
        found = play(Path(folder), away, given.rate, lambda text: print(text, file=sys.stderr, flush=True))
    found["wrong"] = verdict(found)
    if given.json:
        print(json.dumps(found))
    else:
        for name, value in found.items():
            print(f"{name:<26} {value}")
    return int(bool(found["wrong"]))


if __name__ == "__main__":
    sys.exit(main())
