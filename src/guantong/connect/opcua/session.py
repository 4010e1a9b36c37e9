"""One connection and one session to an OPC UA server, and the way back to both after a cut.

asyncua's client is used up to the activated session; its supervisor and watchdog are not started. They would wait for a dead line to
flush, open a second session where the first is only unreachable, and throw the subscription away (see :mod:`.subscription`). Here the
line is dropped at once, the same session is activated on the new channel, and only a server that says it does not know the session
gets a new one: so there is at most one session a connection.

Source: OPC 10000-4, 5.7.3 (ActivateSession on another SecureChannel), 6.7 (re-establishing connections).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from guantong.base.errors import ConfigProblem, Refused
from guantong.connect.opcua.rules import Security
from guantong.connect.opcua.stack import Client, SessionState, foreign, policies, ua, uacrypto
from guantong.connect.secrets import Lookup

__all__ = ["APPLICATION_URI", "Line", "own_certificate", "thumbprint"]

APPLICATION_URI = "urn:guantong:connect"
_VALID = timedelta(days=3650)
_GONE = ("BadSessionIdInvalid", "BadSessionClosed", "BadSessionNotActivated")
# the answer to an activation was lost in a cut: the server has moved on to a nonce that we don't know, so the session can't be ours again
_ESTRANGED = (
    "BadApplicationSignatureInvalid",
    "BadUserSignatureInvalid",
    "BadIdentityTokenRejected",
    "BadIdentityTokenInvalid",
    "BadIdentityChangeNotSupported",
)


class Line(Client):  # type: ignore[misc]
    """A connection that can be dropped and opened again with the same session."""

    def __init__(self, base: str, *, timeout_s: float, session_s: float) -> None:
        super().__init__(base, timeout=timeout_s)
        self._hello_s = min(timeout_s, 2.0)
        self._adopted = False
        self.name = self.description = "guantong"
        self.application_uri = APPLICATION_URI
        self.product_uri = "urn:guantong"
        self.session_timeout = int(session_s * 1000)
        self.uaclient.pre_request_hook = None  # nothing waits for a supervisor that is not there
        self.down = asyncio.Event()
        """Set when the transport is gone."""
        self.down.set()
        self._closing = False
        self._renew_channel_task: asyncio.Task[None] | None = None
        self.uaclient._add_state_listener(self._state_changed)

    @property
    def service(self) -> Any:
        """The services of the session."""
        return self.uaclient.session

    @property
    def ticket(self) -> dict[str, str]:
        """What another process needs to go on with this session: its token and the server's last nonce."""
        nonce = self._server_nonce
        return {
            "token": self.uaclient.session.authentication_token.to_string(),
            "nonce": nonce.hex() if nonce else "",
        }

    def adopt(self, ticket: dict[str, str]) -> None:
        """Go on with a session that an earlier process had; whether the server still knows it shows when it is activated."""
        self.uaclient.session.authentication_token = ua.NodeId.from_string(ticket["token"])
        self._server_nonce = bytes.fromhex(ticket["nonce"]) if ticket["nonce"] else None
        self._adopted = True

    async def open(self) -> bool:
        """Open the line and activate the session; True if it is the one we had. Raises what the stack raises."""
        await self.drop()
        await self.connect_socket()
        try:
            async with asyncio.timeout(
                self._hello_s
            ):  # a server that is only just starting may take the line and never answer
                await self.send_hello()
            await self.open_secure_channel()
            reused = self.uaclient.session.has_session and await self._again()
            if not reused:
                self.uaclient.session.reset_authentication_token()
                self._server_nonce = None
                await self.create_session()
                await self._activate_with_credentials()
            self._start_renew_loop()
        except BaseException:
            await self.drop()
            raise
        self.down.clear()
        return bool(reused)

    async def _again(self) -> bool:
        session = self.uaclient.session
        session.rebind_authentication_token()
        try:
            if (
                self._adopted
            ):  # how the server names its ways to sign in came with the session's creation, which we did not see
                endpoints = await self.get_endpoints()
                mode, uri = self.security_policy.Mode, self.security_policy.URI
                self._policy_ids = Client.find_endpoint(endpoints, mode, uri).UserIdentityTokens
                self._adopted = False
            await self._activate_with_credentials()
        except ua.UaStatusCodeError as error:
            if type(error).__name__ in _GONE or type(error).__name__ in _ESTRANGED:
                session._set_state(SessionState.NEW)
                return False
            raise
        return True

    async def drop(self) -> None:
        """Cut the line now, without waiting for what can't be sent any more; the session stays with the server."""
        task, self._renew_channel_task = self._renew_channel_task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task
        protocol = self.uaclient.protocol
        if protocol is not None:
            if protocol.transport is not None:
                protocol.transport.abort()
            protocol._fail_all_pending(ConnectionError("the line was dropped"))
        self.uaclient.disconnect_socket()
        self.uaclient.protocol = None
        self.down.set()

    async def close(self, *, wait_s: float) -> None:
        """End the session with its subscriptions, if the server can be told, and the line."""
        self._closing = True
        with contextlib.suppress(*foreign()):
            async with asyncio.timeout(wait_s):
                if not self.down.is_set():
                    await self.uaclient.session.close_session(True)
                    await self.close_secure_channel()
        await self.drop()

    def _state_changed(self, state: Any) -> None:
        if state.value in ("disconnected", "disconnecting"):
            self.down.set()

    async def secure(self, wanted: Security, *, name: str, secrets: Lookup, folder: Path | None) -> None:
        """Take the security that the interface asks for, once; nothing less.

        Raises ConfigProblem ``connect.security-unsupported``, ``connect.certificate-unknown``, ``connect.credentials-missing``.
        """
        base = self.server_url.geturl()
        if wanted.policy is not None and self.security_policy.Mode == ua.MessageSecurityMode.None_:
            if folder is None:
                raise ConfigProblem("connect.security-unsupported", name=name, scheme=f"{wanted.mode} {wanted.policy}")
            certificate, key = await asyncio.to_thread(own_certificate, folder)
            policy = getattr(policies, f"SecurityPolicy{wanted.policy}")
            mode = getattr(ua.MessageSecurityMode, wanted.mode)
            offered = [
                endpoint
                for endpoint in await self.connect_and_get_server_endpoints()
                if endpoint.SecurityMode == mode and endpoint.SecurityPolicyUri == policy.URI
            ]
            if not offered:
                raise ConfigProblem("connect.security-unsupported", name=name, scheme=f"{wanted.mode} {wanted.policy}")
            presented = _leaf(offered[0].ServerCertificate)
            if thumbprint(presented) != wanted.thumbprint:
                raise ConfigProblem("connect.certificate-unknown", base=base, thumbprint=thumbprint(presented))
            await self._set_security(
                policy,
                uacrypto.CertProperties(certificate),
                uacrypto.CertProperties(key),
                uacrypto.x509_from_der(presented),
                mode,
            )
        if wanted.identity == "anonymous":
            return
        kept = secrets(base)
        if wanted.identity == "user":
            if not kept.get("user"):
                raise ConfigProblem("connect.credentials-missing", base=base, what="user")
            self.set_user(kept["user"])
            self.set_password(kept.get("password", ""))
        else:
            if not kept.get("certificate") or not kept.get("key"):
                raise ConfigProblem("connect.credentials-missing", base=base, what="certificate")
            await self.load_client_certificate(kept["certificate"])
            await self.load_private_key(kept["key"])

    def _add_user_auth(self, params: Any, username: str | None, password: str | None) -> None:
        policy = self.server_policy(ua.UserTokenType.UserName)
        plain = not policy.SecurityPolicyUri or policy.SecurityPolicyUri == policies.SecurityPolicyNone.URI
        if plain and self.security_policy.Mode != ua.MessageSecurityMode.SignAndEncrypt:
            # the stack would send the password readable and only log it
            raise Refused("connect.password-readable", base=self.server_url.geturl())
        super()._add_user_auth(params, username, password)


