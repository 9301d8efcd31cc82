"""Announcements: a group's contacts are notified of who is on call, each handover, the next week, gaps and maintenance,
and a user group of a chat service has those on call as its members.

What was announced last is stored by subject (`notify.notices`) and compared with what is now. Storing it and queueing
the messages is one transaction: each is announced once, whichever node does it, and a node that was down announces what
is so when it is back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.access.roles import MemberRole
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.errors import Permanent, Temporary
from tocsin.core.reasons import (
    MORE,
    NO_REASON,
    Person,
    Reason,
    ReasonType,
    Term,
    Text,
    joined,
    reason_as_json,
    reason_from_json,
    sentence,
)
from tocsin.core.runtime import clock
from tocsin.core.runtime.periodic_tasks import PeriodicTask
from tocsin.inbound import maintenance, maintenance_commands
from tocsin.inbound.enums import WindowAction
from tocsin.inbound.maintenance import Repeat, TimeSpan
from tocsin.notify import notices, pages, worker
from tocsin.notify.interfaces import UserGroupSender
from tocsin.notify.notices import Notice
from tocsin.notify.providers.pool import ActiveProvider
from tocsin.oncall import loader
from tocsin.oncall.calculation import final_schedule
from tocsin.oncall.calculation.final_schedule import GroupPlan, OnCallResolver
from tocsin.oncall.calculation.weekly_windows import instant, midnight
from tocsin.people import sql
from tocsin.people.changes.users import TIMED, AnnouncementSpec, AnnouncementTopic
from tocsin.people.models import Group

log = logging.getLogger(__name__)

INTERVAL = timedelta(seconds=20)
#: What was due longer ago, while no node ran, is not sent any more: the next announcement says so.
MAX_LATE = timedelta(hours=6)
GAPS_HORIZON = timedelta(days=7)
#: Lines of a message; the rest is only counted.
MAX_LINES = 40
MAX_IN_TITLE = 4
_FRIDAY = 4

# ---------- due
# When something is due. Pure.


def due_moments(topic: AnnouncementTopic, at: int, zone: ZoneInfo, first: date) -> Iterator[datetime]:
    """Yields the moments at which clocks show `at` (in minutes), from `first` on, of each day or each Friday. A time
    that clocks skip is as long after the change; of one that they show twice it is the first."""
    for number in range(15):
        day = first + timedelta(days=number)
        if topic is not AnnouncementTopic.WEEK or day.weekday() == _FRIDAY:
            yield instant(datetime.combine(day, time()) + timedelta(minutes=at), zone)


def next_due(topic: AnnouncementTopic, at: int, zone: ZoneInfo, after: datetime) -> datetime:
    day = after.astimezone(zone).date() - timedelta(days=2)
    return next(moment for moment in due_moments(topic, at, zone, day) if moment > after)


def last_due(topic: AnnouncementTopic, at: int, zone: ZoneInfo, now: datetime) -> datetime:
    day = now.astimezone(zone).date() - timedelta(days=9)
    return max(moment for moment in due_moments(topic, at, zone, day) if moment <= now)


def due(
    spec: AnnouncementSpec, zone: ZoneInfo, since: datetime, now: datetime
) -> tuple[set[AnnouncementTopic], datetime | None]:
    """Returns what is due of what has a time of day, and when the first was that nobody sent in time, if any. `since`
    is until when everything was sent."""
    found, missed = set[AnnouncementTopic](), set[datetime]()
    for topic in TIMED.intersection(spec.topics):
        first = next_due(topic, spec.at, zone, since)
        if first > now:
            continue
        last = last_due(topic, spec.at, zone, now)
        if now - last <= MAX_LATE:
            found.add(topic)
        if first < last or now - last > MAX_LATE:
            missed.add(first)
    return found, min(missed, default=None)


# ---------- who is on call

#: Those on call by role, each with id and name.
type OnCallNow = dict[str, list[list[Any]]]

_IN_ROLE = Text("{role} {user}")
_ROLE_LINE = Text("{role}: {users}")
_UNTIL = Text("{user} until {until}")
_NO_ONE = Text("no one")
_SPAN = Text("{since} to {until}")
# Tabs part the cells of a table, where a channel can draw one.
_DUTY = Text("{since} to {until}:\t{user}\t({role})")
_GAP = Text("{since} to {until}:\tno one\t({role})")
_ZONE = Text("Times are in {zone}.")


def on_call_now(plan: GroupPlan, now: datetime) -> OnCallNow:
    """Returns those on call, and the roles without anybody that a shift assigns at other times."""
    resolver = OnCallResolver(plan)
    return {
        str(role): [[one.user_id, plan.name_of(one.user_id)] for one in decided.assignments]
        for role, decided in resolver.at(now).items()
        if decided.assignments or role in resolver.scheduled
    }


def _of_roles(people: OnCallNow, roles: Collection[MemberRole]) -> OnCallNow:
    return {role: users for role, users in people.items() if not roles or role in roles}


def compose(
    plan: GroupPlan,
    spec: AnnouncementSpec,
    topics: Collection[AnnouncementTopic],
    zone: ZoneInfo,
    now: datetime,
    *,
    before: OnCallNow | None = None,
    missed: datetime | None = None,
) -> Notice | None:
    """Returns the message about everything that is announced together; None if there is nothing to say. `before` are
    those who were on call."""
    parts: list[tuple[Reason, Sequence[Reason]]] = []
    if not {AnnouncementTopic.ON_CALL, AnnouncementTopic.HANDOVERS}.isdisjoint(topics):
        parts.append(_on_call(plan, spec, now, before if AnnouncementTopic.HANDOVERS in topics else None))
    if AnnouncementTopic.WEEK in topics:
        begin = midnight(_next_monday(now.astimezone(zone).date()), zone)
        end = midnight(_next_monday(now.astimezone(zone).date()) + timedelta(days=7), zone)
        parts.append((sentence("On call next week in {group}", group=plan.name), _shifts(plan, spec, begin, end)))
    if AnnouncementTopic.GAPS in topics and (gaps := _gaps(plan, spec, now, now + GAPS_HORIZON)):
        title = sentence("No one on call in {group} in the next {days} days", group=plan.name, days=GAPS_HORIZON.days)
        parts.append((title, [line for _since, line in gaps]))
    if not parts:
        return None
    blocks = [
        joined(title if number else NO_REASON, *_limited(lines), separator="\n")
        for number, (title, lines) in enumerate(parts)
    ]
    late = sentence("Nothing was announced since {at}: Tocsin was not running.", at=missed) if missed else NO_REASON
    return Notice(
        title=parts[0][0],
        text=joined(*blocks, joined(late, _ZONE(zone=zone.key), separator="\n"), separator="\n\n"),
        about=f"announcement:{plan.id}",
        reason=sentence("{group} has set up this announcement.", group=plan.name),
    )


def _next_monday(day: date) -> date:
    return day + timedelta(days=7 - day.weekday())


def _limited(lines: Sequence[Reason], most: int = MAX_LINES) -> Sequence[Reason]:
    return lines if len(lines) <= most else [*lines[:most], MORE(count=len(lines) - most)]


def _on_call(
    plan: GroupPlan, spec: AnnouncementSpec, now: datetime, before: OnCallNow | None
) -> tuple[Reason, Sequence[Reason]]:
    """Returns the title and a line for each role; with `before`, another one with those who were on call."""
    ends = {(str(one.role), one.user_id): one.until for one in final_schedule.on_call(plan, now)}
    people = _of_roles(on_call_now(plan, now), spec.roles)
    lines = []
    for role, users in people.items():
        named: list[Reason] = []
        for user_id, name in users:
            until = ends.get((role, user_id))
            user = Person(name, user_id)
            named.append(_UNTIL(user=user, until=until) if until else sentence("{user}", user=user))
        lines.append(_ROLE_LINE(role=Term(role), users=tuple(_limited(named or [_NO_ONE()]))))
    if not lines:
        lines = [sentence("No one is on call.")]
    if before is not None:
        before = _of_roles(before, spec.roles)
        former = _named({role: users for role, users in before.items() if users != people.get(role)})
        lines += [sentence("Before: {users}", users=tuple(former))] if former else []
    if found := _named(people):
        return sentence("On call now in {group}: {users}", group=plan.name, users=tuple(found)), lines
    return sentence("No one is on call in {group}", group=plan.name), lines


def _named(people: OnCallNow) -> Sequence[Reason]:
    pairs = ((role, Person(name, user_id)) for role, users in people.items() for user_id, name in users)
    return _limited([_IN_ROLE(role=Term(role), user=user) for role, user in pairs], MAX_IN_TITLE)


def _shifts(plan: GroupPlan, spec: AnnouncementSpec, begin: datetime, end: datetime) -> Sequence[Reason]:
    """Returns a line for each shift, and for each time without anybody, by start. Without shifts, for each member."""
    found = _gaps(plan, spec, begin, end)
    timeline = final_schedule.timeline(plan, begin, end)
    roles = timeline.scheduled_roles or frozenset(MemberRole)
    for one in timeline.segments:
        if one.role in roles and (not spec.roles or one.role in spec.roles):
            since, until = max(one.since or begin, begin), min(one.until or end, end)
            user = Person(one.name, one.user_id)
            found.append((since, _DUTY(since=since, until=until, user=user, role=Term(one.role))))
    return [line for _since, line in sorted(found, key=lambda pair: pair[0])] or [sentence("No one is on call.")]


def _gaps(plan: GroupPlan, spec: AnnouncementSpec, begin: datetime, end: datetime) -> list[tuple[datetime, Reason]]:
    return [
        (gap.since, _GAP(since=gap.since, until=gap.until, role=Term(gap.role)))
        for gap in final_schedule.timeline(plan, begin, end).gaps
        if not spec.roles or gap.role in spec.roles
    ]


@dataclass(frozen=True, slots=True)
class Preview:
    """A message of an announcement as it would be now, rendered for its readers; `at` is when it is sent next, None if
    something else decides."""

    topic: AnnouncementTopic
    at: datetime | None
    contacts: tuple[str, ...]
    title: str
    text: str


def preview(
    connection: Connection, group: Group, time_zone: str, specs: Iterable[AnnouncementSpec], now: datetime
) -> list[Preview]:
    """Returns what announcements would send, which need not be saved yet."""
    plan, zone, found = loader.plan(connection, group.pk, now), ZoneInfo(time_zone), list[Preview]()
    labels = [contact["label"] for contact in notices.load_group_contacts(connection, [group.pk]).get(group.pk, ())]
    for spec in specs if plan else ():
        for topic in spec.topics:
            assert plan is not None
            at = next_due(topic, spec.at, zone, now) if topic in TIMED else None
            notice = compose(plan, spec, {topic}, zone, now)
            title = notice.title if notice else sentence("Nothing would be sent now.")
            if topic is AnnouncementTopic.MAINTENANCE:
                title = sentence("Windows that are announced to the group: planned, changed, started, ended.")
            texts = (title.localized(spec.language, zone), notice.text.localized(spec.language, zone) if notice else "")
            found.append(Preview(topic, at, spec.contacts or tuple(labels), *texts))
    return found


# ---------- groups


def announcement_tasks() -> tuple[PeriodicTask, ...]:
    topics = frozenset({"config"})
    return (
        PeriodicTask("announcements", lambda: announce(clock.now()), INTERVAL, topics),
        PeriodicTask(
            "user groups",
            lambda: update_user_groups(worker.shared_dispatcher().provider_pool.all(), clock.now()),
            INTERVAL,
            topics,
        ),
    )


def announce(now: datetime) -> bool:
    """Queues everything that is due. Always returns False: there is never more to do."""
    announce_groups(now)
    announce_windows(now)
    return False


def _each(subjects: Iterable[Any], announce: Callable[[Connection, Any], bool]) -> None:
    """Runs each subject in a transaction of its own. One that fails is tried again at the next run."""
    for subject in subjects:
        try:
            with database.transaction() as connection:
                if announce(connection, subject):
                    database.notify(connection, "outbox")
        except Exception as error:
            if database.is_unavailable(error):
                raise
            log.exception("%s cannot be announced.", subject)


def announce_groups(now: datetime) -> None:
    """Queues what is due in each group."""
    with database.transaction() as connection:
        groups = sql.load_announcing_groups(connection)
        _forget_others(connection, "group:", {str(group["id"]) for group in groups}, now)
    _each(groups, lambda connection, group: _announce_group(connection, group, now))


def _forget_others(connection: Connection, kind: str, names: Collection[str], now: datetime) -> None:
    for name in notices.load_announced(connection, kind).keys() - names:
        notices.store_announced(connection, f"{kind}{name}", None, now)


def _announce_group(connection: Connection, group: Mapping[str, Any], now: datetime) -> bool:
    subject = f"group:{group['id']}"
    claimed = notices.claim_announced(connection, subject, now)
    # Loaded after the lock: another node has announced what it read before.
    plan = loader.plan(connection, group["id"], now) if claimed else None
    if claimed is None or plan is None:
        return False
    (state, at), zone, people = claimed, ZoneInfo(group["time_zone"]), on_call_now(plan, now)
    new_state = {"announcements": group["announcements"], "on_call": people}
    if state.get("announcements") != group["announcements"]:
        # Nothing that was before it was set up.
        notices.store_announced(connection, subject, new_state, now)
        return False
    before, is_sent, is_changed = state["on_call"], False, state["on_call"] != people
    missed = datetime.fromisoformat(state["missed"]) if "missed" in state else None
    contacts = notices.load_group_contacts(connection, [plan.id]).get(plan.id, [])
    for spec in AnnouncementSpec.read_list(group["announcements"], "announcements"):
        # A clock rollback repeats nothing.
        topics, first_missed = due(spec, zone, min(at, now), now)
        missed = missed or first_missed
        if _of_roles(before, spec.roles) != _of_roles(people, spec.roles):
            topics |= {AnnouncementTopic.HANDOVERS}.intersection(spec.topics)
        is_changed = is_changed or bool(topics) or first_missed is not None
        notice = compose(plan, spec, topics, zone, now, before=before, missed=missed)
        if notice is not None:
            notices.queue_to_addresses(connection, notice, targets(spec, contacts), zone.key, now)
            is_sent = True
    if is_changed:
        new_state |= {"missed": missed.isoformat()} if missed and not is_sent else {}
        notices.store_announced(connection, subject, new_state, now)
    return is_sent


def targets(spec: AnnouncementSpec, contacts: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yields the contacts that are notified."""
    labels = {label.casefold() for label in spec.contacts}
    for contact in contacts:
        if not labels or contact["label"].casefold() in labels:
            yield {**contact, "language": spec.language}


