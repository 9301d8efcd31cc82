"""Server-sent events that keep open views up to date."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.db import DatabaseError, close_old_connections
from django.db.models import Model, Q, QuerySet
from django.utils.crypto import constant_time_compare

from tocsin.access import boundary
from tocsin.access.boundary import Boundary
from tocsin.alerts.models import Alert
from tocsin.alerts.states import ACTIVE
from tocsin.core.ids import first_uuid7
from tocsin.core.net.asgi import AsgiScope, Receive, Send, header, send_error
from tocsin.core.runtime import clock
from tocsin.inbound.models import InboundMessage
from tocsin.notify.models import Notification
from tocsin.outbound.models import Call
from tocsin.people.models import User
from tocsin.resources import visibility
from tocsin.workflows.models import WorkflowRun

# ---------- broadcaster
# Passes change hints to the open event streams of this process, and keeps them for two minutes for reconnects.
#
# Thread-safe: a listener thread publishes, streams wait on their event loops. It never accesses the database.

#: How long hints are kept for streams that open or reconnect shortly afterwards.
HINT_RETENTION = timedelta(minutes=2)

#: Maximum number of hints kept. A stream that reconnects after older hints were dropped reloads everything.
MAX_HINTS = 5_000

#: A stream with more undelivered topics than this gets a single "anything may have changed" event.
MAX_TOPICS_BEHIND = 200


@dataclass(eq=False)
class EventStream:
    """One open stream and its undelivered topics. Belongs to one event loop."""

    loop: asyncio.AbstractEventLoop
    topics: set[str] = field(default_factory=set)
    everything: bool = False
    _woken: asyncio.Event = field(default_factory=asyncio.Event)

    def add(self, topics: frozenset[str]) -> None:
        """Add topics. Must be called on the stream's own loop."""
        self.topics |= topics
        if len(self.topics) > MAX_TOPICS_BEHIND:
            self.topics.clear()
            self.everything = True
        self._woken.set()

    async def wait(self, timeout: float) -> bool:
        """Wait up to `timeout` seconds for something to deliver. Return whether there is something."""
        try:
            async with asyncio.timeout(timeout):
                await self._woken.wait()
        except TimeoutError:
            return False
        self._woken.clear()
        return True

    def pop_topics(self) -> tuple[frozenset[str], bool]:
        """Take the undelivered topics, and whether anything may have changed."""
        pending = frozenset(self.topics), self.everything
        self.topics.clear()
        self.everything = False
        return pending


class Broadcaster:
    """All open streams of this process, and the recently published hints."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._streams: set[EventStream] = set()
        self._past: deque[tuple[datetime, frozenset[str]]] = deque()
        #: `_past` contains everything published since this moment.
        self._known_since = datetime.max.replace(tzinfo=clock.now().tzinfo)

    def start(self) -> None:
        """Start a gapless record of hints. Call it when listening starts, and again after a gap in the
        notifications."""
        with self._lock:
            self._past.clear()
            self._known_since = clock.now()
            streams = list(self._streams)
        for stream in streams:
            _call(stream, partial(_miss, stream))

    def publish(self, topics: Iterable[str]) -> None:
        """Notify every open stream that `topics` changed. May be called from any thread."""
        changed = frozenset(topics)
        if not changed:
            return
        now = clock.now()
        with self._lock:
            self._past.append((now, changed))
            while self._past and (self._past[0][0] < now - HINT_RETENTION or len(self._past) > MAX_HINTS):
                self._known_since = self._past.popleft()[0]
            streams = list(self._streams)
        for stream in streams:
            _call(stream, partial(stream.add, changed))

    def open(self, since: datetime | None) -> EventStream:
        """Open a stream on the running loop. It starts with the topics that changed after `since`, or with "anything
        may have"."""
        stream = EventStream(asyncio.get_running_loop())
        with self._lock:
            self._streams.add(stream)
            missed = [topics for at, topics in self._past if since is not None and at > since]
            if since is not None and since < self._known_since:
                stream.everything = True
        if stream.everything or missed:
            stream.add(frozenset().union(*missed))
        return stream

    def close(self, stream: EventStream) -> None:
        with self._lock:
            self._streams.discard(stream)

    def __len__(self) -> int:
        return len(self._streams)


def _miss(stream: EventStream) -> None:
    stream.everything = True
    stream.add(frozenset())


def _call(stream: EventStream, callback: Callable[[], None]) -> None:
    try:
        stream.loop.call_soon_threadsafe(callback)
    except RuntimeError:
        # The event loop is closed: the process is stopping, and the stream with it.
        return


#: The broadcaster of this process.
process_broadcaster = Broadcaster()


def publish(topics: Iterable[str]) -> None:
    """Notify every open stream of this process that `topics` changed."""
    process_broadcaster.publish(topics)


