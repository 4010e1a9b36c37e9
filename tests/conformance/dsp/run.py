"""Run the Dataspace Protocol kit against a node of ours: ``python tests/conformance/dsp/run.py [--kits FOLDER] [--package PACKAGE]``.

Prints the kit's failures and, last, ``dsp: N passed, N failed, N skipped`` and ``dsp-served: N requests``. Exit code 0 only if something
passed and nothing failed.
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
PACKAGE = "org.eclipse.dataspacetck.dsp.verification"


def load_persona():
    """The module beside this one; tests are no package."""
    spec = importlib.util.spec_from_file_location("dsp_persona", HERE / "persona.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["dsp_persona"] = module
    spec.loader.exec_module(module)
    return module


def refuse_self_test(properties: dict[str, str]) -> None:
    """A kit that tests itself proves nothing about a connector."""
    if any("local.connector" in name for name in properties):
        raise SystemExit("refused: properties with local.connector make the kit test itself")


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


async def run(kits: str, package: str = PACKAGE, *, extra: dict[str, str] | None = None, stopped: bool = False):
    """The kit's result as ``(passed, failed, skipped, requests served, output)``. ``stopped``: without the node, for the runner's own test."""
    module = load_persona()
    persona = module.Persona()
    with tempfile.TemporaryDirectory() as folder:
        await persona.start(Path(folder))
        try:
            properties = {**module.properties(persona, free_port()), **(extra or {})}
            refuse_self_test(properties)
            file = Path(folder) / "dsp.properties"
            file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
            if stopped:
                await persona.stop()
            process = await asyncio.create_subprocess_exec(
                str(RUNNER),
                "dsp",
                str(file),
                package,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env={**os.environ, "KITS": kits},
            )
            output = (await process.communicate())[0].decode("utf-8", "replace")
        finally:
            if not stopped:
                await persona.stop()
    last = re.findall(r"(\d+) passed, (\d+) failed, (\d+) skipped", output)
    passed, failed, skipped = (int(number) for number in last[-1]) if last else (0, 0, 0)
    return passed, failed, skipped, persona.requests, output


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kits", default=os.environ.get("KITS", ".kits"))
    parser.add_argument("--package", default=PACKAGE)
    parser.add_argument("--show", action="store_true", help="print everything the kit says")
    arguments = parser.parse_args()
    passed, failed, skipped, served, output = asyncio.run(run(arguments.kits, arguments.package))
    for line in output.splitlines():
        if arguments.show or line.startswith("FAIL"):
            print(line)
    print(f"dsp: {passed} passed, {failed} failed, {skipped} skipped")
    print(f"dsp-served: {served} requests")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
