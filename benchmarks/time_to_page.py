"""Time to page: from the POST of a message until an SMTP server receives the mail, Pushover's double the urgent page,
or a double of Twilio or Telnyx the call, each to a recipient of its own.
"""

from __future__ import annotations

import asyncio
import json
import re
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import httpx
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from benchmarks.harness import API_TOKEN, SECONDS, free_port, report, tocsin
from tests.doubles.http import Request, Response, http_double
from tests.doubles.telnyx import telnyx_double
from tests.doubles.twilio import twilio_double

#: Alerts a second. Pushover takes two connections, over which receipts are asked for too.
RATES = {"mail": 50, "Pushover": 10, "Twilio": 10, "Telnyx": 10}

PUSHOVER = """
providers:
  - {{name: Pushover, kind: pushover, app_token: azGDORePK8gMaC0QOYAMyEEuzJnyUi, api_base: "{url}"}}
"""


class Inbox:
    """Notes when the mail of each message came, by the subject's own word."""

    def __init__(self) -> None:
        self.received: dict[str, float] = {}

    def note(self, content: bytes) -> None:
        """Notes the first arrival of what is named in a message."""
        now = time.perf_counter()
        for result in re.findall(rb"page-\d+", content):
            self.received.setdefault(result.decode(), now)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """aiosmtpd's hook."""
        self.note(bytes(envelope.content or b""))
        return "250 OK"

    def answer(self, request: Request) -> Response:
        """Pushover's answer to a message and to a question about a receipt."""
        if request.path != "/1/messages.json":
            return Response(200, b'{"status": 1, "acknowledged": 0, "last_delivered_at": 1}')
        self.note(request.body)
        return Response(200, b'{"status": 1, "request": "r", "receipt": "%030d"}' % len(self.received))


@contextmanager
def mail(inbox: Inbox) -> Iterator[Mapping[str, Any]]:
    port = free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        smtp = {"TOCSIN_SMTP_URL": f"smtp://127.0.0.1:{port}", "TOCSIN_EMAIL_FROM": "tocsin@example.org"}
        yield {"environment": smtp}
    finally:
        controller.stop()


@contextmanager
def pushover(inbox: Inbox) -> Iterator[Mapping[str, Any]]:
    with http_double(inbox.answer) as http:
        yield {
            "environment": {"TOCSIN_ALLOW_TARGETS": "127.0.0.0/8"},
            "more": PUSHOVER.format(url=http.url),
            "method": "label: Pushover, channel: pushover, address: u{n:029d}",
        }


@contextmanager
def calls(inbox: Inbox, way: str) -> Iterator[Mapping[str, Any]]:
    """A call is known by its number, since the vendor asks for its text only when somebody picks up."""
    with twilio_double("secret") if way == "Twilio" else telnyx_double("secret") as double:
        usual = double.http.answering

        def answer(request: Request) -> Response:
            for number in re.findall(rb"4179(\d{7})", request.body):
                inbox.note(b"page-%d" % int(number))
            return usual(request)

        double.http.answering = answer
        secret = "auth_token" if way == "Twilio" else "api_key"
        spec = {"name": way, "kind": way.lower(), "channels": ["voice"], secret: "secret", **double.settings}
        yield {
            "environment": {"TOCSIN_ALLOW_TARGETS": "127.0.0.0/8"},
            "more": f"\nproviders:\n  - {json.dumps(spec)}\n",
            "method": 'label: Phone, channel: voice, address: "+4179{n:07d}"',
        }


WAYS: Mapping[str, Callable[[Inbox], AbstractContextManager[Mapping[str, Any]]]] = {
    "mail": mail,
    "Pushover": pushover,
    "Twilio": partial(calls, way="Twilio"),
    "Telnyx": partial(calls, way="Telnyx"),
}


async def post(url: str, count: int, rate: int, sent: dict[str, float]) -> list[int]:
    """Posts `count` critical messages, `rate` a second, each to another user: a second page to one within ten seconds
    would leave bundled, which is not what is measured.
    """
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(timeout=30, limits=limits) as client:

        async def one(number: int) -> int:
            word = f"page-{number}"
            body: dict[str, Any] = {
                "id": word, "subject": word, "status": "open", "priority": "critical", "to": [f"user{number}"],
            }  # fmt: skip
            sent[word] = time.perf_counter()
            return (await client.post(f"{url}/in/{API_TOKEN}", json=body)).status_code

        tasks = []
        started_at = time.perf_counter()
        for number in range(count):
            await asyncio.sleep(max(0.0, started_at + number / rate - time.perf_counter()))
            tasks.append(asyncio.create_task(one(number)))
        return list(await asyncio.gather(*tasks))


def measure(way: str) -> tuple[dict[str, Any], dict[str, bool]]:
    """Posts for a while, and waits until all pages have come, for 30 seconds at most."""
    inbox, sent, rate = Inbox(), dict[str, float](), RATES[way]
    count = rate * SECONDS
    with WAYS[way](inbox) as settings, tocsin(users=count, **settings) as served:
        answers = asyncio.run(post(served.url, count, rate, sent))
        done = threading.Event()
        deadline = time.monotonic() + 30
        while len(inbox.received) < count and time.monotonic() < deadline:
            done.wait(0.05)
    waits = sorted(1000 * (inbox.received[word] - at) for word, at in sent.items() if word in inbox.received)
    p50, p99 = statistics.median(waits), waits[int(0.99 * (len(waits) - 1))]
    figures = {
        f"{way}: alerts": count,
        f"{way}: answered 200": sum(answer == 200 for answer in answers),
        f"{way}: received": len(waits),
        f"{way}: p50 ms": p50,
        f"{way}: p99 ms": p99,
        f"{way}: slowest ms": waits[-1],
    }
    promises = {
        f"every {way} came": len(waits) == count,
        f"{way} p50 < 100 ms": p50 < 100,
        f"{way} p99 < 1 s": p99 < 1000,
    }
    return figures, promises


def main() -> None:
    """Measures each way by itself."""
    figures: dict[str, Any] = {}
    promises: dict[str, bool] = {}
    for way in RATES:
        measured, kept = measure(way)
        figures |= measured
        promises |= kept
    report("time_to_page", figures, promises)


if __name__ == "__main__":
    main()
