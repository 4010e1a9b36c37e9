"""One table of actions: what a person may change from a page, each the same as a JSON request to ``/api`` and its path.

Every action needs a session and its token (``X-CSRF-Token``, or ``_csrf`` in a form). ``next`` in the result is the page to go on with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from guantong.base.errors import Skippable
from guantong.web import auditing
from guantong.web.account_actions import (
    accept_resolution,
    check_certificates,
    clear_obligations,
    compute_shares,
    credit_note,
    list_disputes,
    narrow_dispute,
    print_contract,
    print_invoice,
    propose_resolution,
)
from guantong.web.action import Action, Field
from guantong.web.amendment_actions import AMENDMENT_ACTIONS
from guantong.web.ask import Ask, go, not_found, text, texts
from guantong.web.connect_actions import (
    describe_source,
    export_sources,
    import_package,
    keep_secret,
    make_hook,
    openness,
    replay_source,
)
from guantong.web.contract_actions import confirm_duty, request_transfer, say_in_negotiation, say_in_transfer
from guantong.web.demand_actions import list_demands, match_demands, publish_demand, withdraw_demand
from guantong.web.edge_actions import invite_edge, list_edges, remove_edge
from guantong.web.evidence_actions import package, trust, verify
from guantong.web.figure_actions import (
    challenge_figure,
    define_figure,
    export_figure,
    list_figures,
    list_streams,
    make_figure,
    order_figure,
)
from guantong.web.fuse_actions import confirm_mapping, quality, reject_mapping, state_limits, suggest_mappings
from guantong.web.guest_actions import ask_guest, move_in, revoke_moved, set_guest_terms, use_share
from guantong.web.loaders.connect import proposal_of
from guantong.web.mapping_actions import (
    export_mappings,
    import_mappings,
    list_mappings,
    remove_mapping,
    set_mappings,
)
from guantong.web.offer_actions import (
    approve_template,
    ask_query,
    offer_product,
    run_template,
    sign_template,
    trace_copy,
    withdraw_template,
)
from guantong.web.rooms import Rooms
from guantong.web.space_actions import (
    found_space,
    invite,
    join_space,
    list_directory,
    revoke_member,
    withdraw_invitation,
)
from guantong.web.value_actions import add_rate, appraise, read_meters, state_supply, survive

__all__ = ["ACTIONS", "Action", "Field"]


# ---- connect


async def probe(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Ask an address what it offers; nothing is stored."""
    return proposal_of(await rooms.connect.probe(text(ask, "url", limit=1000)), asked=text(ask, "url", limit=1000))


