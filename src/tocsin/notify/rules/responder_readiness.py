"""Decides whether a user on call can be woken during a shift: by a loud channel, on a verified and tested contact
method, outside quiet hours, and in one role only. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from tocsin.access.roles import MemberRole
from tocsin.alerts.states import Priority
from tocsin.core.reasons import NO_REASON, Reason, ReasonType, Term
from tocsin.core.validation.inputs import is_zone
from tocsin.notify.interfaces import CHANNELS
from tocsin.notify.rules import page_planner
from tocsin.notify.rules.page_planner import USER_RULES, NotificationMethod, Recipient
from tocsin.oncall.calculation.coverage_checks import DoubleRole, double_roles
from tocsin.oncall.calculation.final_schedule import OnCall, Timeline

# ---------- push only check
# Finds users who would be paged by push alone. A phone that is off, silent or offline then reaches nobody. Pure.


#: The priorities for which push alone is not enough.
URGENT_PRIORITIES = (Priority.CRITICAL, Priority.HIGH)


def push_only_priorities(recipient: Recipient) -> tuple[Priority, ...]:
    """Returns the urgent priorities at which all contact methods of a user are pushes."""
    pushes = {name for name, channel in CHANNELS.items() if channel.is_push}
    channels = {
        priority: {method.channel for method in page_planner.select_methods(recipient, USER_RULES, priority)[0]}
        for priority in URGENT_PRIORITIES
    }
    return tuple(priority for priority, used in channels.items() if used and used <= pushes)


def is_loud(channel: str) -> bool:
    """Returns whether messages on a channel make a phone ring."""
    return channel in CHANNELS and CHANNELS[channel].is_loud


#: A contact method counts as tested for this long after a message arrived.
TEST_VALID_FOR = timedelta(days=90)

#: Quiet hours repeat weekly, so that a longer shift is checked no further.
_WEEK = timedelta(days=7)

_UNREACHABLE = ReasonType("readiness.unreachable", "No usable contact method: pages are never sent.")
_NOT_LOUD = ReasonType("readiness.not_loud", "No loud channel: add a call, SMS or push.")
_NOT_LOUD_AT = ReasonType(
    "readiness.not_loud_at", "No loud channel for {priority} alerts: add a call, SMS or push to the notification rules."
)
_NOT_VERIFIED = ReasonType("readiness.not_verified", "No loud contact method is verified.")
_NOT_TESTED = ReasonType("readiness.not_tested", "No call, SMS or push arrived in the last {days} days: send a test.")
_SILENCED = ReasonType(
    "readiness.silenced",
    "By their own word, no push rings while their phone is silenced: add a call, or change the phone.",
)
_UNAVAILABLE = ReasonType("readiness.unavailable", "Every provider of their calls, SMS and pushes is unavailable now.")
_QUIET_HOURS = ReasonType("readiness.quiet_hours", "Quiet hours delay {priority} alerts from {since} until {until}.")
_SEVERAL_ROLES = ReasonType(
    "readiness.several_roles", "Also {roles} at the same time: if they don't answer, the next step pages them again."
)


class ReadinessProblem(StrEnum):
    """What may keep a page from waking a user on call."""

    UNREACHABLE = "unreachable"
    NOT_LOUD = "not_loud"
    UNAVAILABLE = "unavailable"
    NOT_VERIFIED = "not_verified"
    NOT_TESTED = "not_tested"
    SILENCED = "silenced"
    QUIET_HOURS = "quiet_hours"
    SEVERAL_ROLES = "several_roles"


@dataclass(frozen=True, slots=True)
class MethodState:
    """Whether a contact method is verified, or cannot be; when a message last arrived there; whether its user says
    that it rings while the phone is silenced, if they said; and whether a provider that carries it is available.
    """

    is_verified: bool = False
    arrived_at: datetime | None = None
    rings_silenced: bool | None = None
    is_available: bool = True


@dataclass(frozen=True, slots=True)
class OnCallPerson:
    """A user with contact methods and notification rules, and the state of each method by its label."""

    recipient: Recipient
    states: Mapping[str, MethodState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ShiftReadiness:
    """Whether the user of one shift can be woken in it. `problems` are in the order of `ReadinessProblem`."""

    shift: OnCall
    #: The loud channels that pages of urgent alerts use, in the order of use.
    loud_channels: tuple[str, ...]
    is_verified: bool
    #: When a message last arrived on one of them, if that is known.
    arrived_at: datetime | None
    problems: Mapping[ReadinessProblem, Reason]
    #: Whether the user says that one of them rings while the phone is silenced; None if they never said.
    rings_silenced: bool | None = None
    #: Whether the user has another role meanwhile. Without a problem, somebody else comes before them in it.
    has_other_roles: bool = False

    @property
    def is_ready(self) -> bool:
        return not self.problems


def readiness(timeline: Timeline, responders: Mapping[int, OnCallPerson], now: datetime) -> tuple[ShiftReadiness, ...]:
    """Returns the readiness of each shift of a group that is not over at `now`, in the order of the timeline."""
    doubles = double_roles(timeline)
    return tuple(
        replace(
            _assess(shift, responders.get(shift.user_id), doubles, now),
            has_other_roles=any(
                other.user_id == shift.user_id and other.role is not shift.role and _overlap(shift, other)
                for other in timeline.segments
            ),
        )
        for shift in timeline.segments
        if shift.until is None or shift.until > now
    )


def now_and_next(shifts: Iterable[ShiftReadiness], now: datetime) -> tuple[ShiftReadiness, ...]:
    """Returns the shifts that are on at `now`, and in each role the first ones that follow."""
    following: dict[MemberRole, datetime] = {}
    upcoming = sorted(shifts, key=lambda one: one.shift.since or now)
    for one in upcoming:
        if one.shift.since is not None and one.shift.since > now:
            following.setdefault(one.shift.role, one.shift.since)
    return tuple(
        one
        for one in upcoming
        if one.shift.since is None or one.shift.since <= now or one.shift.since == following[one.shift.role]
    )


def _assess(
    shift: OnCall, responder: OnCallPerson | None, doubles: Sequence[DoubleRole], now: datetime
) -> ShiftReadiness:
    recipient = responder.recipient if responder is not None else Recipient(shift.user_id, shift.name)
    loud_methods = {
        method.label: method for priority in URGENT_PRIORITIES for method in _loud_methods(recipient, priority)
    }
    states = [responder.states.get(label, MethodState()) for label in loud_methods] if responder is not None else []
    is_verified = any(state.is_verified for state in states)
    arrived_at = max((state.arrived_at for state in states if state.arrived_at is not None), default=None)
    problems: dict[ReadinessProblem, Reason] = {}
    if problem := _silence(recipient):
        kind = ReadinessProblem.NOT_LOUD if recipient.usable else ReadinessProblem.UNREACHABLE
        problems[kind] = problem
    if states and not any(state.is_available for state in states):
        problems[ReadinessProblem.UNAVAILABLE] = _UNAVAILABLE()
    if loud_methods and not is_verified:
        problems[ReadinessProblem.NOT_VERIFIED] = _NOT_VERIFIED()
    if loud_methods and (arrived_at is None or arrived_at < now - TEST_VALID_FOR):
        problems[ReadinessProblem.NOT_TESTED] = _NOT_TESTED(days=TEST_VALID_FOR.days)
    answers = [state.rings_silenced for state in states]
    rings = None if all(answer is None for answer in answers) else any(answers)
    if states and all(answer is False for answer in answers):
        problems[ReadinessProblem.SILENCED] = _SILENCED()
    if problem := _quiet_hours(recipient, shift, now):
        problems[ReadinessProblem.QUIET_HOURS] = problem
    if roles := _other_roles(shift, doubles):
        problems[ReadinessProblem.SEVERAL_ROLES] = _SEVERAL_ROLES(roles=tuple(Term(role) for role in roles))
    channels = tuple(dict.fromkeys(method.channel for method in loud_methods.values()))
    return ShiftReadiness(shift, channels, is_verified, arrived_at, problems, rings)


def _loud_methods(recipient: Recipient, priority: Priority) -> tuple[NotificationMethod, ...]:
    methods, _note = page_planner.select_methods(recipient, USER_RULES, priority)
    return tuple(method for method in methods if is_loud(method.channel))


def _silence(recipient: Recipient) -> Reason:
    """Returns why the pages of urgent alerts make no sound; `NO_REASON` if they do."""
    if not recipient.usable:
        return _UNREACHABLE()
    silent_priorities = [priority for priority in URGENT_PRIORITIES if not _loud_methods(recipient, priority)]
    if not silent_priorities:
        return NO_REASON
    if not any(is_loud(method.channel) for method in recipient.usable):
        return _NOT_LOUD()
    return _NOT_LOUD_AT(priority=Term(silent_priorities[0]))


def _quiet_hours(recipient: Recipient, shift: OnCall, now: datetime) -> Reason:
    """Returns the first time within the shift at which quiet hours delay every loud page of an urgent alert."""
    begin = max(shift.since or now, now)
    end = min(shift.until or begin + _WEEK, begin + _WEEK)
    for priority in URGENT_PRIORITIES:
        methods = _loud_methods(recipient, priority)
        for at in (begin, *_quiet_starts(recipient, begin, end)) if methods else ():
            due = [page_planner.quiet_until(recipient, method, priority, at) for method in methods]
            if at not in due:
                return _QUIET_HOURS(priority=Term(priority), since=at, until=min(due))
    return NO_REASON


def _quiet_starts(recipient: Recipient, begin: datetime, end: datetime) -> Iterator[datetime]:
    """Yields when quiet hours begin in the period. Only then, or at its start, can they leave no method."""
    if not is_zone(recipient.time_zone):
        return
    zone = ZoneInfo(recipient.time_zone)
    day = begin.astimezone(zone).date()
    while day <= end.astimezone(zone).date():
        for quiet in recipient.quiet:
            span = quiet.window.on(day, zone)
            if span is not None and begin < span[0] < end:
                yield span[0]
        day += timedelta(days=1)


def _other_roles(shift: OnCall, doubles: Iterable[DoubleRole]) -> tuple[MemberRole, ...]:
    """Returns the other roles that the user has during the shift."""
    return tuple(
        dict.fromkeys(
            role
            for double in doubles
            if double.user_id == shift.user_id and shift.role in double.roles
            if _overlap(double, shift)
            for role in double.roles
            if role is not shift.role
        )
    )


def _overlap(one: OnCall | DoubleRole, other: OnCall) -> bool:
    limits = ((one.since, other.until), (other.since, one.until))
    return all(begin is None or end is None or begin < end for begin, end in limits)


# ---------- routes
# Which providers would carry a message to a contact method, in order, and whether each is known to work there.


#: A message to the same address counts as evidence for this long.
EVIDENCE_FOR = timedelta(days=30)


class RouteState(StrEnum):
    """What is known of a provider for one address. Only the first is green."""

    #: Its last message to the address arrived.
    WORKS = "works"
    #: It sent nothing to the address lately: nothing is known.
    NOT_TRIED = "not_tried"
    #: Its last message to the address failed.
    FAILED = "failed"
    #: It fails for everybody now, or its quota is used up.
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class MethodRoute:
    """One provider that would carry a message to a contact method."""

    provider: str
    state: RouteState
    worked_at: datetime | None = None
    failed_at: datetime | None = None
    error: Reason = NO_REASON


@dataclass(frozen=True, slots=True)
class MethodRoutes:
    """A contact method, what keeps it from reaching its user, and its providers in order; none: the sandbox."""

    label: str
    channel: str
    problems: tuple[Reason, ...]
    routes: tuple[MethodRoute, ...]


@dataclass(frozen=True, slots=True)
class PersonTonight:
    """A user who is on call in the coming night, and how they would be reached."""

    user_id: int
    name: str
    roles: tuple[MemberRole, ...]
    methods: tuple[MethodRoutes, ...]


def assess_route(
    provider: str,
    worked_at: datetime | None,
    failed_at: datetime | None,
    error: Reason,
    now: datetime,
    *,
    is_available: bool,
) -> MethodRoute:
    """Returns the route with what its last messages to the address say."""
    at = {one: one is not None and one > now - EVIDENCE_FOR for one in (worked_at, failed_at)}
    if not is_available:
        state = RouteState.UNAVAILABLE
    elif failed_at is not None and at[failed_at] and (worked_at is None or failed_at > worked_at):
        state = RouteState.FAILED
    else:
        state = RouteState.WORKS if at[worked_at] else RouteState.NOT_TRIED
    return MethodRoute(provider, state, worked_at, failed_at, error if state is RouteState.FAILED else NO_REASON)
