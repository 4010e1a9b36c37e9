"""Text files from strangers: which encoding they are in, and their bytes as UTF-8 for a reader that knows nothing else.

Bytes that are no text of the file's encoding (a piece copied in from elsewhere) become :data:`SPOILT` in their place, so that the reader
can put the rows with it into quarantine; the rest of the file is read.
"""

from __future__ import annotations

import codecs
import io
from pathlib import Path

__all__ = ["SPOILT", "Utf8", "encoding_of"]

SPOILT = "\ufdd0"
"""A code point that no text has: Unicode keeps it for such uses (Unicode 16.0, 23.7, noncharacters)."""
_PIECE = 1 << 20


def _spoilt(error: UnicodeError) -> tuple[str, int]:
    if isinstance(error, UnicodeDecodeError):
        return SPOILT, error.end
    raise error


codecs.register_error("guantong-spoilt", _spoilt)


def encoding_of(raw: bytes, wanted: str | None) -> tuple[str, bool]:
    """Encoding of a file by its beginning, and whether a byte order mark stands there.

    A few lines in another encoding don't decide: what most lines with more than ASCII are in does. Raises LookupError for a wanted one
    that doesn't exist.
    """
    for mark, name in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if raw.startswith(mark):
            return wanted or name, True
    if wanted:
        return codecs.lookup(wanted).name, False
    lines = [line for line in (raw[: raw.rfind(b"\n") + 1] or raw).split(b"\n") if not line.isascii()]
    if not lines:
        return "utf-8", False
    for name, most in (("utf-8", 0.5), ("gb18030", 0.2)):
        texts = [text for line in lines if (text := _decoded(line, name)) is not None]
        if len(lines) - len(texts) > most * len(lines) or not texts:
            continue
        # western text often decodes as GB18030 by accident; then it shows hardly any Chinese
        if name == "utf-8" or sum("\u4e00" <= char <= "\u9fff" for text in texts for char in text) >= 2:
            return name, False
    return "cp1252", False


def _decoded(line: bytes, encoding: str) -> str | None:
    try:
        return line.decode(encoding)
    except UnicodeDecodeError:
        return None


class Utf8(io.RawIOBase):
    """A file's text as UTF-8, without its byte order mark, read forward only."""

    def __init__(self, path: Path, encoding: str) -> None:
        super().__init__()
        self._file = path.open("rb")
        self._decoder = codecs.getincrementaldecoder(encoding)("guantong-spoilt")
        self.spoilt = False
        """Whether anything so far was no text."""
        self._begun = False
        self._rest = b""

    def readable(self) -> bool:
        """It is."""
        return True

    def close(self) -> None:
        """Close the file below too."""
        self._file.close()
        super().close()

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        """Fill the buffer; 0 at the end."""
        while not self._rest:
            piece = self._file.read(_PIECE)
            text = self._decoder.decode(piece, final=not piece)
            if not self._begun and text:
                text, self._begun = text.removeprefix("\ufeff"), True
            self.spoilt = self.spoilt or SPOILT in text
            self._rest = text.encode()
            if not piece and not self._rest:
                return 0
        size = min(len(buffer), len(self._rest))
        buffer[:size] = self._rest[:size]
        self._rest = self._rest[size:]
        return size