# ---------- maintenance


class News(StrEnum):
    PLANNED = "planned"
    CHANGED = "changed"
    STARTED = "started"
    ENDED = "ended"
    CANCELLED = "cancelled"


_TITLES = {
    News.PLANNED: Text("Maintenance planned: {window}"),
    News.CHANGED: Text("Maintenance changed: {window}"),
    News.STARTED: Text("Maintenance started: {window}"),
    News.ENDED: Text("Maintenance ended: {window}"),
    News.CANCELLED: Text("Maintenance cancelled: {window}"),
}


def news(
    former: Mapping[str, Any], window: Mapping[str, Any] | None, now: datetime
) -> tuple[News | None, dict[str, Any] | None]:
    """Returns what is new about a window, and what is then announced. `former` is what was announced last, {} if
    nothing; the window is None once it is deleted."""
    if window is None:
        was_coming = bool(former) and bool(_next_span(former["times"], now))
        return News.CANCELLED if was_coming else None, None
    recipients = {name: list(window[name]) for name in ("announce_to", "announce_to_clients")}
    if not any(recipients.values()):
        return None, None
    coming = _next_span(window["times"], now)
    begun = coming[0].isoformat() if coming and coming[0] <= now else None
    announced = {**recipients, **{name: window[name] for name in ("name", "times", "ticket_reference")}, "begun": begun}
    was_begun = former.get("begun")
    if begun and begun != was_begun:
        return News.STARTED, announced
    if was_begun and not begun:
        # With the times at which it began: the end may have been moved to now.
        ended = coming is None or former["times"] == window["times"]
        is_late = now - (_span_at(former["times"], datetime.fromisoformat(was_begun)) or (now, now))[1] > MAX_LATE
        return (None if is_late else News.ENDED) if ended else News.CHANGED, announced
    if not former:
        return News.PLANNED if coming else None, announced
    if former["times"] != window["times"]:
        was_coming = bool(_next_span(former["times"], now))
        return News.CHANGED if coming else News.CANCELLED if was_coming else None, announced
    return None, announced


