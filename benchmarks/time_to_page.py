"""Time to page: from the POST of a message until an SMTP server receives the mail, each to a recipient of its own."""

from __future__ import annotations

import asyncio
import re
import statistics
import threading
import time
from typing import Any

import httpx
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from benchmarks.harness import API_TOKEN, SECONDS, free_port, report, tocsin

RATE = 50
#: One for each message: a second page within ten seconds would leave bundled, which is not what is measured.
USERS = RATE * SECONDS


class Inbox:
    """Notes when the mail of each message came, by the subject's own word."""

    def __init__(self) -> None:
        self.received: dict[str, float] = {}

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """aiosmtpd's hook."""
        now = time.perf_counter()
        for result in re.findall(rb"page-\d+", bytes(envelope.content or b"")):
            self.received.setdefault(result.decode(), now)
        return "250 OK"


async def post(url: str, count: int, sent: dict[str, float]) -> list[int]:
    """Posts `count` messages, RATE a second, each to another user."""
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(timeout=30, limits=limits) as client:

        async def one(number: int) -> int:
            word = f"page-{number}"
            body: dict[str, Any] = {"id": word, "subject": word, "status": "open", "to": [f"user{number % USERS}"]}
            sent[word] = time.perf_counter()
            return (await client.post(f"{url}/in/{API_TOKEN}", json=body)).status_code

        tasks = []
        started_at = time.perf_counter()
        for number in range(count):
            await asyncio.sleep(max(0.0, started_at + number / RATE - time.perf_counter()))
            tasks.append(asyncio.create_task(one(number)))
        return list(await asyncio.gather(*tasks))


def main() -> None:
    """Posts at 50 alerts a second and waits until all mails have come, for 30 seconds at most."""
    inbox = Inbox()
    port = free_port()
    controller = Controller(inbox, hostname="127.0.0.1", port=port)
    controller.start()
    try:
        environment = {"TOCSIN_SMTP_URL": f"smtp://127.0.0.1:{port}", "TOCSIN_EMAIL_FROM": "tocsin@example.org"}
        sent: dict[str, float] = {}
        count = RATE * SECONDS
        with tocsin(users=USERS, environment=environment) as served:
            answers = asyncio.run(post(served.url, count, sent))
            done = threading.Event()
            deadline = time.monotonic() + 30
            while len(inbox.received) < count and time.monotonic() < deadline:
                done.wait(0.05)
    finally:
        controller.stop()
    waits = sorted(1000 * (inbox.received[word] - at) for word, at in sent.items() if word in inbox.received)
    p50, p99 = statistics.median(waits), waits[int(0.99 * (len(waits) - 1))]
    report(
        "time_to_page",
        {
            "alerts": count,
            "answered 200": sum(answer == 200 for answer in answers),
            "mails received": len(waits),
            "p50 ms": p50,
            "p99 ms": p99,
            "slowest ms": waits[-1],
        },
        {"every mail came": len(waits) == count, "p50 < 100 ms": p50 < 100, "p99 < 1 s": p99 < 1000},
    )


if __name__ == "__main__":
    main()
