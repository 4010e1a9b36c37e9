"""The negotiation's table against edges written by hand from Dataspace Protocol 2025-1, Contract Negotiation Protocol, State Machine."""

from __future__ import annotations

import pytest

from guantong.base.errors import Refused
from guantong.exchange import negotiation

EDGES = [
    # from, sender, message, to, clause ("States" and the figure of "State Machine")
    ("", "consumer", "request", "REQUESTED", "REQUESTED: a contract for a Dataset has been requested by the Consumer"),
    ("", "provider", "offer", "OFFERED", "OFFERED: the Provider has sent a Contract Offer to the Consumer"),
    ("REQUESTED", "provider", "offer", "OFFERED", "the Provider may reply with a counter-offer"),
    ("REQUESTED", "provider", "agreement", "AGREED", "AGREED: the Provider has accepted the latest Offer"),
    ("REQUESTED", "consumer", "termination", "TERMINATED", "figure: C or P"),
    ("REQUESTED", "provider", "termination", "TERMINATED", "figure: C or P"),
    ("OFFERED", "consumer", "request", "REQUESTED", "the Consumer may reply with a counter-offer"),
    ("OFFERED", "consumer", "accepted", "ACCEPTED", "ACCEPTED: the Consumer has accepted the latest Contract Offer"),
    ("OFFERED", "consumer", "termination", "TERMINATED", "figure: C or P"),
    ("OFFERED", "provider", "termination", "TERMINATED", "figure: C or P"),
    ("ACCEPTED", "provider", "agreement", "AGREED", "the Provider sends an Agreement"),
    ("ACCEPTED", "provider", "termination", "TERMINATED", "figure: P"),
    ("AGREED", "consumer", "verification", "VERIFIED", "VERIFIED: the Consumer has sent a verification"),
    ("AGREED", "consumer", "termination", "TERMINATED", "figure: C"),
    ("VERIFIED", "provider", "finalized", "FINALIZED", "FINALIZED: the Provider has sent a finalization"),
    ("VERIFIED", "provider", "termination", "TERMINATED", "figure: P"),
]
MESSAGES = ("request", "offer", "accepted", "agreement", "verification", "finalized", "termination")


def test_the_table_has_exactly_the_edges_of_the_standard():
    assert dict(negotiation.TRANSITIONS) == {(state, sender, word): to for state, sender, word, to, _ in EDGES}


@pytest.mark.parametrize("state", ("", *negotiation.STATES))
@pytest.mark.parametrize("sender", ("consumer", "provider"))
@pytest.mark.parametrize("word", MESSAGES)
def test_every_other_message_is_refused_and_named(state, sender, word):
    wanted = {(a, b, c): to for a, b, c, to, _ in EDGES}.get((state, sender, word))

    if wanted is None:
        with pytest.raises(Refused) as refused:
            negotiation.next_state(state, sender, word)
        assert refused.value.code == "exchange.transition-refused"
        assert refused.value.status == 400
    else:
        assert negotiation.next_state(state, sender, word) == wanted


def test_nothing_leads_out_of_a_terminal_state():
    assert {"FINALIZED", "TERMINATED"} == negotiation.TERMINAL
    assert not [edge for edge in negotiation.TRANSITIONS if edge[0] in negotiation.TERMINAL]


def test_it_is_visible_whose_turn_it_is():
    assert negotiation.possible("OFFERED", "consumer") == ("request", "accepted", "termination")
    assert negotiation.possible("AGREED", "provider") == ()
