"""Storm: 20,000 alerts in a burst, each to a recipient, bundling off, one HTTP provider that takes 50 ms for each. How
many notifications leave a second, and how long the first pages of another integration wait meanwhile."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import Any

import httpx

from benchmarks.harness import API_TOKEN, SECONDS, free_port, report, tocsin

USERS = 200 if SECONDS > 1 else 10
#: What the provider takes for each message, in seconds.
TAKES = 0.05
#: One message of another integration in so many seconds.
EVERY = 0.5
OTHER = "fedcba9876543210fedcba9876543210"

CONFIGURATION = """
settings: {{bundle_pages: false}}
users:
{users}
integrations:
  - name: Other
    kind: api
    anyway: true
    mapping: {{recipient_users: to, source_id: id, subject: subject}}
    token: {other}
providers:
  - {{name: Phones, kind: ntfy, channels: [ntfy], api_base: "http://127.0.0.1:{port}"}}
"""


class Phones:
    """An HTTP provider that takes its time, and notes when each message came by its title."""

    def __init__(self, port: int, takes: float = TAKES) -> None:
        self.takes = takes
        self.received: dict[str, float] = {}
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self) -> None:
        self._thread.start()
        serving = asyncio.start_server(self._serve, "127.0.0.1", self._port, backlog=512)
        asyncio.run_coroutine_threadsafe(serving, self._loop).result(10)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
                title = json.loads(await reader.readexactly(length))["title"]
                self.received.setdefault(title.rpartition(" ")[2], time.perf_counter())
                await asyncio.sleep(self.takes)
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{"id":"m"}')
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


async def post(url: str, token: str, words: list[str], sent: dict[str, float]) -> None:
    """Posts an alert for each word, in arrays of 500."""
    async with httpx.AsyncClient(timeout=60) as client:
        for begin in range(0, len(words), 500):
            part = words[begin : begin + 500]
            body: list[dict[str, Any]] = [
                {"id": word, "subject": word, "status": "open", "to": [f"phone{number % USERS}"]}
                for number, word in enumerate(part, begin)
            ]
            now = time.perf_counter()
            (await client.post(f"{url}/in/{token}", json=body)).raise_for_status()
            sent.update(dict.fromkeys(part, now))


async def others(url: str, phones: Phones, expected: int, sent: dict[str, float], deadline: float) -> None:
    """One alert of another integration every half second, until the storm is over."""
    number = 0
    while len(phones.received) - number < expected and time.monotonic() < deadline:
        await post(url, OTHER, [f"other-{number}"], sent)
        number += 1
        await asyncio.sleep(EVERY)


async def run(url: str, phones: Phones, words: list[str], sent: dict[str, float]) -> None:
    deadline = time.monotonic() + 90
    await asyncio.gather(post(url, API_TOKEN, words, sent), others(url, phones, len(words), sent, deadline))
    while len(phones.received) < len(sent) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)


def main() -> None:
    """Sends 2,000 alerts for each second that is measured: 20,000 in all."""
    phones = Phones(port := free_port())
    phones.start()
    users = "\n".join(
        f"  - {{username: phone{n}, email: phone{n}@example.org, contact_methods: "
        f"[{{label: Phone, channel: ntfy, address: phone{n}}}]}}"
        for n in range(USERS)
    )
    words = [f"storm-{number}" for number in range(2000 * SECONDS if SECONDS > 1 else 200)]
    sent: dict[str, float] = {}
    configuration = CONFIGURATION.format(users=users, other=OTHER, port=port)
    with tocsin(environment={"TOCSIN_ALLOW_TARGETS": "127.0.0.0/8"}, more=configuration) as served:
        asyncio.run(run(served.url, phones, words, sent))
    received_at = [phones.received[word] for word in words if word in phones.received]
    waits = [
        phones.received[word] - at for word, at in sent.items() if word.startswith("other") and word in phones.received
    ]
    rate = len(received_at) / max(0.001, max(received_at) - min(received_at))
    report(
        "storm",
        {
            "alerts": len(words),
            "notifications received": len(received_at),
            "notifications/s": rate,
            "other integration's pages": len(waits),
            "slowest of them ms": 1000 * max(waits),
        },
        {
            "every page came": len(received_at) == len(words),
            ">= 500 notifications/s": rate >= 500,
            "other first pages < 2 s": max(waits) < 2,
        },
    )


if __name__ == "__main__":
    main()
