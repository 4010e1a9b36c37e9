"""Pure decisions of the evidence room: what a leaf is about, the package's manifest and container, the trust file.

``verify.py`` reads packages with the very functions that wrote them; nothing here asks the clock, the disk or the network.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from guantong.base import company, evm, gm, keychange, timestamp
from guantong.base.canonical import b64, canonical_bytes, sha256, unb64
from guantong.base.clock import NS, iso
from guantong.base.depth import too_deep
from guantong.base.errors import Refused, Skippable
from guantong.base.keys import Ed25519Key, verify_ed25519
from guantong.base.note import (
    COSIGNATURE,
    ED25519,
    Note,
    Policy,
    VerifierKey,
    open_note,
    parse_checkpoint,
    parse_policy,
    parse_vkey,
    sign,
)
from guantong.prove.model import Anchored, ProveKeys, origin_of, witness_name_of

__all__ = [
    "AGREEMENT_PATH",
    "CONTRACT_TERM",
    "MANIFEST",
    "MAX_PACKAGE_BYTES",
    "PRICE_TERM",
    "Manifest",
    "Trust",
    "agreement_paper",
    "anchor_of",
    "bound",
    "check_evm_anchor",
    "check_timestamp_anchor",
    "check_witness_anchor",
    "digest_of",
    "invoice_paper",
    "is_package_path",
    "key_statement",
    "log_id",
    "manifest",
    "origin_hash",
    "parse_json",
    "parse_trust",
    "policy_text",
    "read_manifest",
    "read_zip",
    "receipt_paper",
    "size_answer",
    "stated_witness_key",
    "subjects",
    "trust_text",
    "write_zip",
]

MANIFEST = "manifest.json"
AGREEMENT_PATH = "agreement.json"
CONTRACT_TERM = "https://w3id.org/guantong/ns/contractTerms"
"""Constraint of an agreement that binds the digest of its contract terms; as ``exchange.policy`` writes it (a test compares them)."""
PRICE_TERM = "https://w3id.org/guantong/ns/pricePlan"
"""The same for the price plan."""
MAX_PACKAGE_BYTES = 512 * 1024 * 1024
MAX_FILES = 100_000
_KEYS_HEADER = "guantong/keys/v1"


def digest_of(data: bytes) -> str:
    """``sha256:`` and the hex digest of bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def origin_hash(origin: str) -> str:
    """The name a witness gives a log in its monitoring addresses (C2SP tlog-witness, Monitor Retrieval)."""
    return hashlib.sha256(origin.encode()).hexdigest()


def size_answer(body: bytes) -> int:
    """The tree size in a witness's 409. Raises Skippable ``base.note-malformed``."""
    match = re.fullmatch(rb"(0|[1-9][0-9]{0,18})\n", body)
    if match is None:
        raise Skippable("base.note-malformed", reason="the witness did not answer with a size")
    return int(match[1])


def parse_json(data: bytes) -> Any:
    """A JSON value; repeated members, NaN, infinities and more than 64 levels are refused. Raises ValueError."""
    if too_deep(data):
        raise ValueError("nested too deeply")

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a member is there twice")
        return found

    def refuse(text: str) -> Any:
        raise ValueError(f"{text} is not JSON")

    return json.loads(data.decode("utf-8"), object_pairs_hook=members, parse_constant=refuse)


def subjects(leaf: bytes) -> set[str]:
    """The agreements that a leaf is about: ``agreementId`` or ``agreement`` of its body, or ``agreementId`` of the record in it."""
    if b'"agreement' not in leaf:
        return set()
    body = json.loads(leaf).get("body")
    if not isinstance(body, dict):
        return set()
    record = body.get("record")
    named = [
        body.get("agreementId"),
        body.get("agreement"),
        record.get("agreementId") if isinstance(record, dict) else None,
    ]
    return {value for value in named if isinstance(value, str) and 0 < len(value) <= 255}


def bound(document: Any, term: str) -> set[str]:
    """The right operands of every ``eq`` constraint of an ODRL document whose left operand is ``term``."""
    found: set[str] = set()
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            if value.get("leftOperand") == term and value.get("operator") in ("eq", "odrl:eq"):
                right = value.get("rightOperand")
                found.update({right} if isinstance(right, str) else ())
            waiting += value.values()
    return found


