"""Sends one message: renders it, hands it to its provider and returns the result. Runs in a worker thread and holds no
database connection.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Self
from uuid import UUID

from django.conf import settings
from psycopg.types.json import Jsonb

from tocsin.alerts.states import ACTIVE, Priority
from tocsin.alerts.store import join_alert
from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.delivery.circuit_breaker import AttemptFailed, FailureKind, failure_of
from tocsin.core.delivery.job_pool import LeaseLost
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net import egress
from tocsin.core.reasons import as_reason, replace_texts
from tocsin.core.runtime import telemetry
from tocsin.core.runtime.telemetry import Span, SpanExporter, SpanKind
from tocsin.core.validation.inputs import sanitize
from tocsin.notify.dispatch.claim import DeliveryJob
from tocsin.notify.interfaces import AddressChecker, AlertContent, Message, RepeatingSender, Repeats
from tocsin.notify.pages import alert_tag
from tocsin.notify.providers.pool import CHANNELS, channel, provider_lookup
from tocsin.notify.rules import page_planner
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.notify.text.formatting import localize
from tocsin.notify.text.render import compose
from tocsin.people import addresses
from tocsin.people.sql import join_user

# ---------- sent journal
# A file of the messages that providers have accepted, until the database has recorded them.
#
# If a process is killed between a provider's answer and the commit, the message stays recorded as unsent, and is sent
# twice. So each process appends what was accepted to a file of its own, on which it holds a lock. Once the lock is
# free, the process has ended, and another one on this machine records what the file says. The file is not flushed to
# disk, which would delay every page: after a failure of the machine these messages are sent again.


log = logging.getLogger(__name__)

#: In the data directory.
FOLDER = "sent"
#: A file that grew beyond this is written anew, without what has been recorded since.
MAX_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class SentDelivery:
    """A delivery that a provider, or the sandbox, has accepted."""

    id: UUID
    external_id: str
    at: datetime
    #: Within how many seconds the provider must report that it was delivered; None for never.
    receipt_timeout: int | None = None
    #: If the provider repeats the message until someone answers: all its deliveries, for the first of them.
    repeated: tuple[UUID, ...] = ()

    @classmethod
    def from_line(cls, line: str) -> Self:
        """Raises ValueError for a line that was not written to its end."""
        match json.loads(line):
            case [str(id_), str(external_id), str(at), int() | None as receipt_timeout, *repeated]:
                ids_ = tuple(UUID(str(one)) for one in repeated)
                return cls(UUID(id_), external_id, datetime.fromisoformat(at), receipt_timeout, ids_)
        raise ValueError(line)

    def line(self) -> str:
        repeated = map(str, self.repeated)
        return json.dumps([str(self.id), self.external_id, self.at.isoformat(), self.receipt_timeout, *repeated])


class SentJournal:
    """The file of one process. Used by many threads. A file that cannot be written is logged, and no send fails."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._unrecorded: dict[UUID, SentDelivery] = {}
        self._file: int | None = None
        self._path = folder / f"{ids.uuid7()}.jsonl"
        #: Files of other processes that cannot be opened.
        self._unusable: set[Path] = set()

    def note(self, sent: Sequence[SentDelivery]) -> None:
        """Appends deliveries. Called as soon as the provider has answered."""
        with self._lock:
            self._unrecorded |= {one.id: one for one in sent}
            self._append(sent)

    def forget(self, delivery_ids: Iterable[UUID]) -> None:
        """Drops deliveries whose results the database has recorded."""
        with self._lock:
            for delivery_id in delivery_ids:
                self._unrecorded.pop(delivery_id, None)
            if self._file is None:
                return
            size = os.fstat(self._file).st_size
            if (size and not self._unrecorded) or size > MAX_BYTES:
                os.ftruncate(self._file, 0)
                self._append(self._unrecorded.values())

    def recover(self, record: Callable[[Sequence[SentDelivery]], None]) -> None:
        """Hands what ended processes left unrecorded to `record`, and then removes their files."""
        for path in self._folder.glob("*.jsonl"):
            if path == self._path or path in self._unusable:
                continue
            try:
                descriptor = os.open(path, os.O_RDWR)
            except FileNotFoundError:  # another process was quicker
                continue
            except OSError:
                self._unusable.add(path)
                log.warning("%s cannot be opened: what it says may be sent twice.", path, exc_info=True)
                continue
            # After a failure of the machine, a file may hold anything.
            with os.fdopen(descriptor, encoding="utf-8", errors="replace") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:  # its process lives
                    continue
                if sent := _read(file):
                    record(sent)
                    log.info("%d deliveries that an ended process had sent are recorded.", len(sent))
                path.unlink(missing_ok=True)

    def close(self) -> None:
        """Closes the file, and removes it if everything in it is recorded."""
        with self._lock:
            if self._file is None:
                return
            if not self._unrecorded:
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    def _append(self, sent: Collection[SentDelivery]) -> None:
        if not sent:
            return
        try:
            if self._file is None:
                self._file = self._open()
            os.write(self._file, "".join(f"{one.line()}\n" for one in sent).encode())
        except OSError:
            log.warning("%s cannot be written.", self._path, exc_info=True)

    def _open(self) -> int:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        return file


