"""A service desk with an escalation policy: opens alerts and runs the escalation task at chosen times."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from tests.support.people import ACTOR, make_user
from tocsin.alerts import commands, service, store
from tocsin.alerts.commands import Actor, Command, NewAlert, NewEvent, PagingConfig, PagingMode
from tocsin.alerts.models import Alert
from tocsin.alerts.service import CommandResult, FoundAlert
from tocsin.alerts.states import ActorKind, EventKind, Priority
from tocsin.escalation import tasks
from tocsin.escalation.commands import save_policy
from tocsin.escalation.models import EscalationRun, Policy
from tocsin.escalation.run import run_store
from tocsin.notify.models import Notification
from tocsin.people.changes import groups
from tocsin.people.models import Group, User

STEPS: list[dict[str, Any]] = [
    {"notify": {"roles": ["primary"]}, "after": "0m"},
    {"notify": {"roles": ["secondary"]}, "after": "5m"},
    {"notify": {"roles": ["primary", "secondary"]}, "after": "10m"},
]


GROUP, POLICY = "Service Desk", "Standard"

_ROLES = {"alice": "responder", "bob": "responder", "carol": "manager", "erin": "admin"}
_ALICES_METHODS = [
    {"label": "Email-Official", "channel": "email", "address": "alice@example.org"},
    {"label": "SMS-Official", "channel": "sms", "address": "+41790000001", "wait": "3m"},
]


def make_desk(now: datetime) -> None:
    """Makes the users, their group and its policy."""
    for name, role in _ROLES.items():
        methods = {"contact_methods": _ALICES_METHODS} if name == "alice" else {}
        make_user(name, now, name=name.title(), role=role, **methods)
    roles = {"alice": "primary", "bob": "secondary", "carol": "lead"}
    members = [{"user": user, "roles": [role]} for user, role in roles.items()]
    groups.save_group({"name": GROUP, "members": members}, actor=ACTOR, now=now)
    save_policy({"name": POLICY, "steps": STEPS}, actor=ACTOR, now=now)


@contextmanager
def escalation_enabled() -> Iterator[None]:
    """The listener and the lookup of open questions, registered for the time of a test."""
    with commands.HANDLERS.restored(), store.QUESTION_LOOKUPS.restored():
        commands.HANDLERS.register(run_store.handle_changes)
        store.QUESTION_LOOKUPS.register(tasks.open_questions)
        yield


@dataclass
class EscalationHarness:
    """Alice is primary, Bob secondary, Carol lead, Erin administrates. Time is told by `at`, in minutes."""

    start: datetime
    keeper: tasks.EscalationTask = field(default_factory=tasks.EscalationTask)
    users: dict[str, User] = field(default_factory=dict)
    group: Group = field(default_factory=Group)
    policy: Policy = field(default_factory=Policy)

    def __post_init__(self) -> None:
        if not Group.objects.filter(name=GROUP).exists():
            make_desk(self.start)
        self.users = {user.username: user for user in User.objects.filter(username__in=_ROLES)}
        self.group = Group.objects.get(name=GROUP)
        self.policy = Policy.objects.get(name=POLICY)

    def save(self, **changes: object) -> Policy:
        """Changes the policy."""
        spec = {"name": POLICY, "steps": STEPS, **changes}
        self.policy = save_policy(spec, existing=Policy.objects.get(name=POLICY), actor=ACTOR, now=self.start)
        return self.policy

    def at(self, minute: float) -> datetime:
        return self.start + timedelta(minutes=minute)

    def actor(self, name: str) -> Actor:
        return Actor(ActorKind.USER, name.title(), self.users[name].pk)

    def paging(self, **changes: Any) -> PagingConfig:
        whole = {
            "mode": PagingMode.PAGE,
            "version_id": self.policy.current_version_id,
            "recipient_groups": (self.group.pk,),
            "reason": "The integration's own policy.",
            **changes,
        }
        return PagingConfig(**whole)

    def open(
        self, minute: float = 0, *, subject: str = "VPN down", integration: int | None = None, **paging: Any
    ) -> int:
        """Opens an alert and returns its number."""
        alert = NewAlert(
            0, Priority.HIGH, subject, self.at(minute), columns={"client": "Acme"}, integration_id=integration
        )
        event = NewEvent(0, EventKind.OPENED, self.at(minute), self.actor("erin"), "Erin opened it by hand.")
        return service.create_manual_alert(alert, self.paging(**paging), event, now=self.at(minute))

    def act(self, alert: int, command: Command, minute: float) -> CommandResult:
        return service.apply_command(FoundAlert.by_tocsin(alert), command, now=self.at(minute))

    def run_until(self, minute: float) -> None:
        """One turn of the loop, until nothing is due."""
        while self.keeper.run_once(self.at(minute)):
            pass

    def through(self, *minutes: float) -> None:
        for minute in minutes:
            self.run_until(minute)

    def run(self, alert: int) -> EscalationRun:
        return EscalationRun.objects.filter(alert=alert).latest("id")

    def alert(self, alert: int) -> Alert:
        return Alert.objects.get(pk=alert)

    def pages(self, alert: int, purpose: str = "page") -> list[tuple[str, str, float, str]]:
        """(who, by what, at which minute, how it stands) of an alert's notifications, in order."""
        notifications = Notification.objects.filter(alert=alert, purpose=purpose).order_by("id")
        return [
            (
                one.user.username if one.user else one.label,
                one.channel,
                (delivery.due_at - self.start) / timedelta(minutes=1),
                delivery.status,
            )
            for one in notifications.select_related("user")
            for delivery in one.deliveries.all()
        ]

    def timeline(self, alert: int) -> list[str]:
        return [str(event.reason) for event in self.alert(alert).events.order_by("id")]
