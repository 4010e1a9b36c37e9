"""An anchor on a chain that speaks Ethereum's JSON-RPC: a contract with one line a log (``Anchor.sol``).

Signing needs the extra ``evm`` (eth-account, MIT). The reference carries the block's header and, where the node answers ``eth_getProof``
(EIP-1186), the proof that the contract's storage holds size, root and time; a stranger checks them without network and needs to know
only the block's hash and the contract's address.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import orjson

from guantong.base import evm
from guantong.base.canonical import b64, unb64
from guantong.base.clock import NS, Clock
from guantong.base.errors import ConfigProblem, Refused, Retryable
from guantong.base.wire import Http
from guantong.prove import rules
from guantong.prove.model import Anchored

__all__ = ["EvmAnchor", "artifact", "deploy"]

_ANCHOR = evm.keccak(b"anchor(bytes32,uint256,bytes32)")[:4]
_HEADS = evm.keccak(b"heads(bytes32)")[:4]
_ERROR = evm.keccak(b"Error(string)")[:4]
MAX_ANSWER_BYTES = 4 * 1024 * 1024


def artifact() -> dict[str, str]:
    """The compiled contract: ``bytecode``, ``runtime``, ``compiler``, ``evmVersion``. A test compiles it anew and compares."""
    found: dict[str, str] = json.loads(files("guantong.prove").joinpath("anchor.json").read_text("utf-8"))
    return found


class _Rpc:
    """One chain's node, and the key that pays."""

    def __init__(self, http: Http, clock: Clock, url: str, key: str, *, timeout_s: float) -> None:
        try:
            from eth_account import Account
        except ImportError as error:
            raise ConfigProblem("base.extra-missing", feature="evm", extra="evm") from error
        try:
            self.account: Any = Account.from_key(key.strip())
        except Exception as error:
            # the library raises ValueError, eth_keys' ValidationError or binascii.Error, by what is wrong with the key
            raise ConfigProblem("prove.anchor-setting", kind="evm", reason="the key is not 64 hex digits") from error
        self._http = http
        self._clock = clock
        self._url = url
        self._timeout_s = timeout_s
        self._number = 0

    async def ask(self, method: str, *parameters: Any) -> Any:
        """One JSON-RPC request. Raises Refused with a revert's reason, Retryable for any other error."""
        self._number += 1
        answer = await self._http.request(
            "POST",
            self._url,
            body=orjson.dumps({"jsonrpc": "2.0", "id": self._number, "method": method, "params": parameters}),
            headers={"content-type": "application/json"},
            timeout_s=self._timeout_s,
            max_bytes=MAX_ANSWER_BYTES,
        )
        try:
            document = orjson.loads(answer.body)
            error = document.get("error")
        except (ValueError, AttributeError) as broken:
            raise Retryable("prove.anchor-later", kind="evm", reason=f"HTTP {answer.status}") from broken
        if error:
            reason = _revert_reason(error)
            if reason is not None:
                raise Refused("prove.anchor-refused", kind="evm", reason=reason)
            raise Retryable("prove.anchor-later", kind="evm", reason=str(error.get("message", error))[:200])
        return document.get("result")

    async def send(self, to: str | None, data: bytes) -> Mapping[str, Any]:
        """Sign and send a transaction and wait for its receipt. What would revert is refused before it costs anything."""
        call = {"from": self.account.address, "data": "0x" + data.hex(), **({"to": to} if to else {})}
        gas = int(await self.ask("eth_estimateGas", call), 16)
        transaction = {
            "chainId": int(await self.ask("eth_chainId"), 16),
            "nonce": int(await self.ask("eth_getTransactionCount", self.account.address, "pending"), 16),
            "gasPrice": int(await self.ask("eth_gasPrice"), 16),
            "gas": gas + gas // 4,
            "value": 0,
            "data": data,
            **({"to": bytes.fromhex(to[2:])} if to else {}),
        }
        signed = self.account.sign_transaction(transaction)
        sent = await self.ask("eth_sendRawTransaction", "0x" + bytes(signed.raw_transaction).hex())
        deadline = self._clock.monotonic() + self._timeout_s
        while True:
            receipt: Mapping[str, Any] | None = await self.ask("eth_getTransactionReceipt", sent)
            if receipt is not None:
                break
            if self._clock.monotonic() > deadline:
                raise Retryable("prove.anchor-later", kind="evm", reason="the transaction is not in a block yet")
            await self._clock.sleep(0.2)
        if int(receipt["status"], 16) != 1:
            raise Refused("prove.anchor-refused", kind="evm", reason="the transaction was reverted")
        return receipt


async def deploy(http: Http, clock: Clock, url: str, key: str, *, timeout_s: float = 120.0) -> str:
    """Put the contract on a chain. Returns its address."""
    receipt = await _Rpc(http, clock, url, key, timeout_s=timeout_s).send(None, bytes.fromhex(artifact()["bytecode"]))
    return str(receipt["contractAddress"]).lower()


