"""A company certificate (X.509) bound to a participant: the certificate's key signs the DID and the evidence key.

Pure: documents in, values out. The statement is canonical JSON signed with RSA (PKCS #1 v1.5, SHA-256; RFC 8017, 8.2) or ECDSA (SHA-256, DER),
as the certificate's key is. The chain is checked against given roots as of the time in the statement (RFC 5280, 6.1, by ``cryptography``);
nobody is asked whether the certificate was revoked since.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.verification import ExtensionPolicy, PolicyBuilder, Store, VerificationError

from guantong.base.canonical import b64, canonical_bytes, unb64
from guantong.base.clock import NS, iso, parse_iso
from guantong.base.errors import Refused

__all__ = ["Company", "bind", "load_roots", "read"]

_MEMBERS = {"v", "type", "did", "evidence", "at", "chain", "signature"}
_MAX_CHAIN = 8


@dataclass(frozen=True, slots=True)
class Company:
    """A binding whose signature is good."""

    did: str
    evidence: bytes
    at: int
    """When it was signed, as it says itself, ns."""
    subject: str
    """The certificate's subject (RFC 4514)."""
    issuer: str
    confirmed: bool
    """Whether the chain leads to a root that the verifier gave."""


def bind(
    did: str, evidence: bytes, at: int, *, certificates: bytes, key: bytes, password: bytes | None
) -> dict[str, Any]:
    """The statement. certificates: PEM, the company's own first. Raises Refused ``base.certificate-refused``."""
    try:
        chain = x509.load_pem_x509_certificates(certificates)
        private = serialization.load_pem_private_key(key, password)
    except (ValueError, TypeError) as error:
        raise _no("certificate or key can't be read, or the password is wrong") from error
    document: dict[str, Any] = {
        "v": 1,
        "type": "guantong-company-certificate",
        "did": did,
        "evidence": b64(evidence),
        "at": iso(at),
        "chain": [b64(one.public_bytes(serialization.Encoding.DER)) for one in chain],
    }
    message = canonical_bytes(document)
    if isinstance(private, rsa.RSAPrivateKey):
        signature = private.sign(message, padding.PKCS1v15(), hashes.SHA256())
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        signature = private.sign(message, ec.ECDSA(hashes.SHA256()))
    else:
        raise _no("only RSA and EC keys are taken")
    document["signature"] = b64(signature)
    read(document)  # the key may be another one than the certificate's
    return document


def read(document: Any, roots: Sequence[x509.Certificate] = ()) -> Company:
    """Check a statement, and its chain where roots are given. Raises Refused ``base.certificate-refused`` with the reason."""
    try:
        if set(document) != _MEMBERS or document["v"] != 1 or document["type"] != "guantong-company-certificate":
            raise _no("it has other members than a company certificate's statement has")
        if not 1 <= len(document["chain"]) <= _MAX_CHAIN:
            raise _no("its chain is empty or too long")
        leaf, *others = [x509.load_der_x509_certificate(unb64(one)) for one in document["chain"]]
        message = canonical_bytes({name: value for name, value in document.items() if name != "signature"})
        at, evidence, signature = parse_iso(document["at"]), unb64(document["evidence"]), unb64(document["signature"])
        _signed(leaf, signature, message)
        if len(evidence) != 32:
            raise _no("it names no Ed25519 key")
        _usable(leaf, at)
        if roots:
            _chained(leaf, others, at, roots)
        return Company(
            str(document["did"]), evidence, at, leaf.subject.rfc4514_string(), leaf.issuer.rfc4514_string(), bool(roots)
        )
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _no(f"it can't be read ({type(error).__name__})") from error


def load_roots(data: bytes) -> list[x509.Certificate]:
    """Root certificates in PEM or one in DER. Raises Refused ``base.certificate-refused``."""
    try:
        if b"-----BEGIN" in data:
            return x509.load_pem_x509_certificates(data)
        return [x509.load_der_x509_certificate(data)]
    except ValueError as error:
        raise _no("a root can't be read") from error


def _signed(leaf: x509.Certificate, signature: bytes, message: bytes) -> None:
    public = leaf.public_key()
    try:
        if isinstance(public, rsa.RSAPublicKey):
            public.verify(signature, message, padding.PKCS1v15(), hashes.SHA256())
        elif isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, message, ec.ECDSA(hashes.SHA256()))
        else:
            raise _no("only RSA and EC certificates are taken")
    except InvalidSignature as error:
        raise _no("the certificate's key has not signed it") from error


def _usable(leaf: x509.Certificate, at: int) -> None:
    when = _time(at)
    if not leaf.not_valid_before_utc <= when <= leaf.not_valid_after_utc:
        raise _no("the certificate was not valid when it was signed")
    try:
        usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    if not (usage.digital_signature or usage.content_commitment):
        raise _no("the certificate is not for signatures")


def _chained(
    leaf: x509.Certificate, others: list[x509.Certificate], at: int, roots: Sequence[x509.Certificate]
) -> None:
    # a company's certificate names no host and is for no TLS, so the web's rules hold for the authorities above it only
    verifier = (
        PolicyBuilder()
        .store(Store(list(roots)))
        .time(_time(at))
        .max_chain_depth(_MAX_CHAIN)
        .extension_policies(ca_policy=ExtensionPolicy.webpki_defaults_ca(), ee_policy=ExtensionPolicy.permit_all())
        .build_client_verifier()
    )
    try:
        verifier.verify(leaf, others)
    except VerificationError as error:
        raise _no("its chain does not lead to a root that you trust") from error


def _time(at: int) -> datetime:
    return datetime.fromtimestamp(at // NS, UTC)


def _no(reason: str) -> Refused:
    return Refused("base.certificate-refused", reason=reason)


def line(kind: str, data: bytes | Mapping[str, Any]) -> str:
    """A line of a trust file: ``company <statement>`` or ``company-root <certificate>``."""
    return f"{kind} {b64(data if isinstance(data, bytes) else canonical_bytes(dict(data)))}"
