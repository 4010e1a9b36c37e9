"""The anchor contract, compiled by npm ``solc``, on anvil and on py-evm: what both chains take and refuse."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2]))
from tests.conformance import chains, material  # noqa: E402

from guantong.base.canonical import sha256, unb64  # noqa: E402
from guantong.base.clock import SystemClock  # noqa: E402
from guantong.base.errors import Refused  # noqa: E402
from guantong.prove import rules  # noqa: E402
from guantong.prove.evm import EvmAnchor, artifact, deploy  # noqa: E402

ROOTS = [sha256(b"%d" % number) for number in range(4)]


def compiled() -> dict[str, str]:
    """What the compiler makes of the source in the repository now."""
    peers = HERE.parents[1] / "peers" / "node_modules"
    source = HERE.parents[2] / "src/guantong/prove/Anchor.sol"
    done = subprocess.run(
        [str(Path(sys.executable).with_name("node")), str(HERE / "compile.js"), str(source)],
        capture_output=True, text=True, check=True, env={**os.environ, "PEERS": str(peers)},
    )  # fmt: skip
    return json.loads(done.stdout)


class OneChain:
    """A contract with one line of 300 records in it."""

    def __init__(self, http: Any, url: str) -> None:
        self.http, self.url = http, url
        clock = SystemClock()
        self.contract = asyncio.run(deploy(http, clock, url, chains.KEYS[0]))
        self.owner = EvmAnchor(http, clock, url, self.contract, chains.KEYS[1])
        self.stranger = EvmAnchor(http, clock, url, self.contract, chains.KEYS[2])
        self.ref = asyncio.run(self.owner.submit(material.ORIGIN, 300, ROOTS[0]))

    def control(self) -> str:
        """Anchor, ask the chain, and check the reference without it."""
        found = asyncio.run(self.owner.verify(self.ref))
        assert (found.size, found.root, found.origin) == (300, ROOTS[0], material.ORIGIN)
        if "header" in self.ref:
            blind = rules.check_evm_anchor(self.ref, {})
            assert (blind.size, blind.root, blind.at, blind.confirmed) == (300, ROOTS[0], found.at, False)
        later = asyncio.run(self.owner.submit(material.ORIGIN, 700, ROOTS[1]))
        again = asyncio.run(self.owner.submit(material.ORIGIN, 700, ROOTS[1]))
        assert (later["size"], unb64(later["root"]), again["time"]) == (700, ROOTS[1], later["time"])
        assert asyncio.run(self.owner.verify(self.ref)) == found
        return "ok"

    def shrinks(self) -> str:
        """Smaller and equal sizes with another root, one after another."""
        return " / ".join(self._refused(self.owner, size) for size in (0, 299, 300))

    def not_owner(self) -> str:
        return self._refused(self.stranger, 9000)

    def _refused(self, anchor: EvmAnchor, size: int) -> str:
        try:
            asyncio.run(anchor.submit(material.ORIGIN, size, ROOTS[3]))
        except Refused as error:
            return f"{error.code} {error.message()}"
        return "taken"


def main(only: tuple[str, ...] = ()) -> int:
    """Each row on both chains."""
    try:
        import eth_account  # noqa: F401
        import eth_tester  # noqa: F401
    except ImportError:
        return material.absent("evm", "eth-tester[py-evm] is not installed")
    if not chains.ANVIL.exists():
        return material.absent("evm", "run `make peers` first")
    made = compiled()
    assert {name: made[name] for name in ("bytecode", "runtime", "compiler")} == {
        name: artifact()[name] for name in ("bytecode", "runtime", "compiler")
    }, "anchor.json is not what the compiler makes of Anchor.sol"

    with contextlib.ExitStack() as stack:
        ready = {name: OneChain(*stack.enter_context(opened())) for name, opened in chains.CHAINS.items()}

        def case(name: str) -> tuple[int, str]:
            said = {chain: getattr(one, name)() for chain, one in ready.items()}
            wanted = {"control": "ok", "shrinks": "the tree did not grow", "not_owner": "not the owner of this log"}[
                name
            ]
            for chain, one in said.items():  # every chain gives the reason, each time
                assert all(wanted in part for part in one.split(" / ")), f"{chain}: {one}"
            return int(wanted != "ok"), str(said)

        rows = {"anchor-not-owner": "not_owner", "anchor-shrinks": "shrinks", "control": "control"}
        return material.judge("evm", {row: lambda name=name: case(name) for row, name in rows.items()}, only=only)


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:])))
