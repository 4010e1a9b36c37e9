"""Where tables and blobs may live: a folder, and an S3 store that nobody here wrote, in this process."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a moto S3 server."""
    moto = pytest.importorskip("moto.server", reason="moto[server]: not installed")
    server = moto.ThreadedMotoServer(port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_options(s3_server: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": "us-east-1",
    }


@pytest.fixture
def bucket(s3_options: dict[str, str]) -> str:
    """A fresh bucket, made with Amazon's own client."""
    import boto3

    name = f"keep-{uuid.uuid4().hex[:12]}"
    client = boto3.client(
        "s3",
        endpoint_url=s3_options["AWS_ENDPOINT_URL"],
        aws_access_key_id="test",
        aws_secret_access_key="test",
        region_name="us-east-1",
    )
    client.create_bucket(Bucket=name)
    client.close()
    return f"s3://{name}"


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path) -> tuple[str, dict[str, str]]:
    """URI and options of a store, for each kind."""
    if request.param == "folder":
        return str(tmp_path / "store"), {}
    return f"{request.getfixturevalue('bucket')}/some/prefix", request.getfixturevalue("s3_options")
