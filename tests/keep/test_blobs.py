"""The contract of blobs, on a folder and on S3."""

from __future__ import annotations

import asyncio

import pytest

from guantong.base.errors import ConfigProblem, Corrupt, Retryable
from guantong.keep.blobs import FolderBlobs, blobs_at
from guantong.keep.ports import Blobs


@pytest.fixture
def blobs(place) -> Blobs:
    uri, options = place
    return blobs_at(uri, options)


async def names(blobs: Blobs, prefix: str = "") -> list[str]:
    return [name async for name in blobs.list(prefix)]


async def test_bytes_come_back_as_they_were_put(blobs):
    data = bytes(range(256)) * 100

    assert await blobs.put("tile/0/x001/067", data) is True
    assert await blobs.get("tile/0/x001/067") == data
    assert await blobs.put("empty", b"") is True
    assert await blobs.get("empty") == b""


async def test_a_name_that_is_not_there_gives_nothing(blobs):
    assert await blobs.get("tile/0/000") is None
    assert await blobs.delete("tile/0/000") is False
    assert await names(blobs) == []


async def test_the_same_bytes_again_change_nothing_and_other_bytes_are_refused(blobs):
    await blobs.put("a", b"one")

    assert await blobs.put("a", b"one") is False
    with pytest.raises(Corrupt) as error:
        await blobs.put("a", b"two")
    assert error.value.code == "keep.blob-differs"
    assert await blobs.get("a") == b"one"


async def test_of_many_who_put_different_bytes_at_once_exactly_one_wins(blobs):
    results = await asyncio.gather(*(blobs.put("a", b"%d" % i) for i in range(12)), return_exceptions=True)
    winners = [i for i, result in enumerate(results) if result is True]

    assert len(winners) == 1
    assert all(isinstance(result, Corrupt) for result in results if result is not True)
    assert await blobs.get("a") == b"%d" % winners[0]


async def test_names_are_listed_by_prefix_in_order(blobs):
    for name in ("tile/1/000", "tile/0/001", "tile/0/000", "tile/01/000", "checkpoint"):
        await blobs.put(name, name.encode())

    assert await names(blobs) == ["checkpoint", "tile/0/000", "tile/0/001", "tile/01/000", "tile/1/000"]
    assert await names(blobs, "tile/0/") == ["tile/0/000", "tile/0/001"]
    assert await names(blobs, "tile/0") == ["tile/0/000", "tile/0/001", "tile/01/000"]
    assert await names(blobs, "tile/2/") == []


async def test_a_deleted_blob_is_gone_and_its_name_is_free(blobs):
    await blobs.put("a", b"one")

    assert await blobs.delete("a") is True
    assert await blobs.get("a") is None
    assert await blobs.put("a", b"two") is True


@pytest.mark.parametrize(
    "name", ["", "/a", "a/", "a//b", "../a", "a/../b", ".a", "a/.b", "a b", "ä", "a\\b", "x" * 513]
)
async def test_a_name_that_could_lead_elsewhere_is_refused(blobs, name):
    for call in (blobs.put(name, b""), blobs.get(name), blobs.delete(name)):
        with pytest.raises(ConfigProblem) as error:
            await call
        assert error.value.code == "keep.blob-name"


async def test_a_store_that_cannot_be_written_or_read_says_so_in_our_words(tmp_path):
    (tmp_path / "file").write_text("no folder")
    lame = FolderBlobs(tmp_path / "file")
    with pytest.raises(Retryable) as error:
        await lame.put("a/b", b"x")
    assert error.value.code == "keep.blob-unwritable"

    away = blobs_at("s3://nowhere", {"endpoint_url": "http://127.0.0.1:9", "allow_http": "true", "region": "r",
        "access_key_id": "k", "secret_access_key": "s"})  # fmt: skip
    away._store = type(away._store)(  # the same store without the library's ten retries
        "nowhere", endpoint="http://127.0.0.1:9", client_options={"allow_http": True}, region="r", access_key_id="k",
        secret_access_key="s", retry_config={"max_retries": 0},
    )  # fmt: skip
    with pytest.raises(Retryable) as error:
        await away.get("a")
    assert error.value.code == "keep.blob-unreadable"


async def test_a_draft_that_a_crash_left_behind_is_no_blob(tmp_path):
    blobs = FolderBlobs(tmp_path)
    await blobs.put("a/b", b"x")
    (tmp_path / "a" / f".{'0' * 16}.part").write_bytes(b"half")

    assert await names(blobs) == ["a/b"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [f".{'0' * 16}.part", "b"]
