"""Writes the history of the demo: three weeks of alerts, pages and changes, by the code that runs in production.

The clock is that of the history. There is no provider, so that every message goes to the sandbox.
"""

from __future__ import annotations

import heapq
import io
import math
import wave
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import count
from typing import Any

from psycopg.conninfo import make_conninfo

from tocsin.access.audit import AuditActor
from tocsin.alerts import commands, service
from tocsin.alerts.commands import Actor, Command
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ActorKind, CommandKind
from tocsin.calls.models import CallLeg, CallRoute, PhoneCall
from tocsin.calls.states import CallOutcome, CallPhase, Cause, LegStatus
from tocsin.cli.demo import incidents
from tocsin.cli.demo.incidents import ZONE, Answer, Incident, local
from tocsin.core import ids
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.validation.spec import write_moment
from tocsin.escalation import commands as policies
from tocsin.escalation.models import Policy
from tocsin.escalation.tasks import EscalationTask
from tocsin.inbound import maintenance_commands as maintenance
from tocsin.inbound.config import registry
from tocsin.inbound.models import Integration
from tocsin.inbound.parsing.decode import Element, elements_of
from tocsin.inbound.processing.drain import process_now
from tocsin.inbound.storage.messages import IncomingMessage
from tocsin.notify import notices
from tocsin.notify.dispatch import send
from tocsin.notify.dispatch.dispatcher import DeliveryDispatcher
from tocsin.notify.models import Delivery, ProviderHealth
from tocsin.notify.states import SANDBOX, DeliveryStatus, ReceiptState
from tocsin.oncall import loader
from tocsin.oncall.changes import overrides, swaps
from tocsin.oncall.changes.swaps import ShiftRange
from tocsin.oncall.models import Schedule
from tocsin.people.changes import out_of_office
from tocsin.people.models import User
from tocsin.workflows.run import tasks as workflows

# ---------- changes
# What people of the sample team changed in the three weeks before the demo began.


type Change = Callable[[datetime], object]


def changes(now: datetime) -> Iterator[tuple[datetime, Change]]:
    """Each with its time, in any order."""
    yield local(now, 16, "16:24"), _repeat_oftener
    yield local(now, 15, "09:10"), lambda at: _swap(at, now, 14, "My daughter's concert", is_accepted=True)
    yield local(now, 8, "11:47"), lambda at: _dentist(at, now)
    yield local(now, 6, "14:05"), lambda at: _firmware(at, now)
    yield local(now, 4, "10:31"), lambda at: _absence(at, now)
    yield local(now, 1, "13:02"), lambda at: _swap(at, now, -6, "Theatre tickets", is_accepted=False)


def _repeat_oftener(at: datetime) -> None:
    policy = Policy.objects.get(name="Standard")
    spec = {**policies.policy_spec(policy), "repeat": {"times": 3, "every": "10m"}}
    policies.save_policy(spec, existing=policy, actor=_by("dana"), now=at)


def _swap(at: datetime, now: datetime, days_ago: int, message: str, *, is_accepted: bool) -> None:
    """An evening of the network team goes to the one who is not on call, or is to."""
    schedule = Schedule.objects.select_related("group").get(name="Network 24x7")
    evening = ShiftRange(local(now, days_ago, "17:00"), local(now, days_ago, "23:00"))
    with database.transaction() as connection:
        on_call = loader.on_call(connection, [schedule.group_id], evening.starts_at)[schedule.group_id]
    requester = User.objects.get(pk=on_call[0].user_id)
    team = User.objects.filter(username__in=("chen", "emma", "finn"))
    requested = team.exclude(pk__in=[one.user_id for one in on_call]).get()
    swap = swaps.request_swap(
        schedule, evening, requester=requester, requested_user=requested, in_return=None, message=message,
        actor=_by(requester.username), now=at,
    )  # fmt: skip
    if is_accepted:
        swaps.accept(swap, actor=_by(requested.username), now=at + timedelta(minutes=26))


