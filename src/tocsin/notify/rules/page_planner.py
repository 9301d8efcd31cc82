"""Plans pages and all-clears: to whom, on which contact method, and when. Pure."""

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
    plan_pages,
)

#: Returns why an address on a channel is invalid, or None: `(channel, address) → problem`.
type FindAddressProblem = Callable[[str, str], str | None]
#: Returns the quietest of some channels.
type FindQuietest = Callable[[set[str]], str]

#: The key in a notification's data for the time since which quiet hours delay the page.
HELD_FROM = "held_from"

#: After a contact method fails, the next one is brought forward. A page that is due later than this waits for something
#: else, such as the end of quiet hours, and is left alone.
NOTICE_HORIZON = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request to page one user or group contact about one alert."""

    alert_id: int
    #: When the step fired; waits count from here.
    at: datetime
    #: Why this recipient is paged now: a sentence.
    reason: str
    user_id: int | None = None
    group_contact_id: int | None = None
    run_id: int | None = None
    #: Stored with the notification for display: step, pass, role, group.
    data: Mapping[str, Any] = field(default_factory=dict)
    #: The inputs that select the contact methods, besides the user's own rules.
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
    #: Why it cannot be sent at all. It is stored as failed, so that the timeline shows it.
    problem: str = ""
    #: Since when the user's quiet hours delay it; None if they do not.
    held_from: datetime | None = None

    @property
    def data(self) -> dict[str, Any]:
        """The data stored with its notification."""
        held = {} if self.held_from is None else {HELD_FROM: self.held_from.isoformat()}
        return {**self.start.data, **held}


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A request that reaches nobody, and why: a sentence for the alert's timeline."""

    start: PageRequest
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class PagePlan:
    """The result of planning. Every request is in `pages` or in `unreachable`, or in both if its pages have
    problems.
    """

    pages: tuple[Page, ...]
    unreachable: tuple[Unreachable, ...]


def plan(
    starts: Iterable[PageRequest],
    people: Mapping[int, Recipient],
    contacts: Mapping[int, NotificationMethod],
    problem: FindAddressProblem,
) -> PagePlan:
    """Returns the pages of `starts`: for users as `notification_rules.leaves` plans them, for a group contact one page
    at once and its retries.
    """
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
    """Returns the recipient's name, why nobody can be reached, and the planned pages."""
    if start.group_contact_id is not None:
        contact = contacts.get(start.group_contact_id)
        if contact is None:
            return "A group contact", "The group contact that this step names exists no longer.", ()
        alone = Recipient(0, contact.label, (contact,))
        return contact.label, "", plan_pages(alone, replace(start.calling, methods=()), start.priority, start.at)
    person = people.get(start.user_id) if start.user_id is not None else None
    if person is None:
        return "Somebody", "The user whom this step names exists no longer.", ()
    if not person.is_active:
        return person.name, f"{person.name} was to be paged, but the account is switched off.", ()
    found = plan_pages(person, start.calling, start.priority, start.at)
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
    """Brings the first usable page forward to the time of an unusable one, since waiting for the latter is pointless.
    Not if another page is sent at that time, quiet hours apply then, or the page waits for something else.
    """
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
    """A page that was sent to a user or is being sent."""

    alert_id: int
    user_id: int
    channel: str
    address: str
    label: str
    #: When it was sent; None while it is being sent.
    sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class AllClear:
    """An all-clear: the user to notify that an alert needs nobody any more, and the contact method."""

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
    """Returns one all-clear for each user who was paged about an alert, has not responded, and has not had an all-clear
    since that page.

    `answered` has the users by alert; `told` the time of the last all-clear by alert and user. The contact method is
    the quietest channel on which the user was paged.
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
    """A usable contact method."""

    label: str
    channel: str
    address: str
    #: Whether the user was paged about the alert on its channel.
    was_used: bool


def select_fallback(ways: Sequence[FallbackMethod], quietest: FindQuietest) -> FallbackMethod | None:
    """Returns the contact method for an all-clear whose own can no longer be used: the quietest channel on which the
    user was paged, else the user's quietest; None without any.
    """
    candidates = [way for way in ways if way.was_used] or ways
    if not candidates:
        return None
    quiet = quietest({way.channel for way in candidates})
    return next(way for way in candidates if way.channel == quiet)