def _read(lines: Iterable[str]) -> list[SentDelivery]:
    sent = []
    for line in lines:
        try:
            sent.append(SentDelivery.from_line(line))
        except ValueError:
            log.warning("A line of a journal of sent messages cannot be read: %.200s", line)
    return sent


# ---------- sandbox
# Stores messages on channels without a provider instead of sending them. Nothing leaves the machine, and nobody is
# reached: the self-check says so, and pages leave once the channel has a provider.


#: Whether a message in the sandbox counts as sent. Set by `tocsin demo`, which reaches nobody on purpose.
counts_as_sent = False


def store(connection: Connection, results: Iterable[SendResult]) -> None:
    """Stores the messages that the sandbox keeps. One that is already stored stays unchanged."""
    rows = [
        (
            lead.id,
            lead.alert.id if lead.alert else None,
            lead.user_id,
            lead.channel,
            lead.address,
            Jsonb(result.outcome.content),
            result.at,
            lead.id,
        )
        for result in results
        if isinstance(result.outcome, Accepted) and result.outcome.content is not None
        for lead in (result.job.bundle.lead,)
    ]
    if rows:
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO notify_sandboxmessage (delivery, alert_id, user_id, channel, address, content, at) "
                "SELECT %s, %s, %s, %s, %s, %s, %s WHERE EXISTS (SELECT FROM notify_delivery WHERE id = %s) "
                "ON CONFLICT (delivery) DO NOTHING",
                rows,
            )


# The newest page of each recipient's address about an active alert. The others stay: one page is enough.
_REQUEUE = f"""
UPDATE notify_delivery SET status = 'queued', due_at = %(now)s, late_since = coalesce(late_since, due_at),
       provider_name = '', ended_at = NULL, reason = '{{}}' WHERE id IN (
  SELECT d.id FROM notify_delivery d {join_alert("d.alert_id")}
  WHERE d.status = 'sandboxed' AND d.purpose = 'page' AND d.channel = ANY(%(channels)s) AND a.status = ANY(%(live)s)
    AND NOT EXISTS (SELECT FROM notify_delivery o WHERE o.alert_id = d.alert_id AND o.purpose = 'page' AND o.id > d.id
                    AND o.user_id IS NOT DISTINCT FROM d.user_id AND o.channel = d.channel AND o.address = d.address
                    AND o.status IN ('queued', 'sending', 'sent', 'delivered', 'sandboxed'))
  ORDER BY d.id FOR NO KEY UPDATE OF d SKIP LOCKED)
"""


def requeue(connection: Connection, channels: Sequence[str], now: datetime) -> int:
    """Makes pages in the sandbox due whose channel has a provider by now, or on this node. Returns their number."""
    parameters = {"now": now, "channels": list(channels), "live": sorted(ACTIVE)}
    return connection.execute(_REQUEUE, parameters).rowcount if channels else 0


_KEPT_FOR = f"""
SELECT DISTINCT d.channel, coalesce(u.display_name, nullif(n.label, ''), d.address) AS name
FROM notify_delivery d {join_alert("d.alert_id")} JOIN notify_notification n ON n.id = d.notification_id
LEFT {join_user("d.user_id")}
WHERE d.status = 'sandboxed' AND d.purpose = 'page' AND a.status = 'open' AND NOT a.dry_run AND NOT a.is_test
  AND NOT EXISTS (SELECT FROM alerts_acknowledgement k WHERE k.alert_id = a.id)
  AND NOT EXISTS (SELECT FROM notify_delivery o WHERE o.alert_id = d.alert_id AND o.purpose = 'page'
                  AND o.user_id IS NOT DISTINCT FROM d.user_id AND o.status IN ('sent', 'delivered'))
"""
_MEMBERS = f"""
SELECT u.id, u.display_name AS name, m.channel, m.address
FROM people_contactmethod m {join_user("m.user_id")} AND u.is_active
WHERE m.is_enabled AND NOT m.awaits_code AND EXISTS (SELECT FROM people_membership g WHERE g.user_id = u.id)
"""