async def add_source(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Probe again, keep what was picked, and start reading."""
    found = await rooms.connect.probe(text(ask, "url", limit=1000))
    picked = frozenset(texts(ask, "pick"))
    properties = tuple(one for one in found.offers if not picked or one.key in picked)
    everything = len(properties) == len(found.offers)
    interface = replace(
        found.interface,
        name=text(ask, "name", required=False, limit=100) or found.interface.name,
        title=text(ask, "title", required=False, limit=200) or found.interface.title,
        properties=() if everything else properties,
    )
    await rooms.connect.add(rooms.participant, interface)
    return go(f"/sources/{quote(interface.name, safe='')}", name=interface.name, signals=len(properties))


async def remove_source(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Disconnect a source; what it delivered stays."""
    await rooms.connect.remove(rooms.participant, ask.path["name"])
    return go("/sources", removed=ask.path["name"])


async def pause_source(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Stop reading a source for now."""
    await rooms.connect.pause(rooms.participant, ask.path["name"])
    return go(f"/sources/{quote(ask.path['name'], safe='')}", paused=ask.path["name"])


async def resume_source(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Read a paused source again."""
    await rooms.connect.resume(rooms.participant, ask.path["name"])
    return go(f"/sources/{quote(ask.path['name'], safe='')}", resumed=ask.path["name"])


async def import_file(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Read one file of the node's machine to its end, and fuse what it holds."""
    from pathlib import Path

    path = Path(text(ask, "path", limit=1000))
    if path.suffix.lower() == ".aasx":
        return await import_package(rooms, path)
    name = text(ask, "source", required=False, limit=100) or path.stem
    done = await rooms.connect.import_file(rooms.participant, name, path)
    await rooms.fuse.drain(rooms.participant)
    return go(
        f"/sources/{quote(name, safe='')}",
        source=name,
        form=done.form,
        lines=done.lines,
        rows=done.rows,
        quarantined=done.quarantined,
        digest=done.digest,
    )


# ---- describe and govern


async def define_dataset(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Put signals or measurements under one description."""
    from guantong.describe.model import Dataset

    kind = text(ask, "kind", required=False) or "readings"
    if kind not in ("readings", "measurements"):
        raise Skippable("web.field-missing", field="kind", reason="readings or measurements")
    try:
        signals = tuple(int(item) for item in texts(ask, "signals"))
    except ValueError as error:
        raise Skippable("web.field-missing", field="signals", reason="numbers of signals are wanted") from error
    if kind == "readings" and not signals:
        signals = tuple(one.id for one in await rooms.fuse.signals(rooms.participant))
    title = text(ask, "title_en", limit=200)
    dataset = Dataset(
        text(ask, "id", limit=100),
        title,
        text(ask, "title_zh", required=False, limit=200) or title,
        text(ask, "description", required=False),
        "measurements" if kind == "measurements" else "readings",
        signals if kind == "readings" else (),
        texts(ask, "models"),
        texts(ask, "keywords"),
    )
    await rooms.describe.define(rooms.participant, dataset)
    return go(f"/datasets/{dataset.id}", id=dataset.id, signals=len(dataset.signals))


async def write_shells(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """Write the Asset Administration Shells anew from what is known now."""
    return go("/describe", changed=await rooms.describe.write_shells(rooms.participant))


async def grade_all(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """Classify and grade every signal and every dataset by the rule packs."""
    from guantong.govern.measure import datasets_of_signals, subjects

    signals = await rooms.fuse.signals(rooms.participant)
    datasets = await rooms.describe.datasets(rooms.participant)
    graded = await rooms.govern.classify(rooms.participant, subjects(signals, datasets))
    for dataset, members in datasets_of_signals(datasets, signals, (one.id for one in graded)).items():
        await rooms.govern.regrade(rooms.participant, dataset, members)
    return go("/govern", graded=len(graded), datasets=len(datasets))


async def score_all(rooms: Rooms, _: Ask) -> dict[str, Any]:
    """Score the quality of every dataset from its own rows and the accounts of its sources."""
    from guantong.govern.measure import measure

    datasets = await rooms.describe.datasets(rooms.participant)
    scores = {}
    for dataset in datasets:
        inputs = await measure(rooms.participant, dataset, rooms.describe, rooms.fuse, now=rooms.records.clock.now())
        scored = await rooms.govern.score(rooms.participant, dataset.id, inputs)
        scores[dataset.id] = {"q": scored.q, "coverage": scored.coverage, "rows": scored.rows}
    return go("/govern", datasets=len(datasets), quality=scores)


async def state_rights(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """State who holds which right in a dataset."""
    from guantong.govern.model import Rights

    me = rooms.participant
    rights = Rights(
        text(ask, "dataset", limit=100),
        text(ask, "holder", required=False) or me,
        text(ask, "processor", required=False) or me,
        text(ask, "operator", required=False) or me,
        text(ask, "source"),
        text(ask, "evidence"),
        text(ask, "valid_from", limit=40),
        text(ask, "valid_to", required=False, limit=40),
        text(ask, "personal_basis", required=False),
        text(ask, "restrictions", required=False),
        rooms.name,
    )
    await rooms.govern.state_rights(me, rights)
    return go(f"/datasets/{rights.dataset_id}", dataset=rights.dataset_id)


# ---- exchange


async def withdraw_product(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Take a product off the offer; agreements stay in force."""
    await rooms.exchange.withdraw(rooms.participant, text(ask, "id", limit=200))
    return go("/products", withdrawn=text(ask, "id", limit=200))


async def negotiate(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Ask a partner for one of the offers in its catalogue."""
    address, partner = text(ask, "address", limit=1000), text(ask, "partner", limit=255)
    offer_id = text(ask, "offer", limit=300)
    found = await rooms.exchange.catalogue(rooms.participant, address, partner)
    # the whole row of the catalogue: terms and price stand beside the offer, and the invoice is derived from them
    offer = next((one for one in found.offers if one.offer.get("@id") == offer_id), None)
    if offer is None:
        raise not_found(offer_id)
    pid = await rooms.exchange.negotiate(rooms.participant, address, partner, offer)
    return go(f"/contracts/{quote(pid, safe='')}", pid=pid)


async def receive(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Have the data of an agreement delivered into the own log, like a source of one's own."""
    agreement = text(ask, "agreement", limit=200)
    if rooms.receive is None:
        raise not_found("/contracts/receive")
    done = await rooms.receive(agreement, purpose=text(ask, "purpose", required=False, limit=300))
    await rooms.fuse.drain(rooms.participant)
    return go(f"/contracts/{quote(agreement, safe='')}", **done)


# ---- prove, settle, value, watch


async def backup(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Write everything of this node into one sealed file on its disk."""
    if rooms.backup is None:
        raise not_found("/settings/backup")
    return go("/settings", **await rooms.backup(Path(text(ask, "out")), text(ask, "passphrase")))


async def make_invoice(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Derive the invoice of an agreement from its receipts, sign it and hand it to the partner."""
    made = await rooms.settle.invoice(rooms.participant, text(ask, "agreement", limit=200))
    return go("/invoices", number=made.number, total=made.total, currency=made.currency, state=made.state)


async def retry_message(rooms: Rooms, ask: Ask) -> dict[str, Any]:
    """Try a message that was given up once more."""
    await rooms.outbox.retry(rooms.participant, text(ask, "kind", limit=64), text(ask, "key", limit=255))
    return go("/settings", retried=text(ask, "key", limit=255))


_PAPER = (
    Field("partner_name"),
    Field("partner_country", required=False),
    Field("partner_registration", required=False),
    Field("partner_tax_number", required=False),
    Field("partner_address", required=False),
    Field("language", required=False),
    Field("fapiao", required=False),
)

ACTIONS: tuple[Action, ...] = (
    Action("/sources/probe", "Ask an address what it offers", (Field("url"),), probe, "proposal"),
    Action(
        "/sources/add",
        "Connect a source and start reading",
        (
            Field("url"),
            Field("name", required=False),
            Field("title", required=False),
            Field("pick", required=False, many=True),
        ),
        add_source,
    ),
    Action(
        "/sources/import",
        "Read one file of the node's machine to its end",
        (Field("path"), Field("source", required=False)),
        import_file,
    ),
    Action(
        "/sources/describe",
        "Add a source by its interface, TOML or JSON",
        (Field("interface", limit=4_000_000),),
        describe_source,
    ),
    Action(
        "/sources/export",
        "Interfaces as an AASX package",
        (Field("source", required=False, many=True),),
        export_sources,
    ),
    Action("/sources/hook", "A webhook and its token", (Field("name", limit=64),), make_hook),
    Action("/sources/openness", "The openness register", (), openness),
    Action("/sources/replay", "Read again what was quarantined", (Field("source"),), replay_source),
    Action(
        "/sources/secret",
        "Keep user and password, or a token, for an address",
        (
            Field("url"),
            *(Field(name, required=False) for name in ("user", "password", "token", "certificate", "key", "ca")),
        ),
        keep_secret,
    ),
    Action("/sources/{name:path}/remove", "Disconnect a source", (), remove_source),
    Action("/sources/{name:path}/pause", "Stop reading a source for now", (), pause_source),
    Action("/sources/{name:path}/resume", "Read a paused source again", (), resume_source),
    Action(
        "/datasets/define",
        "Define a dataset",
        (
            Field("id"),
            Field("title_en"),
            Field("title_zh", required=False),
            Field("description", required=False),
            Field("kind", required=False),
            Field("signals", required=False, many=True),
            Field("models", required=False, many=True),
            Field("keywords", required=False, many=True),
        ),
        define_dataset,
    ),
    Action("/describe/shells", "Write the Asset Administration Shells", (), write_shells),
    Action("/govern/grade", "Classify and grade every signal", (), grade_all),
    Action("/govern/score", "Score the quality of every dataset", (), score_all),
    Action(
        "/govern/rights",
        "State the rights in a dataset",
        (
            Field("dataset"),
            Field("holder", required=False),
            Field("processor", required=False),
            Field("operator", required=False),
            Field("source"),
            Field("evidence"),
            Field("valid_from"),
            Field("valid_to", required=False),
            Field("personal_basis", required=False),
            Field("restrictions", required=False),
        ),
        state_rights,
    ),
    Action(
        "/products/offer",
        "Put a dataset on offer",
        (
            Field("dataset"),
            Field("id", required=False),
            Field("title_en", required=False),
            Field("title_zh", required=False),
            Field("terms", required=False),
            Field("policy", required=False),
            Field("price", required=False),
            Field("visible_to", required=False, many=True),
            Field("query", required=False),
            Field("fingerprint", required=False),
        ),
        offer_product,
    ),
    Action("/products/trace", "Find whose copy a table is", (Field("path"),), trace_copy),
    Action("/queries/sign", "Sign a query template", (Field("document", limit=100_000),), sign_template),
    Action(
        "/queries/approve", "Approve a signed query template", (Field("document", limit=100_000),), approve_template
    ),
    Action("/queries/withdraw", "Run a query template no more", (Field("template"),), withdraw_template),
    Action(
        "/queries/ask",
        "Ask the query template of an agreement",
        (Field("agreement"), Field("parameters", required=False), Field("purpose", required=False)),
        ask_query,
    ),
    Action(
        "/queries/run",
        "Run a platform's query template over a dataset of our own",
        (Field("agreement"), Field("dataset"), Field("parameters", required=False)),
        run_template,
    ),
    Action("/products/withdraw", "Take a product off the offer", (Field("id"),), withdraw_product),
    Action("/catalogue/negotiate", "Ask for an offer", (Field("address"), Field("partner"), Field("offer")), negotiate),
    Action(
        "/contracts/say",
        "Take our turn in a negotiation",
        (Field("pid"), Field("verb"), Field("reason", required=False)),
        say_in_negotiation,
    ),
    Action("/contracts/transfer", "Ask for the data of an agreement", (Field("agreement"),), request_transfer),
    Action(
        "/contracts/receive",
        "Have the data of an agreement delivered into the own log",
        (Field("agreement"), Field("purpose", required=False)),
        receive,
    ),
    *AMENDMENT_ACTIONS,
    Action(
        "/contracts/duty",
        "Say that a duty of ours was fulfilled",
        (Field("agreement"), Field("duty"), Field("note", required=False), Field("by", required=False)),
        confirm_duty,
    ),
    Action(
        "/contracts/transfer/say",
        "Start, suspend, complete or terminate a transfer",
        (Field("pid"), Field("agreement"), Field("verb"), Field("reason", required=False)),
        say_in_transfer,
    ),
    Action(
        "/audit/search",
        "Search the evidence log",
        tuple(Field(name, required=False) for name in ("text", "kind", "from", "to")),
        auditing.search,
    ),
    Action(
        "/audit/regulator",
        "Who received which grade of data under which contract",
        (Field("from", required=False), Field("to", required=False)),
        auditing.regulator,
    ),
    Action(
        "/audit/deposit",
        "A deposit of evidence about an agreement",
        (Field("agreement"), Field("uscc", required=False), Field("partner_uscc", required=False)),
        auditing.deposit,
    ),
    Action("/audit/invite", "A one-time link that may only read", (), auditing.invite),
    Action("/evidence/trust", "The trust file of this node", (), trust),
    Action(
        "/evidence/package",
        "Make the evidence package of an agreement, or of one transfer or period of it",
        (
            Field("agreement"),
            Field("transfer", required=False),
            Field("from", required=False),
            Field("to", required=False),
        ),
        package,
    ),
    Action(
        "/evidence/verify",
        "Verify a package",
        (Field("agreement", required=False), Field("file", required=False)),
        verify,
        "verdict",
    ),
    Action(
        "/partners/space",
        "Found a space, or rename it",
        (Field("name"), Field("required", required=False)),
        found_space,
    ),
    Action(
        "/partners/invite",
        "A one-time link into the space",
        (Field("name", required=False), Field("days", required=False), Field("kind", required=False)),
        invite,
        fragment="invitation",
    ),
    Action("/partners/withdraw", "An open link works no more", (Field("invitation"),), withdraw_invitation),
    Action("/partners/revoke", "End a membership", (Field("member"),), revoke_member),
    Action("/partners/join", "Join a space with a link", (Field("link"), Field("name", required=False)), join_space),
    Action("/partners/directory", "Members of our spaces, as their leaders say now", (), list_directory),
    Action(
        "/guests/terms",
        "What guests are asked for from now on",
        (Field("purpose", limit=4000), Field("terms", limit=4000)),
        set_guest_terms,
    ),
    Action(
        "/guests/ask",
        "Ask a guest for one more use of what it shares",
        (Field("share"), Field("purpose", limit=4000), Field("terms", required=False, limit=4000)),
        ask_guest,
    ),
    Action("/guests/use", "The rows of a share, on record", (Field("share"), Field("purpose", False)), use_share),
    Action(
        "/guests/move-in",
        "Take a guest's key, contracts and proofs over",
        (Field("papers", limit=12_000_000), Field("passphrase")),
        move_in,
    ),
    Action("/guests/revoke", "End what was shared as a guest", (Field("guest"), Field("share")), revoke_moved),
    Action(
        "/demands/publish",
        "Publish a dataset that is wanted",
        (
            Field("id"),
            Field("title"),
            Field("wanted", many=True),
            *(Field(one, False) for one in ("purpose", "from", "until")),
        ),
        publish_demand,
    ),
    Action("/demands/list", "Datasets that are wanted, here or by a partner", (Field("partner", False),), list_demands),
    Action("/demands/withdraw", "Want a dataset no more", (Field("id"),), withdraw_demand),
    Action("/demands/match", "Own datasets that serve a partner's demands", (Field("partner"),), match_demands),
    Action("/edges/invite", "A one-time code for a gateway in the machine network", (), invite_edge),
    Action("/edges/list", "Gateways and how far they are", (), list_edges),
    Action("/edges/remove", "A gateway may not deliver any more", (Field("edge"),), remove_edge),
    Action("/mappings/list", "The mappings in force", (), list_mappings),
    Action("/mappings/set", "Put mappings in force, TOML or JSON", (Field("mapping", limit=1_000_000),), set_mappings),
    Action("/mappings/remove", "Take a mapping away", (Field("name", limit=128),), remove_mapping),
    Action("/mappings/export", "An AASX with interfaces and mappings (AID, AIMC)", (), export_mappings),
    Action("/mappings/import", "Mappings of an AASX or AAS JSON file", (Field("path"),), import_mappings),
    Action("/mappings/suggest", "What signals may be in a companion model", (), suggest_mappings),
    Action("/mappings/confirm", "Take a suggestion over as a mapping", (Field("id"),), confirm_mapping),
    Action("/mappings/reject", "Put a suggestion aside for good", (Field("id"),), reject_mapping),
    Action(
        "/signals/quality",
        "Judge a signal's quality over a window",
        (
            Field("signal"),
            Field("from", required=False),
            Field("to", required=False),
            Field("limits", required=False),
            Field("propose", required=False),
        ),
        quality,
    ),
    Action("/signals/limits", "State a signal's limits", (Field("signal"), Field("limits")), state_limits),
    Action(
        "/figures/define",
        "Define a figure with proof",
        (
            Field("id"),
            Field("function"),
            Field("inputs", limit=1_000_000),
            Field("parameters", required=False, limit=100_000),
            Field("title_en", required=False),
            Field("title_zh", required=False),
            Field("openings", required=False),
            Field("agreements", required=False, many=True),
        ),
        define_figure,
    ),
    Action(
        "/figures/make",
        "Make a figure for a window, or one of other figures",
        (
            Field("definition", required=False),
            Field("from", required=False),
            Field("to", required=False),
            Field("function", required=False),
            Field("figures", required=False, many=True),
        ),
        make_figure,
    ),
    Action(
        "/figures/order",
        "Order a figure from the partner of an agreement",
        (Field("agreement"), Field("definition"), Field("from"), Field("to")),
        order_figure,
    ),
    Action(
        "/figures/challenge",
        "Challenge a figure: draw chunks, open them, compute them anew",
        (Field("figure"), Field("count", required=False)),
        challenge_figure,
    ),
    Action("/figures/list", "Definitions and figures, own and received", (), list_figures),
    Action("/figures/streams", "Streams that figures can be made of", (Field("table", required=False),), list_streams),
    Action("/figures/export", "A figure with its proof as a file", (Field("figure"),), export_figure),
    Action("/invoices/make", "Derive, sign and send the invoice of an agreement", (Field("agreement"),), make_invoice),
    Action("/disputes/list", "Disputed receipts that were narrowed down, and credit notes", (), list_disputes),
    Action(
        "/disputes/narrow",
        "Find the first block of a disputed delivery that differs",
        (Field("agreement"), Field("receipt")),
        narrow_dispute,
    ),
    Action(
        "/disputes/propose",
        "Propose what is owed for a disputed delivery",
        (Field("agreement"), Field("receipt"), Field("rows"), Field("bytes"), Field("reason")),
        propose_resolution,
    ),
    Action(
        "/disputes/accept",
        "Sign what the other side proposed",
        (Field("agreement"), Field("receipt")),
        accept_resolution,
    ),
    Action(
        "/invoices/credit",
        "Derive a credit note and have the consumer sign it",
        (Field("agreement"), Field("reason")),
        credit_note,
    ),
    Action(
        "/invoices/print",
        "An invoice or credit note as HTML, PDF or UBL",
        (Field("number"), Field("form"), *_PAPER),
        print_invoice,
    ),
    Action(
        "/contracts/print",
        "A contract as HTML or PDF",
        (Field("agreement"), Field("form"), *_PAPER),
        print_contract,
    ),
    Action(
        "/netting/clear",
        "Set off obligations",
        (Field("table", required=False, limit=4_000_000), Field("file", required=False, limit=4_000_000)),
        clear_obligations,
        "netting",
    ),
    Action(
        "/netting/check",
        "Check netting certificates without a solver",
        (Field("certificate", required=False, limit=4_000_000), Field("file", required=False, limit=4_000_000)),
        check_certificates,
        "netting",
    ),
    Action(
        "/shares/compute",
        "Share revenue by a rule, or pay out a risk pool",
        (Field("inputs", limit=4_000_000),),
        compute_shares,
        "shares",
    ),
    Action("/value/appraise", "Appraise a dataset", (Field("dataset"),), appraise),
    Action(
        "/value/rate",
        "State what one unit of a meter costs",
        (Field("meter"), Field("price"), Field("currency"), Field("source"), Field("voucher", required=False)),
        add_rate,
    ),
    Action("/value/meter", "Read the meters into the ledger", (), read_meters),
    Action("/watch/supply", "State stocks and usage", (Field("table", limit=200_000),), state_supply),
    Action(
        "/watch/survive", "How long supply lasts when a component stops", (Field("component"),), survive, "survival"
    ),
    Action("/settings/backup", "Write a back-up of the node", (Field("out"), Field("passphrase")), backup),
    Action("/settings/retry", "Try a message again that was given up", (Field("kind"), Field("key")), retry_message),
)
"""Every action."""


def paths() -> Mapping[str, Action]:
    """Actions by path."""
    return {action.path: action for action in ACTIONS}