# ---- the papers of an agreement


def agreement_paper(agreement: Mapping[str, Any], *, price: Mapping[str, Any], terms: str) -> bytes:
    """``agreement.json``: the ODRL agreement as exchanged, and the price plan and terms whose digests it binds."""
    return canonical_bytes({"agreement": dict(agreement), "price": dict(price), "terms": terms})


def receipt_paper(
    record: Mapping[str, Any], *, signature: str, countersignature: Mapping[str, Any] | None, state: str
) -> bytes:
    """``receipts/<n>.json``: a usage record, the provider's signature, the consumer's answer (null without one) and the state the
    maker claims.
    """
    return canonical_bytes(
        {
            "record": dict(record),
            "signature": signature,
            "countersignature": dict(countersignature) if countersignature else None,
            "state": state,
        }
    )


def invoice_paper(document: Mapping[str, Any], signatures: Sequence[Mapping[str, str]]) -> bytes:
    """``invoices/<n>.json``: an invoice as ``settle.rules.invoice`` made it, and the signatures over its canonical bytes."""
    return canonical_bytes({"document": dict(document), "signatures": [dict(item) for item in signatures]})


# ---- what the log signs


def signed(text: str, name: str, keys: ProveKeys) -> Note:
    """A note signed with the log's key, with the one before it while partners may not have heard of the new one, and with SM2 where it is
    asked for. Who does not know one of these keys ignores its line.
    """
    note = sign(text, name, keys.log)
    if keys.former is not None:
        note = note.adding(sign(text, name, keys.former).signatures)
    if keys.sm2 is not None:
        note = note.adding([gm.sign_line(text, name, keys.sm2)])
    return note


# ---- the statement of a witness key


def key_statement(did: str, witness: VerifierKey) -> str:
    """Text that a participant signs with its evidence key, so that partners learn its witness key from itself."""
    return f"{_KEYS_HEADER}\n{did}\n{witness}\n"


def stated_witness_key(did: str, text: str) -> VerifierKey:
    """The witness key in a verified statement. Raises Skippable ``base.note-malformed``."""
    lines = text.split("\n")
    if len(lines) != 4 or lines[0] != _KEYS_HEADER or lines[1] != did or lines[3]:
        raise Skippable("base.note-malformed", reason="the key statement is about somebody else")
    key = parse_vkey(lines[2])
    if key.kind != COSIGNATURE or key.name != witness_name_of(did):
        raise Skippable("base.note-malformed", reason="the key statement names no witness key")
    return key


# ---- the container: a ZIP with one possible form


