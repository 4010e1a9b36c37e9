"""A control plane of its own for a data plane of ours: the standard library only, nothing of guantong.

Prints its address, then reads one JSON line from standard input (``signaling``, ``key``, ``dataset``), drives the data plane through the
scenarios of the signaling kit's groups over HTTP, and prints what failed and, last, ``signaling: N passed, N failed``.
Source: Data Plane Signaling 1.0, Data Flow API; groups as in the Eclipse Dataspace TCK for signaling.
"""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HEARD: list[tuple[str, str, dict]] = []
PUSHED: list[bytes] = []
REGISTERED: list[dict] = []
HTTP_PULL = "https://w3id.org/dspace-sig/profile/http-pull"
PLANE: dict = {}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            found = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _answer(self, status: int, body: dict | None = None) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_PUT(self) -> None:
        REGISTERED.append(json.loads(self._body()))
        self._answer(200)

    def do_GET(self) -> None:
        parts = self.path.split("/")
        if len(parts) == 4 and parts[1] == "transfers" and parts[3] == "agreement":
            self._answer(200, {"@type": "Agreement", "@id": "agreement", "permission": [{"action": "use"}]})
        else:
            self._answer(404)

    def do_POST(self) -> None:
        body = self._body()
        if self.path.startswith("/sink"):
            PUSHED.append(body)
            self._answer(200)
            return
        _, _, process, _, what = self.path.split("/")
        HEARD.append((process, what, json.loads(body)))
        self._answer(200)

    def log_message(self, *_: object) -> None:
        pass


