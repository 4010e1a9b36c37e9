"""Time-stamp tokens of RFC 3161: the request, and the check of what an authority answered. Pure: bytes in, values out.

Sources: RFC 3161 (2.4.1 request, 2.4.2 response and TSTInfo, 2.3 key usage), RFC 5652 (5.4 signed attributes), RFC 5816 (signing
certificate by SHA-256). A token with the signer's certificate inside is wanted; the way from it to a root that the caller trusts may
lead through further certificates in the token.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from guantong.base.clock import NS
from guantong.base.der import BOOLEAN, INTEGER, OCTETS, SEQUENCE, SET, TIME, Value, children, encode, integer, oid, one
from guantong.base.errors import Refused, Skippable

__all__ = ["MAX_TOKEN_BYTES", "Stamped", "der_of", "load_root", "load_roots", "request", "verify"]

MAX_TOKEN_BYTES = 64 * 1024
_SHA256 = oid("2.16.840.1.101.3.4.2.1")
_SIGNED_DATA = oid("1.2.840.113549.1.7.2")
_TST_INFO = oid("1.2.840.113549.1.9.16.1.4")
_CONTENT_TYPE = oid("1.2.840.113549.1.9.3")
_MESSAGE_DIGEST = oid("1.2.840.113549.1.9.4")
_SIGNING_CERTIFICATE = oid("1.2.840.113549.1.9.16.2.12")  # by SHA-1, RFC 2634
_SIGNING_CERTIFICATE_V2 = oid("1.2.840.113549.1.9.16.2.47")
_DIGESTS: dict[bytes, hashes.HashAlgorithm] = {
    _SHA256: hashes.SHA256(),
    oid("2.16.840.1.101.3.4.2.2"): hashes.SHA384(),
    oid("2.16.840.1.101.3.4.2.3"): hashes.SHA512(),
}
_TIME = re.compile(r"(\d{14})(?:\.(\d{1,9}))?Z", re.ASCII)


@dataclass(frozen=True, slots=True)
class Stamped:
    """What a verified token says."""

    at: int
    """Time that the authority states, ns."""
    accuracy_ns: int | None
    """Accuracy that it states, ns either way; None where it says nothing."""
    policy: bytes
    """Policy, OBJECT IDENTIFIER in DER."""
    serial: int
    authority: str
    """Subject of the signer's certificate (RFC 4514)."""
    confirmed: bool
    """Whether the signer's certificate leads to a root of the caller."""


def request(message: bytes, nonce: int) -> bytes:
    """``application/timestamp-query`` for a message: its SHA-256, a nonce, and the wish for the signer's certificate."""
    imprint = encode(SEQUENCE, encode(SEQUENCE, _SHA256, b"\x05\x00"), encode(OCTETS, hashlib.sha256(message).digest()))
    return encode(SEQUENCE, integer(1), imprint, integer(nonce), encode(BOOLEAN, b"\xff"))


def load_roots(pem: bytes) -> tuple[x509.Certificate, ...]:
    """Root certificates of authorities from a PEM file. Raises ValueError."""
    return tuple(x509.load_pem_x509_certificates(pem))


def load_root(der: bytes) -> x509.Certificate:
    """One certificate in DER. Raises ValueError."""
    try:
        return x509.load_der_x509_certificate(der)
    except x509.InvalidVersion as error:
        raise ValueError(str(error)) from error


