"""The decision point: Cedar over parsed, cached policy sets.

Cedar evaluates in tens of microseconds once a policy set is parsed (parsing the text each time costs more than 100 µs), so sets are
kept by their text. Cedar skips a policy that fails while it is evaluated; a forbid that fails would then be silently true, so any
error here means deny.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from importlib.resources import files
from typing import Any

import orjson

from guantong.govern.model import Decision, Request

__all__ = ["DecisionPoint", "entity_of", "subject_of"]

KINDS: Mapping[str, str] = {
    "agreement": "Agreement",
    "dataset": "Dataset",
    "log": "Log",
    "node": "Node",
    "product": "Product",
    "shell": "Shell",
    "submodel": "Submodel",
    "transfer": "Transfer",
}
"""Resource kinds before the colon, and the entity type in policies."""


def subject_of(subject: str) -> tuple[str, str]:
    """Entity type and id of a subject: ``did:…`` is a Participant, ``user:<name>`` a User, all else Unknown."""
    if subject.startswith("did:"):
        return "Participant", subject
    if subject.startswith("user:") and len(subject) > 5:
        return "User", subject[5:]
    return "Unknown", subject


def entity_of(resource: str) -> tuple[str, str] | None:
    """Entity type and id of ``<kind>:<id>``, or None if the kind is not known."""
    kind, _, name = resource.partition(":")
    found = KINDS.get(kind)
    return None if found is None or not name else (found, name)


class DecisionPoint:
    """Answers requests; holds no state but parsed policies."""

    def __init__(self, house: str, *, keep: int, max_bytes: int) -> None:
        from cedarpy import PolicySet

        self._parse = PolicySet
        self.house_text = house or (files("guantong.govern") / "packs" / "house.cedar").read_text("utf-8")
        self._house = PolicySet.from_str(self.house_text)
        self._keep = keep
        self._max_bytes = max_bytes
        self._sets: OrderedDict[str, Any] = OrderedDict()

    def check(self, policies: str) -> str:
        """Why a policy text can't be used, or an empty text."""
        if len(policies.encode()) > self._max_bytes:
            return f"more than {self._max_bytes} bytes"
        try:
            self._house.with_added_str(policies)
        except ValueError as error:
            return str(error)[:500]
        return ""

    def _set(self, policies: str | None) -> Any:
        if not policies:
            return self._house
        found = self._sets.get(policies)
        if found is None:
            if len(policies.encode()) > self._max_bytes:
                raise ValueError("policy text too large")
            found = self._house.with_added_str(policies)
            self._sets[policies] = found
            while len(self._sets) > self._keep:
                self._sets.popitem(last=False)
        else:
            self._sets.move_to_end(policies)
        return found

    def decide(
        self, participant: str, request: Request, policies: str | None, known: Mapping[str, object], now: int
    ) -> Decision:
        """Whether the request is allowed. ``known``: attributes of the resource that govern has (grade, domain, rights).

        ``context.now`` is the instant in milliseconds; the caller can't set it.
        """
        from cedarpy import is_authorized

        resource = entity_of(request.resource)
        if resource is None or not request.action or len(request.action) > 64 or len(request.resource) > 512:
            return Decision(False, (), "nothing-permits", ("unknown kind of resource or action",))
        try:
            policy_set = self._set(policies)
        except ValueError as error:
            return Decision(False, (), "policy-unreadable", (str(error)[:500],))
        kind, name = subject_of(request.subject)
        who = {"__entity": {"type": kind, "id": name}}
        what = {"__entity": {"type": resource[0], "id": resource[1]}}
        base = {"owner": participant, "level": "", "enforce": "", "status": "", "domain": "", "rights": False}
        claims = {"did": name} if kind == "Participant" else {"participant": participant}
        try:
            entities = orjson.dumps(
                [
                    # what govern knows wins over what the caller says about subject and resource
                    {"uid": who["__entity"], "attrs": {**request.claims, **claims}, "parents": []},
                    {
                        "uid": what["__entity"],
                        "attrs": {**base, **request.attributes, **known, "owner": participant},
                        "parents": [],
                    },
                ]
            ).decode()
            context = orjson.dumps({**request.context, "now": now // 1_000_000}).decode()
        except TypeError as error:
            return Decision(False, (), "policy-error", (str(error)[:300],))
        try:
            result = is_authorized(
                {
                    "principal": _uid(kind, name),
                    "action": _uid("Action", request.action),
                    "resource": _uid(*resource),
                    "context": context,
                },
                policy_set,
                entities,
            )
        except ValueError as error:
            return Decision(False, (), "policy-error", (str(error)[:500],))
        diagnostics = result.diagnostics
        named = diagnostics.id_annotations_by_reason
        ids = tuple(sorted(named.get(policy, policy) for policy in diagnostics.reasons))
        errors = tuple(str(problem)[:300] for problem in diagnostics.errors)
        if errors:
            return Decision(False, ids, "policy-error", errors)
        if result.allowed:
            return Decision(True, ids, "permitted")
        return Decision(False, ids, "forbidden" if ids else "nothing-permits")


def _uid(kind: str, name: str) -> Any:
    return {"type": kind, "id": name}
