"""The stranger's verifier: reads one package, the proof that a log was forked or a guest's papers, trusts nothing in it, needs no network, no database and no guantong node.

``guantong verify --trust KEYS PACKAGE``; the same code travels in every package as ``verify.pyz``. It imports only ``base`` and the
stages' ``model`` and ``rules``; beside Python it needs ``cryptography``.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from guantong.base import company, gm, guest, keychange
from guantong.base.canonical import canonical_bytes, digest, unb64
from guantong.base.clock import NS, iso, parse_iso
from guantong.base.errors import ConfigProblem, GuantongError, Refused, Skippable
from guantong.base.fork import contradicts, parse_fork
from guantong.base.keys import verify_ed25519
from guantong.base.merkle import leaf_hash, verify_consistency, verify_inclusion
from guantong.base.note import (
    ED25519,
    Policy,
    VerifierKey,
    open_note,
    parse_checkpoint,
    parse_note,
    parse_policy,
    parse_proof,
)
from guantong.exchange import rules as exchange
from guantong.prove import rules
from guantong.prove.model import origin_of, witness_name_of
from guantong.prove.verdict import UNREADABLE, Check, Report
from guantong.settle import credit
from guantong.settle import rules as settle

__all__ = ["Check", "Report", "load_trust", "main", "verify_fork", "verify_guest", "verify_package"]

_AHEAD_S = 24 * 3600  # a cosignature from further in the future than any clock is wrong by is forged


class _Failed(Exception):
    pass


def load_trust(path: Path) -> rules.Trust:
    """Read a trust file. Raises ConfigProblem ``prove.trust-unreadable``."""
    try:
        return rules.parse_trust(path.read_bytes().decode("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigProblem("prove.trust-unreadable", reason=type(error).__name__) from error
    except Skippable as error:
        raise ConfigProblem("prove.trust-unreadable", reason=error.message()) from error


def verify_fork(data: bytes, trust: rules.Trust | None = None) -> Report:
    """Verify a proof that a log has two histories (``base/fork.py``). The verdict is ``ok`` if the fork is proven."""
    report = Report(trusted=trust is not None, kind="fork")
    try:
        fork = parse_fork(data)
        origin = parse_checkpoint(parse_note(fork.first).text).origin
        report.maker = origin
        report.checks.append(Check("fork-file", ok=True, reason=origin))
        if trust is None:
            first, second = (parse_checkpoint(parse_note(note).text) for note in (fork.first, fork.second))
            if not contradicts(first, second, fork.root, fork.consistency):
                raise Refused("base.no-fork", reason="the two checkpoints may be of one history")
            report.checks.append(Check("fork-signatures", ok=None, reason="no trust file was given"))
        else:
            keys = trust.policy.logs.get(origin, ())
            if not keys:
                raise _Failed(f"the trust file does not list the log {origin}")
            first, second = fork.verify(keys)
            report.checks.append(Check("fork-signatures", ok=True, reason=origin))
        report.checks.append(Check("fork", ok=True, reason=f"{first.size}, {second.size}"))
    except (GuantongError, _Failed) as error:
        reason = error.message() if isinstance(error, GuantongError) else str(error)
        report.checks.append(Check("fork", ok=False, reason=reason))
    return report


def verify_guest(data: bytes, trust: rules.Trust | None = None) -> Report:
    """Verify the papers that a guest takes along (``base/guest.py``): its own signatures, and the host's entries about them."""
    report = Report(trusted=trust is not None, kind="guest")
    try:
        papers = guest.parse_papers(data)
        report.maker = papers.host
        report.checks.append(Check("guest-file", ok=True, reason=papers.guest))
        chain, statements = guest.follow(papers.statements, papers.guest, papers.host)
        report.checks.append(Check("guest-statements", ok=True, reason=str(chain.number)))
        guest.verified_leaves(papers, statements)
        keys = [] if trust is None else list(trust.policy.logs.get(origin_of(papers.host), ()))
        if trust is not None and not keys:
            raise _Failed(f"the trust file does not list the log {origin_of(papers.host)}")
        report.checks.append(Check("guest-entries", ok=True, reason=guest.proven(papers, keys)))
        report.checks.append(
            Check("guest-host", ok=None, reason="no trust file was given")
            if trust is None
            else Check("guest-host", ok=True, reason=papers.host)
        )
    except (GuantongError, _Failed) as error:
        reason = error.message() if isinstance(error, GuantongError) else str(error)
        report.checks.append(Check("guest-host", ok=False, reason=reason))
    return report


