"""Bodies of forms as names and values: ``application/x-www-form-urlencoded`` and ``multipart/form-data`` (RFC 7578).

The whole body is at hand and its size is bounded by the guard, so that nothing has to be streamed.
"""

from __future__ import annotations

from email.message import Message
from urllib.parse import parse_qsl

from guantong.base.errors import Skippable

__all__ = ["form_fields"]

_FIELDS = 2000


def form_fields(content_type: str, body: bytes) -> list[tuple[str, str | bytes]]:
    """Names and values in order; a file is bytes, anything else text. Raises Skippable ``web.field-missing``."""
    if not body:
        return []
    head = Message()
    head["content-type"] = content_type
    kind = head.get_content_type()
    if kind == "application/x-www-form-urlencoded":
        try:
            return [*parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=_FIELDS)]
        except ValueError as error:
            raise Skippable("web.field-missing", field="body", reason="not a form in UTF-8") from error
    boundary = head.get_param("boundary")
    if kind != "multipart/form-data" or not isinstance(boundary, str) or not 0 < len(boundary) <= 70:
        raise Skippable("web.field-missing", field="body", reason="neither a form nor JSON")
    return _parts(body, b"--" + boundary.encode("ascii", "replace"))


def _parts(body: bytes, delimiter: bytes) -> list[tuple[str, str | bytes]]:
    pieces = (b"\r\n" + body).split(b"\r\n" + delimiter)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--") or len(pieces) > _FIELDS:
        raise Skippable("web.field-missing", field="body", reason="a form that is cut off")
    found: list[tuple[str, str | bytes]] = []
    for piece in pieces[1:-1]:
        head, gap, value = piece.partition(b"\r\n\r\n")
        if not gap:
            raise Skippable("web.field-missing", field="body", reason="a part without an end of its head")
        headers = Message()
        for line in head.decode("utf-8", "replace").split("\r\n"):
            name, _, text = line.partition(":")
            if name.strip().lower() == "content-disposition":
                headers["content-disposition"] = text.strip()
        name_of = headers.get_param("name", header="content-disposition")
        if not isinstance(name_of, str):
            raise Skippable("web.field-missing", field="body", reason="a part without a name")
        if headers.get_param("filename", header="content-disposition") is not None:
            found.append((name_of, value))
            continue
        try:
            found.append((name_of, value.decode("utf-8")))
        except UnicodeDecodeError as error:
            raise Skippable("web.field-missing", field=name_of, reason="not UTF-8") from error
    return found
