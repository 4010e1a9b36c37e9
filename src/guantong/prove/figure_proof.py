"""Making a figure's trace, drawing a challenge, opening what was drawn, and checking all of it offline. Pure.

The trace is one leaf for each position: the chunks taken in, the state after them, the contributions so far. Its root is in the figure.
A draw is a number below the sum of contributions; the position whose contributions reach over it is opened: its chunks, its leaf and the
leaf before. Who checks hashes the chunks up to roots that were in the seller's log before the question, and computes the step anew.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from guantong.base.canonical import b64, canonical_bytes, digest, sha256, unb64
from guantong.base.chunks import SALT_BYTES, chunk_leaf, chunk_salt
from guantong.base.clock import NS, iso, parse_iso
from guantong.base.depth import too_deep
from guantong.base.errors import GuantongError
from guantong.base.keys import Ed25519Key, verify_ed25519
from guantong.base.merkle import inclusion_proof, leaf_hash, nodes_of, root, root_of_inclusion, verify_inclusion
from guantong.base.note import COSIGNATURE, open_note, parse_checkpoint, parse_proof
from guantong.prove.figure import Checked
from guantong.prove.figure_functions import FUNCTIONS, Function, Window, Wrong, function_hash, rows_of
from guantong.prove.model import origin_of, witness_name_of
from guantong.prove.rules import Trust

__all__ = [
    "Chunk",
    "Trace",
    "Unit",
    "bound",
    "challenge_seed",
    "check_bundle",
    "check_opening",
    "draws",
    "figure_document",
    "nonce_hash",
    "openings",
    "trace",
]

DEPTH_MAX, CITES_MAX, OPENINGS_MAX = 8, 2000, 10_000


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk that a figure takes in, with what opens it."""

    commit: int
    """Which of the figure's commitments."""
    index: int
    salt: bytes
    text: bytes
    path: Callable[[], Sequence[bytes]]


@dataclass(frozen=True, slots=True)
class Unit:
    """One position of a figure: chunks of one stream whose times overlap, or a cited figure."""

    role: str
    stream: str
    chunks: tuple[Chunk, ...]
    cited: Mapping[str, Any] | None = None
    """``{figure, value, unit}`` of a cited figure, which stands in place of chunks."""


@dataclass(frozen=True, slots=True)
class Trace:
    """The computation of a figure, position by position; position 0 is the beginning."""

    function: Function
    leaves: tuple[bytes, ...]
    weights: tuple[int, ...]
    """Contributions up to and with each position."""
    outcome: Any

    @property
    def root(self) -> bytes:
        """Root over the leaves."""
        return root([leaf_hash(leaf) for leaf in self.leaves])


def trace(
    function: Function, parameters: Mapping[str, Any], window: Window, units: Sequence[Unit], secret: bytes
) -> Trace:
    """Compute a figure over its units. secret: what the leaves' salts are made from. Raises Wrong where the units don't fit."""
    state = function.begin(parameters, window)
    leaves = [_leaf(0, None, state, 0, chunk_salt(secret, 0))]
    weights = [0]
    for position, unit in enumerate(units, 1):
        rows: list[Any]
        if unit.cited is not None:
            rows = [dict(unit.cited)]
        else:
            rows = rows_of([_read(chunk.text) for chunk in unit.chunks])
        state, weight = function.step(state, unit.role, unit.stream, rows, parameters, window)
        weights.append(weights[-1] + max(1, weight))
        leaves.append(_leaf(position, unit, state, weights[-1], chunk_salt(secret, position)))
    return Trace(function, tuple(leaves), tuple(weights), function.finish(state, parameters, window))


def _leaf(position: int, unit: Unit | None, state: Mapping[str, Any], weight: int, salt: bytes) -> bytes:
    body: dict[str, Any] = {"position": position, "state": packed(state), "weight": str(weight), "salt": b64(salt)}
    if unit is not None:
        body |= {"role": unit.role, "stream": unit.stream}
        if unit.cited is not None:
            body["cited"] = dict(unit.cited)
        else:
            body["chunks"] = [[one.commit, one.index, chunk_leaf(one.salt, one.text).hex()] for one in unit.chunks]
    return canonical_bytes(body)