# ---------- endpoint
# `GET /live`: server-sent events for signed-in browsers, as a raw ASGI app.
#
# Events carry hints, never content, and only about what the viewer sees.
#
# Events: `hint` (changed topics), `all` (anything may have changed), `tick` (keep-alive), `ended` (signed out). The
# event id is the server time in milliseconds, so that a reconnecting browser receives the hints that it missed.

log = logging.getLogger(__name__)

#: An event at least this often keeps proxies from closing the stream.
KEEP_ALIVE_SECONDS = 15.0

#: Interval at which the stream's session is checked again. It is checked at once after a change of the configuration,
#: such as the deactivation of a user.
SESSION_CHECK_SECONDS = 60.0

#: Hints within this interval are sent as one event.
GATHER_SECONDS = 0.05

#: Maximum number of open streams per user; further streams are rejected.
MAX_STREAMS_PER_USER = 12

#: One thread, and thus one database connection, checks the sessions of all streams.
_sessions = ThreadPoolExecutor(1, thread_name_prefix="live sessions")

#: The beginning of the topics that name an alert.
_ALERT = "alert:"

#: A change that concerns more alerts names only so many of them.
_MAX_NAMED_ALERTS = 20

#: Topics that say nothing about anybody's objects.
_FOR_EVERYBODY = frozenset({"config", "clock", "pause"})

#: The topics of lists, and the rows of one that are new since a moment. The number of the newest rows is limited where
#: no index has their time.
_LISTS: Mapping[str, Callable[[datetime], QuerySet[Any]]] = {
    "alerts": lambda since: Alert.objects.filter(status__in=ACTIVE, last_message_at__gte=since),
    "messages": lambda since: InboundMessage.objects.filter(pk__gte=first_uuid7(since)),
    "outbox": lambda since: Notification.objects.filter(pk__gte=first_uuid7(since)),
    "outbound-log": lambda since: _newest(Call).filter(Q(queued_at__gte=since) | Q(ended_at__gte=since)),
    "workflow-runs": lambda since: _newest(WorkflowRun).filter(Q(created_at__gte=since) | Q(ended_at__gte=since)),
}
_MAX_NEWEST = 500

#: By how much the clocks of the nodes may differ.
_CLOCK_DIFFERENCE = timedelta(seconds=5)

#: Set while the server is stopping; all streams then end.
_stopping = False
_open_streams: Counter[int] = Counter()


async def stream(scope: AsgiScope, receive: Receive, send: Send) -> None:
    """Serve one browser's stream until it disconnects, signs out, or the server stops."""
    if scope["method"] != "GET":
        await send_error(
            send, 405, "method_not_allowed", "This address only answers GET.", headers=[(b"allow", b"GET")]
        )
        return
    key = _session_key(scope)
    try:
        user = await _user_of(key) if key else None
        limit = await _in_background(_load_boundary, user) if user is not None else None
    except DatabaseError as error:
        log.warning("The database does not say who wants live changes: %s", error)
        await send_error(
            send, 503, "temporary", "The database does not answer. Try again.", headers=[(b"retry-after", b"5")]
        )
        return
    if user is None or key is None:
        await send_error(send, 401, "not_signed_in", "Sign in to receive live changes.")
        return
    if _open_streams[user] >= MAX_STREAMS_PER_USER:
        await send_error(
            send, 429, "too_many_streams", f"{MAX_STREAMS_PER_USER} live streams of this user are open already."
        )
        return
    _open_streams[user] += 1
    stream = process_broadcaster.open(_resume_time(scope))
    try:
        await _serve(stream, user, key, limit, receive, send)
    finally:
        process_broadcaster.close(stream)
        _open_streams[user] -= 1
        if not _open_streams[user]:
            del _open_streams[user]


def stop() -> None:
    """End every stream of this process. Must be called on the server's event loop before it stops."""
    global _stopping
    _stopping = True
    for stream in list(process_broadcaster._streams):
        stream.add(frozenset())


async def _serve(
    stream: EventStream, user: int, key: str, limit: Boundary | None, receive: Receive, send: Send
) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/event-stream"),
                (b"cache-control", b"no-store"),
                # Prevents nginx from buffering the events.
                (b"x-accel-buffering", b"no"),
            ],
        }
    )
    disconnected = asyncio.ensure_future(_wait_for_disconnect(receive))
    try:
        await send(_event("tick", "", "retry: 2000\n"))
        checked, hinted_at = asyncio.get_running_loop().time(), clock.now() - HINT_RETENTION
        while not disconnected.done() and not _stopping:
            topics, everything = await _next_topics(stream, disconnected)
            is_configuration = everything or "config" in topics
            if is_configuration or asyncio.get_running_loop().time() - checked > SESSION_CHECK_SECONDS:
                checked = asyncio.get_running_loop().time()
                if not await _is_still(user, key):
                    await send(_event("ended", ""))
                    break
                with suppress(DatabaseError):
                    limit = await _in_background(_load_boundary, user)
            if limit is not None and topics and not everything:
                since, hinted_at = hinted_at, clock.now()
                topics = await _in_background(_visible_topics, topics, limit, since - _CLOCK_DIFFERENCE)
            if not disconnected.done() and not _stopping:
                name = "all" if everything else "hint" if topics else "tick"
                await send(_event(name, "" if everything else " ".join(sorted(topics))))
        await send({"type": "http.response.body", "body": b"", "more_body": False})
    finally:
        disconnected.cancel()


