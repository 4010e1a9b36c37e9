"""Just enough of Amazon S3 to put one object there: requests signed with Signature Version 4, sent through the node's own guarded client.

A storage library would resolve and connect by itself, past the check of addresses; a partner names the endpoint here, so it may not.
Source: AWS General Reference, Signature Version 4 signing process; Amazon S3 API Reference, PutObject and multipart upload.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote, urlsplit
from xml.sax.saxutils import escape

from guantong.base.clock import Clock, iso
from guantong.base.errors import Refused, Retryable
from guantong.base.wire import Http, Response

__all__ = ["Bucket", "put_object", "signed_headers"]

PART_BYTES = 8 * 1024 * 1024
"""Size of a part; 10,000 parts make 80 GiB, S3 takes no part below 5 MiB but the last."""
_EMPTY = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True, slots=True)
class Bucket:
    """Where to put objects, and with which key."""

    endpoint: str
    """``https://host`` without a path."""
    name: str
    region: str
    access_key: str
    secret: str
    session_token: str = ""

    def __repr__(self) -> str:
        return f"Bucket({self.endpoint}/{self.name})"

    def url(self, key: str) -> str:
        """Address of an object, path style: every S3 service understands it."""
        return f"{self.endpoint}/{quote(self.name, safe='')}/{quote(key, safe='/-_.~')}"


def signed_headers(bucket: Bucket, method: str, url: str, payload_hash: str, at: int) -> dict[str, str]:
    """The headers that authorize a request, with the hash of its body. ``at``: nanoseconds since the epoch."""
    parts = urlsplit(url)
    stamp = re.sub("[-:]", "", iso(at // 10**9 * 10**9))
    day = stamp[:8]
    headers = {"host": parts.netloc, "x-amz-content-sha256": payload_hash, "x-amz-date": stamp}
    if bucket.session_token:
        headers["x-amz-security-token"] = bucket.session_token
    names = ";".join(sorted(headers))
    query = "&".join(
        f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}"
        for name, value in sorted(parse_qsl(parts.query, keep_blank_values=True))
    )
    lines = [
        method,
        parts.path or "/",
        query,
        *(f"{name}:{headers[name]}" for name in sorted(headers)),
        "",
        names,
        payload_hash,
    ]
    scope = f"{day}/{bucket.region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(chr(10).join(lines).encode()).hexdigest()}"
    key = f"AWS4{bucket.secret}".encode()
    for word in (day, bucket.region, "s3", "aws4_request"):
        key = hmac.digest(key, word.encode(), "sha256")
    signature = hmac.digest(key, text.encode(), "sha256").hex()
    authorization = (
        f"AWS4-HMAC-SHA256 Credential={bucket.access_key}/{scope}, SignedHeaders={names}, Signature={signature}"
    )
    return {**{name: value for name, value in headers.items() if name != "host"}, "authorization": authorization}


async def put_object(
    http: Http, clock: Clock, bucket: Bucket, key: str, media_type: str, chunks: AsyncIterator[bytes]
) -> None:
    """Put a body whose length is not known: one request where it is small, parts where it is not; whole or not at all.

    Raises Refused ``exchange.push-refused`` and Retryable ``exchange.push-failed``.
    """
    storing = _Storing(http, clock, bucket, bucket.url(key))
    waiting = bytearray()
    upload = ""
    tags: list[str] = []
    try:
        async for chunk in chunks:
            waiting += chunk
            while len(waiting) > PART_BYTES:
                upload = upload or await storing.begin(media_type)
                tags.append(await storing.part(upload, len(tags) + 1, bytes(waiting[:PART_BYTES])))
                del waiting[:PART_BYTES]
        if not upload:
            await storing.send("PUT", "", bytes(waiting), {"content-type": media_type})
            return
        tags.append(await storing.part(upload, len(tags) + 1, bytes(waiting)))
        await storing.complete(upload, tags)
        upload = ""
    finally:
        if upload:
            # what was begun and not completed costs its owner money until it is aborted
            await storing.send("DELETE", f"?uploadId={quote(upload, safe='')}", b"", {})


class _Storing:
    def __init__(self, http: Http, clock: Clock, bucket: Bucket, url: str) -> None:
        self._http, self._clock, self._bucket, self._url = http, clock, bucket, url

    async def send(self, method: str, query: str, body: bytes, headers: Mapping[str, str]) -> Response:
        payload_hash = hashlib.sha256(body).hexdigest() if body else _EMPTY
        url = self._url + query
        signed = signed_headers(self._bucket, method, url, payload_hash, self._clock.now())
        response = await self._http.request(
            method, url, body=body, headers={**headers, **signed}, timeout_s=60.0, max_bytes=1024 * 1024
        )
        if response.status >= 500 or response.status == 429:
            raise Retryable("exchange.push-failed", address=self._url[:200], reason=f"it answered {response.status}")
        if not 200 <= response.status < 300:
            text = response.body[:300].decode("utf-8", "replace")
            raise Refused("exchange.push-refused", address=self._url[:200], reason=f"{response.status} {text}")
        return response

    async def begin(self, media_type: str) -> str:
        response = await self.send("POST", "?uploads=", b"", {"content-type": media_type})
        found = re.search(rb"<UploadId>([^<]{1,1024})</UploadId>", response.body)
        if found is None:
            raise Refused("exchange.push-refused", address=self._url[:200], reason="it named no upload")
        return found[1].decode("ascii", "replace")

    async def part(self, upload: str, number: int, body: bytes) -> str:
        response = await self.send("PUT", f"?partNumber={number}&uploadId={quote(upload, safe='')}", body, {})
        return response.headers.get("etag", "")

    async def complete(self, upload: str, tags: list[str]) -> None:
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(tag)}</ETag></Part>"
            for number, tag in enumerate(tags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        response = await self.send(
            "POST", f"?uploadId={quote(upload, safe='')}", body, {"content-type": "application/xml"}
        )
        if b"<Error>" in response.body:  # S3 may find out only after it has begun to answer 200
            raise Retryable("exchange.push-failed", address=self._url[:200], reason="the parts were not put together")
