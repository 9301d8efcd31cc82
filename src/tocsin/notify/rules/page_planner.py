"""Plans pages and all-clears: to whom, on which contact method, and when. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from tocsin.alerts.states import Priority
from tocsin.core.reasons import NO_REASON, Person, Reason, as_reason, joined
from tocsin.notify.rules import delivery_reasons
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
type FindAddressProblem = Callable[[str, str], Reason | None]
#: Returns the quietest of some channels.
type FindQuietest = Callable[[set[str]], str]

#: The key in a notification's data for the time since which quiet hours delay the page.
DEFERRED_FROM = "held_from"

#: The key in a notification's data that says that it is one of several by the same method.
REPEATED = "repeated"

#: After a contact method fails, the next one is brought forward. A page that is due later than this waits for something
#: else, such as the end of quiet hours, and is left alone.
NOTICE_HORIZON = timedelta(minutes=30)


@dataclass(frozen=True, slots=True)
class PageRequest:
    """A request to page one user or group contact about one alert."""

    alert_id: int
    #: When the step fired; waits count from here.
    at: datetime
    #: Why this recipient is paged now.
    reason: Reason | str
    user_id: int | None = None
    group_contact_id: int | None = None
    run_id: int | None = None
    #: Stored with the notification for display: step, pass, role, group.
    data: Mapping[str, Any] = field(default_factory=dict)
    #: The inputs that select the contact methods, besides the user's own rules.
    priority: Priority = Priority.HIGH
    delivery_override: DeliveryOverride = USER_RULES


@dataclass(frozen=True, slots=True)
class Page:
    """One planned notification."""

    request: PageRequest
    label: str
    channel: str
    address: str
    due_at: datetime
    reason: Reason
    #: Why it cannot be sent at all. It is stored as failed, so that the timeline shows it.
    problem: Reason = NO_REASON
    #: Since when the user's quiet hours delay it; None if they do not.
    deferred_from: datetime | None = None
    is_repeated: bool = False

    @property
    def data(self) -> dict[str, Any]:
        """The data stored with its notification."""
        deferral = {} if self.deferred_from is None else {DEFERRED_FROM: self.deferred_from.isoformat()}
        repeated = {REPEATED: True} if self.is_repeated else {}
        return {**self.request.data, **deferral, **repeated}


@dataclass(frozen=True, slots=True)
class Unreachable:
    """A request that reaches nobody, and why: for the alert's timeline."""

    request: PageRequest
    name: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class PagePlan:
    """The result of planning. Every request is in `pages` or in `unreachable`, or in both if its pages have
    problems.
    """

    pages: tuple[Page, ...]
    unreachable: tuple[Unreachable, ...]


def plan(
    requests: Iterable[PageRequest],
    recipients: Mapping[int, Recipient],
    contacts: Mapping[int, NotificationMethod],
    find_problem: FindAddressProblem,
) -> PagePlan:
    """Returns the pages of `requests`: for users as `notification_rules.plan_pages` plans them, for a group contact one
    page at once and its retries.
    """
    pages: list[Page] = []
    unreachable: list[Unreachable] = []
    for request in requests:
        name, reason, planned_pages = _plan_request(request, recipients, contacts)
        recipient = recipients.get(request.user_id) if request.user_id is not None else None
        planned = _pages(request, recipient, planned_pages, find_problem)
        pages += planned
        if not any(not page.problem for page in planned):
            unreachable.append(Unreachable(request, name, reason or _unreachable_reason(name, request, planned)))
    return PagePlan(tuple(pages), tuple(unreachable))


def _plan_request(
    request: PageRequest, recipients: Mapping[int, Recipient], contacts: Mapping[int, NotificationMethod]
) -> tuple[str, Reason, tuple[PlannedPage, ...]]:
    """Returns the recipient's name, why nobody can be reached, and the planned pages."""
    if request.group_contact_id is not None:
        contact = contacts.get(request.group_contact_id)
        if contact is None:
            return "A group contact", delivery_reasons.CONTACT_DELETED(), ()
        contact_recipient = Recipient(0, contact.label, (contact,))
        return (
            contact.label,
            NO_REASON,
            plan_pages(contact_recipient, replace(request.delivery_override, methods=()), request.priority, request.at),
        )
    recipient = recipients.get(request.user_id) if request.user_id is not None else None
    if recipient is None:
        return "Somebody", delivery_reasons.USER_DELETED(), ()
    person = Person(recipient.name, recipient.id)
    if not recipient.is_active:
        return recipient.name, delivery_reasons.USER_DISABLED(user=person), ()
    planned_pages = plan_pages(recipient, request.delivery_override, request.priority, request.at)
    if not planned_pages:
        cause = delivery_reasons.METHODS_DISABLED() if recipient.methods else delivery_reasons.NO_METHOD()
        return recipient.name, delivery_reasons.UNREACHABLE(user=person, cause=cause), ()
    return recipient.name, NO_REASON, planned_pages