def _next_span(times: Mapping[str, Any], now: datetime) -> TimeSpan | None:
    return next(iter(maintenance.recurrence(times).next_occurrences(now, 1)), None)


def _span_at(times: Mapping[str, Any], at: datetime) -> TimeSpan | None:
    return maintenance.recurrence(times).occurrence_at(at)


def describe(
    news: News, former: Mapping[str, Any], window: Mapping[str, Any], zone: str, now: datetime, *, is_client: bool
) -> Notice:
    """Returns the message. `window` is what is announced, the former if it is deleted."""
    times, lines = window["times"], list[Reason]()
    span = _span_at(former["times"], datetime.fromisoformat(former["begun"])) if news is News.ENDED else None
    if news is News.CANCELLED:
        span = _next_span(former["times"], now)
    span = span or _next_span(times, now)
    if times.get("repeat", Repeat.ONCE) != Repeat.ONCE and news in (News.PLANNED, News.CHANGED):
        lines.append(maintenance.describe_times(times))
        lines += [sentence("Next: {since} to {until}", since=span[0], until=span[1])] if span else []
    elif span:
        lines.append(_SPAN(since=span[0], until=min(span[1], now) if news is News.ENDED else span[1]))
    if window["ticket_reference"]:
        lines.append(sentence("Ticket: {reference}", reference=window["ticket_reference"]))
    if not is_client and news in (News.PLANNED, News.CHANGED, News.STARTED):
        holds = window.get("action") == WindowAction.HOLD
        lines.append(sentence("Its alerts are held until the end.") if holds else sentence("Its alerts page no one."))
    return Notice(
        title=_TITLES[news](window=window["name"]),
        text=joined(*lines, _ZONE(zone=zone), separator="\n"),
        about=f"maintenance:{window['name']}:{news}",
        reason=sentence("An administrator has set up these announcements for your address.")
        if is_client
        else sentence("Your group announces maintenance."),
    )