def _leaf(chain: bytes) -> bytes:
    """The first certificate of a chain in DER."""
    length = int.from_bytes(chain[2:4], "big") + 4
    return chain[:length]


def thumbprint(certificate: bytes) -> str:
    """SHA-256 of a certificate, hexadecimal: what a person compares."""
    return hashlib.sha256(certificate).hexdigest()


def own_certificate(folder: Path) -> tuple[Path, Path]:
    """Our application instance certificate and its key, made once and kept; servers that were told to trust it stay told.

    Source: OPC 10000-6, 6.2.2 (the application URI is a subject alternative name; key usages).
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    certificate_path, key_path = folder / "own.der", folder / "own.pem"
    if certificate_path.exists() and key_path.exists():
        return certificate_path, key_path
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, "guantong"), x509.NameAttribute(NameOID.ORGANIZATION_NAME, "guantong")]
    )
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + _VALID)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(identifier, critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier), critical=False)
        .add_extension(
            x509.KeyUsage(
                digital_signature=True,
                content_commitment=True,
                key_encipherment=True,
                data_encipherment=True,
                key_agreement=False,
                key_cert_sign=True,
                crl_sign=False,
                encipher_only=False,
                decipher_only=False,
            ),
            critical=True,
        )
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(APPLICATION_URI), x509.DNSName("localhost")]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write(key_path, secret)
    _write(certificate_path, certificate.public_bytes(serialization.Encoding.DER))
    return certificate_path, key_path


def _write(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
