"""Signed notes and what is written with them, against examples that nobody here made, and against everything with a second spelling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guantong.base.canonical import b64
from guantong.base.errors import GuantongError, Refused, Skippable
from guantong.base.keys import Ed25519Key
from guantong.base.merkle import EMPTY_ROOT
from guantong.base.note import (
    COSIGNATURE,
    Checkpoint,
    Note,
    Proof,
    VerifierKey,
    cosign,
    key_of,
    open_note,
    parse_checkpoint,
    parse_note,
    parse_policy,
    parse_proof,
    parse_signature_lines,
    parse_vkey,
    sign,
)

# the example of C2SP signed-note and of Go's golang.org/x/mod/sumdb/note (BSD-3-Clause)
VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
SEED = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
TEXT = "If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
NOTE = (
    TEXT
    + "\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
).encode()

# a key of the Go checksum database (public, embedded in cmd/go); its base64 part holds a plus
GO_SUMDB = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"

LOG = Ed25519Key(bytes(range(32)))
WITNESS = Ed25519Key(bytes(range(1, 33)))
CHECKPOINT = Checkpoint("log.example", 7, bytes(range(32)))


def code_of(function, *arguments) -> str:
    with pytest.raises(GuantongError) as caught:
        function(*arguments)
    return caught.value.code


def test_the_example_of_the_standard_verifies() -> None:
    key = parse_vkey(VKEY)
    opened = open_note(NOTE, [key])

    assert opened.note.text == TEXT
    assert opened.signers == (key,)
    assert str(key) == VKEY


def test_the_example_of_the_standard_is_what_we_sign() -> None:
    import base64

    key = Ed25519Key(base64.b64decode(SEED)[1:])

    assert sign(TEXT, "PeterNeumann", key).to_bytes() == NOTE
    assert str(key_of("PeterNeumann", key)) == VKEY


def test_a_verifier_key_whose_base64_holds_a_plus_is_read() -> None:
    assert str(parse_vkey(GO_SUMDB)) == GO_SUMDB


@pytest.mark.parametrize(
    "text",
    [
        "", "a+b", "PeterNeumann+c74f20a4+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", VKEY + "\n", VKEY[:-1],
        "Peter Neumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW", "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
        "x+00000000+" + b64(b"\x02" + bytes(32)),
    ],
)  # fmt: skip
def test_other_verifier_keys_are_refused(text: str) -> None:
    assert code_of(parse_vkey, text) == "base.note-malformed"


@given(st.integers(0, len(NOTE) - 1), st.integers(0, 255))
def test_no_byte_of_a_note_can_be_changed(at: int, value: int) -> None:
    changed = bytearray(NOTE)
    changed[at] = value
    if bytes(changed) != NOTE:
        with pytest.raises(GuantongError):
            open_note(bytes(changed), [parse_vkey(VKEY)])


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\n\n", b"text\n", TEXT.encode(), NOTE[:-1], NOTE + b"\n", NOTE.replace("— ".encode(), b"- "), b"\r" + NOTE,
        b"\x00" + NOTE, b"\xff" + NOTE, NOTE.replace(b"=\n", b"\n"), NOTE.replace(b" x08", b"  x08"),
        (TEXT + "\n— a AAAA\n").encode(), (TEXT + "\n— a+b AAAAAAAA\n").encode(), (TEXT + "\n—  AAAAAAAA\n").encode(),
        (TEXT + "\n" + "— a AAAAAAAA\n" * 101).encode(), b"x" * 1_000_001,
    ],
)  # fmt: skip
def test_what_is_no_note_is_refused(data: bytes) -> None:
    assert code_of(parse_note, data) == "base.note-malformed"


def test_the_text_ends_at_the_last_blank_line() -> None:
    note = sign("a\n\nb\n", "k", LOG)

    assert parse_note(note.to_bytes()).text == "a\n\nb\n"
    assert open_note(note.to_bytes(), [key_of("k", LOG)]).signers


def test_unknown_keys_are_ignored_known_keys_must_be_right() -> None:
    note = sign(TEXT, "a", LOG)
    both = note.adding(sign(TEXT, "b", WITNESS).signatures).to_bytes()
    wrong = note.adding([note.signatures[0]._replace(payload=bytes(64))]).to_bytes()

    assert open_note(both, [key_of("a", LOG)]).signers == (key_of("a", LOG),)
    assert len(open_note(both, [key_of("a", LOG), key_of("b", WITNESS)]).signers) == 2
    assert code_of(open_note, both, [key_of("c", LOG)]) == "base.signature-bad"
    assert code_of(open_note, both, []) == "base.signature-bad"
    assert code_of(open_note, wrong, [key_of("a", LOG)]) == "base.signature-bad"


def test_a_note_may_carry_many_signatures() -> None:
    note = sign(TEXT, "a", LOG)
    many = note.adding(sign(TEXT, f"k{number}", Ed25519Key(bytes([number]) * 32)).signatures[0] for number in range(40))

    assert open_note(many.to_bytes(), [key_of("k39", Ed25519Key(bytes([39]) * 32))]).signers


def test_checkpoints_survive_a_round_trip_and_have_one_form() -> None:
    assert parse_checkpoint(CHECKPOINT.text) == CHECKPOINT
    with_lines = Checkpoint("o", 0, EMPTY_ROOT, ("more", "lines"))
    assert parse_checkpoint(with_lines.text) == with_lines


@pytest.mark.parametrize(
    "text",
    [
        "", "o\n1\n", "o\n01\n" + b64(bytes(32)) + "\n", "o\n-1\n" + b64(bytes(32)) + "\n", "o\n1\n" + b64(bytes(31)) + "\n",
        "\n1\n" + b64(bytes(32)) + "\n", "o\n1\n" + b64(bytes(32)), "o\n1\n" + b64(bytes(32)) + "\n\n", "o\n1\n" + b64(bytes(32))[:-1] + "\n",
        "o\n0\n" + b64(bytes(32)) + "\n", "o\n9223372036854775808\n" + b64(bytes(32)) + "\n", "o\n1 \n" + b64(bytes(32)) + "\n",
        "o\n１\n" + b64(bytes(32)) + "\n", "o\n1\n" + b64(bytes(32))[:-2] + "B=\n",
    ],
)  # fmt: skip
def test_other_checkpoints_are_refused(text: str) -> None:
    assert code_of(parse_checkpoint, text) == "base.note-malformed"


def test_a_cosignature_covers_time_and_every_line() -> None:
    text = Checkpoint("log.example", 7, bytes(range(32)), ("extension",)).text
    note = sign(text, "log.example", LOG).adding([cosign(text, "witness.example", WITNESS, 1_790_000_000)])
    key = key_of("witness.example", WITNESS, COSIGNATURE)
    assert open_note(note.to_bytes(), [key]).times == {key: 1_790_000_000}
    forged_time = note.signatures[1]._replace(payload=(1).to_bytes(8, "big") + note.signatures[1].payload[8:])

    assert code_of(open_note, Note(text, (forged_time,)).to_bytes(), [key]) == "base.signature-bad"
    other = text.replace("extension", "Extension")
    assert code_of(open_note, Note(other, note.signatures).to_bytes(), [key]) == "base.signature-bad"
    short = note.signatures[1]._replace(payload=note.signatures[1].payload[:-1])
    assert code_of(open_note, Note(text, (short,)).to_bytes(), [key]) == "base.signature-bad"


# a line by witness.example/w1, made by software of others: the example of C2SP tlog-witness; only its form is public
def test_signature_lines_of_the_standard_s_example_are_read() -> None:
    line = "— witness.example/w1 I7rEps0pvK2UqkS2gSpVUDhrhVtQV9lgF6pRrWAvjJHjyWpW7VcE3SiOlVlbQNt64vWhO+DlkL0+UfzuOBMh9ChdMkP1vi/lCAsmlw==\n"
    (found,) = parse_signature_lines(line)

    assert (found.name, len(found.payload), found.line()) == ("witness.example/w1", 72, line)


def test_a_witness_key_does_not_verify_a_plain_signature_and_the_other_way_round() -> None:
    plain = sign(CHECKPOINT.text, "x", WITNESS)
    as_cosignature = plain.signatures[0]._replace(key_id=key_of("x", WITNESS, COSIGNATURE).id)

    assert code_of(open_note, plain.to_bytes(), [key_of("x", WITNESS, COSIGNATURE)]) == "base.signature-bad"
    assert (
        code_of(open_note, Note(CHECKPOINT.text, (as_cosignature,)).to_bytes(), [key_of("x", WITNESS, COSIGNATURE)])
        == "base.signature-bad"
    )


@pytest.mark.parametrize("at_s", [0, -1, 2**63])
def test_a_cosignature_needs_a_time(at_s: int) -> None:
    with pytest.raises(ValueError):
        cosign(CHECKPOINT.text, "w", WITNESS, at_s)


@given(
    st.integers(0, 2**63 - 1),
    st.lists(st.binary(min_size=32, max_size=32), max_size=63),
    st.none() | st.binary(max_size=60),
)
def test_proofs_survive_a_round_trip(index: int, path: list[bytes], extra: bytes | None) -> None:
    proof = Proof(index, tuple(path), sign(CHECKPOINT.text, "log.example", LOG).to_bytes(), extra)

    assert parse_proof(proof.to_bytes()) == proof


@pytest.mark.parametrize(
    "data",
    [
        b"", b"c2sp.org/tlog-proof@v2\nindex 0\n\nx", b"c2sp.org/tlog-proof@v1\n\nx", b"c2sp.org/tlog-proof@v1\nindex 00\n\nx",
        b"c2sp.org/tlog-proof@v1\nindex 1", b"c2sp.org/tlog-proof@v1\nindex 1\nAAAA\n\nx", b"c2sp.org/tlog-proof@v1\nextra !\nindex 1\n\nx",
        b"c2sp.org/tlog-proof@v1\nindex 1\nextra AA==\n\nx", b"c2sp.org/tlog-proof@v1\nextra AB==\nindex 1\n\nx", b"\xe2\x80\x94\n\nx",
        b"c2sp.org/tlog-proof@v1\nindex 1\n" + (b64(bytes(32)).encode() + b"\n") * 64 + b"\nx",
    ],
)  # fmt: skip
def test_what_is_no_proof_is_refused(data: bytes) -> None:
    assert code_of(parse_proof, data) == "base.note-malformed"


def witness_key(number: int) -> VerifierKey:
    return key_of(f"w{number}.example", Ed25519Key(bytes([number]) * 32), COSIGNATURE)


def test_the_example_policy_of_the_standard_counts_as_it_says() -> None:
    lines = [f"log {key_of('log.example', LOG)} https://log.example/", "", "  # a comment"]
    lines += [
        f"witness\t{name}  {witness_key(number)}" for number, name in enumerate(["X1", "X2", "X3", "Y1", "Y2", "Y3"], 1)
    ]
    lines += [
        "group X-witnesses 2 X1 X2 X3",
        "group Y-witnesses any Y1 Y2 Y3",
        "group X-and-Y all X-witnesses Y-witnesses",
    ]
    policy = parse_policy("\n".join([*lines, "quorum X-and-Y", ""]))

    assert policy.logs == {"log.example": (key_of("log.example", LOG),)}
    assert policy.is_met([witness_key(1), witness_key(3), witness_key(5)])
    assert not policy.is_met([witness_key(1), witness_key(4), witness_key(5)])
    assert not policy.is_met([witness_key(number) for number in (1, 2, 3)])
    assert parse_policy(policy.text) == policy


def test_a_quorum_of_none_asks_for_nobody_and_one_of_a_witness_for_that_one() -> None:
    assert parse_policy("quorum none\n").is_met([])
    one = parse_policy(f"witness A {witness_key(1)}\nquorum A\n")
    assert one.is_met([witness_key(1)])
    assert not one.is_met([witness_key(2)])


W1, W2 = f"witness A {witness_key(1)}\n", f"witness B {witness_key(2)}\n"


@pytest.mark.parametrize(
    "text",
    [
        "", "quorum A\n", "quorum none\nquorum none\n", W1 + W1 + "quorum A\n", W1 + W2.replace("B", "A", 1) + "quorum A\n",
        W1 + f"witness C {key_of('other.example', Ed25519Key(bytes([1]) * 32), COSIGNATURE)}\nquorum A\n",
        f"log {witness_key(1)}\nquorum none\n", f"witness A {key_of('x', LOG)}\nquorum A\n", W1 + "group g 2 A\nquorum g\n",
        W1 + "group g 0 A\nquorum g\n", W1 + "group g any\nquorum g\n", W1 + "group g any A A\nquorum g\n", "group g any A\n" + W1 + "quorum g\n",
        W1 + W2 + "group g any A\ngroup h any A B\nquorum g\n", W1 + "group none any A\nquorum none\n", W1 + "quorum A B\n",
        "witness A\nquorum none\n", "nonsense\nquorum none\n", W1 + "group g 01 A\nquorum g\n", W1 + "quorum\u00a0A\n", "quorum g\n" + W1 + "group g any A\n",
        W1 + "group g any none\nquorum g\n",
    ],
)  # fmt: skip
def test_other_policies_are_refused(text: str) -> None:
    assert code_of(parse_policy, text) == "base.note-malformed"


def test_a_log_may_have_two_keys_while_it_changes_them() -> None:
    a, b = key_of("log.example", LOG), key_of("log.example", WITNESS)

    assert parse_policy(f"log {a}\nlog {b}\nquorum none\n").logs == {"log.example": (a, b)}


def test_forty_logs_and_witnesses_are_no_problem() -> None:
    lines = [f"log {key_of(f'l{number}', Ed25519Key(bytes([100 + number]) * 32))}" for number in range(40)]
    lines += [f"witness w{number} {witness_key(number)}" for number in range(1, 41)]
    names = " ".join(f"w{number}" for number in range(1, 41))
    policy = parse_policy("\n".join([*lines, f"group all-of-them 21 {names}", "quorum all-of-them"]))

    assert policy.is_met([witness_key(number) for number in range(1, 22)])
    assert not policy.is_met([witness_key(number) for number in range(1, 21)])


def test_errors_are_of_the_right_branch() -> None:
    with pytest.raises(Skippable):
        parse_note(b"")
    with pytest.raises(Refused):
        open_note(NOTE, [])