def _pages(
    request: PageRequest,
    recipient: Recipient | None,
    candidates: Iterable[PlannedPage],
    find_problem: FindAddressProblem,
) -> list[Page]:
    pages: list[Page] = []
    reported_labels: set[str] = set()
    planned_pages = list(candidates)
    problems = {
        planned.method: find_problem(planned.method.channel, planned.method.address) or NO_REASON
        for planned in planned_pages
    }
    for planned in _start_next_method_early(request, recipient, planned_pages, problems):
        method = planned.method
        address_problem = problems[method]
        if not address_problem:
            reason = delivery_reasons.EXPLAINED(reason=as_reason(request.reason), explanation=planned.explanation)
            page = Page(request, method.label, method.channel, method.address, planned.at, reason)
            pages.append(replace(page, deferred_from=planned.deferred_from, is_repeated=planned.is_repeated))
        elif method.label not in reported_labels:
            reported_labels.add(method.label)
            problem = delivery_reasons.METHOD_UNUSABLE(method=method.label, problem=address_problem)
            reason = as_reason(request.reason)
            pages.append(Page(request, method.label, method.channel, method.address, request.at, reason, problem))
    return pages


def _start_next_method_early(
    request: PageRequest,
    recipient: Recipient | None,
    planned_pages: Sequence[PlannedPage],
    problems: Mapping[NotificationMethod, Reason],
) -> list[PlannedPage]:
    """Brings the first usable page forward to the time of an unusable one, since waiting for the latter is pointless.
    Not if another page is sent at that time, quiet hours apply then, or the page waits for something else.
    """
    unusable_times = [planned.at for planned in planned_pages if problems[planned.method]]
    if not unusable_times:
        return list(planned_pages)
    at = min(unusable_times)
    usable = [planned for planned in planned_pages if not problems[planned.method] and planned.at >= at]
    candidates = [
        planned
        for planned in usable
        if recipient is None or not is_quiet(recipient, planned.method, request.priority, at)
    ]
    next_page = min(candidates, key=_planned_at, default=None)
    if next_page is None or not at < next_page.at <= at + NOTICE_HORIZON:
        return list(planned_pages)
    explanation = joined(next_page.explanation, delivery_reasons.AT_ONCE(), separator=", ")
    advanced = replace(next_page, at=at, explanation=explanation, deferred_from=None)
    return [advanced if planned is next_page else planned for planned in planned_pages]


def _planned_at(planned: PlannedPage) -> datetime:
    return planned.at


def _unreachable_reason(name: str, request: PageRequest, planned: Sequence[Page]) -> Reason:
    problems = joined(*dict.fromkeys(page.problem for page in planned), separator=" ")
    return delivery_reasons.UNREACHABLE(user=Person(name, request.user_id), cause=problems)


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
    responder_ids: Mapping[int, frozenset[int]],
    last_all_clears: Mapping[tuple[int, int], datetime],
    find_quietest: FindQuietest,
) -> list[AllClear]:
    """Returns one all-clear for each user who was paged about an alert, has not responded, and has not had an all-clear
    since that page.

    `responder_ids` has the users by alert; `last_all_clears` the time of the last all-clear by alert and user. The
    contact method is the quietest channel on which the user was paged.
    """
    pages_by_recipient: dict[tuple[int, int], list[PagedRecipient]] = {}
    for page in paged:
        if page.user_id not in responder_ids.get(page.alert_id, frozenset()):
            pages_by_recipient.setdefault((page.alert_id, page.user_id), []).append(page)
    results = []
    for (alert_id, user_id), pages in pages_by_recipient.items():
        last_all_clear_at = last_all_clears.get((alert_id, user_id))
        if last_all_clear_at is None or any(page.sent_at is None or page.sent_at > last_all_clear_at for page in pages):
            quietest_channel = find_quietest({page.channel for page in pages})
            quietest_page = next(page for page in pages if page.channel == quietest_channel)
            results.append(
                AllClear(alert_id, user_id, quietest_page.channel, quietest_page.address, quietest_page.label)
            )
    return results


@dataclass(frozen=True, slots=True)
class FallbackMethod:
    """A usable contact method."""

    label: str
    channel: str
    address: str
    #: Whether the user was paged about the alert on its channel.
    was_used: bool


def select_fallback(methods: Sequence[FallbackMethod], find_quietest: FindQuietest) -> FallbackMethod | None:
    """Returns the contact method for an all-clear whose own can no longer be used: the quietest channel on which the
    user was paged, else the user's quietest; None without any.
    """
    candidates = [method for method in methods if method.was_used] or methods
    if not candidates:
        return None
    quietest_channel = find_quietest({method.channel for method in candidates})
    return next(method for method in candidates if method.channel == quietest_channel)
