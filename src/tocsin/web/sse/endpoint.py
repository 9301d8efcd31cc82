"""`GET /live`: server-sent events for signed-in browsers, as a raw ASGI app. Events carry hints, never content.

Events: `hint` (changed topics), `all` (anything may have changed), `tick` (keep-alive), `ended` (signed out). The event
id is the server time in milliseconds, so that a reconnecting browser receives the hints that it missed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from http.cookies import CookieError, SimpleCookie
from importlib import import_module
from typing import Any
from urllib.parse import parse_qs

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.db import DatabaseError, close_old_connections
from django.utils.crypto import constant_time_compare

from tocsin.access import boundary
from tocsin.access.boundary import Boundary
from tocsin.alerts.models import Alert
from tocsin.core.net.asgi import AsgiScope, Receive, Send, header, send_error
from tocsin.core.runtime import clock
from tocsin.people.models import User
from tocsin.resources import visibility
from tocsin.web.sse.broadcaster import EventStream, process_broadcaster

log = logging.getLogger(__name__)

#: An event at least this often keeps proxies from closing the stream.
KEEP_ALIVE_SECONDS = 15.0

#: Interval at which the stream's session is checked again.
SESSION_CHECK_SECONDS = 60.0

#: Hints within this interval are sent as one event.
GATHER_SECONDS = 0.05

#: Maximum number of open streams per user; further streams are rejected.
MAX_STREAMS_PER_USER = 12

#: One thread, and thus one database connection, checks the sessions of all streams.
_sessions = ThreadPoolExecutor(1, thread_name_prefix="live sessions")

#: The beginning of the topics that name an alert.
_ALERT = "alert:"

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
        checked = asyncio.get_running_loop().time()
        while not disconnected.done() and not _stopping:
            event = await _next_event(stream, limit, disconnected)
            if asyncio.get_running_loop().time() - checked > SESSION_CHECK_SECONDS:
                checked = asyncio.get_running_loop().time()
                if not await _is_still(user, key):
                    await send(_event("ended", ""))
                    break
                with suppress(DatabaseError):
                    limit = await _in_background(_load_boundary, user)
            if not disconnected.done() and not _stopping:
                await send(event)
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


async def _next_event(
    stream: EventStream, limit: Boundary | None, disconnected: asyncio.Future[None]
) -> dict[str, Any]:
    woken = asyncio.ensure_future(stream.wait(KEEP_ALIVE_SECONDS))
    pending: set[asyncio.Future[Any]] = {woken, disconnected}
    await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
    if not woken.done():
        woken.cancel()
        return _event("tick", "")
    if not woken.result():
        return _event("tick", "")
    await asyncio.sleep(GATHER_SECONDS)
    topics, everything = stream.pop_topics()
    if everything:
        return _event("all", "")
    if limit is not None:
        topics = await _in_background(_visible_topics, topics, limit)
    return _event("hint", " ".join(sorted(topics))) if topics else _event("tick", "")


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


def _visible_topics(topics: frozenset[str], limit: Boundary) -> frozenset[str]:
    """Return the topics without those of alerts that the viewer does not see."""
    numbers = {topic: int(topic.removeprefix(_ALERT)) for topic in topics if topic.startswith(_ALERT)}
    if not numbers:
        return topics
    try:
        with boundary.limited_to(limit):
            visible = set(Alert.objects.filter(pk__in=numbers.values()).values_list("pk", flat=True))
    except DatabaseError:
        visible = set()
    finally:
        close_old_connections()
    return topics - {topic for topic, number in numbers.items() if number not in visible}


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
