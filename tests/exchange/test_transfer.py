"""The transfer's table against edges written by hand from Dataspace Protocol 2025-1, Transfer Process Protocol, State Machine."""

from __future__ import annotations

import pytest

from guantong.base.errors import Refused
from guantong.exchange import transfer

EDGES = [
    ("", "consumer", "request", "REQUESTED", "REQUESTED: the Dataset has been requested under an Agreement"),
    ("REQUESTED", "provider", "start", "STARTED", "STARTED: the Dataset is available for access by the Consumer"),
    ("REQUESTED", "consumer", "termination", "TERMINATED", "figure: C or P"),
    ("REQUESTED", "provider", "termination", "TERMINATED", "figure: C or P"),
    ("STARTED", "consumer", "completion", "COMPLETED", "completed by either the Consumer or the Provider"),
    ("STARTED", "provider", "completion", "COMPLETED", "completed by either the Consumer or the Provider"),
    ("STARTED", "consumer", "suspension", "SUSPENDED", "suspended by the Consumer or the Provider"),
    ("STARTED", "provider", "suspension", "SUSPENDED", "suspended by the Consumer or the Provider"),
    ("STARTED", "consumer", "termination", "TERMINATED", "terminated by the Consumer or the Provider"),
    ("STARTED", "provider", "termination", "TERMINATED", "terminated by the Consumer or the Provider"),
    ("SUSPENDED", "consumer", "start", "STARTED", "figure: C or P"),
    ("SUSPENDED", "provider", "start", "STARTED", "figure: C or P"),
    ("SUSPENDED", "consumer", "termination", "TERMINATED", "figure: C or P"),
    ("SUSPENDED", "provider", "termination", "TERMINATED", "figure: C or P"),
]
MESSAGES = ("request", "start", "completion", "suspension", "termination")


def test_the_table_has_exactly_the_edges_of_the_standard():
    assert dict(transfer.TRANSITIONS) == {(state, sender, word): to for state, sender, word, to, _ in EDGES}


@pytest.mark.parametrize("state", ("", *transfer.STATES))
@pytest.mark.parametrize("sender", ("consumer", "provider"))
@pytest.mark.parametrize("word", MESSAGES)
def test_every_other_message_is_refused_and_named(state, sender, word):
    wanted = {(a, b, c): to for a, b, c, to, _ in EDGES}.get((state, sender, word))

    if wanted is None:
        with pytest.raises(Refused) as refused:
            transfer.next_state(state, sender, word)
        assert refused.value.code == "exchange.transition-refused"
    else:
        assert transfer.next_state(state, sender, word) == wanted