def _dentist(at: datetime, now: datetime) -> None:
    spec = {
        "schedule": "Service Desk 24x7", "name": "Dentist", "user": "dana", "role": "primary",
        "from": write_moment(local(now, 7, "13:00")), "to": write_moment(local(now, 7, "17:00")),
    }  # fmt: skip
    overrides.save_override(spec, actor=_by("dana"), now=at)


def _firmware(at: datetime, now: datetime) -> None:
    spec: dict[str, Any] = {
        "name": "Firmware of the core switches", "group": "Network", "integrations": ["Prometheus"],
        "time_zone": ZONE.key,
        "starts": f"{local(now, 5, '21:00').astimezone(ZONE):%Y-%m-%d %H:%M}",
        "ends": f"{local(now, 5, '23:30').astimezone(ZONE):%Y-%m-%d %H:%M}",
    }  # fmt: skip
    maintenance.save_window(spec, actor=_by("chen"), now=at)


def _absence(at: datetime, now: datetime) -> None:
    spec = {
        "from": write_moment(local(now, -12, "08:00")), "to": write_moment(local(now, -19, "18:00")),
        "cover": "dana", "note": "Holidays",
    }  # fmt: skip
    out_of_office.save_absence(User.objects.get(username="emma"), spec, actor=_by("emma"), now=at)


def _by(username: str) -> AuditActor:
    return AuditActor.from_user(User.objects.get(username=username), "web", limits=None)


#: Messages that are sent at the same time.
_SLOTS = 8

_NEXT_DUE = """
SELECT min(due_at) AS run, (SELECT min(due_at) FROM notify_delivery WHERE status = 'queued') AS delivery,
       (SELECT min(due_at) FROM workflows_run) AS workflow
FROM escalation_run WHERE due_at IS NOT NULL
"""
_LAST_PAGED = """
SELECT user_id FROM notify_delivery WHERE alert_id = %s AND purpose = 'page' AND status IN ('sent', 'delivered')
AND user_id IS NOT NULL ORDER BY id DESC LIMIT 1
"""


def write(now: datetime) -> None:
    """Writes what happened before `now`. The sample team and its schedules exist already."""
    send.counts_as_sent = True
    recorder = _Recorder(now - timedelta(days=incidents.DAYS))
    for at, change in changes(now):
        recorder.plan(at, change)
        recorder.plan(at, notices.queue_pending_notices)
    for incident in incidents.incidents(now):
        recorder.plan_incident(incident)
    with _asynchronous_commits(), ids.uuid7_clock(lambda: recorder.now), closing(recorder.outbox):
        recorder.run(now)
    # Reports do not count what went to the sandbox.
    sandboxed = Delivery.objects.filter(provider_name=SANDBOX)
    for channel, name in (("email", "Mail server"), ("chat", "Microsoft Teams")):
        sandboxed.filter(channel=channel).update(provider_name=name)
        ProviderHealth.objects.create(name=name, worked_at=now)
    _deliver(list(sandboxed.exclude(sent_at=None)))


@dataclass(frozen=True, slots=True)
class _PastCall:
    """A call of the hotline: who called, when, and what became of each ring."""

    hours_ago: float
    caller: str
    name: str
    client: str
    outcome: CallOutcome
    cause: str
    rings: tuple[tuple[str, str, LegStatus], ...]
    #: Seconds until a person took it, and until it ended.
    answered_after: int | None
    lasted: int
    message: str = ""


_CALLS = (
    _PastCall(
        51, "+41790000031", "José Ångström", "Acme Corp", CallOutcome.ANSWERED, "",
        (
            ("alice", "primary, Service Desk", LegStatus.NO_ANSWER),
            ("bob", "secondary, Service Desk", LegStatus.ACCEPTED),
        ),
        44, 312,
    ),
    _PastCall(
        27, "+41790000032", "", "Globex", CallOutcome.MISSED, Cause.CALLER_HUNG_UP,
        (("alice", "primary, Service Desk", LegStatus.CANCELLED),), None, 14,
    ),
    _PastCall(
        6, "+41790000033", "Maria Rossi", "Initech", CallOutcome.VOICEMAIL, Cause.NOBODY_ANSWERED,
        (("alice", "primary, Service Desk", LegStatus.DECLINED), ("bob", "secondary, Service Desk", LegStatus.MACHINE)),
        None, 71, "The VPN in Lugano is down, please call me back.",
    ),
)  # fmt: skip


