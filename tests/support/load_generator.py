"""Sends distinct tickets concurrently and records every response: an answered ticket must never be lost."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Self

from tests.doubles.smtp import Mail
from tests.support.installation import HALO_TOKEN, Installation, Node, ask, ticket, until

SENDERS = 8


@dataclass
class LoadGenerator:
    """Sends each ticket once, from eight threads, to the nodes in turn."""

    nodes: list[str]
    numbers: Iterable[int]
    #: The answers by ticket; 200 and 202 only.
    answered: dict[int, dict[str, Any]] = field(default_factory=dict)
    #: Tickets that were not taken, or of which that is not known.
    unanswered: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._waiting = list(reversed(list(self.numbers)))
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(SENDERS)

    def __enter__(self) -> Self:
        self._running = [self._pool.submit(self._send) for _ in range(SENDERS)]
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._pool.shutdown()

    def stop(self) -> None:
        """Sends nothing more, and waits for what is on its way."""
        self._stopped.set()
        self.finish()

    def finish(self) -> None:
        """Waits until every ticket was sent."""
        for task in self._running:
            task.result(60)

    def wait_for(self, count: int) -> None:
        """Waits until so many tickets were answered."""
        until(f"{count} tickets are answered", lambda: len(self.answered) >= count, 60)

    def _send(self) -> None:
        while not self._stopped.is_set() and (number := self._next()) is not None:
            url = self.nodes[number % len(self.nodes)]
            try:
                answer = ask("POST", f"{url}/in/{HALO_TOKEN}", ticket(number))
            except (OSError, HTTPException) as error:
                self._note(number, problem=repr(error))
                continue
            if answer.status in (200, 202):
                self._note(number, answer=answer.json())
            else:
                self._note(number, problem=f"{answer.status} {answer.text}")

    def _next(self) -> int | None:
        with self._lock:
            return self._waiting.pop() if self._waiting else None

    def _note(self, number: int, *, answer: dict[str, Any] | None = None, problem: str = "") -> None:
        with self._lock:
            if answer is not None:
                self.answered[number] = answer
            else:
                self.unanswered[number] = problem


def send_again(tocsin: Installation, load: LoadGenerator, node: Node) -> None:
    """What a sender does who had no answer: it sends the same again until there is one."""
    for number in sorted(load.unanswered):
        answer = tocsin.post(ticket(number), node)
        assert answer.status in (200, 202), answer.text
        load.answered.setdefault(number, answer.json())


def nothing_answered_is_lost(tocsin: Installation, load: LoadGenerator) -> None:
    """Every message that was answered is in the log as it was answered, and every ticket opened exactly one alert."""
    until("all are decided", lambda: not tocsin.rows("SELECT 1 FROM inbound_inboundmessage WHERE status = 'Pending'"))
    stored = {str(row["id"]): row for row in tocsin.rows("SELECT id, status, alert_id FROM inbound_inboundmessage")}
    lost = [number for number, answer in load.answered.items() if answer["message_id"] not in stored]
    assert lost == []
    for answer in load.answered.values():
        if answer["status"] != "Pending":
            row = stored[answer["message_id"]]
            assert (row["status"], row["alert_id"]) == (answer["status"], answer["alert_id"])
    alerts = tocsin.rows("SELECT source_id, count(*) FROM alerts_alert GROUP BY source_id")
    assert {int(row["source_id"]): row["count"] for row in alerts} == dict.fromkeys(load.answered, 1)


def known_to_be_sent(tocsin: Installation) -> set[int]:
    """The tickets whose first page is written down as sent."""
    sent = tocsin.rows(
        "SELECT a.source_id FROM notify_delivery d JOIN alerts_alert a ON a.id = d.alert_id "
        "WHERE d.purpose = 'page' AND d.status IN ('sent', 'delivered')"
    )
    return {int(row["source_id"]) for row in sent}


def named(mails: Iterable[Mail]) -> dict[int, int]:
    """In how many mails each ticket is named."""
    results: dict[int, int] = {}
    for mail in list(mails):
        for number in {int(text) for text in re.findall(r"VPN (\d+) down", mail.part("plain"))}:
            results[number] = results.get(number, 0) + 1
    return results
