"""The event stream: access, events, catching up and closing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from django.test import Client

from tests.support.threads import run_async
from tests.web.conftest import Company
from tocsin.access.audit import COMMAND_LINE
from tocsin.alerts.models import Alert
from tocsin.core.config import settings_store
from tocsin.core.runtime import clock
from tocsin.inbound.models import InboundMessage
from tocsin.people.changes import users
from tocsin.people.models import User
from tocsin.web import sse
from tocsin.web.sse import process_broadcaster

type BrowserOf = Callable[[User], Client]


class Listener:
    """A browser on the stream: what it was sent, and a way to leave."""

    def __init__(self, cookie: str, *, query: str = "", method: str = "GET", last_event_id: str = "") -> None:
        headers = [(b"cookie", f"tocsin_session={cookie}".encode())]
        if last_event_id:
            headers.append((b"last-event-id", last_event_id.encode()))
        self.scope = {
            "type": "http", "method": method, "path": "/live", "query_string": query.encode(), "headers": headers,
        }  # fmt: skip
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.left = asyncio.Event()

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: dict[str, Any]) -> None:
        await self.sent.put(message)

    async def event(self, *, but: str = "tick") -> tuple[str, str]:
        """The next event that is not a tick: its name and data."""
        while True:
            message = await asyncio.wait_for(self.sent.get(), 5)
            text = message.get("body", b"").decode()
            results = dict(line.split(": ", 1) for line in text.splitlines() if ": " in line)
            if "event" in results and results["event"] != but:
                return results["event"], results.get("data", "")

    async def status(self) -> int:
        return int((await asyncio.wait_for(self.sent.get(), 5))["status"])


async def during(listener: Listener, work: Callable[[], Any]) -> Any:
    """Runs `work` while the stream is open; then leaves."""
    running = asyncio.create_task(sse.stream(listener.scope, listener.receive, listener.send))
    try:
        return await work()
    finally:
        listener.left.set()
        await asyncio.wait_for(running, 5)


@pytest.fixture(autouse=True)
def listening(company: Company) -> Iterator[None]:
    """The hub hears everything from now on."""
    process_broadcaster.start()
    yield
    sse._open_streams.clear()


@pytest.fixture
def cookie(company: Company, browser_of: BrowserOf) -> str:
    return browser_of(company.observer).cookies["tocsin_session"].value


def test_change_event_lists_its_topics(cookie: str) -> None:
    async def story() -> tuple[str, str]:
        listener = Listener(cookie)

        async def work() -> tuple[str, str]:
            assert await listener.status() == 200
            await asyncio.to_thread(process_broadcaster.publish, {"alert:42", "alerts"})
            return await listener.event()

        return await during(listener, work)

    assert run_async(story()) == ("hint", "alert:42 alerts")


def milliseconds() -> int:
    """Now, as a page says when it was made."""
    return int(clock.now().timestamp() * 1000)


def test_changes_between_page_load_and_stream_are_delivered(cookie: str) -> None:
    made = milliseconds()
    process_broadcaster.publish({"alert:7"})

    async def story() -> tuple[str, str]:
        listener = Listener(cookie, query=f"since={made}")
        return await during(listener, lambda: listener.event())

    assert run_async(story()) == ("hint", "alert:7")


def test_page_older_than_event_history_must_reload_everything(cookie: str) -> None:
    async def story() -> tuple[str, str]:
        listener = Listener(cookie, query="since=1000")
        return await during(listener, lambda: listener.event())

    assert run_async(story())[0] == "all"


def test_reconnecting_browser_gets_missed_events(cookie: str) -> None:
    process_broadcaster.publish({"alert:8"})
    seen = milliseconds() + 1
    while milliseconds() <= seen:
        pass
    process_broadcaster.publish({"alert:9"})

    async def story() -> tuple[str, str]:
        listener = Listener(cookie, last_event_id=str(seen))
        return await during(listener, lambda: listener.event())

    assert run_async(story()) == ("hint", "alert:9")


@pytest.mark.parametrize("since", ["nonsense", "-1", "999999999999999", "99999999999999999999", ""])
def test_a_since_that_is_none_counts_as_now(cookie: str, since: str) -> None:
    async def story() -> int:
        listener = Listener(cookie, query=f"since={since}")
        return await during(listener, lambda: listener.status())

    assert run_async(story()) == 200


def test_a_stranger_gets_no_stream(company: Company, cookie: str) -> None:
    async def status(listener: Listener) -> int:
        await sse.stream(listener.scope, listener.receive, listener.send)
        return await listener.status()

    assert run_async(status(Listener("made-up"))) == 401
    assert run_async(status(Listener(cookie, method="POST"))) == 405
    User.objects.filter(pk=company.observer.pk).update(is_active=False)
    assert run_async(status(Listener(cookie))) == 401


def test_a_stream_ends_when_its_session_does(cookie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "SESSION_CHECK_SECONDS", 0.0)

    async def story() -> tuple[str, str]:
        listener = Listener(cookie)

        async def work() -> tuple[str, str]:
            assert await listener.status() == 200
            await asyncio.to_thread(Session.objects.all().delete)
            process_broadcaster.publish({"alerts"})
            return await listener.event()

        return await during(listener, work)

    assert run_async(story())[0] == "ended"


def test_stream_of_a_deactivated_user_ends_at_once(company: Company, cookie: str) -> None:
    async def story() -> tuple[str, str]:
        listener = Listener(cookie)

        async def work() -> tuple[str, str]:
            assert await listener.status() == 200
            change = partial(users.change_own, company.observer, {"active": False}, actor=COMMAND_LINE, now=clock.now())
            await asyncio.to_thread(change)
            # What the change notifies every node of.
            process_broadcaster.publish({"config"})
            return await listener.event()

        return await asyncio.wait_for(during(listener, work), 5)

    assert run_async(story())[0] == "ended"


def test_hints_name_only_what_the_viewer_sees(
    company: Company, browser_of: BrowserOf, open_alert: Callable[..., int]
) -> None:
    settings_store.set("visibility", "groups")
    ours = open_alert()
    hidden = Alert.objects.create(
        subject="Hidden", priority="low", status="open", opened_at=company.now, last_message_at=company.now
    )
    InboundMessage.objects.all().delete()
    cookie = browser_of(company.responder).cookies["tocsin_session"].value
    changes = {"alerts", "messages", "outbound-log", "workflow-runs", "delayed", "runs"}

    async def story() -> list[tuple[str, str]]:
        listener = Listener(cookie)

        async def work() -> list[tuple[str, str]]:
            assert await listener.status() == 200
            process_broadcaster.publish({f"alert:{hidden.pk}", *changes})
            await asyncio.sleep(4 * sse.GATHER_SECONDS)
            process_broadcaster.publish({f"alert:{ours}", *changes})
            return [await listener.event()]

        return await during(listener, work)

    assert run_async(story()) == [("hint", f"alert:{ours} alerts")]


def test_streams_per_user_are_limited(cookie: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "MAX_STREAMS_PER_USER", 1)

    async def story() -> tuple[int, int]:
        first, second = Listener(cookie), Listener(cookie)

        async def work() -> tuple[int, int]:
            one = await first.status()
            await sse.stream(second.scope, second.receive, second.send)
            return one, await second.status()

        return await during(first, work)

    assert run_async(story()) == (200, 429)
    assert len(process_broadcaster) == 0, "a stream that ended is forgotten"
