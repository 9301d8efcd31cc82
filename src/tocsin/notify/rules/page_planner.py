"""Whom to page, by what and when: from the methods people have to the pages that are planned. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tocsin.alerts.states import Priority
from tocsin.notify.rules.notification_rules import (
    USER_RULES,
    DeliveryOverride,
    NotificationMethod,
    PlannedPage,
    Recipient,
    is_quiet,
    leaves,
)

#: Says why an address on a channel cannot be used, or None.
type FindAddressProblem = Callable[[str, str], str | None]
#: The quietest of some channels.
type FindQuietest = Callable[[set[str]], str]

#: Under which a page's notification keeps from when quiet hours hold it back.
HELD_FROM = "held_from"

#: Of the ways after one that fails, what waits longer than this waits for something else, such as the end of quiet
#: hours: it is left alone.
NOTICE_HORIZON = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """That paging one person, or one group contact, about one alert begins."""

    alert_id: int
    #: When the step fired; waits count from here.
    at: datetime
    #: Why this person, now: a sentence.
    reason: str
    user_id: int | None = None
    group_contact_id: int | None = None
    run_id: int | None = None
    #: What the notification keeps for those who read it: step, pass, role, group.
    data: Mapping[str, Any] = field(default_factory=dict)
    #: What decides by which ways, beside the person's own wishes.
    priority: Priority = Priority.HIGH
    calling: DeliveryOverride = USER_RULES


@dataclass(frozen=True, slots=True)
class Page:
    """One planned notification."""

    start: PageRequest
    label: str
    channel: str
    address: str
    due_at: datetime
    reason: str
    #: Why it cannot be sent at all; it is kept, failed, so that the timeline shows it.
    problem: str = ""
    #: From when the person's quiet hours hold it back; None where they do not.
    held_from: datetime | None = None

    @property
    def data(self) -> dict[str, Any]:
        """What its notification keeps."""
        held = {} if self.held_from is None else {HELD_FROM: self.held_from.isoformat()}
        return {**self.start.data, **held}


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A start that reaches nobody, and why: a sentence for the alert's timeline."""

    start: PageRequest
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class PagePlan:
    """What the starts come to. Every start is in `pages` or in `unreachable`, or in both with its problems."""

    pages: tuple[Page, ...]
    unreachable: tuple[Unreachable, ...]


def plan(
    starts: Iterable[PageRequest],
    people: Mapping[int, Recipient],
    contacts: Mapping[int, NotificationMethod],
    problem: FindAddressProblem,
) -> PagePlan:
    """The pages of `starts`: for people as `ways.leaves` says, for a group's contact one at once, and its retries."""
    pages: list[Page] = []
    unreachable: list[Unreachable] = []
    for start in starts:
        name, why, found = _reached(start, people, contacts)
        person = people.get(start.user_id) if start.user_id is not None else None
        planned = _pages(start, person, found, problem)
        pages += planned
        if not any(not page.problem for page in planned):
            unreachable.append(Unreachable(start, name, why or _nothing_works(name, planned)))
    return PagePlan(tuple(pages), tuple(unreachable))


def _reached(
    start: PageRequest, people: Mapping[int, Recipient], contacts: Mapping[int, NotificationMethod]
) -> tuple[str, str, tuple[PlannedPage, ...]]:
    """The name of who is to be reached, why that cannot be, and by what it would be tried when."""
    if start.group_contact_id is not None:
        contact = contacts.get(start.group_contact_id)
        if contact is None:
            return "A group contact", "The group contact that this step names exists no longer.", ()
        alone = Recipient(0, contact.label, (contact,))
        return contact.label, "", leaves(alone, replace(start.calling, methods=()), start.priority, start.at)
    person = people.get(start.user_id) if start.user_id is not None else None
    if person is None:
        return "Somebody", "The user whom this step names exists no longer.", ()
    if not person.is_active:
        return person.name, f"{person.name} was to be paged, but the account is switched off.", ()
    found = leaves(person, start.calling, start.priority, start.at)
    if not found:
        kind = "every contact method is switched off" if person.methods else "there is no contact method"
        return person.name, f"{person.name} was to be paged and cannot be reached: {kind}.", ()
    return person.name, "", found


