"""Run the Decentralized Claims Protocol kit against a node of ours: ``python tests/conformance/dcp/run.py [--kits FOLDER]``.

Prints ``dcp-verifier: N passed, N failed, N skipped``, which decides the exit code, then a ``dcp-info`` line for each other package (a
connector need not be a wallet or an issuer; these lines never decide anything).
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.util
import os
import re
import socket
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNNER = HERE.parent / "kits" / "run"
PACKAGES = "org.eclipse.dataspacetck.dcp.verification."
VERIFIER = "presentation.verifier"
INFO = ("presentation.cs", "issuance.cs", "issuance.issuer")


def load_counterpart():
    """The module beside this one; tests are no package."""
    spec = importlib.util.spec_from_file_location("dcp_counterpart", HERE / "counterpart.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["dcp_counterpart"] = module
    spec.loader.exec_module(module)
    return module


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


async def run(kits: str, package: str, *, stopped: bool = False):
    """The kit's result as ``(passed, failed, skipped, requests served, output)``. ``stopped``: without the node, for the runner's own test."""
    module = load_counterpart()
    node = module.Counterpart()
    with tempfile.TemporaryDirectory() as folder:
        port = free_port()
        await node.start(Path(folder), port)
        try:
            properties = module.properties(node, port, package)
            file = Path(folder) / "dcp.properties"
            file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
            if stopped:
                await node.stop()
            process = await asyncio.create_subprocess_exec(
                str(RUNNER),
                "dcp",
                str(file),
                PACKAGES + package,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, "KITS": kits},
            )
            output = (await process.communicate())[0].decode("utf-8", "replace")
        finally:
            if not stopped:
                await node.stop()
    last = re.findall(r"(\d+) passed, (\d+) failed, (\d+) skipped", output)
    passed, failed, skipped = (int(number) for number in last[-1]) if last else (0, 0, 0)
    return passed, failed, skipped, node.requests, output


def show(output: str, *, whole: bool) -> None:
    for line in output.splitlines():
        if whole or line.startswith("FAIL"):
            print(line)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kits", default=os.environ.get("KITS", ".kits"))
    parser.add_argument("--package", default="", help="this one only, as an information")
    parser.add_argument("--show", action="store_true", help="print everything the kit says")
    arguments = parser.parse_args()
    if arguments.package:
        passed, failed, skipped, _, output = asyncio.run(run(arguments.kits, arguments.package))
        show(output, whole=arguments.show)
        print(f"dcp-info: {arguments.package}: {passed} passed, {failed} failed, {skipped} skipped")
        return 0
    passed, failed, skipped, served, output = asyncio.run(run(arguments.kits, VERIFIER))
    show(output, whole=arguments.show)
    print(f"dcp-verifier: {passed} passed, {failed} failed, {skipped} skipped")
    print(f"dcp-served: {served} requests")
    for package in INFO:
        done, wrong, left, _, said = asyncio.run(run(arguments.kits, package))
        if arguments.show:
            show(said, whole=True)
        print(f"dcp-info: {package}: {done} passed, {wrong} failed, {left} skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