def verify_package(data: bytes, trust: rules.Trust | None = None, *, now_ns: int | None = None) -> Report:
    """Verify a package. Never raises for what is inside it: whatever is wrong becomes a check that did not hold.

    trust: keys from outside the package; without them the best verdict is ``signer-unknown``. now_ns: the verifier's clock, which only
    serves to refuse cosignatures from the future.
    """
    report = Report(trusted=trust is not None)

    def run(name: str, check: Callable[[], tuple[bool | None, str]]) -> bool:
        try:
            ok, reason = check()
        except _Failed as error:
            ok, reason = False, str(error)
        except GuantongError as error:
            ok, reason = False, error.message()
        except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError) as error:
            ok, reason = False, str(error) or type(error).__name__
        report.checks.append(Check(name, ok, reason))
        return ok is not False

    package = _Package(report, trust, now_ns)
    steps: Iterable[tuple[str, Callable[[], tuple[bool | None, str]]]] = (
        ("container", lambda: package.container(data)),
        ("manifest", package.manifest_signature),
        ("files", package.listing),
        ("maker", package.maker),
        ("checkpoint", package.checkpoint),
        ("witnesses", package.witnesses),
        ("keys", package.key_times),
        ("company", package.company),
        ("entries", package.entries),
        ("anchors", package.anchors),
        ("agreement", package.agreement),
        ("receipts", package.receipts),
        ("invoices", package.invoices),
        ("disputes", package.disputes),
        ("credit-notes", package.credit_notes),
    )
    for name, check in steps:
        # what comes later rests on what came before
        if not run(name, check) and name not in ("maker", "witnesses"):
            break
    return report