def unreachable(connection: Connection) -> dict[str, list[str]]:
    """Returns the names of whom a page reaches nobody for, by the channels that lack a provider: members of groups of
    whom no contact method has one, and recipients of pages about open alerts that only the sandbox has.
    """
    if counts_as_sent:
        return {}
    names: dict[str, set[str]] = {}
    for row in database.rows(connection, _KEPT_FOR):
        names.setdefault(row["channel"], set()).add(row["name"])
    has_provider = provider_lookup(connection)
    methods: dict[tuple[int, str], list[tuple[str, str]]] = {}
    for row in database.rows(connection, _MEMBERS):
        methods.setdefault((row["id"], row["name"]), []).append((row["channel"], row["address"]))
    for (_, name), found in methods.items():
        if not any(has_provider(channel, address) for channel, address in found):
            for channel, _ in found:
                names.setdefault(channel, set()).add(name)
    return {channel: sorted(each) for channel, each in sorted(names.items())}


def _storable(value: Any) -> Any:
    if isinstance(value, str):
        return sanitize(value)
    if isinstance(value, Mapping):
        return {key: _storable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_storable(item) for item in value]
    return value


MAX_SEND_ERROR_CHARS = 500

#: How long a vendor repeats the last page to an address.
REPEATED_FOR = timedelta(minutes=30)

#: A shorter address, such as the topic "a", would match in the middle of words.
_MIN_ADDRESS_CHARS = 4


@dataclass(frozen=True, slots=True)
class Accepted:
    """The provider accepted the message, or the sandbox stores it (`content`)."""

    external_id: str = ""
    content: Mapping[str, Any] | None = None
    #: Whether the provider repeats it until someone answers, and is asked for its receipt.
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class SendResult:
    """The result of a job and its time."""

    job: DeliveryJob
    outcome: Accepted | AttemptFailed
    at: datetime
    #: When the attempt began; None if unknown.
    began_at: datetime | None = None


def status_of(result: SendResult) -> DeliveryStatus:
    """Returns the status of the deliveries after this attempt; a failed one may be retried."""
    if not isinstance(result.outcome, Accepted):
        return DeliveryStatus.FAILED
    is_sandboxed = result.outcome.content is not None and not counts_as_sent
    return DeliveryStatus.SANDBOXED if is_sandboxed else DeliveryStatus.SENT


def sent_deliveries(result: SendResult) -> list[SentDelivery]:
    """Returns the deliveries of a sent message; none of a failed one, or of one that the sandbox keeps."""
    if not isinstance(result.outcome, Accepted) or status_of(result) is not DeliveryStatus.SENT:
        return []
    provider, channel = result.job.active_provider, result.job.bundle.lead.channel
    timeout = provider.receipt_timeout if provider and channel in provider.receipt_channels else None
    return [
        SentDelivery(
            due.id,
            result.outcome.external_id,
            result.at,
            timeout if due.purpose is Purpose.PAGE else None,
            tuple(result.job.ids) if result.outcome.is_repeated and due is result.job.bundle.lead else (),
        )
        for due in result.job.bundle.members
    ]


def send(job: DeliveryJob, now: Callable[[], datetime], check_lease: Callable[[], None]) -> SendResult:
    """Sends the message and returns the result. `now` is called before rendering and after sending, `check_lease` just
    before sending. Raises only its LeaseLost.
    """
    began_at = now()
    result = SendResult(job, _outcome(job, began_at, check_lease), now(), began_at)
    _log(result)
    if telemetry.exporter is not None:
        _export_spans(telemetry.exporter, result, began_at)
    return result


def _log(result: SendResult) -> None:
    """Logs the attempt for each alert, without addresses."""
    job, outcome = result.job, result.outcome
    for due in job.bundle.members:
        ids = {"delivery_id": due.id, "alert_id": due.alert.id if due.alert is not None else None}
        provider = job.provider or "no provider"
        if isinstance(outcome, Accepted):
            log.info("Delivery %s was sent by %s, %s.", due.id, provider, due.channel, extra=ids)
        else:
            why = outcome.error
            log.warning("Delivery %s was not sent by %s, %s: %s", due.id, provider, due.channel, why, extra=ids)


def _export_spans(exporter: SpanExporter, result: SendResult, began_at: datetime) -> None:
    """Exports the attempt as a span of each alert's trace, by OpenTelemetry's conventions for messaging."""
    job, outcome = result.job, result.outcome
    for due in job.bundle.members:
        if due.alert is None:
            continue
        attributes: dict[str, str | int] = {
            "messaging.system": due.channel,
            "messaging.operation.name": "send",
            "messaging.operation.type": "send",
            "messaging.destination.name": job.provider,
            "messaging.message.id": str(due.id),
            "tocsin.alert.id": due.alert.id,
            "tocsin.purpose": due.purpose.value,
            "tocsin.attempt": due.attempts + 1,
        }
        error = outcome.kind.value if isinstance(outcome, AttemptFailed) else ""
        trace = telemetry.trace_of_alert(due.alert.id)
        name = f"send {due.channel}"
        exporter.export(Span(name, SpanKind.CLIENT, trace, began_at, result.at, attributes, error=error))


