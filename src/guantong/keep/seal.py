r"""Encryption at rest: AES-256-GCM (or SM4-GCM) over entries of the durable log and over blobs, with a key that lies outside the directory.

A sealed value is ``\0GS1``, a nonce of 12 random bytes, and the ciphertext with its tag (NIST SP 800-38D); what it belongs to is
authenticated with it, so that an entry can't be moved under another name. Values that were written before there was a key stay readable.

With ``keep.cipher = "sm4-gcm"`` (国密, not a certified module, 未经密码模块认证) a value is ``\0GS2`` and SM4-GCM, whose key of 16 bytes is
made from the same 32 by HMAC-SM3. The mark says which cipher sealed a value, so changing the setting leaves all that was written readable.

Not sealed: the Delta tables (open tools read them; use an encrypted disk or the object store's own encryption), the records' database,
and the small files of the node's directory. Names of participants and sources, times of arrival and sizes stay visible in the log.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from guantong.base.errors import ConfigProblem, Corrupt
from guantong.keep.ports import Blobs

if TYPE_CHECKING:
    from guantong.base.gm import Sm4Gcm

__all__ = ["CIPHERS", "MAGIC", "Seal", "SealedBlobs", "load_seal"]

MAGIC = b"\0GS1"
MAGIC_SM4 = b"\0GS2"
CIPHERS = ("aes-256-gcm", "sm4-gcm")
"""What may stand in the setting ``keep.cipher``."""
_NONCE = 12
KEY_BYTES = 32


class Seal:
    """One key. 2^32 values may be sealed with it (random nonces, SP 800-38D 8.3): at a batch a second, more than a century."""

    def __init__(self, key: bytes, cipher: str = CIPHERS[0]) -> None:
        self._key = key
        self._ciphers: dict[bytes, AESGCM | Sm4Gcm] = {MAGIC: AESGCM(key)}
        self._mark = MAGIC_SM4 if cipher == CIPHERS[1] else MAGIC
        self._of(self._mark)  # a cipher that this machine lacks is told at the start, not at the first write
        self.name = hashlib.sha256(b"guantong seal\0" + key).hexdigest()[:16]
        """Tells keys apart and says nothing about them."""

    def close(self, data: bytes, owner: str) -> bytes:
        """Seal a value that belongs to ``owner``."""
        nonce = os.urandom(_NONCE)
        return self._mark + nonce + self._of(self._mark).encrypt(nonce, data, owner.encode())

    def open(self, data: bytes, owner: str) -> bytes:
        """The value. Raises Corrupt ``keep.seal-broken``."""
        at = len(MAGIC) + _NONCE
        try:
            return self._of(data[: len(MAGIC)]).decrypt(data[len(MAGIC) : at], data[at:], owner.encode())
        except (InvalidTag, ValueError) as error:
            raise Corrupt("keep.seal-broken", name=owner) from error

    def _of(self, mark: bytes) -> AESGCM | Sm4Gcm:
        found = self._ciphers.get(mark)
        if found is None:
            from guantong.base.gm import Sm4Gcm, derived

            found = self._ciphers[mark] = Sm4Gcm(derived(self._key, b"guantong seal sm4\0"))
        return found


def opened(seal: Seal | None, data: bytes, owner: str) -> bytes:
    """A value as it was given, sealed or not. Raises ConfigProblem ``keep.key-missing``, Corrupt ``keep.seal-broken``."""
    if not data.startswith((MAGIC, MAGIC_SM4)):
        return data
    if seal is None:
        raise ConfigProblem("keep.key-missing")
    return seal.open(data, owner)


def load_seal(path: str, directory: Path, cipher: str = CIPHERS[0]) -> Seal | None:
    """The key in a file of 32 bytes or 64 hexadecimal digits; None without a path.

    ``directory``: the node's; a key in there would be copied with what it protects. cipher: one of ``CIPHERS``. Raises ConfigProblem
    ``keep.key-unfit``, ``keep.cipher-unknown`` and ``base.algorithm-missing``.
    """
    if cipher not in CIPHERS:
        raise ConfigProblem("keep.cipher-unknown", cipher=cipher[:40], known=", ".join(CIPHERS))
    if not path:
        return None
    file = Path(path).expanduser().resolve()
    if file.is_relative_to(directory.resolve()):
        raise ConfigProblem("keep.key-unfit", path=file.name, reason="it lies inside the node's directory")
    try:
        raw = file.read_bytes()
        key = raw if len(raw) == KEY_BYTES else bytes.fromhex(raw.decode("ascii").strip())
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "neither 32 bytes nor 64 hexadecimal digits"
        raise ConfigProblem("keep.key-unfit", path=file.name, reason=reason) from error
    if len(key) != KEY_BYTES:
        raise ConfigProblem("keep.key-unfit", path=file.name, reason=f"{len(key)} bytes instead of {KEY_BYTES}")
    return Seal(key, cipher)


class SealedBlobs:
    """Blobs of another store, sealed; see :class:`guantong.keep.ports.Blobs`. Names stay visible."""

    def __init__(self, inner: Blobs, seal: Seal) -> None:
        self._inner = inner
        self._seal = seal

    async def put(self, name: str, data: bytes) -> bool:
        """Store durably unless the name is taken."""
        try:
            return await self._inner.put(name, self._seal.close(data, name))
        except Corrupt as error:
            # two seals of one value differ: what counts is what is in them
            if error.code != "keep.blob-differs" or await self.get(name) != data:
                raise
            return False

    async def get(self, name: str) -> bytes | None:
        """The bytes, or None."""
        held = await self._inner.get(name)
        return None if held is None else opened(self._seal, held, name)

    def list(self, prefix: str = "") -> AsyncIterator[str]:
        """Names that begin with ``prefix``, sorted."""
        return self._inner.list(prefix)

    async def delete(self, name: str) -> bool:
        """Remove the blob; False where there was none."""
        return await self._inner.delete(name)