def announce_windows(now: datetime) -> None:
    """Queues what is new about maintenance windows."""
    with database.transaction() as connection:
        known = notices.load_announced(connection, "window:")
        numbers = sorted({*map(int, known), *maintenance_commands.load_announced_windows(connection, ())})
    _each(numbers, lambda connection, number: _announce_window(connection, number, now))


def _announce_window(connection: Connection, number: int, now: datetime) -> bool:
    subject = f"window:{number}"
    claimed = notices.claim_announced(connection, subject, now)
    if claimed is None:
        return False
    former, _at = claimed
    window = maintenance_commands.load_announced_windows(connection, [number]).get(number)
    found, announced = news(former, window, now)
    shown = {**former, **(window or {})}
    recipients = {name: list(shown.get(name, ())) for name in ("announce_to", "announce_to_clients")}
    if found is None and former and announced is not None:
        # Who is added hears what is so now.
        recipients = {name: [one for one in added if one not in former[name]] for name, added in recipients.items()}
        if any(recipients.values()) and _next_span(shown["times"], now):
            found = News.STARTED if announced["begun"] else News.PLANNED
    if announced != former:
        notices.store_announced(connection, subject, announced, now)
    if found is None:
        return False
    _queue_news(connection, found, former, shown, recipients, now)
    return True