def der_of(certificate: x509.Certificate) -> bytes:
    """A certificate in DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


def verify(
    response: bytes, message: bytes, roots: Sequence[x509.Certificate] = (), *, nonce: int | None = None
) -> Stamped:
    """Check an ``application/timestamp-reply`` for a message.

    roots: certificates of authorities from outside; without them the token can be whole, but who signed it is not confirmed.
    Raises Skippable ``base.timestamp-malformed`` and Refused ``base.timestamp-refused`` with the reason.
    """
    if len(response) > MAX_TOKEN_BYTES:
        raise Skippable("base.timestamp-malformed", reason="it is too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # what cryptography thinks of an authority's certificate is said by our own checks
            return _verify(response, message, roots, nonce)
    except (ValueError, IndexError, TypeError, StopIteration, x509.InvalidVersion, x509.DuplicateExtension) as error:
        raise Skippable("base.timestamp-malformed", reason=str(error) or type(error).__name__) from error


def _verify(response: bytes, message: bytes, roots: Sequence[x509.Certificate], nonce: int | None) -> Stamped:
    status, *tokens = children(one(response, SEQUENCE).content)
    answered = next(children(status.content))
    if answered.tag != INTEGER or answered.content not in (b"\x00", b"\x01") or len(tokens) != 1:
        raise Refused("base.timestamp-refused", reason="the authority granted nothing")
    kind, wrapped = children(tokens[0].content)
    if kind.whole != _SIGNED_DATA:
        raise ValueError("the token is no SignedData")
    _version, _algorithms, encapsulated, *rest = children(one(wrapped.content, SEQUENCE).content)
    content_type, explicit = children(encapsulated.content)
    if content_type.whole != _TST_INFO:
        raise ValueError("the token holds no TSTInfo")
    info = one(explicit.content, OCTETS).content
    certificates = [
        x509.load_der_x509_certificate(item.whole)
        for part in rest
        if part.tag == 0xA0
        for item in children(part.content)
    ]
    signers = [item for part in rest if part.tag == SET for item in children(part.content)]
    if len(signers) != 1:
        raise ValueError("one signer is wanted")
    signer = _check_signer(signers[0], info, certificates)
    stamped = _read_info(info, message, nonce, signer)
    moment = datetime.datetime.fromtimestamp(stamped.at // NS, datetime.UTC)
    if not signer.not_valid_before_utc <= moment <= signer.not_valid_after_utc:
        raise Refused("base.timestamp-refused", reason="the authority's certificate was not valid at that time")
    if roots and not _leads_to(signer, certificates, roots, moment):
        raise Refused("base.timestamp-refused", reason="the authority's certificate leads to no root you trust")
    return replace(stamped, confirmed=bool(roots))


def _read_info(info: bytes, message: bytes, nonce: int | None, signer: x509.Certificate) -> Stamped:
    version, policy, imprint, serial, at, *rest = children(one(info, SEQUENCE).content)
    algorithm, hashed = children(imprint.content)
    if version.content != b"\x01" or at.tag != TIME or serial.tag != INTEGER:
        raise ValueError("the TSTInfo has another form")
    if next(children(algorithm.content)).whole != _SHA256:
        raise ValueError("the imprint is not SHA-256")
    if hashed.content != hashlib.sha256(message).digest():
        raise Refused("base.timestamp-refused", reason="the token is over other data")
    stated = next((item for item in rest if item.tag == INTEGER), None)
    if nonce is not None and (stated is None or int.from_bytes(stated.content, "big") != nonce):
        raise Refused("base.timestamp-refused", reason="the token answers another request")
    accuracy = next((item for item in rest if item.tag == SEQUENCE), None)
    match = _TIME.fullmatch(at.content.decode("ascii"))
    if match is None:
        raise ValueError("the time has another form")
    whole = datetime.datetime.strptime(match[1], "%Y%m%d%H%M%S").replace(tzinfo=datetime.UTC)
    return Stamped(
        int(whole.timestamp()) * NS + int((match[2] or "").ljust(9, "0")),
        None if accuracy is None else _accuracy(accuracy),
        policy.whole,
        int.from_bytes(serial.content, "big"),
        signer.subject.rfc4514_string(),
        confirmed=True,
    )


def _accuracy(value: Value) -> int:
    scale = {INTEGER: NS, 0x80: 1_000_000, 0x81: 1_000}
    return sum(int.from_bytes(item.content, "big") * scale[item.tag] for item in children(value.content))


def _check_signer(info: Value, content: bytes, certificates: Sequence[x509.Certificate]) -> x509.Certificate:
    """The certificate whose key signed the content (RFC 5652, 5.4 and 5.6; RFC 3161, 2.4.2)."""
    _version, sid, algorithm, attributes, _scheme, signature, *_ = children(info.content)
    if attributes.tag != 0xA0:
        raise ValueError("the token has no signed attributes")
    digest = _DIGESTS.get(next(children(algorithm.content)).whole)
    if digest is None:
        raise ValueError("the digest of the signer is none of SHA-256, SHA-384 and SHA-512")
    stated: dict[bytes, Value] = {}
    for attribute in children(attributes.content):
        kind, values = children(attribute.content)
        if kind.whole in stated:
            raise ValueError("a signed attribute is there twice")
        (stated[kind.whole],) = children(values.content)
    if stated[_CONTENT_TYPE].whole != _TST_INFO if _CONTENT_TYPE in stated else True:
        raise ValueError("the signed attributes name another content")
    if _MESSAGE_DIGEST not in stated or stated[_MESSAGE_DIGEST].content != _digest(digest, content):
        raise Refused("base.timestamp-refused", reason="the time or another part of the token was changed")
    signer = next((one_ for one_ in certificates if _is_signer(one_, sid)), None)
    if signer is None:
        raise ValueError("the signer's certificate is not in the token")
    _check_binding(stated, signer)
    try:
        usage = signer.extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    except x509.ExtensionNotFound:
        usage = None
    if usage is None or not usage.critical or list(usage.value) != [ExtendedKeyUsageOID.TIME_STAMPING]:
        raise Refused("base.timestamp-refused", reason="the signer's certificate is not for time stamps alone")
    # what is signed is the attributes as a SET, not with their implicit tag
    if not _signed(signer, encode(SET, attributes.content), signature.content, digest):
        raise Refused("base.timestamp-refused", reason="the authority's signature does not match")
    return signer


def _is_signer(certificate: x509.Certificate, sid: Value) -> bool:
    if sid.tag != SEQUENCE:
        return False
    issuer, serial = children(sid.content)
    return (
        issuer.whole == certificate.issuer.public_bytes()
        and int.from_bytes(serial.content, "big") == certificate.serial_number
    )


def _check_binding(stated: dict[bytes, Value], signer: x509.Certificate) -> None:
    if _SIGNING_CERTIFICATE_V2 in stated:
        first = next(children(next(children(stated[_SIGNING_CERTIFICATE_V2].content)).content))
        parts = list(children(first.content))
        digest: hashes.HashAlgorithm | None = hashes.SHA256()
        if parts[0].tag == SEQUENCE:
            digest = _DIGESTS.get(next(children(parts.pop(0).content)).whole)
        if digest is not None and parts[0].content == signer.fingerprint(digest):
            return
    elif _SIGNING_CERTIFICATE in stated:
        first = next(children(next(children(stated[_SIGNING_CERTIFICATE].content)).content))
        if next(children(first.content)).content == signer.fingerprint(hashes.SHA1()):  # noqa: S303 - RFC 2634 has no other
            return
    raise Refused("base.timestamp-refused", reason="the token is bound to another certificate")


def _digest(algorithm: hashes.HashAlgorithm, data: bytes) -> bytes:
    found = hashes.Hash(algorithm)
    found.update(data)
    return found.finalize()


def _signed(certificate: x509.Certificate, message: bytes, signature: bytes, digest: hashes.HashAlgorithm) -> bool:
    key = certificate.public_key()
    try:
        match key:
            case rsa.RSAPublicKey():
                key.verify(signature, message, padding.PKCS1v15(), digest)
            case ec.EllipticCurvePublicKey():
                key.verify(signature, message, ec.ECDSA(digest))
            case ed25519.Ed25519PublicKey():
                key.verify(signature, message)
            case _:
                raise ValueError("the authority's key is none of RSA, ECDSA and Ed25519")
    except InvalidSignature:
        return False
    return True


def _leads_to(
    signer: x509.Certificate,
    between: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    moment: datetime.datetime,
) -> bool:
    """Whether a way of at most five certificates leads from the signer to a root, each one valid at that moment and allowed to issue."""
    known = {certificate.fingerprint(hashes.SHA256()) for certificate in roots}
    current = signer
    for _ in range(5):
        if current.fingerprint(hashes.SHA256()) in known:
            return True
        for issuer in (*roots, *between):
            if issuer is not current and _issued(current, issuer, moment):
                current = issuer
                break
        else:
            return False
    return current.fingerprint(hashes.SHA256()) in known


def _issued(child: x509.Certificate, issuer: x509.Certificate, moment: datetime.datetime) -> bool:
    try:
        child.verify_directly_issued_by(issuer)
        authority = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
        return False
    return authority and issuer.not_valid_before_utc <= moment <= issuer.not_valid_after_utc