def call(path: str, body: dict | None = None, method: str = "POST", key: str = "") -> tuple[int, dict]:
    request = urllib.request.Request(
        f"{PLANE['signaling']}/{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {key or PLANE['key']}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if text else {}
    except urllib.error.HTTPError as error:
        text = error.read()
        return error.code, json.loads(text) if text else {}


def fetch(address: dict) -> tuple[int, bytes]:
    given = {entry["name"]: entry["value"] for entry in address["endpointProperties"]}
    request = urllib.request.Request(address["endpoint"], headers={"authorization": given["authorization"]})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, b""


def message(profile: str = "http-pull", **more: object) -> dict:
    return {
        "messageId": str(uuid.uuid4()),
        "participantId": "did:web:control.example",
        "counterPartyId": "did:web:partner.example",
        "dataspaceContext": "space",
        "processId": str(uuid.uuid4()),
        "agreementId": str(uuid.uuid4()),
        "datasetId": PLANE["dataset"],
        "profile": profile,
        "claims": {},
        **more,
    }


def expect(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise AssertionError(f"{what}: {found!r}, not {wanted!r}")


def begin(verb: str, state: str, body: dict) -> tuple[str, dict | None]:
    status, answer = call(f"dataflows/{verb}", body)
    expect((status, answer.get("state")), (200, state), f"{verb}: {answer}")
    return answer["dataFlowId"], answer.get("dataAddress")


def signal(flow: str, name: str, wanted: int = 200, **body: object) -> dict:
    status, answer = call(f"dataflows/{flow}/{name}", {"messageId": str(uuid.uuid4()), **body})
    expect(status, wanted, f"{name}: {answer}")
    return answer


def state(flow: str, wanted: str) -> None:
    status, answer = call(f"dataflows/{flow}/status", method="GET")
    expect((status, answer.get("state")), (200, wanted), "status")


def callback(process: str, what: str) -> dict:
    for _ in range(200):
        for one, name, body in HEARD:
            if (one, name) == (process, what):
                return body
        time.sleep(0.05)
    raise AssertionError(f"no callback {what}")


def dp_p_pull_completed() -> None:
    flow, address = begin("start", "STARTED", message())
    status, body = fetch(address)
    expect(status, 200, "pull")
    expect(body[:4], b"\xff\xff\xff\xff", "an Arrow stream")
    signal(flow, "completed")
    state(flow, "COMPLETED")
    expect(fetch(address)[0], 401, "pull after the end")


def dp_p_pull_terminated() -> None:
    flow, _ = begin("start", "STARTED", message())
    signal(flow, "terminate", reason="over")
    state(flow, "TERMINATED")


def dp_p_pull_suspended_and_resumed() -> None:
    flow, address = begin("start", "STARTED", message())
    signal(flow, "suspend")
    state(flow, "SUSPENDED")
    expect(fetch(address)[0] in (401, 403), True, "pull while suspended")
    answer = signal(flow, "resume")
    state(flow, "STARTED")
    expect(fetch(answer["dataAddress"])[0], 200, "pull after resuming")


def dp_p_http_pull_address() -> None:
    _, address = begin("start", "STARTED", message(HTTP_PULL))
    names = {entry["name"] for entry in address["endpointProperties"]}
    expect(address["endpointType"], HTTP_PULL, "endpointType")
    expect({"authorization", "authType", "refreshToken", "expiresIn", "refreshEndpoint"} - names, set(), "renewal")


def dp_p_push_completed() -> None:
    body = message("http-push", dataAddress={"endpointType": "http-push", "endpoint": f"{PLANE['own']}/sink"})
    flow, address = begin("start", "STARTED", body)
    expect(address, None, "dataAddress")
    expect(callback(body["processId"], "completed")["state"], "COMPLETED", "callback")
    state(flow, "COMPLETED")
    expect(PUSHED[-1][:4], b"\xff\xff\xff\xff", "an Arrow stream")


def dp_c_pull_completed() -> None:
    _, address = begin("start", "STARTED", message())
    body = message()
    flow, none = begin("prepare", "PREPARED", body)
    expect(none, None, "dataAddress")
    signal(flow, "started", dataAddress=address)
    expect(callback(body["processId"], "completed")["state"], "COMPLETED", "callback")
    state(flow, "COMPLETED")


def dp_c_push_prepared() -> None:
    flow, address = begin("prepare", "PREPARED", message("http-push"))
    expect(bool(address and address["endpoint"]), True, "dataAddress")
    signal(flow, "started")
    signal(flow, "suspend")
    signal(flow, "resume")
    signal(flow, "completed")
    state(flow, "COMPLETED")


def dp_c_http_pull_without_renewal() -> None:
    flow, _ = begin("prepare", "PREPARED", message(HTTP_PULL))
    properties = [{"name": "authorization", "value": "t"}, {"name": "authType", "value": "bearer"}]
    address = {"endpointType": HTTP_PULL, "endpoint": "https://p.example/d", "endpointProperties": properties}
    signal(flow, "started", 400, dataAddress=address)
    state(flow, "PREPARED")


def errors() -> None:
    flow, _ = begin("start", "STARTED", body := message())
    expect(call("dataflows/start", body)[0], 409, "a known process")
    expect(call("dataflows/start", message(dataAddress={"endpoint": "http://x/"}))[0], 400, "an address to pull from")
    expect(call("dataflows/start", message("http-push"))[0], 400, "a push without an address")
    expect(call("dataflows/start", message(datasetId="none"))[0] // 100, 4, "an unknown dataset")
    expect(call("dataflows/start", message(), key="guess")[0], 401, "another key")
    signal(flow, "started", 400)
    signal(flow, "resume", 400)
    expect(call("dataflows/none/status", method="GET")[0], 404, "an unknown flow")
    signal(flow, "terminate")
    signal(flow, "suspend", 400)


SCENARIOS = (
    dp_p_pull_completed,
    dp_p_pull_terminated,
    dp_p_pull_suspended_and_resumed,
    dp_p_http_pull_address,
    dp_p_push_completed,
    dp_c_pull_completed,
    dp_c_push_prepared,
    dp_c_http_pull_without_renewal,
    errors,
)


def main() -> int:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    own = f"http://127.0.0.1:{server.server_address[1]}"
    print(own, flush=True)
    PLANE.update(json.loads(sys.stdin.readline()), own=own)
    failed = 0
    for scenario in SCENARIOS:
        try:
            scenario()
        except Exception as error:
            failed += 1
            print(f"FAIL {scenario.__name__}: {error}")
    print(f"signaling: {len(SCENARIOS) - failed} passed, {failed} failed", flush=True)
    server.shutdown()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