def _queue_news(
    connection: Connection,
    found: News,
    former: Mapping[str, Any],
    window: Mapping[str, Any],
    recipients: Mapping[str, Collection[Any]],
    now: datetime,
) -> None:
    contacts = notices.load_group_contacts(connection, recipients["announce_to"])
    for group in sql.load_announcing_groups(connection) if contacts else ():
        zone = group["time_zone"]
        notice = describe(found, former, window, zone, now, is_client=False)
        for spec in AnnouncementSpec.read_list(group["announcements"], "announcements"):
            if AnnouncementTopic.MAINTENANCE in spec.topics and group["id"] in contacts:
                notices.queue_to_addresses(connection, notice, targets(spec, contacts[group["id"]]), zone, now)
    if clients := notices.load_subscribed_clients(connection, recipients["announce_to_clients"]):
        zone = settings_store.load(connection)[settings_store.TIME_ZONE.name]
        notice = describe(found, former, window, zone, now, is_client=True)
        notices.queue_to_addresses(connection, notice, map(notices.as_target, clients), zone, now)


# ---------- user groups
# The members of a chat service's user group. The call needs no transaction: what is to be called is leased.

#: How long a node has for its call, and after which a failed one is repeated.
_LEASE = timedelta(minutes=1)
#: How often a call fails for a reason that may pass by itself before somebody is notified.
MAX_FAILURES = 3

_NO_PROVIDER = ReasonType("oncall.user_group_no_provider", "No provider sets the members of {user_group}.")
_NO_MEMBER = ReasonType(
    "oncall.user_group_empty",
    "No one on call has an address for {user_group}. A user group cannot be empty, so its members stay.",
)
_WITHOUT_ADDRESS = ReasonType(
    "oncall.user_group_without", "{users} on call without an address for {user_group}: not among its members."
)
_NOT_SET = ReasonType("oncall.user_group_not_set", "The members of {user_group} cannot be set: {problem}")
_LEAD = Text("You are a lead of {group}.")
_NO_LEAD = Text("{group} has no lead.")


