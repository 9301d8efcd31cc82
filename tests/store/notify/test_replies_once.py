"""A reply by text, mail or key is one transaction: a kill neither loses nor doubles it, a repeat gets its answer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any
from uuid import UUID

import psycopg
import pytest

from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.locks import wait_for_waiters
from tocsin.alerts.models import AlertEvent
from tocsin.core.db import database as db
from tocsin.notify.event_receiver import ProviderEventReceiver
from tocsin.notify.interfaces import CallState, InboundText
from tocsin.notify.models import Delivery, MailReply, Notification, ProcessedCallback
from tocsin.notify.text import signed_links

VENDOR = "Vendor"


class Killed(BaseException):
    """The process ends between two statements."""


@contextmanager
def killed_at(statement: int) -> Iterator[None]:
    """Ends the process, as it were, before that statement of the database."""
    executed, execute = count(1), psycopg.Cursor.execute

    def counting(self: Any, *arguments: Any, **options: Any) -> Any:
        if next(executed) == statement:
            raise Killed
        return execute(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", counting)
        yield


@dataclass
class Paged:
    """An alert that paged Alice, and her replies. The vendor repeats each with the same id."""

    desk: EscalationHarness
    alert: int
    notification: UUID

    @property
    def receiver(self) -> ProviderEventReceiver:
        return ProviderEventReceiver(VENDOR, self.desk.at(1))

    def text(self, words: str = "ack") -> str:
        return self.receiver.handle_text(InboundText("sms", "+41790000001", words, "SM1"))

    def mail(self, words: str = "ack") -> str:
        token = signed_links.sign(self.alert, self.desk.users["alice"].pk, self.desk.start)
        link = f"https://tocsin.example.org{signed_links.path(token)}"
        reference = signed_links.message_id(self.notification, link, 1, "example.org")
        head = f"From: alice@example.org\nMessage-ID: <1@example.org>\nIn-Reply-To: {reference}\n"
        return self.receiver.handle_mail(f"{head}\n{words}\n".encode())

    def key(self, digits: str = "7") -> str:
        return self.receiver.handle_call(CallState(str(self.notification), digits=digits)).speech

    def events(self, kind: str) -> int:
        return AlertEvent.objects.filter(alert=self.alert, kind=kind).count()


@pytest.fixture
def paged(database: str, now: datetime) -> Iterator[Paged]:
    with escalation_enabled():
        desk = EscalationHarness(now)
        alert = desk.open()
        desk.run_until(0)
        Delivery.objects.update(status="sent", provider_name=VENDOR)
        yield Paged(desk, alert, Notification.objects.get(channel="sms").pk)


@pytest.mark.parametrize("channel", ["text", "mail", "key"])
def test_reply_killed_at_any_statement_acts_once(paged: Paged, channel: str) -> None:
    reply = getattr(paged, channel)
    for statement in count(1):
        try:
            with killed_at(statement):
                answer = reply()
            break
        except Killed:
            assert paged.desk.run(paged.alert).status == "active"
            assert paged.events("acknowledged") == 0
            assert not ProcessedCallback.objects.exists()
            assert not MailReply.objects.exists()
            assert not Delivery.objects.exclude(receipt="").exists()
    assert statement > 10, "it was killed between its statements"
    assert answer.startswith("You acknowledged alert")
    assert paged.events("acknowledged") == 1
    assert paged.desk.run(paged.alert).status == "stopped"
    assert Notification.objects.filter(purpose="notice").count() == (1 if channel == "mail" else 0)


@pytest.mark.parametrize("channel", ["text", "mail"])
def test_repeated_reply_gets_the_stored_answer(paged: Paged, channel: str) -> None:
    reply = getattr(paged, channel)
    answer = reply("reply On my way")
    assert answer
    assert reply("reply On my way") == answer
    assert paged.events("replied") == 1


@pytest.mark.parametrize("channel", ["text", "mail"])
def test_two_workers_with_the_same_reply_act_once(paged: Paged, channel: str) -> None:
    reply = getattr(paged, channel)
    with ThreadPoolExecutor(2) as workers:
        with db.transaction() as connection:
            connection.execute("SELECT 1 FROM alerts_alert WHERE id = %s FOR UPDATE", (paged.alert,))
            answers = [workers.submit(reply, "reply On my way") for _ in range(2)]
            # One waits for the alert, the other for the first one's answer.
            wait_for_waiters(2)
        assert len({answer.result() for answer in answers}) == 1
    assert paged.events("replied") == 1