class EvmAnchor:
    """The contract at an address, written to with one key."""

    kind = "evm"

    def __init__(
        self, http: Http, clock: Clock, url: str, contract: str, key: str, *, timeout_s: float = 120.0
    ) -> None:
        self._rpc = _Rpc(http, clock, url, key, timeout_s=timeout_s)
        self._contract = contract.lower()
        self._chain = 0
        self._turn = asyncio.Lock()  # transactions of one account are numbered

    def trust_lines(self) -> list[str]:
        """The contract, once the chain's id is known; blocks a stranger lists from a node of its own."""
        return [f"contract {self._chain} {self._contract}"] if self._chain else []

    async def submit(self, origin: str, size: int, root: bytes) -> Mapping[str, Any]:
        """Write size and root into the log's line. Raises Refused ``prove.anchor-refused`` with the contract's reason."""
        log = rules.log_id(origin)
        async with self._turn:
            held = await self._head(log, "latest")
            if (held[0], held[1]) == (size, root):  # written, but the answer did not arrive: not written twice
                number = await self._rpc.ask("eth_blockNumber")
            else:
                data = _ANCHOR + log + size.to_bytes(32, "big") + root
                number = (await self._rpc.send(self._contract, data))["blockNumber"]
            return await self._ref(origin, log, str(number))

    async def verify(self, ref: Mapping[str, Any]) -> Anchored:
        """Check the reference without network, then ask the node for the block and, where there is no proof, for the contract's line."""
        chain = int(await self._rpc.ask("eth_chainId"), 16)
        block = await self._rpc.ask("eth_getBlockByNumber", ref["block"], False)
        if block is None or ref["chain"] != chain or str(ref["contract"]).lower() != self._contract:
            raise Refused("prove.anchor-refused", kind=self.kind, reason="the chain has no such block or contract")
        if ref.get("storageProof"):
            known = {chain: (frozenset({self._contract}), frozenset({str(block["hash"])}))}
            return rules.check_evm_anchor(ref, known)
        log = rules.log_id(ref["origin"])
        size, root, at_s = await self._head(log, ref["block"])
        if (size, root, at_s) != (ref["size"], unb64(ref["root"]), ref["time"]):
            raise Refused("prove.anchor-refused", kind=self.kind, reason="the contract holds something else")
        by = f"chain {chain}, contract {self._contract}, block {int(ref['block'], 16)} {block['hash']}"
        return Anchored(ref["origin"], size, root, at_s * NS, by, confirmed=True)

    async def _head(self, log: bytes, block: str) -> tuple[int, bytes, int]:
        found = await self._rpc.ask("eth_call", {"to": self._contract, "data": "0x" + (_HEADS + log).hex()}, block)
        data = bytes.fromhex(str(found)[2:])
        if len(data) != 128:
            raise ConfigProblem(
                "prove.anchor-setting", kind=self.kind, reason="there is no anchor contract at the address"
            )
        return int.from_bytes(data[:32], "big"), data[32:64], int.from_bytes(data[64:96], "big")

    async def _ref(self, origin: str, log: bytes, number: str) -> Mapping[str, Any]:
        size, root, at_s = await self._head(log, number)
        self._chain = int(await self._rpc.ask("eth_chainId"), 16)
        ref: dict[str, Any] = {
            "kind": self.kind,
            "chain": self._chain,
            "contract": self._contract,
            "block": number,
            "origin": origin,
            "size": size,
            "root": b64(root),
            "time": at_s,
        }
        slots = ["0x" + evm.slot_of(log, 0, word).hex() for word in range(4)]
        try:
            proof = await self._rpc.ask("eth_getProof", self._contract, slots, number)
            block = await self._rpc.ask("eth_getBlockByNumber", number, False)
            by_key = {int(one["key"], 16): one["proof"] for one in proof["storageProof"]}
            return {
                **ref,
                "header": b64(evm.header_bytes(block)),
                "accountProof": [b64(bytes.fromhex(node[2:])) for node in proof["accountProof"]],
                "storageProof": [[b64(bytes.fromhex(node[2:])) for node in by_key[int(slot, 16)]] for slot in slots],
            }
        except (Retryable, ValueError, KeyError, TypeError):
            return ref  # a chain without eth_getProof (FISCO BCOS): whoever asks its node can still verify


def _revert_reason(error: Mapping[str, Any]) -> str | None:
    """The text of ``require`` in a node's error (Solidity's Error(string)); None where nothing was reverted."""
    data = error.get("data")
    if isinstance(data, Mapping):
        data = data.get("data") or data.get("result")
    if isinstance(data, str) and data.startswith("0x" + _ERROR.hex()):
        content = bytes.fromhex(data[10:])
        size = int.from_bytes(content[32:64], "big")
        return content[64 : 64 + size].decode("utf-8", "replace")
    if "revert" in str(error.get("message", "")):
        return str(error["message"])[:200]
    return None