def _outcome(job: DeliveryJob, now: datetime, check_lease: Callable[[], None]) -> Accepted | AttemptFailed:
    try:
        return _send(job, now, check_lease)
    except LeaseLost:
        raise
    except (Temporary, Permanent, Rejected) as error:
        return _failed(job, failure_of(error))
    except Exception as error:  # one failing delivery must not stop the others
        log.exception("The delivery %s broke.", job.bundle.lead.id, extra={"delivery_id": job.bundle.lead.id})
        reason = as_reason(f"{type(error).__name__}: {error}")
        return _failed(job, AttemptFailed(FailureKind.INTERNAL_ERROR, reason))


def _send(job: DeliveryJob, now: datetime, check_lease: Callable[[], None]) -> Accepted:
    if job.problem:
        raise Permanent(job.problem)
    lead = job.bundle.lead
    if lead.channel == "email":
        can_reply = job.reply_address is not None
    else:
        # The sandbox shows the message as a provider with replies would send it.
        can_reply = job.active_provider is None or lead.channel in job.active_provider.reply_channels
    rendered = compose(
        job.bundle,
        channel(lead.channel),
        now,
        can_reply=can_reply,
        content_level=job.content_level,
        has_reply_codes=job.has_reply_codes,
    )
    if job.reply_address is not None:
        rendered = replace(rendered, headers={**rendered.headers, **job.reply_address.headers(rendered.link)})
    if channel(lead.channel).has_repeats and rendered.is_urgent:
        rendered = replace(rendered, repeats=_repeats(job, now))
    if job.active_provider is None:
        return Accepted(content=_storable(rendered.content()))
    check_lease()
    sender = job.active_provider.sender
    if lead.purpose is Purpose.TEST and isinstance(sender, AddressChecker):
        sender.check_address(lead.address)
    external_id = sender.send(rendered, lead.channel, lead.address, str(lead.notification_id))
    is_repeated = rendered.repeats is not None and isinstance(sender, RepeatingSender)
    return Accepted(sanitize(external_id)[:200], is_repeated=is_repeated)


def _repeats(job: DeliveryJob, now: datetime) -> Repeats:
    """Returns how the vendor repeats a page: until the next one, else for half an hour. A page about several alerts has
    no tag: the end of one of them does not end it.
    """
    alert_ids = {due.alert.id for due in job.bundle.members if due.alert is not None}
    tags = tuple(alert_tag(alert_id) for alert_id in alert_ids) if len(alert_ids) == 1 else ()
    return Repeats(REPEATED_FOR if job.next_page_at is None else job.next_page_at - now, tags)


def _failed(job: DeliveryJob, failure: AttemptFailed) -> AttemptFailed:
    """Masks secrets and the address in the error, which a server may have repeated."""
    lead = job.bundle.lead

    def clean(text: str) -> str:
        # The separator of joined reasons stays.
        if not text.strip():
            return text
        masked = job.active_provider.mask_secrets(text) if job.active_provider else text
        masked = redact_address(masked, lead.channel, lead.address)
        return " ".join(sanitize(masked).split())[:MAX_SEND_ERROR_CHARS]

    return replace(failure, error=replace_texts(failure.error, clean))


def redact_address(text: str, channel: str, address: str) -> str:
    """Masks the address in a server's error message: servers repeat the rejected address, and everyone who can see the
    alert reads the error.
    """
    if len(address) < _MIN_ADDRESS_CHARS:
        return text
    masked = addresses.mask(channel, address)
    # A gateway may repeat a phone number without its plus.
    pattern = rf"\+?{re.escape(address[1:])}" if address.startswith("+") else re.escape(address)
    return re.sub(pattern, lambda _: masked, text, flags=re.IGNORECASE)


# ---------- preload
# Loads templates, translations, time zones and certificates at startup, so that sending opens no file and works even
# if the process has run out of file descriptors.


def preload(now: datetime) -> None:
    """Renders one message for each channel, purpose and language and discards it."""
    egress.tls_context()
    alert = AlertContent(
        id=1,
        subject="Preload",
        long_text="<p>Preload</p>",
        priority=Priority.CRITICAL,
        opened_at=now,
        link="https://tocsin.invalid/",
    )
    for language, _ in settings.LANGUAGES:
        localize(page_planner.PAGE(), language)
        for purpose in Purpose:
            message = Message(UUID(int=0), purpose, now, alerts=(alert,), text="Preload", language=language)
            for each in CHANNELS.values():
                each.render(message)
