"""国密: an SM2 signature line for signed notes, SM3 digests, and SM4-GCM. Not a certified module (未经密码模块认证).

The SHA-256 tree and the Ed25519 signatures stay what everybody verifies; what is here stands beside them. SM2 needs the extra ``gm``
(tongsuopy, Apache-2.0); SM3 and SM4 come with OpenSSL. Sources: GB/T 32918.2-2016 (SM2 signature, identity 1234567812345678 of GM/T 0009,
DER), GB/T 32905-2016 (SM3), GB/T 32907-2016 (SM4), C2SP signed-note (type 0xff is followed by a long identifier; a verifier ignores
keys that it does not know).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from guantong.base.canonical import b64, sha256, unb64
from guantong.base.errors import ConfigProblem, Refused, Skippable
from guantong.base.note import Note, Signature, is_key_name

__all__ = ["NOT_CERTIFIED", "Sm2Key", "Sm2Public", "Sm4Gcm", "check_line", "parse_sm2", "sign_line", "sm3"]

NOT_CERTIFIED = {"en": "not a certified module", "zh": "未经密码模块认证"}
"""What every text about these algorithms says: no certificate under GM/T 0028 stands behind this code."""
_TYPE = b"\xffguantong/sm2-sm3\0"
_POINT = 65


def _sm2() -> tuple[Any, Any]:
    try:
        from tongsuopy.crypto import hashes
        from tongsuopy.crypto.asymciphers import ec
    except ImportError as error:
        raise ConfigProblem("base.extra-missing", feature="SM2 (国密)", extra="gm") from error
    return ec, ec.ECDSA(hashes.SM3())


class Sm2Key:
    """An SM2 key pair. Raises ConfigProblem ``base.extra-missing`` where the extra ``gm`` is not installed."""

    def __init__(self, private: bytes) -> None:
        ec, self._algorithm = _sm2()
        self._private = ec.derive_private_key(int.from_bytes(private, "big"), ec.SM2())

    @classmethod
    def generate(cls) -> Sm2Key:
        """A new key from the system's randomness."""
        ec, _ = _sm2()
        return cls(ec.generate_private_key(ec.SM2()).private_numbers().private_value.to_bytes(32, "big"))

    def private_bytes(self) -> bytes:
        """The secret, 32 bytes; only the key store asks for it."""
        value: int = self._private.private_numbers().private_value
        return value.to_bytes(32, "big")

    @cached_property
    def public(self) -> bytes:
        """The public key as an uncompressed point, 65 bytes."""
        numbers = self._private.public_key().public_numbers()
        return bytes(b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big"))

    def sign(self, message: bytes) -> bytes:
        """Signature in DER."""
        return bytes(self._private.sign(message, self._algorithm))

    def __repr__(self) -> str:
        return f"Sm2Key({self.public.hex()[2:18]}…)"


@dataclass(frozen=True, slots=True)
class Sm2Public:
    """A public SM2 key with its name; as text ``name+hex(id)+base64(type || point)``, as other verifier keys are written."""

    name: str
    point: bytes

    @property
    def id(self) -> bytes:
        """SHA-256(name || newline || type || key), first four bytes, as for every signed note."""
        return sha256(self.name.encode() + b"\n" + _TYPE + self.point)[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.id.hex()}+{b64(_TYPE + self.point)}"

    def verify(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature is by this key. Raises ConfigProblem ``base.extra-missing``."""
        ec, algorithm = _sm2()
        from tongsuopy.crypto.exceptions import InternalError, InvalidSignature

        try:
            public = ec.EllipticCurvePublicKey.from_encoded_point(ec.SM2(), self.point)
            public.verify(signature, message, algorithm)
        except (InvalidSignature, InternalError, ValueError):
            return False
        return True


def parse_sm2(text: str) -> Sm2Public:
    """The key that the text names. Raises Skippable ``base.note-malformed``."""
    parts = text.split("+", 2)
    try:
        data = unb64(parts[2])
    except (ValueError, IndexError) as error:
        raise Skippable("base.note-malformed", reason="an SM2 key is name+id+base64") from error
    key = Sm2Public(parts[0], data[len(_TYPE) :])
    if (
        not is_key_name(key.name)
        or not data.startswith(_TYPE)
        or len(key.point) != _POINT
        or key.point[0] != 4
        or key.id.hex() != parts[1]
    ):
        raise Skippable("base.note-malformed", reason="this is no SM2 key, or its id does not match")
    return key


def sign_line(text: str, name: str, key: Sm2Key) -> Signature:
    """The SM2 signature of a note's text, to stand beside the Ed25519 one."""
    return Signature(name, Sm2Public(name, key.public).id, key.sign(text.encode()))


def check_line(note: Note, key: Sm2Public) -> bool:
    """Whether the note carries a line of this key; a line that does not match is Refused ``base.signature-bad``."""
    lines = [one for one in note.signatures if (one.name, one.key_id) == (key.name, key.id)]
    for line in lines:
        if not key.verify(note.text.encode(), line.payload):
            raise Refused("base.signature-bad", signer=f"{key.name} (SM2)")
    return bool(lines)


def sm3(data: bytes) -> str:
    """``sm3:`` and the hexadecimal digest. Raises ConfigProblem ``base.algorithm-missing`` where OpenSSL was built without SM3."""
    try:
        return f"sm3:{hashlib.new('sm3', data).hexdigest()}"
    except ValueError as error:
        raise ConfigProblem("base.algorithm-missing", name="SM3") from error


class Sm4Gcm:
    """SM4-GCM with the interface of ``AESGCM``; the key has 16 bytes. Raises ConfigProblem ``base.algorithm-missing``."""

    def __init__(self, key: bytes) -> None:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

        self._algorithm = algorithms.SM4(key)
        self._modes = modes
        self._cipher = Cipher
        try:
            self.encrypt(bytes(12), b"", b"")
        except UnsupportedAlgorithm as error:
            raise ConfigProblem("base.algorithm-missing", name="SM4-GCM") from error

    def encrypt(self, nonce: bytes, data: bytes, associated: bytes | None) -> bytes:
        """Ciphertext and tag (16 bytes)."""
        sealing = self._cipher(self._algorithm, self._modes.GCM(nonce)).encryptor()
        sealing.authenticate_additional_data(associated or b"")
        return sealing.update(data) + sealing.finalize() + sealing.tag

    def decrypt(self, nonce: bytes, data: bytes, associated: bytes | None) -> bytes:
        """The plaintext. Raises cryptography's ``InvalidTag``."""
        opening = self._cipher(self._algorithm, self._modes.GCM(nonce, data[-16:])).decryptor()
        opening.authenticate_additional_data(associated or b"")
        return opening.update(data[:-16]) + opening.finalize()


def derived(key: bytes, purpose: bytes) -> bytes:
    """16 bytes for SM4 from a longer secret: the first half of HMAC-SM3, so that no key serves two ciphers."""
    import hmac

    try:
        return hmac.new(key, purpose, "sm3").digest()[:16]
    except ValueError as error:
        raise ConfigProblem("base.algorithm-missing", name="SM3") from error
