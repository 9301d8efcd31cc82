"""One alert and its run, driven like the escalation task and the commands do, with a record of the results."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from msgspec.structs import replace

from tocsin.access.roles import MemberRole
from tocsin.alerts.commands import Actor, AlertState, Command, LastEvent, NewEvent, PagingMode, Transition
from tocsin.alerts.lifecycle import apply
from tocsin.alerts.states import ActorKind, AlertStatus, EventKind, Priority
from tocsin.core.reasons import as_reason
from tocsin.escalation.policy import CompiledPolicy, parse
from tocsin.escalation.run.engine import advance
from tocsin.escalation.run.run_state import (
    ActivePause,
    CancelPages,
    RunDecision,
    RunState,
    RunStatus,
    SendNotice,
    apply_transition,
    begin_run,
    from_row,
    to_row,
)
from tocsin.escalation.run.target_resolution import ContactTarget, GroupOnCall, TargetContext
from tocsin.notify.rules.page_planner import NotificationMethod, Recipient

T0 = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
PRIMARY, SECONDARY, LEAD = MemberRole
ALICE, BOB, CAROL, DAVE, ERIN = 1, 2, 3, 4, 5
DESK, NETWORK = 10, 11
NAMES = {ALICE: "Alice", BOB: "Bob", CAROL: "Carol", DAVE: "Dave", ERIN: "Erin"}
AT_ONCE = (timedelta(),)


def minutes(number: float) -> timedelta:
    return timedelta(minutes=number)


def actor(user_id: int) -> Actor:
    return Actor(ActorKind.USER, NAMES[user_id], user_id)


def plan(*steps: object, **rest: object) -> CompiledPolicy:
    """A policy: each step ("primary", after minutes) or a `notify` mapping with its minutes, and further keys."""
    written = []
    for targets, after, *more in steps:  # type: ignore[misc]
        notify = targets if isinstance(targets, dict) else {"roles": str(targets).split()}
        written.append({"notify": notify, "after": f"{int(after * 60)}s", **(more[0] if more else {})})
    names = {
        "users": {name.lower(): number for number, name in NAMES.items()},
        "groups": {"desk": DESK, "network": NETWORK},
        "schedules": {"nights": 20},
        "support_hours": {"office": 30},
        "policies": {"other": 40},
    }
    return parse({"steps": written, **rest}, names)


def roster(
    *,
    primary: tuple[int, ...] = (ALICE,),
    secondary: tuple[int, ...] = (BOB,),
    lead: tuple[int, ...] = (CAROL,),
    offsets: dict[int, tuple[float, ...]] | None = None,
    network: tuple[int, ...] = (),
    admins: tuple[int, ...] = (ERIN,),
) -> TargetContext:
    """The Desk with its people on call, each paged at once only unless `offsets` (minutes) says otherwise."""
    methods = {user: tuple(minutes(m) for m in spans) for user, spans in (offsets or {}).items()}
    return TargetContext(
        groups={
            DESK: GroupOnCall(
                DESK, "Desk", {PRIMARY: primary, SECONDARY: secondary, LEAD: lead}, (ContactTarget(100, "Chat"),)
            ),
            NETWORK: GroupOnCall(NETWORK, "Network", {PRIMARY: network}),
        },
        active_users={user: person(user, methods.get(user, AT_ONCE)) for user in NAMES},
        admin_ids=admins,
    )


def person(user_id: int, waits: tuple[timedelta, ...] = AT_ONCE) -> Recipient:
    """Somebody with one way for each wait."""
    methods = tuple(
        NotificationMethod(f"Way {number}", "sms", f"+4179000000{number}", wait)
        for number, wait in enumerate(sorted(waits))
    )
    return Recipient(user_id, NAMES[user_id], methods)


class EscalationRun:
    """The alert, its run and the clock. `paged` is (minute, user id) in order."""

    def __init__(
        self,
        policy: CompiledPolicy,
        people: TargetContext | None = None,
        *,
        mode: PagingMode = PagingMode.PAGE,
        users: tuple[int, ...] = (),
        groups: tuple[int, ...] = (DESK,),
        why: str = "",
    ) -> None:
        self.now = T0
        self.roster = people or roster()
        self.alert = AlertState(42, AlertStatus.OPEN, Priority.HIGH, T0)
        self.run = begin_run(
            42,
            policy,
            mode,
            Priority.HIGH,
            T0,
            recipient_users=users,
            recipient_groups=groups,
            policy_reason=as_reason(why),
        )
        self.pause: ActivePause | None = None
        self.paged: list[tuple[float, int]] = []
        self.would: list[tuple[float, int]] = []
        self.contacts: list[tuple[float, str]] = []
        self.asked: list[tuple[float, int]] = []
        self.told: list[tuple[float, SendNotice]] = []
        self.cancels: list[CancelPages] = []
        self.events: list[NewEvent] = []

    @property
    def minute(self) -> float:
        return (self.now - T0) / minutes(1)

    def to(self, minute: float) -> EscalationRun:
        """Lets time pass as the loop sees it: a turn at each moment the run is due."""
        end = T0 + minutes(minute)
        while self.run.due_at is not None and self.run.due_at <= end:
            due = self.run.due_at
            self.now = max(self.now, due)
            self.run_once()
            assert self.run.due_at is None or self.run.due_at > due, "a turn leaves nothing due"
        self.now = max(self.now, end)
        return self

    def at(self, minute: float) -> EscalationRun:
        """One late turn at that minute, whatever was due before."""
        self.now = T0 + minutes(minute)
        self.run_once()
        return self

    def run_once(self) -> None:
        pause = self.pause if self.pause and self.pause.until > self.now else None
        self._keep(advance(self._reread(), self.alert, self.roster, self.now, pause))

    def act(self, command: Command) -> Transition:
        """A command, and what follows for the run."""
        before = self.alert
        done = apply(before, command, self.now)
        self._changed(done)
        if done.is_change:
            self._keep(apply_transition(self._reread(), before, done.state, done.events, self.now))
        return done

    @property
    def awaits_acceptance(self) -> bool:
        return self.run.progress.accept_by is not None and self.run.status is not RunStatus.TERMINATED

    def sentences(self, kind: EventKind) -> list[str]:
        return [str(event.reason) for event in self.events if event.kind is kind]

    def users(self) -> list[int]:
        return [user for _minute, user in self.paged]

    def _changed(self, done: Transition) -> None:
        self.alert = done.state
        for event in done.events:
            self.events.append(event)
            if event.alert_id == self.alert.id:
                last = LastEvent(
                    event.kind, event.at, event.actor.kind, event.actor.name, event.actor.user_id, event.data
                )
                self.alert = replace(self.alert, last_event=last)
        reminded = frozenset(self.run.progress.ack_reminder_sent_at) & self.alert.acknowledged.keys()
        self.alert = replace(self.alert, reminded_user_ids=reminded, awaits_acceptance=self.awaits_acceptance)

    def _reread(self) -> RunState:
        """The run as it comes back from its row."""
        columns = {
            "alert_id": self.run.alert_id,
            "recipient_users": list(self.run.recipient_users),
            "recipient_groups": list(self.run.recipient_groups),
            **to_row(self.run),
        }
        return from_row(columns, self.run.plan)

    def _keep(self, decision: RunDecision) -> None:
        for command in decision.commands:
            self._changed(apply(self.alert, command, self.now))
        self.run = decision.successor or decision.run
        self.alert = replace(
            self.alert,
            reminded_user_ids=frozenset(self.run.progress.ack_reminder_sent_at) & self.alert.acknowledged.keys(),
            awaits_acceptance=self.awaits_acceptance,
        )
        self.paged += [(self.minute, start.target.user_id) for start in decision.pages]
        self.would += [(self.minute, start.target.user_id) for start in decision.dry_run_pages]
        self.contacts += [(self.minute, contact.label) for contact in decision.contact_pages]
        self.asked += [(self.minute, ask.user_id) for ask in decision.ack_reminders]
        self.told += [(self.minute, send_notice) for send_notice in decision.notices]
        self.cancels += decision.cancellations
        self.events += decision.events