_PATH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}(?:/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}){0,7}", re.ASCII)
_RESERVED = re.compile(r"(?i:con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.ASCII)
_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_VERSION, _DOS_TIME, _DOS_DATE = 20, 0, 0x21  # 1980-01-01 00:00:00


def is_package_path(path: str) -> bool:
    """Whether a file may have this path in a package: relative, plain ASCII, no hidden part, no name that Windows reserves."""
    return (
        len(path) <= 512
        and _PATH.fullmatch(path) is not None
        and not any(_RESERVED.fullmatch(part) or part.endswith(".") for part in path.split("/"))
    )


def write_zip(files: Mapping[str, bytes]) -> bytes:
    """A ZIP archive (APPNOTE 6.3.10) with one possible form: files in the order of their paths, stored, no dates, no extra fields.

    Raises ValueError for a path a package may not have, or two that differ only in case.
    """
    if len({path.lower() for path in files}) != len(files) or len(files) > 65_535:
        raise ValueError("two paths differ only in case, or there are too many files")
    local: list[bytes] = []
    central: list[bytes] = []
    offset = 0
    for path in sorted(files):
        if not is_package_path(path):
            raise ValueError(f"{path!r} is no path for a package")
        data, name = files[path], path.encode("ascii")
        common = (0, 0, _DOS_TIME, _DOS_DATE, zlib.crc32(data), len(data), len(data), len(name), 0)
        local += [_LOCAL.pack(b"PK\x03\x04", _VERSION, *common), name, data]
        central += [_CENTRAL.pack(b"PK\x01\x02", _VERSION, _VERSION, *common, 0, 0, 0, 0, offset), name]
        offset += _LOCAL.size + len(name) + len(data)
    size = sum(map(len, central))
    if offset + size > MAX_PACKAGE_BYTES:
        raise ValueError("the package is too large")
    return b"".join((*local, *central, _END.pack(b"PK\x05\x06", 0, 0, len(files), len(files), size, offset, 0)))


def read_zip(data: bytes) -> dict[str, bytes]:
    """The files of a package. Only the form that :func:`write_zip` gives is taken, to the last byte. Raises ValueError."""
    if len(data) > MAX_PACKAGE_BYTES:
        raise ValueError("the package is too large")
    files: dict[str, bytes] = {}
    at = 0
    while data[at : at + 4] == b"PK\x03\x04":
        if at + _LOCAL.size > len(data):
            raise ValueError("the archive is cut off")
        header = _LOCAL.unpack_from(data, at)
        size, name_size = header[8], header[9]
        start = at + _LOCAL.size + name_size
        if start + size > len(data):
            raise ValueError("the archive is cut off")
        try:
            path = data[at + _LOCAL.size : start].decode("ascii")
        except UnicodeDecodeError as error:
            raise ValueError("a path is not ASCII") from error
        if path in files:
            raise ValueError(f"{path} is there twice")
        files[path] = data[start : start + size]
        if zlib.crc32(files[path]) != header[6]:
            raise ValueError(f"{path} was changed")
        at = start + size
    if not files:
        raise ValueError("this is no package")
    if write_zip(files) != data:
        raise ValueError("the archive has another form than packages have")
    return files


# ---- the manifest


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest whose signature is good for the key it names; whose key that is, the trust file says."""

    maker: str
    """DID."""
    agreement_id: str
    made_at: str
    key: bytes
    """Ed25519, 32 bytes."""
    files: Mapping[str, tuple[int, str]]
    """Path to (size, digest)."""
    scope: Mapping[str, str] = field(default_factory=dict)
    """``transfer``, ``from`` and ``to`` where the package holds a part of the agreement; empty for the whole."""


def manifest(
    files: Mapping[str, bytes],
    *,
    maker: str,
    agreement_id: str,
    made_at: int,
    key: Ed25519Key,
    scope: Mapping[str, str] | None = None,
) -> bytes:
    """Canonical JSON that lists every other file by path, size and SHA-256 and carries its maker's signature inside itself.

    The signature is over the canonical bytes without the member ``signature``.
    """
    document: dict[str, Any] = {
        "v": 1,
        "type": "guantong-package",
        "maker": maker,
        "agreementId": agreement_id,
        "madeAt": iso(made_at),
        **({"scope": dict(scope)} if scope else {}),
        "key": b64(key.public),
        "files": [
            {"path": path, "size": len(files[path]), "sha256": hashlib.sha256(files[path]).hexdigest()}
            for path in sorted(files)
        ],
    }
    signature = key.sign(canonical_bytes(document))
    return canonical_bytes({**document, "signature": {"alg": "Ed25519", "value": b64(signature)}})


def read_manifest(data: bytes) -> Manifest:
    """Read and verify a manifest against the key inside it. Raises ValueError with the reason."""
    document = parse_json(data)
    if not isinstance(document, dict) or canonical_bytes(document) != data:
        raise ValueError("the manifest is not canonical JSON")
    scope = document.get("scope", {})
    if set(document) - {"scope"} != {"v", "type", "maker", "agreementId", "madeAt", "key", "files", "signature"}:
        raise ValueError("the manifest has other members than it should")
    if document["v"] != 1 or document["v"] is True or document["type"] != "guantong-package":
        raise ValueError("the manifest is of another kind or version")
    if not isinstance(scope, dict) or set(scope) - {"transfer", "from", "to"} or ("scope" in document and not scope):
        raise ValueError("the manifest has another scope than packages have")
    signature = document.pop("signature")
    if not isinstance(signature, dict) or set(signature) != {"alg", "value"} or signature["alg"] != "Ed25519":
        raise ValueError("the manifest's signature is not Ed25519")
    texts = [
        *(document[member] for member in ("maker", "agreementId", "madeAt", "key")),
        signature["value"],
        *scope.values(),
    ]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("a member of the manifest is not text")
    key = unb64(document["key"])
    if len(key) != 32 or not verify_ed25519(key, canonical_bytes(document), unb64(signature["value"])):
        raise ValueError("the manifest's signature does not match")
    files: dict[str, tuple[int, str]] = {}
    if not isinstance(document["files"], list) or len(document["files"]) > MAX_FILES:
        raise ValueError("the manifest lists no files")
    for item in document["files"]:
        if not isinstance(item, dict) or set(item) != {"path", "size", "sha256"}:
            raise ValueError("the manifest lists a file wrongly")
        path, size, digest = item["path"], item["size"], item["sha256"]
        if (
            not isinstance(path, str)
            or path in files
            or path == MANIFEST
            or not isinstance(size, int)
            or isinstance(size, bool)
            or not isinstance(digest, str)
            or not re.fullmatch(r"[0-9a-f]{64}", digest)
        ):
            raise ValueError("the manifest lists a file wrongly")
        files[path] = (size, digest)
    return Manifest(document["maker"], document["agreementId"], document["madeAt"], key, files, scope)


# ---- the trust file


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom a verifier knows, from outside any package: evidence keys by DID, and a policy of logs, witnesses and quorum."""

    dids: Mapping[str, frozenset[bytes]]
    policy: Policy
    authorities: tuple[Any, ...] = ()
    """Certificates of time-stamp authorities (RFC 3161)."""
    chains: Mapping[int, tuple[frozenset[str], frozenset[str]]] = field(default_factory=dict)
    """By chain id: contracts, and hashes of blocks that the verifier knows from its own node."""
    retired: Mapping[bytes, int] = field(default_factory=dict)
    """Evidence keys that were rotated or lost, and the instant, ns, from which nothing they sign counts."""
    sm2: Mapping[str, tuple[gm.Sm2Public, ...]] = field(default_factory=dict)
    """SM2 keys of logs, by origin."""
    company_roots: tuple[Any, ...] = ()
    """Certificates of the authorities whose company certificates count (X.509)."""
    companies: tuple[Mapping[str, Any], ...] = ()
    """Statements of company certificates."""

    def keys_of(self, did: str, at: int | None = None) -> frozenset[bytes]:
        """The evidence keys of a party; with an instant, those that counted then."""
        keys = self.dids.get(did, frozenset())
        return keys if at is None else frozenset(key for key in keys if at < self.retired.get(key, at + 1))


def change_line(document: Mapping[str, Any]) -> str:
    """The line of a trust file about a change of a key."""
    return f"key-change {b64(canonical_bytes(dict(document)))}"


def with_changes(trust: Trust, changes: Sequence[keychange.KeyChange]) -> Trust:
    """A trust that follows the changes which lead on from its own keys; all others are left aside.

    Raises Refused ``base.key-change-refused`` where one key was changed for two.
    """
    dids, retired, logs = dict(trust.dids), dict(trust.retired), dict(trust.policy.logs)
    for change in keychange.believed(changes, trust.dids):
        dids[change.did] = dids.get(change.did, frozenset()) | {change.old, change.new}
        retired[change.old] = change.at
        origin = origin_of(change.did)
        both = (VerifierKey(origin, ED25519, change.old), VerifierKey(origin, ED25519, change.new))
        logs[origin] = tuple(dict.fromkeys((*logs.get(origin, ()), *both)))
    return replace(trust, dids=dids, retired=retired, policy=replace(trust.policy, logs=logs))


def trust_text(
    dids: Mapping[str, bytes],
    logs: Sequence[VerifierKey],
    witnesses: Sequence[VerifierKey],
    anchors: Sequence[str] = (),
) -> str:
    """A trust file: the lines of a C2SP tlog-policy, and ``did <did> <Ed25519 key, base64>`` for each party.

    anchors: further lines, ``authority <certificate>``, ``contract <chain id> <address>``, ``block <chain id> <hash>``. One cosignature
    of any listed witness is asked for; edit the quorum to ask for more.
    """
    lines = [
        "# guantong trust file. Check each key with its owner over another channel, then: guantong verify --trust FILE PACKAGE",
        "# guantong 信任文件。请通过其他渠道与各方核对密钥，然后运行：guantong verify --trust 文件 存证包",
        *(f"did {did} {b64(key)}" for did, key in dids.items()),
        *(f"log {key}" for key in logs),
        *(f"witness w{number} {key}" for number, key in enumerate(witnesses, 1)),
        *anchors,
    ]
    if witnesses:
        lines.append(f"group witnesses any {' '.join(f'w{number}' for number in range(1, len(witnesses) + 1))}")
    lines.append(f"quorum {'witnesses' if witnesses else 'none'}")
    return "".join(f"{line}\n" for line in lines)


def parse_trust(text: str) -> Trust:
    """Read a trust file. Raises Skippable ``base.note-malformed``."""
    dids: dict[str, set[bytes]] = {}
    authorities: list[Any] = []
    chains: dict[int, tuple[set[str], set[str]]] = {}

    def did_line(fields: Sequence[str]) -> None:
        try:
            did, encoded = fields
            key = unb64(encoded)
        except ValueError as error:
            raise Skippable("base.note-malformed", reason="a did line is “did <did> <key in base64>”") from error
        if not did.startswith("did:") or len(key) != 32:
            raise Skippable("base.note-malformed", reason="a did line needs a DID and an Ed25519 key of 32 bytes")
        dids.setdefault(did, set()).add(key)

    def authority_line(fields: Sequence[str]) -> None:
        try:
            (encoded,) = fields
            authorities.append(timestamp.load_root(unb64(encoded)))
        except ValueError as error:
            raise Skippable(
                "base.note-malformed", reason="an authority line is “authority <certificate, DER in base64>”"
            ) from error

    def chain_line(fields: Sequence[str], digits: int, place: int) -> None:
        if (
            len(fields) != 2
            or not re.fullmatch(r"[1-9][0-9]{0,18}", fields[0], re.ASCII)
            or not re.fullmatch(rf"0x[0-9a-f]{{{digits}}}", fields[1].lower(), re.ASCII)
        ):
            raise Skippable("base.note-malformed", reason="a contract or block line is “contract <chain id> <0x…>”")
        chains.setdefault(int(fields[0]), (set(), set()))[place].add(fields[1].lower())

    changes: list[keychange.KeyChange] = []
    sm2: dict[str, tuple[gm.Sm2Public, ...]] = {}

    def change_line(fields: Sequence[str]) -> None:
        try:
            (encoded,) = fields
            changes.append(keychange.parse(parse_json(unb64(encoded))))
        except (ValueError, Refused) as error:
            raise Skippable("base.note-malformed", reason="a key-change line is “key-change <statement>”") from error

    roots: list[Any] = []
    companies: list[Mapping[str, Any]] = []

    def company_line(fields: Sequence[str]) -> None:
        try:
            (encoded,) = fields
            document = parse_json(unb64(encoded))
            company.read(document)
            companies.append(document)
        except (ValueError, Refused) as error:
            raise Skippable("base.note-malformed", reason="a company line is “company <statement>”") from error

    def root_line(fields: Sequence[str]) -> None:
        try:
            (encoded,) = fields
            roots.extend(company.load_roots(unb64(encoded)))
        except (ValueError, Refused) as error:
            raise Skippable(
                "base.note-malformed", reason="a company-root line is “company-root <certificate, DER in base64>”"
            ) from error

    def sm2_line(fields: Sequence[str]) -> None:
        key = gm.parse_sm2(" ".join(fields))
        sm2[key.name] = (*sm2.get(key.name, ()), key)

    policy = parse_policy(
        text,
        other={
            "company": company_line,
            "company-root": root_line,
            "key-change": change_line,
            "sm2": sm2_line,
            "did": did_line,
            "authority": authority_line,
            "contract": lambda fields: chain_line(fields, 40, 0),
            "block": lambda fields: chain_line(fields, 64, 1),
        },
    )
    trust = Trust(
        {did: frozenset(keys) for did, keys in dids.items()},
        policy,
        tuple(authorities),
        {chain: (frozenset(contracts), frozenset(blocks)) for chain, (contracts, blocks) in chains.items()},
        sm2=sm2,
        company_roots=tuple(roots),
        companies=tuple(companies),
    )
    return with_changes(trust, changes) if changes else trust


def policy_text(log: VerifierKey, witnesses: Sequence[VerifierKey]) -> str:
    """The maker's own policy, ``policy.txt`` in a package: its log, and all the witnesses that cosigned (C2SP tlog-policy)."""
    names = [f"w{number}" for number in range(1, len(witnesses) + 1)]
    lines = [f"log {log}", *(f"witness {name} {key}" for name, key in zip(names, witnesses, strict=True))]
    if names:
        lines += [f"group witnesses all {' '.join(names)}", "quorum witnesses"]
    else:
        lines.append("quorum none")
    return "".join(f"{line}\n" for line in lines)


# ---- anchors


def check_witness_anchor(ref: Mapping[str, Any], keys: Sequence[VerifierKey]) -> Anchored:
    """The earliest cosignature of a witness known. Raises Refused ``base.signature-bad``, Skippable ``base.note-malformed``."""
    opened = open_note(str(ref["note"]).encode(), [key for key in keys if key.kind == COSIGNATURE])
    head = parse_checkpoint(opened.note.text)
    key, at = min(opened.times.items(), key=lambda item: (item[1], item[0].name))
    return Anchored(head.origin, head.size, head.root, at * NS, key.name, confirmed=True)


def anchor_of(ref: Mapping[str, Any], trust: Trust | None) -> Anchored:
    """What the reference of an anchor states, checked without network. Raises Refused or Skippable with the reason."""
    if ref["kind"] == "rfc3161":
        return check_timestamp_anchor(ref, trust.authorities if trust else ())
    if ref["kind"] == "evm":
        return check_evm_anchor(ref, trust.chains if trust else {})
    raise Refused("prove.anchor-refused", kind=str(ref["kind"]), reason="no such kind is known")


def check_timestamp_anchor(ref: Mapping[str, Any], roots: Sequence[Any]) -> Anchored:
    """A time-stamp token over a checkpoint's text. Raises Refused ``base.timestamp-refused``, Skippable ``base.timestamp-malformed``."""
    head = parse_checkpoint(ref["text"])
    if head.extensions or head.text != ref["text"]:
        raise Refused("prove.anchor-refused", kind="rfc3161", reason="what was stamped is no plain checkpoint")
    found = timestamp.verify(unb64(ref["token"]), head.text.encode(), roots)
    return Anchored(head.origin, head.size, head.root, found.at, found.authority, found.confirmed)


def log_id(origin: str) -> bytes:
    """Name of a log in the contract: SHA-256 of its origin."""
    return sha256(origin.encode())


def check_evm_anchor(ref: Mapping[str, Any], trusted: Mapping[int, tuple[frozenset[str], frozenset[str]]]) -> Anchored:
    """A contract's storage proven under a block's state root (EIP-1186). Raises Refused ``prove.anchor-refused``.

    trusted: by chain id, the contracts and the hashes of blocks that the verifier knows from its own node; for a chain without any
    block known the anchor is consistent, but not confirmed.
    """

    def no(reason: str) -> Refused:
        return Refused("prove.anchor-refused", kind="evm", reason=reason)

    contract = str(ref["contract"]).lower()
    if not re.fullmatch(r"0x[0-9a-f]{40}", contract):
        raise no("the contract has no address")
    try:
        header = evm.header_of(unb64(ref["header"]))
        proofs = [[unb64(node) for node in nodes] for nodes in ref["storageProof"]]
        account = [unb64(node) for node in ref["accountProof"]]
        size, root, at_s, _owner = (
            evm.storage_word(
                header.state_root,
                bytes.fromhex(contract[2:]),
                evm.slot_of(log_id(ref["origin"]), 0, word),
                account,
                proofs[word],
            )
            for word in range(4)
        )
    except (ValueError, IndexError, TypeError) as error:
        raise no(f"the state of the block does not lead to this anchor ({error})") from error
    if (size, root.to_bytes(32, "big"), at_s) != (ref["size"], unb64(ref["root"]), ref["time"]):
        raise no("the state of the block does not lead to this anchor")
    contracts, blocks = trusted.get(ref["chain"], (frozenset(), frozenset()))
    block = f"0x{header.hash.hex()}"
    if contracts and contract not in contracts:
        raise no("the trust file does not list the contract")
    if blocks and block not in blocks:
        raise no("the trust file does not list the block")
    by = f"chain {ref['chain']}, contract {contract}, block {header.number} {block}"
    return Anchored(ref["origin"], size, root.to_bytes(32, "big"), at_s * NS, by, confirmed=bool(contracts and blocks))