def write_calls(now: datetime) -> None:
    """Writes three calls of the hotline: answered, missed, and a voicemail."""
    route, people = CallRoute.objects.get(), {user.username: user for user in User.objects.all()}
    for number, past in enumerate(_CALLS):
        at = now - timedelta(hours=past.hours_ago)
        taken = past.answered_after is not None
        tone = _tone() if past.message else None
        call = PhoneCall.objects.create(
            route=route, route_name=route.name, group=route.group, provider="Twilio", external_id=f"CAdemo{number}",
            called=route.numbers[0], caller=past.caller, caller_name=past.name, client=past.client, state={},
            phase=CallPhase.ENDED, outcome=past.outcome, cause=past.cause, started_at=at,
            answered_at=at + timedelta(seconds=past.answered_after or 0) if taken else None,
            answered_by=people[past.rings[-1][0]] if taken else None, ended_at=at + timedelta(seconds=past.lasted),
            recording=tone, recording_type="audio/wav" if tone else "", recording_seconds=_TONE_SECONDS if tone else 0,
            recording_until=now + timedelta(days=route.recording_days) if tone else None, transcription=past.message,
        )  # fmt: skip
        for place, (username, capacity, status) in enumerate(past.rings, 1):
            user, rung_at = people[username], at + timedelta(seconds=8 + 25 * (place - 1))
            CallLeg.objects.create(
                call=call, place=place, user=user, user_name=user.display_name, capacity=capacity, status=status,
                number="+41790000001", rung_at=rung_at, ended_at=rung_at + timedelta(seconds=20),
            )  # fmt: skip


_TONE_SECONDS, _SAMPLES = 3, 8_000


def _tone() -> bytes:
    """Returns a tone, as a WAV file: what the demo's caller says."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((1, 1, _SAMPLES, 0, "NONE", ""))
        out.writeframes(bytes(
            int(128 + 40 * math.sin(math.tau * 440 * step / _SAMPLES)) for step in range(_TONE_SECONDS * _SAMPLES)
        ))  # fmt: skip
    return file.getvalue()


def _deliver(texts_and_calls: list[Delivery]) -> None:
    """Has a vendor accept them within a second; a text arrives within seconds, a call is picked up within half a
    minute."""
    for number, one in enumerate(texts_and_calls):
        assert one.sent_at is not None
        is_call, chance = one.channel == "voice", number * 7919 % 997 / 997
        one.provider_name, one.currency = "Twilio", "USD"
        one.cost = Decimal("0.0450" if is_call else "0.0725")
        one.sent_at += timedelta(seconds=0.2 + 0.7 * chance)
        if one.receipt != ReceiptState.NOT_REACHED:
            one.status, one.receipt = DeliveryStatus.DELIVERED, one.receipt or ReceiptState.DELIVERED
            one.delivered_at = one.sent_at + timedelta(seconds=9 + 18 * chance if is_call else 1.5 + 6 * chance)
    columns = ("provider_name", "currency", "cost", "sent_at", "status", "receipt", "delivered_at")
    Delivery.objects.bulk_update(texts_and_calls, columns)
    worked_at = max((one.delivered_at for one in texts_and_calls if one.delivered_at), default=None)
    ProviderHealth.objects.create(name="Twilio", worked_at=worked_at)


@contextmanager
def _asynchronous_commits() -> Iterator[None]:
    """Commits without waiting for the disk, which would take a third of the time: a history that a crash cut off is
    nobody's loss."""
    url = database.url()
    database.use(make_conninfo(url, options="-c synchronous_commit=off"))
    try:
        yield
    finally:
        database.use(url)