def packed(value: Any) -> Any:
    """A state with whole numbers that JSON can't hold exactly (instants in nanoseconds) as ``{"int": text}``."""
    if isinstance(value, Mapping):
        return {name: packed(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [packed(item) for item in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53:
        return {"int": str(value)}
    return value


def unpacked(value: Any) -> Any:
    """The inverse of :func:`packed`."""
    if isinstance(value, dict):
        if value.keys() == {"int"}:
            return int(value["int"])
        return {name: unpacked(item) for name, item in value.items()}
    return [unpacked(item) for item in value] if isinstance(value, list) else value


def _json(text: bytes, **given: Any) -> Any:
    if too_deep(text):
        raise ValueError("nested too deeply")
    return json.loads(text, **given)


def _read(text: bytes) -> dict[str, Any]:
    found = _json(text, parse_float=Decimal)
    if not isinstance(found, dict):
        raise Wrong("a chunk is not a JSON object")
    return found


# ---- the figure


def figure_document(
    *,
    seller: str,
    definition: Mapping[str, Any],
    window: Window,
    made: Trace,
    commits: Sequence[Mapping[str, Any]],
    openings: int,
    made_at: int,
    nonce_hash: str,
    agreement_id: str,
    buyer: str,
) -> dict[str, Any]:
    """The product that is handed over: value, unit, window, coverage, root, function hash, and who asked."""
    outcome, function = made.outcome, made.function
    unit = outcome.facts.get("unit", "1") or "1" if function.unit == "@cited" else function.unit
    return {
        "v": 1,
        "type": "figure",
        "seller": seller,
        "buyer": buyer,
        "agreementId": agreement_id,
        "definition": dict(definition),
        "function": {
            "name": function.name,
            "hash": function_hash(function),
            "definition": function.definition,
            "en": function.en,
            "zh": function.zh,
        },
        "window": {"from": iso(window.start), "to": iso(window.end)},
        "value": None if outcome.value is None else format(outcome.value, "f"),
        "reason": outcome.reason,
        "unit": unit,
        "coverage": format(outcome.coverage, "f"),
        "facts": dict(outcome.facts),
        "commits": [dict(one) for one in commits],
        "root": "sha256:" + made.root.hex(),
        "positions": len(made.leaves) - 1,
        "weight": str(made.weights[-1]),
        "weighted": function.weighted,
        "openings": openings,
        "nonceHash": nonce_hash,
        "madeAt": iso(made_at),
    }


def nonce_hash(nonce: bytes) -> str:
    """How the buyer fixes its nonce with the order, before it can know the figure or the cosignature."""
    return "sha256:" + sha256(b"guantong-nonce/1\n" + nonce).hex()


def challenge_seed(figure: str, nonce: bytes, cosignature: str) -> bytes:
    """Seed of the draws: the figure's digest, the buyer's nonce, and a witness's cosignature made after both were fixed.

    The seller can't know the nonce when it makes the figure; the buyer can't know the cosignature when it fixes the nonce.
    """
    return sha256(
        b"guantong-challenge/1\n" + figure.encode() + b"\n" + b64(nonce).encode() + b"\n" + cosignature.encode()
    )


def draws(seed: bytes, count: int, weight: int) -> list[int]:
    """``count`` numbers from 0 up to ``weight``, with replacement, from the seed alone."""
    return [
        int.from_bytes(hashlib.sha256(seed + at.to_bytes(4, "big")).digest(), "big") % weight if weight else 0
        for at in range(count)
    ]


def bound(opened: int) -> float:
    """Share of the weight that may be wrong, at most, with 95 % confidence, after so many clean draws: about 3/opened."""
    return 1.0 if opened <= 0 else float(1.0 - 0.05 ** (1.0 / opened))


def openings(made: Trace, units: Sequence[Unit], drawn: Iterable[int]) -> list[dict[str, Any]]:
    """What opens the positions that were drawn, by position, each once."""
    hashes = [leaf_hash(leaf) for leaf in made.leaves]
    node = nodes_of(hashes)
    found = []
    for position in sorted({_position(made.weights, number) for number in drawn}):
        unit = units[position - 1]
        found.append(
            {
                "before": _shown(made, node, position - 1),
                "after": _shown(made, node, position),
                "chunks": [
                    {
                        "text": chunk.text.decode("utf-8"),
                        "salt": b64(chunk.salt),
                        "path": [b64(item) for item in chunk.path()],
                    }
                    for chunk in unit.chunks
                ],
            }
        )
    return found


def ends(made: Trace) -> dict[str, Any]:
    """The first and the last leaf, which every figure shows."""
    node = nodes_of([leaf_hash(leaf) for leaf in made.leaves])
    return {"first": _shown(made, node, 0), "last": _shown(made, node, len(made.leaves) - 1)}


def _shown(made: Trace, node: Callable[[int, int], bytes], position: int) -> dict[str, Any]:
    path = inclusion_proof(node, position, len(made.leaves))
    return {"leaf": made.leaves[position].decode("utf-8"), "path": [b64(item) for item in path]}


def _position(weights: Sequence[int], number: int) -> int:
    low, high = 1, len(weights) - 1
    while low < high:
        middle = (low + high) // 2
        if weights[middle] > number:
            high = middle
        else:
            low = middle + 1
    return low


# ---- checking


def _leaf_of(figure: Mapping[str, Any], shown: Mapping[str, Any], position: int) -> dict[str, Any]:
    try:
        data = str(shown["leaf"]).encode("utf-8")
        path = [unb64(str(item)) for item in shown["path"]]
        leaf = _json(data)
    except (KeyError, TypeError, ValueError) as error:
        raise Wrong(f"position {position}: its leaf can't be read") from error
    size = int(figure["positions"]) + 1
    if not verify_inclusion(leaf_hash(data), position, size, path, bytes.fromhex(str(figure["root"])[7:])):
        raise Wrong(f"position {position}: its leaf is not under the figure's root")
    if not isinstance(leaf, dict) or leaf.get("position") != position or canonical_bytes(leaf) != data:
        raise Wrong(f"position {position}: its leaf is of another form")
    return leaf


def check_opening(figure: Mapping[str, Any], opening: Mapping[str, Any]) -> tuple[int, int, int]:
    """Check one opened position: (position, contributions before it, contributions with it). Raises Wrong with the reason."""
    function = _function(figure)
    try:
        position = int(_json(str(opening["after"]["leaf"]).encode())["position"])
    except (KeyError, TypeError, ValueError) as error:
        raise Wrong("an opening names no position") from error
    if position < 1:
        raise Wrong("the beginning was opened in place of a position")
    before = _leaf_of(figure, opening["before"], position - 1)
    after = _leaf_of(figure, opening["after"], position)
    named = after.get("chunks")
    given = opening.get("chunks")
    if not isinstance(named, list) or not isinstance(given, list) or not named or len(named) != len(given):
        raise Wrong(f"position {position}: not every chunk that it names was opened")
    chunks = []
    for (commit, index, hashed), one in zip(named, given, strict=True):
        commitment = figure["commits"][commit]
        text, salt = str(one["text"]).encode("utf-8"), unb64(str(one["salt"]))
        if len(salt) != SALT_BYTES or chunk_leaf(salt, text).hex() != hashed:
            raise Wrong(f"position {position}: chunk {index} is not the one that was taken in")
        found = root_of_inclusion(
            bytes.fromhex(hashed), index, int(commitment["chunks"]), [unb64(str(item)) for item in one["path"]]
        )
        if found is None or "sha256:" + found.hex() != commitment["root"]:
            raise Wrong(f"position {position}: chunk {index} is not what was committed when it was recorded")
        chunk = _read(text)
        if chunk.get("stream") != after.get("stream") or chunk.get("table") != _table(figure, after):
            raise Wrong(f"position {position}: chunk {index} is of another stream")
        chunks.append(chunk)
    _check_step(figure, function, before, after, rows_of(chunks))
    return position, int(before["weight"]), int(after["weight"])


def _check_step(
    figure: Mapping[str, Any], function: Function, before: Mapping[str, Any], after: Mapping[str, Any], rows: list[Any]
) -> None:
    position = after["position"]
    window = _window(figure)
    try:
        state, weight = function.step(
            unpacked(before["state"]),
            str(after["role"]),
            str(after["stream"]),
            rows,
            figure["definition"]["parameters"],
            window,
        )
    except (KeyError, TypeError, ValueError, ArithmeticError, IndexError, GuantongError) as error:
        raise Wrong(f"position {position}: the step can't be computed ({type(error).__name__})") from error
    if packed(state) != after["state"]:
        raise Wrong(f"position {position}: the step does not follow from its chunks")
    if int(after["weight"]) != int(before["weight"]) + max(1, weight):
        raise Wrong(f"position {position}: its contribution is stated wrongly")


def _table(figure: Mapping[str, Any], leaf: Mapping[str, Any]) -> str:
    for one in figure["definition"]["inputs"]:
        if one["role"] == leaf.get("role") and leaf.get("stream") in one["streams"]:
            return str(one["table"])
    raise Wrong(f"position {leaf.get('position')}: its stream is no input of the definition")


def _function(figure: Mapping[str, Any]) -> Function:
    named = figure["function"]
    function = FUNCTIONS.get(str(named["name"]))
    if function is None:
        raise Wrong(f"the function {named['name']} is not published")
    if named["hash"] != function_hash(function):
        raise Wrong(f"the function {named['name']} has another text here: use the version of its maker")
    if figure["definition"]["function"] != function.name:
        raise Wrong("the definition names another function")
    return function


def _window(figure: Mapping[str, Any]) -> Window:
    return Window(parse_iso(str(figure["window"]["from"])), parse_iso(str(figure["window"]["to"])))


def check_bundle(bundle: Mapping[str, Any], trust: Trust | None, *, depth: int = 0) -> Checked:
    """Check a figure's bundle with nothing but keys: signature, commitments in the log, the end of the trace, the challenge, citations.

    Without trust everything else is checked and signers stay unconfirmed. Never raises for what a bundle holds.
    """
    checked = Checked()
    try:
        _check_bundle(bundle, trust, checked, depth)
    except (Wrong, GuantongError) as error:
        checked.problems.append(str(error))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, RecursionError) as error:
        checked.problems.append(f"the bundle is of another form ({type(error).__name__})")
    return checked


def _check_bundle(bundle: Mapping[str, Any], trust: Trust | None, checked: Checked, depth: int) -> None:
    if bundle.get("v") != 1 or bundle.get("type") != "figure-proof" or depth > DEPTH_MAX:
        raise Wrong("this is no proof of a figure, or it cites too deep")
    figure: Mapping[str, Any] = bundle["figure"]
    checked.digest = digest(dict(figure))
    checked.value, checked.unit, checked.reason = figure["value"], str(figure["unit"]), str(figure["reason"])
    checked.units, checked.weighted = int(figure["positions"]), str(figure["weighted"])
    seller = str(figure["seller"])
    ended = check_signature(bundle["signature"], canonical_bytes(dict(figure)), seller, trust, checked)
    function = _function(figure)
    window = _window(figure)
    made_index, witnessed = _check_made(bundle, figure, seller, trust, checked)
    if ended is not None:
        _counted(f"the key of {seller}", ended, witnessed, checked)
    _check_commits(bundle, figure, seller, trust, checked, made_index)
    first = _leaf_of(figure, bundle["ends"]["first"], 0)
    last = _leaf_of(figure, bundle["ends"]["last"], checked.units)
    if first["state"] != packed(function.begin(figure["definition"]["parameters"], window)):
        raise Wrong("the trace does not begin as the function says")
    if first["weight"] != "0" or last["weight"] != figure["weight"]:
        raise Wrong("the sum of contributions is stated wrongly")
    outcome = function.finish(unpacked(last["state"]), figure["definition"]["parameters"], window)
    value = None if outcome.value is None else format(outcome.value, "f")
    if value != figure["value"] or outcome.reason != figure["reason"] or dict(outcome.facts) != dict(figure["facts"]):
        raise Wrong("the value does not follow from the end of the trace")
    if format(outcome.coverage, "f") != figure["coverage"]:
        raise Wrong("the coverage does not follow from the end of the trace")
    if function.roles == ("figure",):
        _check_citations(bundle, figure, function, trust, checked, depth)
    elif bundle.get("challenge"):
        _check_challenge(bundle["challenge"], figure, seller, trust, checked, made_index)


def check_signature(
    signature: Mapping[str, Any], message: bytes, signer: str, trust: Trust | None, checked: Checked
) -> int | None:
    """Check a signature. Returns from when on the key counts no more (ns), None where it still does."""
    public, value = unb64(str(signature["key"])), unb64(str(signature["value"]))
    if signature.get("by") != signer or not verify_ed25519(public, message, value):
        raise Wrong(f"the signature of {signer} does not match")
    if trust is None or signer not in trust.dids:
        checked.unconfirmed.append(f"no key known for {signer}")
    elif public not in trust.dids[signer]:
        raise Wrong(f"the trust file does not list this key of {signer}")
    else:
        return trust.retired.get(public)
    return None


def _counted(what: str, ended: int, witnessed: int | None, checked: Checked) -> None:
    """A key that was rotated or lost counts for what a witness saw before that, and for nothing later."""
    if witnessed is None:
        checked.unconfirmed.append(f"{what} counts no more since {iso(ended)}, and no witness says that this is older")
    elif witnessed >= ended:
        raise Wrong(f"{what} counts no more since {iso(ended)}, and this was seen only later")


def _open(data: bytes, proof: str, seller: str, trust: Trust | None, checked: Checked) -> tuple[int, int, int | None]:
    """Index of a leaf of the seller's log, size of the checkpoint that proves it, and when that was witnessed at the latest (ns)."""
    parsed = parse_proof(proof.encode("utf-8"))
    text = parsed.checkpoint.rpartition(b"\n\n")[0].decode("utf-8") + "\n"
    checkpoint = parse_checkpoint(text)
    if checkpoint.origin != origin_of(seller):
        raise Wrong("a proof is from another log")
    if not verify_inclusion(leaf_hash(data), parsed.index, checkpoint.size, parsed.path, checkpoint.root):
        raise Wrong("an entry does not lie in the log")
    witnessed: int | None = None
    keys = () if trust is None else trust.policy.logs.get(checkpoint.origin, ())
    if not keys:
        checked.unconfirmed.append(f"no key known for the log {checkpoint.origin}")
    else:
        assert trust is not None
        opened = open_note(parsed.checkpoint, [*keys, *trust.policy.witnesses.values()])
        signers = [key for key in keys if key in opened.signers]
        if not signers:
            raise Wrong("a checkpoint is not signed by the seller's log")
        # nobody is a witness of its own log
        own = witness_name_of(seller)
        times = [at for key, at in opened.times.items() if key.kind == COSIGNATURE and key.name != own]
        witnessed = min(times) * NS if times else None
        if all(key.public in trust.retired for key in signers):
            _counted(
                f"the key of the log of {seller}", max(trust.retired[key.public] for key in signers), witnessed, checked
            )
    return parsed.index, checkpoint.size, witnessed


def _newer(bundle: Mapping[str, Any], name: str) -> Any:
    """Proofs under the cosigned checkpoint, which came with the challenge where no witness had seen the entries before."""
    challenge = bundle.get("challenge") or {}
    return (challenge.get("proofs") or {}).get(name)


def _check_made(
    bundle: Mapping[str, Any], figure: Mapping[str, Any], seller: str, trust: Trust | None, checked: Checked
) -> tuple[int, int | None]:
    data = str(bundle["made"]["leaf"]).encode("utf-8")
    leaf = _json(data)
    index, _, witnessed = _open(data, _newer(bundle, "made") or str(bundle["made"]["proof"]), seller, trust, checked)
    if leaf["kind"] != "prove.figure-made" or leaf["participant"] != seller:
        raise Wrong("the entry is not about a figure that was made")
    if leaf["body"]["figure"] != checked.digest or leaf["body"]["nonceHash"] != figure["nonceHash"]:
        raise Wrong("the log records another figure")
    checked.witnessed = witnessed is not None
    return index, witnessed


def _check_commits(
    bundle: Mapping[str, Any],
    figure: Mapping[str, Any],
    seller: str,
    trust: Trust | None,
    checked: Checked,
    made_index: int,
) -> None:
    proofs = bundle["commits"]
    if len(proofs) != len(figure["commits"]):
        raise Wrong("a commitment lacks its proof")
    latest = ""
    spans: list[tuple[int, int]] = []
    newer = _newer(bundle, "commits") or [""] * len(proofs)
    for one, shown, again in zip(figure["commits"], proofs, newer, strict=True):
        data = str(shown["leaf"]).encode("utf-8")
        leaf = _json(data)
        index, _, witnessed = _open(data, str(again or shown["proof"]), seller, trust, checked)
        body = leaf["body"]
        if leaf["kind"] != "prove.chunks-committed" or leaf["participant"] != seller or index != one["entry"]:
            raise Wrong("an entry is not the commitment that it stands for")
        if any(body[name] != one[name] for name in ("table", "chunks", "root")):
            raise Wrong("a commitment differs from what the log records")
        if index >= made_index:
            raise Wrong("a commitment came after the figure")
        latest = max(latest, iso(witnessed) if witnessed is not None else str(leaf["at"]))
        spans.append((int(body["first"]), int(body["last"])))
    checked.committed_before = latest
    checked.covers = _covered(spans)


def _covered(spans: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Which positions of the seller's log the commitments span, and which in between are in none of them."""
    if not spans:
        return {}
    holes: list[list[int]] = []
    reached = min(first for first, _ in spans) - 1
    for first, last in sorted(spans):
        if first > reached + 1:
            holes.append([reached + 1, first - 1])
        reached = max(reached, last)
    return {
        "first": min(first for first, _ in spans),
        "last": reached,
        "uncovered": sum(end - start + 1 for start, end in holes),
        "stretches": holes[:50],
    }


def _check_challenge(
    challenge: Mapping[str, Any],
    figure: Mapping[str, Any],
    seller: str,
    trust: Trust | None,
    checked: Checked,
    made_index: int,
) -> None:
    nonce = unb64(str(challenge["nonce"]))
    if figure["nonceHash"] and nonce_hash(nonce) != figure["nonceHash"]:
        raise Wrong("the nonce is not the one that was fixed with the order")
    cosignature = str(challenge["cosignature"])
    if cosignature:
        _check_cosignature(challenge, cosignature, seller, trust, checked, made_index)
    count = int(challenge["count"])
    if not 0 < count <= OPENINGS_MAX:
        raise Wrong("the number of draws is out of range")
    seed = challenge_seed(checked.digest, nonce, cosignature)
    checked.seed = "sha256:" + seed.hex()
    weight = int(figure["weight"])
    wanted = draws(seed, count, weight)
    reached: list[tuple[int, int]] = []
    for opening in challenge["openings"]:
        try:
            _, low, high = check_opening(figure, opening)
        except Wrong as error:
            checked.problems.append(str(error))
            continue
        reached.append((low, high))
    checked.positions = len(reached)
    missing = [number for number in wanted if not any(low <= number < high for low, high in reached)]
    if not checked.problems and missing:
        raise Wrong(f"{len(missing)} of {count} draws were not opened")
    if checked.positions > int(figure["openings"]):
        raise Wrong("more positions were opened than the contract states")
    checked.opened = count - len(missing)
    checked.bound = f"{bound(checked.opened):.6f}"


def _check_cosignature(
    challenge: Mapping[str, Any], cosignature: str, seller: str, trust: Trust | None, checked: Checked, made_index: int
) -> None:
    note = unb64(str(challenge["checkpoint"]))
    checkpoint = parse_checkpoint(note.rpartition(b"\n\n")[0].decode("utf-8") + "\n")
    if checkpoint.origin != origin_of(seller) or checkpoint.size <= made_index:
        raise Wrong("the cosigned checkpoint does not cover the figure")
    if cosignature.encode("utf-8") not in note:
        raise Wrong("the cosignature is not on the checkpoint")
    if trust is None or not trust.policy.logs.get(checkpoint.origin):
        return
    opened = open_note(note, [*trust.policy.logs[checkpoint.origin], *trust.policy.witnesses.values()])
    name = re.match(r"— (\S+) ", cosignature)
    if name is None or not any(key.name == name[1] and key.kind == COSIGNATURE for key in opened.signers):
        checked.unconfirmed.append("no key known for the witness whose cosignature fixes the draws")
    else:
        checked.witnessed = True


def _check_citations(
    bundle: Mapping[str, Any],
    figure: Mapping[str, Any],
    function: Function,
    trust: Trust | None,
    checked: Checked,
    depth: int,
) -> None:
    """A figure of figures is computed anew from all that it cites, each checked in turn."""
    cites = bundle.get("cites") or []
    if not 0 < len(cites) <= CITES_MAX or len(cites) != checked.units:
        raise Wrong("a figure of figures carries the figures that it cites")
    units = []
    for one in cites:
        found = check_bundle(one, trust, depth=depth + 1)
        checked.cites.append(found)
        units.append(Unit("figure", "", (), {"figure": found.digest, "value": found.value, "unit": found.unit}))
    made = trace_states(function, figure, units)
    last = _json(str(bundle["ends"]["last"]["leaf"]).encode())
    if packed(made) != last["state"]:
        raise Wrong("the figure does not follow from the figures that it cites")


def trace_states(function: Function, figure: Mapping[str, Any], units: Sequence[Unit]) -> dict[str, Any]:
    """The last state over cited figures."""
    window, parameters = _window(figure), figure["definition"]["parameters"]
    state = function.begin(parameters, window)
    for unit in units:
        assert unit.cited is not None
        state, _ = function.step(state, unit.role, unit.stream, [dict(unit.cited)], parameters, window)
    return state


def sign_as(did: str, key: Ed25519Key, message: bytes) -> dict[str, str]:
    """A signature as figures and their receipts carry it."""
    return {"by": did, "key": b64(key.public), "algorithm": "Ed25519", "value": b64(key.sign(message))}


def receipt_statement(checked: Checked, figure: Mapping[str, Any], *, buyer: str, at: int) -> dict[str, Any]:
    """The buyer's signed verdict, which makes the receipt of a figure."""
    return {
        "v": 1,
        "type": "figure-receipt",
        "figure": checked.digest,
        "agreementId": figure["agreementId"],
        "seller": figure["seller"],
        "buyer": buyer,
        "seed": checked.seed,
        "opened": checked.opened,
        "verdict": checked.verdict,
        "problems": checked.problems[:20],
        "at": iso(at, digits=6),
    }