async def _is_still(user: int, key: str) -> bool:
    """Return whether the session still belongs to the user. A database failure counts as yes: hints disclose
    nothing."""
    try:
        return await _user_of(key) == user
    except DatabaseError:
        return True


async def _next_topics(stream: EventStream, disconnected: asyncio.Future[None]) -> tuple[frozenset[str], bool]:
    """Return what has changed, and whether anything may have; nothing after a while without a change."""
    woken = asyncio.ensure_future(stream.wait(KEEP_ALIVE_SECONDS))
    pending: set[asyncio.Future[Any]] = {woken, disconnected}
    await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    if not woken.done():
        woken.cancel()
        return frozenset(), False
    if not woken.result():
        return frozenset(), False
    await asyncio.sleep(GATHER_SECONDS)
    return stream.pop_topics()


def _event(name: str, data: str, prefix: str = "") -> dict[str, Any]:
    number = int(clock.now().timestamp() * 1000)
    text = f"{prefix}id: {number}\nevent: {name}\ndata: {data}\n\n"
    return {"type": "http.response.body", "body": text.encode(), "more_body": True}


async def _wait_for_disconnect(receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return


def _resume_time(scope: AsgiScope) -> datetime | None:
    query = parse_qs(scope.get("query_string", b"").decode("latin-1"))
    text = header(scope, b"last-event-id") or (query.get("since") or [""])[0]
    # 14 digits of milliseconds reach the year 5138; a longer number cannot be an event id.
    if not text.isdecimal() or len(text) > 14:
        return None
    return datetime.fromtimestamp(int(text) / 1000, UTC)


def _session_key(scope: AsgiScope) -> str | None:
    jar = SimpleCookie()
    try:
        jar.load(header(scope, b"cookie") or "")
    except CookieError:
        return None
    morsel = jar.get(settings.SESSION_COOKIE_NAME)
    return morsel.value if morsel else None


async def _user_of(key: str) -> int | None:
    """Return the id of the active user that is signed in with the session, or None."""
    return await _in_background(_load_user_id, key)


async def _in_background[*Arguments, T](function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
    return await asyncio.get_running_loop().run_in_executor(_sessions, function, *arguments)


def _load_boundary(user_id: int) -> Boundary | None:
    try:
        return visibility.boundary_of_user(User.objects.get(pk=user_id))
    finally:
        close_old_connections()


def _visible_topics(topics: frozenset[str], limit: Boundary, since: datetime) -> frozenset[str]:
    """Return the topics of what the viewer sees: alerts by number, and lists in which a visible row changed since."""
    numbers = {int(topic.removeprefix(_ALERT)) for topic in topics if topic.startswith(_ALERT)}
    try:
        with boundary.limited_to(limit):
            found = Alert.objects.filter(pk__in=numbers).values_list("pk", flat=True) if numbers else ()
            visible = {f"{_ALERT}{number}" for number in found}
            lists = {name for name in _LISTS.keys() & topics if _is_changed(name, visible, len(numbers), since)}
    except DatabaseError:
        visible, lists = set(), set()
    finally:
        close_old_connections()
    return (topics & _FOR_EVERYBODY) | visible | lists


def _is_changed(name: str, visible: set[str], named: int, since: datetime) -> bool:
    if visible and name in ("alerts", "outbox"):
        return True
    # All the alerts that changed are named, unless they are many.
    is_known = name == "alerts" and named < _MAX_NAMED_ALERTS
    return not is_known and _LISTS[name](since).exists()


def _newest[M: Model](model: type[M]) -> QuerySet[M]:
    with boundary.unbounded():
        newest = model._default_manager.order_by("-pk").values_list("pk", flat=True).first() or 0
    return model._default_manager.filter(pk__gt=newest - _MAX_NEWEST)


def _load_user_id(key: str) -> int | None:
    try:
        engine = import_module(settings.SESSION_ENGINE)
        session = engine.SessionStore(key)
        user_id, backend = session.get(SESSION_KEY), session.get(BACKEND_SESSION_KEY)
        if user_id is None or backend not in settings.AUTHENTICATION_BACKENDS:
            return None
        user = User.objects.filter(pk=user_id, is_active=True).first()
        if user is None:
            return None
        valid_hashes = [user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()]
        session_hash = session.get(HASH_SESSION_KEY) or ""
        return int(user.pk) if any(constant_time_compare(session_hash, hashed) for hashed in valid_hashes) else None
    finally:
        close_old_connections()
