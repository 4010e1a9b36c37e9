"""Run schemathesis over a node's own OpenAPI document: ``python tests/conformance/openapi/run.py [--kits FOLDER] [--examples N]``.

The tool lives in an environment of its own below the kits' folder (made on the first run), because it wants older libraries than the
product. Prints every answer of 500 or more and, last, ``openapi: N passed, N failed, N skipped`` (operations). Exit code 0 only if something
passed and nothing failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import aiohttp

from guantong.config import load
from guantong.node import Node

VERSION = "4.32.5"


def tool(kits: str) -> Path:
    """The program, installed where it is not yet."""
    folder = Path(kits).resolve() / "schemathesis"
    program = folder / "bin" / "st"
    if not program.exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(folder / "bin" / "pip"), "install", "-q", f"schemathesis=={VERSION}"], check=True)
    return program


async def run(kits: str, examples: int) -> tuple[int, int, str]:
    """Operations that passed and failed, and what the tool said."""
    program = tool(kits)
    with tempfile.TemporaryDirectory() as folder:
        node = Node(
            load({"node.directory": Path(folder) / "node", "web.port": 0, "web.host": "127.0.0.1"}, environment={})
        )
        await node.start()
        await node.serve()
        try:
            async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
                link = await node.sign_in_link()
                async with session.get(link) as page:
                    text = await page.text()
                token = re.search(r'name="token" value="([^"]+)"', text)
                if token:
                    await session.post(link.partition("?")[0], data={"token": token[1]})
                cookies = "; ".join(f"{one.key}={one.value}" for one in session.cookie_jar)
            process = await asyncio.create_subprocess_exec(
                str(program), "run", f"{node.address}/api/openapi.json",
                "--checks", "not_a_server_error", "--phases", "examples,fuzzing", "--max-examples", str(examples),
                "--seed", "1", "--no-color", "--request-timeout", "20", "--continue-on-failure",
                *(["-H", f"Cookie: {cookies}"] if cookies else []),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, cwd=folder,
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
            )  # fmt: skip
            said = (await process.communicate())[0].decode("utf-8", "replace")
        finally:
            await node.stop()
    tested = re.search(r"Tested:\s*(\d+)", said)
    failed = len(set(re.findall(r"^_+ ((?:GET|POST|PUT|DELETE) \S+) _+$", said, re.M)))
    return int(tested[1]) - failed if tested else 0, failed, said


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kits", default=os.environ.get("KITS", ".kits"))
    parser.add_argument("--examples", type=int, default=5, help="requests made up for each operation")
    parser.add_argument("--show", action="store_true", help="print everything the tool says")
    arguments = parser.parse_args()
    passed, failed, said = asyncio.run(run(arguments.kits, arguments.examples))
    if arguments.show or failed or not passed:
        print(said)
    print(f"openapi: {passed} passed, {failed} failed, 0 skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
