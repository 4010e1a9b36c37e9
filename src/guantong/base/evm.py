"""What an Ethereum-like chain's node proves about a contract's storage: block header, account and storage, checked without network.

Sources: Ethereum yellow paper, appendices B (RLP) and D (Merkle Patricia tree), section 4.3 (header); EIP-1186 (``eth_getProof``);
Keccak-256 as submitted to NIST (padding 0x01, not SHA-3's 0x06). Pure: bytes in, values out. Whether a block is one of the chain, the
caller must know from elsewhere: the header is only shown to have this hash.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Header", "header_of", "keccak", "rlp", "slot_of", "storage_word", "unrlp"]

Item = bytes | list[Any]

_ROTATIONS = (
    (0, 36, 3, 41, 18), (1, 44, 10, 45, 2), (62, 6, 43, 15, 61), (28, 55, 25, 21, 56), (27, 20, 39, 8, 14),
)  # fmt: skip
_MASK = 2**64 - 1


def _round_constants() -> tuple[int, ...]:
    found, state = [], 1
    for _ in range(24):
        constant = 0
        for power in range(7):
            if state & 1:
                constant |= 1 << (2**power - 1)
            state = (state << 1) ^ (0x171 if state & 0x80 else 0)
        found.append(constant)
    return tuple(found)


_CONSTANTS = _round_constants()


def _permute(lanes: list[list[int]]) -> None:
    for constant in _CONSTANTS:
        parity = [lanes[x][0] ^ lanes[x][1] ^ lanes[x][2] ^ lanes[x][3] ^ lanes[x][4] for x in range(5)]
        for x in range(5):
            turned = parity[(x + 1) % 5]
            mixed = parity[x - 1] ^ ((turned << 1 | turned >> 63) & _MASK)
            for y in range(5):
                lanes[x][y] ^= mixed
        moved = [[0] * 5 for _ in range(5)]
        for x in range(5):
            for y in range(5):
                by = _ROTATIONS[x][y]
                moved[y][(2 * x + 3 * y) % 5] = (lanes[x][y] << by | lanes[x][y] >> (64 - by)) & _MASK
        for x in range(5):
            for y in range(5):
                lanes[x][y] = moved[x][y] ^ (~moved[(x + 1) % 5][y] & moved[(x + 2) % 5][y])
        lanes[0][0] ^= constant


def keccak(data: bytes) -> bytes:
    """Keccak-256, 32 bytes. In plain Python: a few kilobytes a millisecond are enough for a proof."""
    rate = 136
    padded = bytearray(data) + b"\x01" + bytes(-(len(data) + 1) % rate)
    padded[-1] |= 0x80
    lanes = [[0] * 5 for _ in range(5)]
    for start in range(0, len(padded), rate):
        for number in range(rate // 8):
            at = start + 8 * number
            lanes[number % 5][number // 5] ^= int.from_bytes(padded[at : at + 8], "little")
        _permute(lanes)
    return b"".join(lanes[number % 5][number // 5].to_bytes(8, "little") for number in range(4))


def rlp(item: Item) -> bytes:
    """Recursive length prefix of bytes or a list."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _prefix(0x80, len(item)) + item
    body = b"".join(rlp(part) for part in item)
    return _prefix(0xC0, len(body)) + body


def _prefix(base: int, size: int) -> bytes:
    if size < 56:
        return bytes([base + size])
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([base + 55 + len(length)]) + length


def unrlp(data: bytes) -> Item:
    """The inverse of :func:`rlp`; only the one form is taken. Raises ValueError."""
    item, end = _item(data, 0, 0)
    if end != len(data) or rlp(item) != data:
        raise ValueError("RLP has another form")
    return item


def _item(data: bytes, at: int, depth: int) -> tuple[Item, int]:
    if at >= len(data) or depth > 8:
        raise ValueError("RLP is cut off or too deep")
    first = data[at]
    if first < 0x80:
        return data[at : at + 1], at + 1
    base = 0x80 if first < 0xC0 else 0xC0
    size, start = first - base, at + 1
    if size > 55:
        count = size - 55
        size, start = int.from_bytes(data[start : start + count], "big"), start + count
    end = start + size
    if end > len(data):
        raise ValueError("RLP is cut off")
    if base == 0x80:
        return data[start:end], end
    found: list[Item] = []
    while start < end:
        item, start = _item(data, start, depth + 1)
        found.append(item)
    if start != end:
        raise ValueError("RLP has another form")
    return found, end


@dataclass(frozen=True, slots=True)
class Header:
    """The fields of a block header that an anchor needs."""

    hash: bytes
    state_root: bytes
    number: int
    time_s: int


