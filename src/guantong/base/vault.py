"""A stream of bytes sealed with a passphrase: a back-up that may lie on a shared disk.

The key comes from the passphrase by scrypt (RFC 7914). The stream is cut into chunks of 1 MiB, each sealed with AES-256-GCM; the nonce is
a random prefix, the number of the chunk and a mark on the last one (the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár,
"Online Authenticated-Encryption and its Nonce-Reuse Misuse-Resistance", 2015), so that chunks can't be left out, swapped or cut off
unseen.

With ``sm4`` the chunks are sealed with SM4-GCM instead (国密, not a certified module, 未经密码模块认证) and the first bytes are ``GTVAULT2``;
the passphrase still goes through scrypt.

Layout: ``GTVAULT1``, salt (16), log2 of scrypt's N, r, p (a byte each), nonce prefix (7), then chunks, each with its tag.
"""

from __future__ import annotations

import io
import os
import struct
from typing import IO, TYPE_CHECKING, Any

from guantong.base.errors import Refused, Skippable

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    from guantong.base.gm import Sm4Gcm

__all__ = ["PASSPHRASE_MIN", "VaultReader", "VaultWriter"]

MAGIC = b"GTVAULT1"
MAGIC_SM4 = b"GTVAULT2"
CHUNK = 1024 * 1024
TAG = 16
PASSPHRASE_MIN = 12
"""Shortest passphrase, in characters."""
_COST = (16, 8, 1)
_HEADER = struct.Struct(">8s16sBBB7s")


class VaultWriter(io.RawIOBase):
    """Seals what is written to it; ``close`` writes the last chunk and leaves the file open."""

    def __init__(self, file: IO[bytes], passphrase: str, *, sm4: bool = False) -> None:
        if len(passphrase) < PASSPHRASE_MIN:
            raise Skippable("base.passphrase-short", least=PASSPHRASE_MIN)
        self._file = file
        self._header = _HEADER.pack(MAGIC_SM4 if sm4 else MAGIC, os.urandom(16), *_COST, os.urandom(7))
        self._cipher = _cipher(passphrase, self._header)
        self._waiting = bytearray()
        self._number = 0
        file.write(self._header)

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Take bytes."""
        self._waiting += data
        while len(self._waiting) > CHUNK:  # one byte more, so that the last chunk is never empty unless all is
            self._seal(bytes(self._waiting[:CHUNK]), last=False)
            del self._waiting[:CHUNK]
        return len(data)

    def close(self) -> None:
        """Seal what is left."""
        if not self.closed:
            self._seal(bytes(self._waiting), last=True)
            self._waiting.clear()
        super().close()

    def _seal(self, data: bytes, *, last: bool) -> None:
        self._file.write(self._cipher.encrypt(_nonce(self._header, self._number, last), data, self._header))
        self._number += 1


class VaultReader(io.RawIOBase):
    """Opens what :class:`VaultWriter` sealed. Nothing is given out before it was authenticated.

    Raises Skippable ``base.vault-malformed``, Refused ``base.passphrase-wrong`` (or the first chunk was changed), and in the middle of
    reading Refused ``base.vault-changed``.
    """

    def __init__(self, file: IO[bytes], passphrase: str) -> None:
        self._file = file
        self._header = file.read(_HEADER.size)
        if len(self._header) < _HEADER.size or not self._header.startswith((MAGIC, MAGIC_SM4)):
            raise Skippable("base.vault-malformed")
        self._cipher = _cipher(passphrase, self._header)
        self._number = 0
        self._over = False
        self._ahead = file.read(CHUNK + TAG)
        self._ready = memoryview(b"")
        self._next()

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Give out authenticated bytes."""
        if not self._ready and not self._over:
            self._next()
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _next(self) -> None:
        from cryptography.exceptions import InvalidTag

        sealed, self._ahead = self._ahead, self._file.read(CHUNK + TAG)
        self._over = not self._ahead
        try:
            nonce = _nonce(self._header, self._number, self._over)
            self._ready = memoryview(self._cipher.decrypt(nonce, sealed, self._header))
        except (InvalidTag, ValueError) as error:
            code = "base.passphrase-wrong" if self._number == 0 else "base.vault-changed"
            raise Refused(code) from error
        self._number += 1


def _cipher(passphrase: str, header: bytes) -> AESGCM | Sm4Gcm:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

    mark, salt, log_n, r, p, _ = _HEADER.unpack(header)
    if not (10 <= log_n <= 20 and 1 <= r <= 16 and 1 <= p <= 4):  # a forged header must not eat the machine
        raise Skippable("base.vault-malformed")
    secret = Scrypt(salt=salt, length=32, n=2**log_n, r=r, p=p).derive(passphrase.encode())
    if mark == MAGIC_SM4:
        from guantong.base.gm import Sm4Gcm, derived

        return Sm4Gcm(derived(secret, b"guantong vault sm4\0"))
    return AESGCM(secret)


def _nonce(header: bytes, number: int, last: bool) -> bytes:
    prefix: bytes = _HEADER.unpack(header)[-1]
    return prefix + number.to_bytes(4, "big") + bytes([last])
