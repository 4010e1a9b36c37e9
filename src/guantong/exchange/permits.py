"""The typed ODRL subset as Cedar: what an agreement or an offer enforces, as one permit for govern's single decision point.

Only what this module can say in Cedar is permitted; legal terms bind people and stand in the contract. Source: Cedar policy language 4.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from guantong.exchange.policy import compile_policy

__all__ = ["cedar_permit"]

_ACTIONS = ("negotiate", "transfer", "read")


def cedar_permit(policy: Mapping[str, Any], *, name: str, dataset_id: str, partner: str = "") -> str:
    """One ``permit`` for the dataset, annotated with ``name``.

    partner: the only one it is for (the other party of an agreement); empty: whomever the policy names. The context carries ``now``
    (milliseconds, set by govern) and ``uses`` (deliveries so far). Raises Refused ``exchange.term-refused``.
    """
    terms = compile_policy(policy)
    conditions = []
    if partner:
        conditions.append(f"principal.did == {_text(partner)}")
    if terms.recipients is not None:
        named = ", ".join(_text(did) for did in sorted(terms.recipients))
        conditions.append(f"[{named}].contains(principal.did)")
    if terms.not_before is not None:
        conditions.append(f"context.now >= {-(-terms.not_before // 1_000_000)}")
    if terms.not_after is not None:
        conditions.append(f"context.now <= {terms.not_after // 1_000_000}")
    if terms.count is not None:
        conditions.append(f"context.uses < {terms.count}")
    actions = ", ".join(f'Action::"{action}"' for action in _ACTIONS)
    when = f"\nwhen {{ {' && '.join(conditions)} }}" if conditions else ""
    return (
        f"@id({_text(name)})\n"
        f"permit (principal is Participant, action in [{actions}], resource == Dataset::{_text(dataset_id)}){when};\n"
    )


def _text(value: str) -> str:
    # a Cedar string literal: JSON's escapes for quotes and backslashes, and nothing beyond printable ASCII unescaped
    body = json.dumps(value)[1:-1]
    parts = body.split("\\u")
    return '"' + parts[0] + "".join("\\u{" + part[:4] + "}" + part[4:] for part in parts[1:]) + '"'