def update_user_groups(providers: Sequence[ActiveProvider], now: datetime) -> bool:
    """Sets the members of each user group to those on call. Always returns False: a failed call is repeated later."""
    groups: dict[str, list[tuple[int, AnnouncementSpec]]] = {}
    with database.transaction() as connection:
        for group in sql.load_announcing_groups(connection):
            for spec in AnnouncementSpec.read_list(group["announcements"], "announcements"):
                if spec.user_group:
                    groups.setdefault(spec.user_group, []).append((group["id"], spec))
        _forget_others(connection, "user_group:", groups, now)
    for address, followed in groups.items():
        _update_user_group(address, followed, providers, now)
    return False


def _update_user_group(
    address: str, followed: Sequence[tuple[int, AnnouncementSpec]], providers: Sequence[ActiveProvider], now: datetime
) -> None:
    subject = f"user_group:{address}"
    with database.transaction() as connection:
        claimed = notices.claim_announced(connection, subject, now)
        if claimed is None or now < claimed[1] <= now + _LEASE:
            return
        state = claimed[0]
        people: dict[int, str] = {}
        for group_id, spec in followed:
            if plan := loader.plan(connection, group_id, now):
                for users in _of_roles(on_call_now(plan, now), spec.roles).values():
                    people.update((user_id, name) for user_id, name in users)
        able = (one for one in providers if isinstance(one.sender, UserGroupSender))
        provider = next((one for one in able if one.delivers_to("chat", address)), None)
        members = {
            user_id: method.address
            for user_id, recipient in pages.load_recipients(connection, people).items()
            for method in recipient.methods
            if method.is_enabled and provider and provider.delivers_to(method.channel, method.address)
        }
        without = tuple(Person(name, user_id) for user_id, name in people.items() if user_id not in members)
        wanted, problem = sorted(members.values()), NO_REASON
        if provider is None:
            problem = _NO_PROVIDER(user_group=address)
        elif not wanted:
            problem = _NO_MEMBER(user_group=address)
        elif without:
            problem = _WITHOUT_ADDRESS(users=without, user_group=address)
        if provider is None or not wanted or state.get("members") == wanted:
            if problem != reason_from_json(state.get("problem")):
                _store_problem(connection, subject, state, problem, followed, now)
            return
        notices.store_announced(connection, subject, state, now + _LEASE)
    assert isinstance(provider.sender, UserGroupSender)
    failures = state.get("failures", 0) + 1
    try:
        provider.sender.set_members(address, wanted)
        state = {**state, "members": wanted, "failures": 0}
    except (Permanent, Temporary) as error:
        state = {**state, "failures": failures}
        reason = error.full_reason if isinstance(error, Permanent) else error.reason
        problem = _NOT_SET(user_group=address, problem=provider.mask_secrets_in(reason))
        if isinstance(error, Temporary) and failures < MAX_FAILURES:
            problem = reason_from_json(state.get("problem"))
    with database.transaction() as connection:
        # At a failure the lease stays, and is the pause before the next try.
        _store_problem(connection, subject, state, problem, followed, now)


def _store_problem(
    connection: Connection,
    subject: str,
    state: Mapping[str, Any],
    problem: Reason,
    followed: Sequence[tuple[int, AnnouncementSpec]],
    now: datetime,
) -> None:
    """Stores the state. A new problem is mailed once to the leads of the groups; the self-check shows it until it is
    gone."""
    stored = reason_as_json(problem)
    at = now + _LEASE if state.get("failures") else now
    notices.store_announced(connection, subject, {**state, "problem": stored}, at)
    if not problem or stored == state.get("problem"):
        return
    for plan in loader.plans(connection, [group_id for group_id, _spec in followed], now).values():
        leads = [m.user_id for m in plan.members if m.is_active and MemberRole.LEAD in m.roles]
        notice = Notice(
            title=sentence("The user group of {group} has a problem", group=plan.name),
            text=problem,
            about=subject,
            reason=_LEAD(group=plan.name) if leads else _NO_LEAD(group=plan.name),
        )
        notices.queue_notice(connection, notice, now, user_ids=leads or sql.load_administrators(connection))
    database.notify(connection, "outbox")
