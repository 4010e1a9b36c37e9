"""Two chains that we did not write, behind the port for HTTP: anvil (Rust, revm) and py-evm through eth-tester."""

from __future__ import annotations

import ast
import asyncio
import json
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from guantong.base.wire import Response

ANVIL = Path(__file__).resolve().parents[1] / "peers/node_modules/@foundry-rs/anvil-linux-amd64/bin/anvil"
KEYS = [f"{number:064x}" for number in (0xAC0974, 0x59C699, 0x5DE411)]


class Plain:
    """HTTP by the standard library."""

    async def request(self, method: str, url: str, *, body=None, headers=None, timeout_s=10.0, **_: Any) -> Response:
        def work() -> Response:
            asked = urllib.request.Request(url, body, dict(headers or {}), method=method)
            with urllib.request.urlopen(asked, timeout=timeout_s) as answer:
                return Response(answer.status, answer.read())

        return await asyncio.to_thread(work)

    def stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


@contextmanager
def anvil() -> Iterator[tuple[Any, str]]:
    """A fresh chain in a process of its own; ``(http, url)``, with money for each key."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    process = subprocess.Popen(
        [str(ANVIL), "--port", str(port), "--silent", "--accounts", "0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        asyncio.run(_fund(url))
        yield Plain(), url
    finally:
        process.terminate()
        process.wait()


async def _fund(url: str) -> None:
    from eth_account import Account

    for attempt in range(100):
        try:
            for key in KEYS:
                await _ask(url, "anvil_setBalance", Account.from_key(key).address, hex(10**20))
            return
        except OSError:
            await asyncio.sleep(0.1)
            if attempt == 99:
                raise


async def _ask(url: str, method: str, *params: Any) -> Any:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).encode()
    answer = await Plain().request("POST", url, body=body, headers={"content-type": "application/json"})
    return json.loads(answer.body)


class Tester:
    """py-evm behind the same requests; it has no ``eth_getProof``."""

    def __init__(self) -> None:
        from eth_account import Account
        from eth_tester import EthereumTester, PyEVMBackend

        self.chain = EthereumTester(PyEVMBackend())
        for key in KEYS:
            self.chain.send_transaction(
                {
                    "from": self.chain.get_accounts()[0],
                    "to": Account.from_key(key).address,
                    "value": 10**20,
                    "gas": 21000,
                }
            )

    async def request(self, method: str, url: str, *, body: bytes, **_: Any) -> Response:
        asked = json.loads(body)
        try:
            found: dict[str, Any] = {"result": self._answer(asked["method"], asked["params"])}
        except Exception as error:
            found = {"error": {"code": 3, "message": str(error)}}
            if type(error).__name__ == "TransactionFailed":  # as nodes answer: what the contract returned, in "data"
                found["error"]["data"] = "0x" + ast.literal_eval(str(error)).hex()
        return Response(200, json.dumps({"jsonrpc": "2.0", "id": asked["id"], **found}).encode())

    def _answer(self, method: str, params: list[Any]) -> Any:
        match method:
            case "eth_chainId":
                return hex(131277322940537)
            case "eth_gasPrice":
                return hex(10**10)
            case "eth_getTransactionCount":
                return hex(self.chain.get_nonce(params[0]))
            case "eth_estimateGas":
                return hex(
                    self.chain.estimate_gas(
                        {
                            "from": params[0]["from"],
                            "data": params[0]["data"],
                            **({"to": params[0]["to"]} if "to" in params[0] else {}),
                        }
                    )
                )
            case "eth_call":
                sender = self.chain.get_accounts()[0]
                at = params[1] if params[1] == "latest" else int(params[1], 16)
                return self.chain.call({"from": sender, "to": params[0]["to"], "data": params[0]["data"]}, at)
            case "eth_sendRawTransaction":
                return self.chain.send_raw_transaction(params[0])
            case "eth_blockNumber":
                return hex(self.chain.get_block_by_number("latest")["number"])
            case "eth_getBlockByNumber":
                block = self.chain.get_block_by_number(int(params[0], 16))
                return {"hash": block["hash"], "number": hex(block["number"])}
            case "eth_getTransactionReceipt":
                receipt = self.chain.get_transaction_receipt(params[0])
                return {
                    "status": hex(receipt["status"]), "blockNumber": hex(receipt["block_number"]), "contractAddress": receipt["contract_address"],
                }  # fmt: skip
        raise ValueError(f"the method {method} does not exist")

    def stream(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError


@contextmanager
def tester() -> Iterator[tuple[Any, str]]:
    """A fresh chain in this process."""
    yield Tester(), "http://tester.invalid"


CHAINS = {"anvil": anvil, "py-evm": tester}
