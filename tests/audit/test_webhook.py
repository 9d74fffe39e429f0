"""The webhook against a receiver on this machine that checks signatures as the specification says."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from audit.sealing import Sealed, written
from store.books import NOW, VAULT

from policyguard.audit.batch import Batch, SinkError
from policyguard.audit.export import export
from policyguard.audit.sinks import open_sink
from policyguard.audit.webhook import Webhook, checked, secret_bytes, signed
from policyguard.errors import ConfigError

KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
BATCH = Batch("siem", 3, 5, [{"type": "request.decided", "leaf": 3}, {"type": "leg.settled", "leaf": 4}], {"size": 9})


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        self.server.messages.append((dict(self.headers), body))  # type: ignore[attr-defined]
        status, headers = self.server.answer  # type: ignore[attr-defined]
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def receiver() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
    server.messages, server.answer = [], (204, {})
    server.url = f"http://127.0.0.1:{server.server_port}/hook"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def webhook(receiver: Any) -> Iterator[Webhook]:
    sink = Webhook(receiver.url, SECRET)
    yield sink
    sink.close()


def test_a_message_is_signed_over_id_time_and_body(receiver: Any, webhook: Webhook) -> None:
    webhook.send(BATCH, NOW)
    ((headers, body),) = receiver.messages
    assert (headers["webhook-id"], headers["webhook-timestamp"]) == ("msg_siem_3_5", str(int(NOW.timestamp())))
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(KEY, content, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{expected}"
    document = json.loads(body)
    assert (document["type"], document["timestamp"]) == ("audit.events", NOW.isoformat())
    assert document["data"] == {"cursor": "siem", "events": list(BATCH.events), "checkpoint": {"size": 9}}


def test_the_signature_is_the_specifications() -> None:
    """The example of the Standard Webhooks specification."""
    from datetime import UTC, datetime

    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    headers = signed(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", datetime.fromtimestamp(1614265330, UTC), b'{"test": 2432232314}', secret
    )
    assert headers["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize("status", [200, 202, 204])
def test_an_answer_with_2xx_is_a_yes(receiver: Any, webhook: Webhook, status: int) -> None:
    receiver.answer = (status, {})
    webhook.send(BATCH, NOW)
    ((_, body),) = receiver.messages  # once: a yes is not asked for again
    assert b'"request.decided"' in body


@pytest.mark.parametrize(
    ("status", "headers", "wait", "gone"),
    [
        (302, {"location": "http://127.0.0.1:1/"}, None, False),
        (400, {}, None, False),
        (410, {}, None, True),
        (429, {"retry-after": "77"}, timedelta(seconds=77), False),
        (500, {"retry-after": "999999999"}, timedelta(days=1), False),
        (503, {"retry-after": "Fri, 01 Jan 2027 00:00:00 GMT"}, None, False),
    ],
)
def test_any_other_answer_is_a_no(
    receiver: Any, webhook: Webhook, status: int, headers: dict[str, str], wait: timedelta | None, gone: bool
) -> None:
    receiver.answer = (status, headers)
    with pytest.raises(SinkError, match=str(status)) as raised:
        webhook.send(BATCH, NOW)
    assert (raised.value.wait, raised.value.gone) == (wait, gone)
    assert len(receiver.messages) == 1


def test_a_receiver_that_is_not_there_is_a_failure(receiver: Any) -> None:
    sink = Webhook("http://127.0.0.1:1/hook", SECRET)
    with pytest.raises(SinkError, match="cannot be reached: ConnectError"):
        sink.send(BATCH, NOW)
    sink.close()


def test_the_record_goes_out_in_small_messages(sealed: Sealed, receiver: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYGUARD_WEBHOOK_SECRET", SECRET)
    written(sealed, 100, 50)
    cursor = sealed.store.exports.begin("siem", receiver.url, background=True, now=NOW)
    with open_sink(receiver.url) as sink:
        assert export(sealed.store, VAULT, cursor, sink, NOW, holder="me") == 100
    leaves = [event["leaf"] for _, body in receiver.messages for event in json.loads(body)["data"]["events"]]
    assert leaves == list(range(100))
    assert max(len(body) for _, body in receiver.messages) < 20_000
    assert len({headers["webhook-id"] for headers, _ in receiver.messages}) == len(receiver.messages) > 1


def of_bytes(count: int) -> str:
    return "whsec_" + base64.b64encode(bytes(count)).decode()


@pytest.mark.parametrize(
    "secret",
    [None, "", "secret", "whsec_not base64", base64.b64encode(KEY).decode(), "whsec_", *map(of_bytes, (1, 23, 65))],
)
def test_a_secret_that_is_none_is_said_and_not_repeated(secret: str | None) -> None:
    with pytest.raises(ConfigError, match="POLICYGUARD_WEBHOOK_SECRET") as raised:
        Webhook("https://example.com", secret)
    assert secret in (None, "", "whsec_") or secret not in str(raised.value)


@pytest.mark.parametrize("count", [24, 32, 64])
def test_a_secret_of_the_specifications_length_signs(count: int) -> None:
    assert secret_bytes(of_bytes(count)) == bytes(count)


@pytest.mark.parametrize(
    "url", ["https://example.com/x", "http://127.0.0.1:9/x", "http://localhost/x", "http://[::1]/x"]
)
def test_addresses_that_rows_may_go_to(url: str) -> None:
    assert checked(url) == url


@pytest.mark.parametrize(
    "url", ["http://example.com/x", "http://10.0.0.1/x", "ftp://example.com", "https://user:word@example.com", "://"]
)
def test_addresses_that_rows_may_not_go_to(url: str) -> None:
    with pytest.raises(ConfigError, match="a webhook"):
        checked(url)