class _Package:
    """The package while it is verified; each method is one check and returns (held, remark)."""

    def __init__(self, report: Report, trust: rules.Trust | None, now_ns: int | None) -> None:
        self.report = report
        self.trust = trust
        self.now_ns = now_ns
        self.files: dict[str, bytes] = {}
        self.leaves: dict[int, dict[str, Any]] = {}
        self.note = b""
        self.parties: set[str] = set()
        self.price: Mapping[str, Any] = {}
        self.records: list[dict[str, Any]] = []
        self.states: dict[str, str] = {}
        self.invoiced: dict[str, set[str]] = {}
        self.resolutions: dict[str, dict[str, Any]] = {}
        self.signers: set[str] = set()

    def container(self, data: bytes) -> tuple[bool | None, str]:
        self.files = rules.read_zip(data)
        return True, ""

    def manifest_signature(self) -> tuple[bool | None, str]:
        if rules.MANIFEST not in self.files:
            raise _Failed("there is no manifest.json")
        self.manifest = rules.read_manifest(self.files[rules.MANIFEST])
        self.report.maker = self.manifest.maker
        self.report.agreement_id = self.manifest.agreement_id
        self.report.made_at = self.manifest.made_at
        self.report.scope = dict(self.manifest.scope)
        return True, self.manifest.maker

    def listing(self) -> tuple[bool | None, str]:
        listed, there = set(self.manifest.files), set(self.files) - {rules.MANIFEST}
        for path in sorted(listed ^ there):
            raise _Failed(f"{path} is {'missing' if path in listed else 'not listed'}")
        for path, (size, sha256) in self.manifest.files.items():
            if len(self.files[path]) != size or rules.digest_of(self.files[path]) != f"sha256:{sha256}":
                raise _Failed(f"{path} was changed")
        return True, ""

    def maker(self) -> tuple[bool | None, str]:
        changes = [
            keychange.parse(rules.parse_json(self.files[path])) for path in self.files if path.startswith("keys/")
        ]
        if self.trust is not None:
            self.trust = rules.with_changes(self.trust, changes)
            self.known = self.trust
        else:
            own = rules.Trust({self.manifest.maker: frozenset({self.manifest.key})}, Policy({}, {}))
            self.known = rules.with_changes(own, changes)
        if self.trust is None:
            return None, "no trust file was given"
        if self.manifest.key not in self.trust.dids.get(self.manifest.maker, ()):
            raise _Failed(f"the trust file does not list this key of {self.manifest.maker}")
        return True, ""

    def checkpoint(self) -> tuple[bool | None, str]:
        proofs = {path: parse_proof(data) for path, data in self.files.items() if path.endswith(".tlog-proof")}
        if not proofs:
            raise _Failed("there is no entry in the package")
        notes = {proof.checkpoint for proof in proofs.values()}
        if len(notes) != 1:
            raise _Failed("the entries are proven under different checkpoints")
        self.proofs, (self.note,) = proofs, notes
        origin = origin_of(self.manifest.maker)
        own = VerifierKey(origin, ED25519, self.manifest.key)
        self.own_policy = parse_policy(self.files["policy.txt"].decode("utf-8"))
        if dict(self.own_policy.logs) != {origin: (own,)}:
            raise _Failed("policy.txt names another log than the maker's")
        self.policy: Policy = self.own_policy if self.trust is None else self.trust.policy
        keys = self.policy.logs.get(origin, ())
        if not keys:
            raise _Failed(f"the trust file does not list the log {origin}")
        witnesses = list(self.policy.witnesses.values())
        self.opened = open_note(self.note, [*keys, *witnesses])
        if not set(keys) & set(self.opened.signers):
            raise Refused("base.signature-bad", signer=origin)
        self.head = parse_checkpoint(self.opened.note.text)
        if self.head.origin != origin:
            raise _Failed("the checkpoint is of another log")
        return True, f"{origin}, {self.head.size}{self._sm2(origin)}"

    def _sm2(self, origin: str) -> str:
        """Remark about the SM2 line, for who knows an SM2 key of this log; a line that does not match refuses the package."""
        remarks = []
        for key in self.trust.sm2.get(origin, ()) if self.trust is not None else ():
            try:
                found = gm.check_line(self.opened.note, key)
            except ConfigProblem as error:
                remarks.append(f"; SM2: not checked ({error.message()})")
                continue
            remarks.append(
                f"; SM2 {'matches' if found else 'line absent'} ({gm.NOT_CERTIFIED['en']} / {gm.NOT_CERTIFIED['zh']})"
            )
        return "".join(remarks)

    def key_times(self) -> tuple[bool | None, str]:
        """A key that was rotated or lost counts for what was seen by others before that, and for nothing later."""
        logs = {key.public for key in self.opened.signers if key.kind == ED25519}
        ends = [self.known.retired[self.manifest.key]] if self.manifest.key in self.known.retired else []
        if all(key in self.known.retired for key in logs):
            ends.append(max(self.known.retired[key] for key in logs))  # both sign while a rotation's overlap lasts
        if not ends:
            return True, ""
        end = min(ends)
        if self.report.known_at:
            if parse_iso(self.report.known_at) >= end:
                raise _Failed(f"it is signed with a key that counts no more since {iso(end)}")
            return True, f"the key was changed later, at {iso(end)}"
        if parse_iso(self.manifest.made_at) >= end:
            raise _Failed(f"it is signed with a key that counts no more since {iso(end)}")
        return None, f"the key counts no more since {iso(end)}, and no witness says that this is older"

    def witnesses(self) -> tuple[bool | None, str]:
        # nobody is a witness of its own log, whatever the trust file counts it for elsewhere
        own = witness_name_of(self.manifest.maker)
        times = {key: at for key, at in self.opened.times.items() if key.name != own}
        ordered = sorted(times.items(), key=lambda item: (item[1], item[0].name))
        self.report.cosigners = [(key.name, iso(at * NS)) for key, at in ordered]
        if self.now_ns is not None and any(at > self.now_ns // NS + _AHEAD_S for at in times.values()):
            raise _Failed("a cosignature states a time that lies in the future")
        if not self.policy.is_met(times.keys()):
            raise _Failed("the quorum of the policy is not met")
        # known at the latest: when the quorum was complete, not when the first witness saw it
        for number in range(1, len(ordered) + 1):
            if self.policy.is_met([key for key, _ in ordered[:number]]):
                self.report.known_at = iso(ordered[number - 1][1] * NS)
                break
        remark = ", ".join(f"{name} {at}" for name, at in self.report.cosigners)
        if self.trust is None and ordered:
            return None, f"no trust file was given; unconfirmed: {remark}"
        return True, remark or "the policy asks for none"

    def company(self) -> tuple[bool | None, str]:
        """Which companies stand behind the keys, by their certificates; confirmed where the verifier gave the roots."""
        statements = [rules.parse_json(self.files[path]) for path in sorted(self.files) if path.startswith("company/")]
        roots = self.trust.company_roots if self.trust is not None else ()
        if self.trust is not None:
            statements += [one for one in self.trust.companies if one not in statements]
        remarks = []
        for statement in statements:
            found = company.read(statement, roots)
            if found.did == self.manifest.maker and found.evidence not in self.known.keys_of(found.did):
                raise _Failed("the company certificate stands for another key")
            remarks.append(f"{found.did}: {found.subject}{'' if found.confirmed else ' (unconfirmed)'}")
        return True, "; ".join(remarks) or "there is none"

    def entries(self) -> tuple[bool | None, str]:
        leaves = {path for path in self.files if path.startswith("log/") and path.endswith(".json")}
        if {path.removesuffix(".json") for path in leaves} != {
            path.removesuffix(".tlog-proof") for path in self.proofs
        }:
            raise _Failed("an entry lacks its proof, or a proof its entry")
        for path, proof in self.proofs.items():
            name = path.removesuffix(".tlog-proof")
            if name != f"log/{proof.index:012d}":
                raise _Failed(f"{path} proves entry {proof.index}")
            data = self.files[f"{name}.json"]
            if not verify_inclusion(leaf_hash(data), proof.index, self.head.size, proof.path, self.head.root):
                raise _Failed(f"{name}.json does not lie in the log")
            leaf = rules.parse_json(data)
            if "sm3" in leaf and leaf["sm3"] != gm.sm3(canonical_bytes({k: v for k, v in leaf.items() if k != "sm3"})):
                raise _Failed(f"the SM3 digest in {name}.json does not match")
            if canonical_bytes(leaf) != data or leaf["participant"] != self.manifest.maker:
                raise _Failed(f"{name}.json is no entry of the maker's log")
            if self.manifest.agreement_id not in rules.subjects(data):
                raise _Failed(f"{name}.json is about another agreement")
            if not self._in_scope(leaf):
                raise _Failed(f"{name}.json lies outside what the package is about")
            self.leaves[proof.index] = leaf
        self.report.entries = len(self.leaves)
        return True, str(len(self.leaves))

    def _in_scope(self, leaf: Mapping[str, Any]) -> bool:
        """Whether an entry lies within the transfer or period that the manifest states; the agreement's own entry always does."""
        scope, at = self.manifest.scope, parse_iso(leaf["at"])
        if leaf["kind"] == "exchange.agreement-made":
            return True
        record = leaf["body"].get("record")
        transfer = record.get("transferProcessId") if isinstance(record, Mapping) else None
        return not (
            ("transfer" in scope and transfer not in (None, scope["transfer"]))
            or ("from" in scope and at < parse_iso(scope["from"]))
            or ("to" in scope and at >= parse_iso(scope["to"]))
        )

    def anchors(self) -> tuple[bool | None, str]:
        for path in sorted(path for path in self.files if path.startswith("anchors/") and path.endswith(".json")):
            paper = self._paper(path, {"ref", "consistency"})
            found = rules.anchor_of(paper["ref"], self.trust)
            if found.origin != self.head.origin:
                raise _Failed(f"{path} anchors another log")
            if found.size <= max(self.leaves):
                raise _Failed(f"{path} is older than an entry")
            one, two = (found.size, found.root), (self.head.size, self.head.root)
            first, second = sorted((one, two), key=lambda item: item[0])
            if not verify_consistency(*first, *second, [unb64(item) for item in paper["consistency"]]):
                raise _Failed(f"{path} is not of the history in this package")
            self.report.anchors.append(
                {"kind": str(paper["ref"]["kind"]), "at": iso(found.at), "by": found.by, "confirmed": found.confirmed}
            )
        if not self.report.anchors:
            return True, "there is none"
        remark = ", ".join(f"{item['at']} {item['kind']}" for item in self.report.anchors)
        unconfirmed = [item for item in self.report.anchors if not item["confirmed"]]
        if self.trust is None:
            return None, f"no trust file was given; unconfirmed: {remark}"
        return (
            True,
            f"{len(unconfirmed)} of {len(self.report.anchors)} unconfirmed: {remark}" if unconfirmed else remark,
        )

    def agreement(self) -> tuple[bool | None, str]:
        paper = self._paper(rules.AGREEMENT_PATH, {"agreement", "price", "terms"})
        document = paper["agreement"]
        if document["@id"] != self.manifest.agreement_id:
            raise _Failed("agreement.json is another agreement")
        self.parties = {str(document["assigner"]), str(document["assignee"])}
        if self.manifest.maker not in self.parties:
            raise _Failed("the maker is not a party of the agreement")
        hashes = {leaf["body"]["agreementHash"] for leaf in self._leaves_of("exchange.agreement-made")}
        if digest(document) not in hashes:
            raise _Failed("the log records no such agreement")
        remarks = sorted(self.parties)
        for member, term in (("price", rules.PRICE_TERM), ("terms", rules.CONTRACT_TERM)):
            bound = rules.bound(document, term)
            if not paper[member] and bound:
                remarks.append(f"{member}: only the digest is known")
            elif paper[member] and digest(paper[member]) not in bound:
                raise _Failed(f"the {member} is not the one bound into the agreement")
        self.price = paper["price"]
        return True, ", ".join(remarks)

    def receipts(self) -> tuple[bool | None, str]:
        logged = {
            leaf["body"]["recordHash"]: leaf["body"]["signature"] for leaf in self._leaves_of("exchange.usage-recorded")
        }
        unknown: set[str] = set()
        for path in self._paths("receipts/"):
            paper = self._paper(path, {"record", "signature", "countersignature", "state"})
            record = paper["record"]
            if record["agreementId"] != self.manifest.agreement_id:
                raise _Failed(f"{path} is about another agreement")
            if logged.get(digest(record)) != paper["signature"]:
                raise _Failed(f"{path} is not in the log")
            if str(record["recordId"]) in self.states:
                raise _Failed(f"{path} is there twice")
            state = self._signed_state(path, paper, unknown)
            self.states[str(record["recordId"])] = state
            self.records.append({"record": record, "state": state})
            self.report.receipts[state] = self.report.receipts.get(state, 0) + 1
        # a record that the log holds about this agreement must not be left out of the package
        there = {digest(item["record"]) for item in self.records}
        if logged.keys() - there:
            raise _Failed(f"{len(logged.keys() - there)} usage records of the log have no receipt in the package")
        self.report.signers = sorted(self.signers)
        if unknown:
            return None, f"no key known for {', '.join(sorted(unknown))}"
        return True, ", ".join(f"{count} {state}" for state, count in sorted(self.report.receipts.items()))

    def _signed_state(self, path: str, paper: Mapping[str, Any], unknown: set[str]) -> str:
        """What the signatures of a receipt really show; keys that nobody vouched for go to ``unknown``."""
        record = paper["record"]
        provider, consumer = _party(record["provider"]), _party(record["consumer"])
        if {provider, consumer} != self.parties:
            raise _Failed(f"{path} names other parties than the agreement")
        problems = exchange.record_problems(record)
        if problems:
            raise _Failed(f"{path}: {problems[0]}")
        end = parse_iso(str(record["to"]))
        answer = paper["countersignature"]
        if not answer:
            one_sided = paper["state"] == "one-sided"
            self._signature(
                path,
                self.manifest.maker if one_sided else provider,
                canonical_bytes(record),
                paper["signature"],
                unknown,
                end,
            )
            return "one-sided" if one_sided else "offered"
        statement = answer["statement"]
        if statement["record"] != digest(record) or statement["providerSig"] != exchange.signature_digest(
            paper["signature"]
        ):
            raise _Failed(f"the countersignature in {path} belongs to another record")
        at = parse_iso(str(statement["at"]))
        self._signature(path, provider, canonical_bytes(record), paper["signature"], unknown, end)
        self._signature(path, consumer, canonical_bytes(statement), answer["signature"], unknown, at)
        found = [
            exchange.verify_receipt(record, paper["signature"], answer, a, b)
            for a in self._keys_of(provider, end)
            for b in self._keys_of(consumer, at)
        ]
        if found and all(found):
            raise _Failed(f"{path}: {found[0][0]}")
        return exchange.receipt_state(answer)

    def _signature(
        self, path: str, did: str, data: bytes, signature: str, unknown: set[str], at: int | None = None
    ) -> None:
        value = unb64(signature)
        keys = self._keys_of(did, at)
        if not keys:
            unknown.add(did)
        elif not any(verify_ed25519(key, data, value) for key in keys):
            raise _Failed(f"the signature of {did} in {path} does not match")
        else:
            self.signers.add(did)

    def _keys_of(self, did: str, at: int | None = None) -> frozenset[bytes]:
        if self.trust is not None:
            keys = self.trust.keys_of(did, at)
            if not keys:
                raise _Failed(f"the trust file does not list {did}")
            return keys
        return self.known.keys_of(did, at)

    def invoices(self) -> tuple[bool | None, str]:
        unknown: set[str] = set()
        for path in self._paths("invoices/"):
            paper = self._paper(path, {"document", "signatures"})
            document = paper["document"]
            named = {str(item["id"]) for item in document["receipts"]}
            resolved = [str(leaf["body"]["recordId"]) for leaf in self._leaves_of("settle.dispute-resolved")]
            count = settle.countable(
                (item for item in self.records if str(item["record"]["recordId"]) in named),
                resolved=resolved,
                silence=str(self.price.get("silence", "waits")),
            )
            again = settle.invoice(
                settle.PricePlan.parse(self.price),
                count.records,
                number=document["number"],
                issued_at=parse_iso(document["issuedAt"]),
                one_sided=count.one_sided,
                replaces=document["replaces"],
            )
            if canonical_bytes(again) != canonical_bytes(document):
                raise _Failed(f"{path} does not follow from price plan and receipts")
            if digest(document) not in {leaf["body"].get("invoice") for leaf in self.leaves.values()}:
                raise _Failed(f"{path} is not in the log")
            self.invoiced[str(document["number"])] = named
            by = self._signed(path, document, paper["signatures"], unknown)
            self.report.invoices.append(
                {
                    "number": str(document["number"]),
                    "currency": str(document["currency"]),
                    "total": str(document["total"]),
                    "signed": str(len(by)),
                }
            )
        self.report.signers = sorted(self.signers)
        if unknown:
            return None, f"no key known for {', '.join(sorted(unknown))}"
        return True, ", ".join(f"{item['total']} {item['currency']}" for item in self.report.invoices)

    def disputes(self) -> tuple[bool | None, str]:
        """The block that each dispute named, and what both sides settled on: signed, logged, and about a receipt in this package."""
        unknown: set[str] = set()
        records = {str(item["record"]["recordId"]): item["record"] for item in self.records}
        located = {leaf["body"]["statement"] for leaf in self._leaves_of("settle.dispute-located")}
        resolved = {leaf["body"]["resolution"] for leaf in self._leaves_of("settle.dispute-resolved")}
        count = 0
        for path in self._paths("disputes/"):
            paper = self._paper(path, {"statement", "resolution", "signatures"})
            statement, agreed, count = paper["statement"], paper["resolution"], count + 1
            record = records.get(str(statement["recordId"]))
            if record is None or statement["record"] != digest(record):
                raise _Failed(f"{path} is about another agreement")
            if digest(statement) not in located:
                raise _Failed(f"{path} is not in the log")
            self._signed(path, statement, paper["signatures"]["statement"], unknown)
            if agreed is None:
                continue
            if agreed["recordId"] != statement["recordId"] or agreed["record"] != statement["record"]:
                raise _Failed(f"{path} is about another agreement")
            by = self._signed(path, agreed, paper["signatures"]["resolution"], unknown)
            if by == self.parties:  # signed by one side it is a proposal, which settles nothing
                if digest(agreed) not in resolved:
                    raise _Failed(f"{path} is not in the log")
                self.resolutions[digest(agreed)] = agreed
        self.report.signers = sorted(self.signers)
        if unknown:
            return None, f"no key known for {', '.join(sorted(unknown))}"
        return True, f"{count}, {len(self.resolutions)} resolved" if count else "there is none"

    def credit_notes(self) -> tuple[bool | None, str]:
        """Each credit note, derived again from the receipts of its invoice and the resolutions that it names, or the service level."""
        unknown: set[str] = set()
        logged = {leaf["body"]["note"] for leaf in self._leaves_of("settle.credit-note-agreed")}
        for path in self._paths("credit-notes/"):
            paper = self._paper(path, {"document", "signatures"})
            document = paper["document"]
            if digest(document) not in logged:
                raise _Failed(f"{path} is not in the log")
            try:
                again = self._credited(path, document)
            except Refused as error:
                raise _Failed(f"{path} does not follow from price plan and receipts") from error
            if canonical_bytes(again) != canonical_bytes(document):
                raise _Failed(f"{path} does not follow from price plan and receipts")
            by = self._signed(path, document, paper["signatures"], unknown)
            self.report.credits.append(
                {
                    "number": str(document["number"]),
                    "invoice": str(document["invoice"]),
                    "currency": str(document["currency"]),
                    "total": str(document["total"]),
                    "signed": str(len(by)),
                }
            )
        self.report.signers = sorted(self.signers)
        if unknown:
            return None, f"no key known for {', '.join(sorted(unknown))}"
        return True, ", ".join(f"{one['total']} {one['currency']}" for one in self.report.credits) or "there is none"

    def _credited(self, path: str, document: Mapping[str, Any]) -> dict[str, Any]:
        named = self.invoiced.get(str(document["invoice"]))
        if named is None:
            raise _Failed(f"{path} credits an invoice that is not in the package")
        count = settle.countable(
            (item for item in self.records if str(item["record"]["recordId"]) in named),
            resolved=named,
            silence=str(self.price.get("silence", "waits")),
        )
        common: dict[str, Any] = {
            "number": document["number"],
            "issued_at": parse_iso(document["issuedAt"]),
            "invoice_number": document["invoice"],
            "parties": {name: document[name] for name in ("agreementId", "provider", "consumer")},
        }
        plan = settle.PricePlan.parse(self.price)
        if document["reason"] == "service-level":
            return credit.for_service(plan, count.records, **common)
        hashes = [str(one["hash"]) for one in document["resolutions"]]
        if not set(hashes) <= self.resolutions.keys():
            raise _Failed(f"{path} rests on a resolution that is not in the package")
        return credit.for_disputes(plan, count.records, [self.resolutions[one] for one in hashes], **common)

    def _signed(self, path: str, document: Any, signatures: Any, unknown: set[str]) -> set[str]:
        """Who of the parties signed a paper. It must be one of them at least, each once, with the evidence key."""
        by: set[str] = set()
        for signature in signatures:
            if set(signature) != {"by", "key", "algorithm", "value"} or signature["algorithm"] != "Ed25519":
                raise _Failed(f"{path} has a signature of another form")
            if signature["key"] != f"{signature['by']}#evidence":
                raise _Failed(f"{path} is signed with another key than the evidence key")
            if signature["by"] not in self.parties or signature["by"] in by:
                raise _Failed(f"{path} is signed by somebody who is no party, or twice by one")
            self._signature(path, signature["by"], canonical_bytes(document), signature["value"], unknown)
            by.add(signature["by"])
        if not by:
            raise _Failed(f"{path} is not signed")
        return by

    def _paths(self, folder: str) -> list[str]:
        return sorted(path for path in self.files if path.startswith(folder))

    def _paper(self, path: str, members: set[str]) -> dict[str, Any]:
        if path not in self.files:
            raise _Failed(f"there is no {path}")
        paper = rules.parse_json(self.files[path])
        if not isinstance(paper, dict) or set(paper) != members or canonical_bytes(paper) != self.files[path]:
            raise _Failed(f"{path} is not canonical JSON with the members it should have")
        return paper

    def _leaves_of(self, kind: str) -> list[dict[str, Any]]:
        return [leaf for leaf in self.leaves.values() if leaf["kind"] == kind]


def _party(value: Any) -> str:
    """The DID in a record's party, which is the DID alone or an object with it."""
    return str(value["did"]) if isinstance(value, Mapping) else str(value)


def main(argv: Sequence[str] | None = None) -> int:
    """Command line: ``[--trust KEYS] [--json] [--lang en|zh] PACKAGE``. Exit codes 0, 1, 4 and 6 as in the docstrings above."""
    parser = argparse.ArgumentParser(
        prog="guantong verify",
        description="Verify a package without network or database. 离线核验存证包。",
        epilog="Exit codes 退出码: 0 ok 通过, 1 not ok 未通过, 4 unreadable 无法读取, 6 consistent, signer unknown 一致但签名者未知",
    )
    parser.add_argument(
        "package",
        type=Path,
        help="the package 存证包 (.guantong.zip), the proof of a forked log 日志分叉证明, or a guest's papers 或访客方的文件 (.json)",
    )
    parser.add_argument(
        "--trust", type=Path, metavar="KEYS", help="trust file with keys you have checked 您已核对的信任文件"
    )
    parser.add_argument("--json", action="store_true", help="print the whole report as JSON 以 JSON 输出完整报告")
    parser.add_argument("--lang", choices=("en", "zh"), default="en", help="language of the report 报告语言")
    options = parser.parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a Windows console may not know every character
            stream.reconfigure(errors="replace")
    try:
        trust = None if options.trust is None else load_trust(options.trust)
        try:
            if options.package.stat().st_size > rules.MAX_PACKAGE_BYTES:
                raise Skippable("prove.package-unreadable", reason="too large")
            data = options.package.read_bytes()
        except OSError as error:
            raise Skippable("prove.package-unreadable", reason=error.strerror or type(error).__name__) from error
    except GuantongError as error:
        sys.stderr.write(f"{error.code}: {error.message(options.lang)} {error.hint(options.lang)}\n")
        return UNREADABLE
    if data.startswith(b"{"):
        is_guest = guest.is_papers(data)
        report = verify_guest(data, trust) if is_guest else verify_fork(data, trust)
    else:
        report = verify_package(data, trust, now_ns=time.time_ns())
    if options.json:
        sys.stdout.write(json.dumps(report.document(), ensure_ascii=True, indent=2) + "\n")
    else:
        sys.stdout.write(report.text(options.lang))
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