def header_of(data: bytes) -> Header:
    """The header in its RLP. Raises ValueError."""
    fields = unrlp(data)
    if not isinstance(fields, list) or not 15 <= len(fields) <= 30 or any(isinstance(one, list) for one in fields):
        raise ValueError("this is no block header")
    if len(fields[3]) != 32:
        raise ValueError("this is no block header")
    return Header(keccak(data), fields[3], int.from_bytes(fields[8], "big"), int.from_bytes(fields[11], "big"))


_FIELDS = (
    "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot", "logsBloom", "difficulty", "number",
    "gasLimit", "gasUsed", "timestamp", "extraData", "mixHash", "nonce", "baseFeePerGas", "withdrawalsRoot", "blobGasUsed",
    "excessBlobGas", "parentBeaconBlockRoot", "requestsHash",
)  # fmt: skip
_NUMBERS = {"difficulty", "number", "gasLimit", "gasUsed", "timestamp", "baseFeePerGas", "blobGasUsed", "excessBlobGas"}


def header_bytes(block: Mapping[str, Any]) -> bytes:
    """RLP of a block's header as JSON-RPC shows it; ValueError if it does not hash to the hash that the block names."""
    fields: list[Item] = []
    for name in _FIELDS:
        value = block.get(name)
        if value is None:
            continue
        if name in _NUMBERS:
            number = int(value, 16)
            fields.append(number.to_bytes((number.bit_length() + 7) // 8, "big"))
        else:
            fields.append(bytes.fromhex(value[2:]))
    data = rlp(fields)
    if keccak(data) != bytes.fromhex(str(block["hash"])[2:]):
        raise ValueError("the block's header does not hash to its hash")
    return data


def _nibbles(data: bytes) -> list[int]:
    return [half for byte in data for half in (byte >> 4, byte & 15)]


def _in_trie(root: bytes, key: bytes, nodes: Sequence[bytes]) -> bytes | None:
    """The value under a key of a Merkle Patricia tree, None if the proof shows that there is none. Raises ValueError."""
    path = _nibbles(keccak(key))
    expected: Item = root
    for number, data in enumerate(nodes):
        if isinstance(expected, bytes) and len(expected) == 32:
            if keccak(data) != expected:
                raise ValueError("a node of the proof was changed")
            node = unrlp(data)
        else:
            node = expected
        while True:
            if not isinstance(node, list):
                raise ValueError("a node of the proof has another form")  # noqa: TRY004 - bytes from outside, not a type of ours
            if len(node) == 17:
                if not path:
                    return _leaf(node[16])
                child = node[path.pop(0)]
            elif len(node) == 2 and isinstance(node[0], bytes) and node[0]:
                head = _nibbles(node[0])
                prefix = head[1:] if head[0] & 1 else head[2:]
                if path[: len(prefix)] != prefix:
                    return None
                del path[: len(prefix)]
                if head[0] & 2:
                    return _leaf(node[1]) if not path else None
                child = node[1]
            else:
                raise ValueError("a node of the proof has another form")
            if child == b"":
                return None
            if isinstance(child, list):  # a short node stands inside its parent
                node = child
                continue
            break
        expected = child
        if number + 1 == len(nodes):
            raise ValueError("the proof is cut off")
    raise ValueError("the proof is empty")


def _leaf(value: Item) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError("a value of the proof has another form")  # noqa: TRY004 - bytes from outside, not a type of ours
    return value


def slot_of(key: bytes, slot: int, word: int) -> bytes:
    """Storage slot of word ``word`` of a struct under a 32-byte key of Solidity's mapping at ``slot``: keccak(key || slot) + word."""
    first = int.from_bytes(keccak(key + slot.to_bytes(32, "big")), "big")
    return ((first + word) % 2**256).to_bytes(32, "big")


def storage_word(
    state_root: bytes, address: bytes, slot: bytes, account_proof: Sequence[bytes], storage_proof: Sequence[bytes]
) -> int:
    """The 256-bit word that a contract holds in a slot, under a state root (EIP-1186). Raises ValueError."""
    account = _in_trie(state_root, address, account_proof)
    fields = unrlp(account) if account is not None else None
    if not isinstance(fields, list) or len(fields) != 4:
        raise ValueError("there is no such contract in the state")
    found = _in_trie(fields[2], slot, storage_proof)
    value = b"" if found is None else unrlp(found)
    if not isinstance(value, bytes) or len(value) > 32:
        raise ValueError("a stored word has another form")
    return int.from_bytes(value, "big")