@dataclass(slots=True)
class _Recorder:
    """Does what is planned at its time, and runs the tasks whenever something is due."""

    now: datetime
    outbox: DeliveryDispatcher = field(init=False)
    _escalation: EscalationTask = field(default_factory=EscalationTask)
    #: By time. The number keeps the order of what is planned for the same time.
    _planned: list[tuple[datetime, int, Change]] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)
    _users: Mapping[str, User] = field(default_factory=lambda: {user.username: user for user in User.objects.all()})
    _integrations: Mapping[str, int] = field(
        default_factory=lambda: dict(Integration.objects.values_list("name", "pk"))
    )

    def __post_init__(self) -> None:
        self.outbox = DeliveryDispatcher(slots=_SLOTS, now=lambda: self.now)

    def plan(self, at: datetime, change: Change) -> None:
        heapq.heappush(self._planned, (at, next(self._numbers), change))

    def plan_incident(self, incident: Incident) -> None:
        self.plan(incident.at, lambda now: self._begin(incident, now))

    def _begin(self, incident: Incident, now: datetime) -> None:
        for alert_id in self._receive(incident.integration, incident.body):
            for answer in incident.answers:
                self.plan(now + timedelta(minutes=answer.after), partial(self._answer, alert_id, answer))
        if incident.end is not None:
            after, body = incident.end
            self.plan(now + timedelta(minutes=after), lambda _now: self._receive(incident.integration, body))

    def run(self, until: datetime) -> None:
        while self._planned:
            at, _number, change = heapq.heappop(self._planned)
            if at > until:
                break
            self._run_tasks(at)
            change(self.now)
        self._run_tasks(until)

    def _run_tasks(self, until: datetime) -> None:
        """Decides steps and sends messages that are due, each a second later at the earliest, as a busy node would."""
        while True:
            with database.transaction() as connection:
                due = database.row(connection, _NEXT_DUE) or {}
            times = [at for at in due.values() if at is not None]
            if not times or min(times) > until:
                break
            self.now = min(until, max(min(times), self.now + timedelta(seconds=1)))
            if due["run"] is not None and due["run"] <= self.now:
                self._escalation.run_once(self.now)
            elif due["workflow"] is not None and due["workflow"] <= self.now:
                workflows.run_once(self.now)
            else:
                self.outbox.run_once()
                self.outbox.settle()
        self.now = max(self.now, until)

    def _receive(self, integration: str, body: bytes) -> list[int]:
        """The ids of the alerts that the messages belong to."""
        compiled = registry.shared_registry()
        compiled.refresh()
        number = self._integrations[integration]
        try:
            elements: tuple[Element | Rejected, ...] = elements_of(
                compiled.get(number).normalizer.kind, body, "application/json"
            ).elements
        except Rejected as rejected:
            elements = (rejected,)
        messages = [
            IncomingMessage(
                ids.uuid7(), number, self.now, body if isinstance(element, Rejected) else element.raw, element,
                "application/json",
            )
            for element in elements
        ]  # fmt: skip
        return [result.alert_id for result in process_now(messages, self.now) if result.alert_id is not None]

    def _answer(self, alert_id: int, answer: Answer, now: datetime) -> None:
        user = self._users.get(answer.user) or self._last_paged(alert_id)
        if user is not None:
            actor = Actor(ActorKind.USER, user.display_name, user.pk)
            # The source may have been faster.
            with suppress(Rejected):
                service.apply_command(FoundAlert.by_tocsin(alert_id), _command(answer, actor, now), now=now)

    def _last_paged(self, alert_id: int) -> User | None:
        with database.transaction() as connection:
            row = database.row(connection, _LAST_PAGED, (alert_id,))
        return next((user for user in self._users.values() if row and user.pk == row["user_id"]), None)


def _command(answer: Answer, actor: Actor, now: datetime) -> Command:
    common: dict[str, Any] = {"actor": actor, "via": answer.via}
    match answer.command:
        case CommandKind.ASSIGN:
            return commands.Assign(name=actor.name, user_id=actor.user_id, note=answer.note, **common)
        case CommandKind.HOLD:
            return commands.Hold(until=now + timedelta(hours=answer.hours), note=answer.note, **common)
        case CommandKind.REPLY:
            return commands.Reply(text=answer.note, **common)
        case kind:
            plain: Any = commands.COMMAND_CLASSES[kind]
            command: Command = plain(note=answer.note, **common)
            return command