def _pages(
    start: PageRequest, person: Recipient | None, found: Iterable[PlannedPage], problem: FindAddressProblem
) -> list[Page]:
    pages: list[Page] = []
    refused: set[str] = set()
    leaves = list(found)
    problems = {leave.method: problem(leave.method.channel, leave.method.address) or "" for leave in leaves}
    for leave in _moved_up(start, person, leaves, problems):
        method = leave.method
        why = problems[method]
        if not why:
            reason = f"{start.reason} ({leave.how})"
            page = Page(start, method.label, method.channel, method.address, leave.at, reason)
            pages.append(replace(page, held_from=leave.held_from))
        elif method.label not in refused:
            refused.add(method.label)
            why = f"{method.label} cannot be used: {why}"
            pages.append(Page(start, method.label, method.channel, method.address, start.at, start.reason, why))
    return pages


def _moved_up(
    start: PageRequest,
    person: Recipient | None,
    leaves: Sequence[PlannedPage],
    problems: Mapping[NotificationMethod, str],
) -> list[PlannedPage]:
    """The first way that can be used does not wait as if one before it had been tried that cannot be; unless another
    leaves at that moment, the person's quiet hours hold it then, or it waits for something else."""
    refused = [leave.at for leave in leaves if problems[leave.method]]
    if not refused:
        return list(leaves)
    at = min(refused)
    usable = [leave for leave in leaves if not problems[leave.method] and leave.at >= at]
    free = [leave for leave in usable if person is None or not is_quiet(person, leave.method, start.priority, at)]
    following = min(free, key=_moment, default=None)
    if following is None or not at < following.at <= at + NOTICE_HORIZON:
        return list(leaves)
    how = f"{following.how}, at once because the way before it fails"
    early = replace(following, at=at, how=how, held_from=None)
    return [early if leave is following else leave for leave in leaves]


def _moment(leave: PlannedPage) -> datetime:
    return leave.at


def _nothing_works(name: str, planned: Sequence[Page]) -> str:
    problems = " ".join(dict.fromkeys(page.problem for page in planned))
    return f"{name} was to be paged and cannot be reached: {problems}"


@dataclass(frozen=True, slots=True)
class PagedRecipient:
    """That a person was sent a page, or is being sent one."""

    alert_id: int
    user_id: int
    channel: str
    address: str
    label: str
    #: When it was sent; None while it is on its way.
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class AllClear:
    """Whom to tell that an alert needs nobody any more, and by which way."""

    alert_id: int
    user_id: int
    channel: str
    address: str
    label: str


def all_clears(
    paged: Iterable[PagedRecipient],
    answered: Mapping[int, frozenset[int]],
    told: Mapping[tuple[int, int], datetime],
    quietest: FindQuietest,
) -> list[AllClear]:
    """Once for each person who was paged about an alert, has not answered it, and was not told since that page.

    `answered` has the users by alert; `told` the time of the last all-clear by alert and user. The way is the quietest
    channel that the person was paged by.
    """
    by_person: dict[tuple[int, int], list[PagedRecipient]] = {}
    for page in paged:
        if page.user_id not in answered.get(page.alert_id, frozenset()):
            by_person.setdefault((page.alert_id, page.user_id), []).append(page)
    found = []
    for (alert_id, user_id), pages in by_person.items():
        last = told.get((alert_id, user_id))
        if last is None or any(page.sent_at is None or page.sent_at > last for page in pages):
            quiet = quietest({page.channel for page in pages})
            way = next(page for page in pages if page.channel == quiet)
            found.append(AllClear(alert_id, user_id, way.channel, way.address, way.label))
    return found


@dataclass(frozen=True, slots=True)
class FallbackMethod:
    """A contact method that can be used."""

    label: str
    channel: str
    address: str
    #: Whether the person was paged about the alert on its channel.
    was_used: bool


def other_way(ways: Sequence[FallbackMethod], quietest: FindQuietest) -> FallbackMethod | None:
    """By which of a person's ways an all-clear goes whose own cannot be used any more: the quietest channel that they
    were paged by, else the quietest that they have; None where they have none."""
    candidates = [way for way in ways if way.was_used] or ways
    if not candidates:
        return None
    quiet = quietest({way.channel for way in candidates})
    return next(way for way in candidates if way.channel == quiet)
