"""Plans pages and all-clears: to whom, on which contact method, and when. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.alerts.states import Priority
from tocsin.core.reasons import NO_REASON, Person, Reason, as_reason, joined
from tocsin.core.validation.field_errors import is_zone
from tocsin.notify.rules import delivery_reasons
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import WeeklyWindow
from tocsin.people import notification_rules

# ---------- notification rules
# Decides which contact methods are used for a page and when: by the user's notification rules or the policy's, and by
# quiet hours. Pure.
#
# Escalation and the page planner both use `plan_pages`, so that they agree.


#: The maximum number of consecutive quiet hours to follow. A user who is never reachable is paged at once.
_MAX_QUIET_WINDOWS = 60


@dataclass(frozen=True, slots=True)
class NotificationMethod:
    """A contact method with its waits and repeats. A group contact has neither."""

    label: str
    channel: str
    address: str
    wait: timedelta = timedelta()
    repeat_times: int = 0
    repeat_every: timedelta = timedelta()
    is_enabled: bool = True


@dataclass(frozen=True, slots=True)
class ContactMethodRule:
    """A rule: a contact method, by label or by channel, its delay after the step, and its repeats."""

    label: str = ""
    channel: str = ""
    wait: timedelta = timedelta()
    repeat_times: int = 0
    repeat_every: timedelta = timedelta()

    def matches(self, method: NotificationMethod) -> bool:
        """Returns whether the rule applies to that method."""
        if self.label:
            return method.label.casefold() == self.label.casefold()
        return method.channel == self.channel


@dataclass(frozen=True, slots=True)
class QuietWindow:
    """Quiet hours, in which pages below a priority wait. `methods` are lower-case labels; if empty, all methods."""

    window: WeeklyWindow
    methods: frozenset[str] = frozenset()
    let_through: Priority = Priority.HIGH

    def defers(self, method: NotificationMethod, priority: Priority) -> bool:
        """Returns whether it applies to such a page at all."""
        includes_method = not self.methods or method.label.casefold() in self.methods
        return includes_method and self.let_through.is_above(priority)


@dataclass(frozen=True, slots=True)
class Recipient:
    """A user who may be paged, with contact methods in order and their settings."""

    id: int
    name: str
    methods: tuple[NotificationMethod, ...] = ()
    is_active: bool = True
    time_zone: str = "UTC"
    #: Rules by priority. A priority without rules uses the methods as they are.
    rules: Mapping[Priority, tuple[ContactMethodRule, ...]] = field(default_factory=dict)
    quiet: tuple[QuietWindow, ...] = ()
    #: The maximum number of messages per hour at one address; 0 means no limit.
    most_per_hour: int = 0

    @property
    def usable(self) -> tuple[NotificationMethod, ...]:
        return tuple(method for method in self.methods if method.is_enabled)


@dataclass(frozen=True, slots=True)
class DeliveryOverride:
    """How a policy step overrides its users' notification rules: the contact methods, and how often the whole sequence
    is repeated.
    """

    methods: tuple[ContactMethodRule, ...] = ()
    retries: int = 0
    retry_every: timedelta = timedelta()


USER_RULES = DeliveryOverride()


@dataclass(frozen=True, slots=True)
class PlannedPage:
    """One planned page: the contact method, the time, and the explanation."""

    method: NotificationMethod
    at: datetime
    explanation: Reason
    #: Since when quiet hours delay it; None if they do not.
    deferred_from: datetime | None = None
    #: Whether it is one of several by the same method.
    is_repeated: bool = False


def apply_rules(recipient: Recipient, stored: object) -> Recipient:
    """Returns the user with the notification rules that `people.notification_rules` stores."""
    rules = notification_rules.load(stored)
    return replace(
        recipient,
        rules={
            Priority(priority): tuple(
                ContactMethodRule(rule.method, "", rule.wait, rule.repeat.times, rule.repeat.interval)
                for rule in entries
            )
            for priority, entries in rules.by_priority.items()
        },
        quiet=_quiet(rules),
        most_per_hour=rules.max_per_hour,
    )


def quiet_hours(stored: object) -> tuple[QuietWindow, ...]:
    """Returns the quiet hours of stored notification rules; none if there are no rules."""
    return _quiet(notification_rules.load(stored)) if stored else ()


def _quiet(rules: notification_rules.NotificationRules) -> tuple[QuietWindow, ...]:
    return tuple(
        QuietWindow(
            weekly_windows.load([{"days": list(quiet.days), "from": quiet.start, "to": quiet.end}])[0],
            frozenset(label.casefold() for label in quiet.methods),
            Priority(quiet.exempt_priority),
        )
        for quiet in rules.quiet_hours
    )


def plan_pages(
    recipient: Recipient, override: DeliveryOverride, priority: Priority, at: datetime
) -> tuple[PlannedPage, ...]:
    """Returns every page to a user whose step fires at `at`, in the order of the contact methods."""
    methods, note = select_methods(recipient, override, priority)
    return tuple(page for method in methods for page in _plan_method(recipient, method, override, priority, at, note))


def last_page_at(recipient: Recipient, override: DeliveryOverride, priority: Priority, at: datetime) -> datetime:
    """Returns when the last page is sent. After it, all contact methods have been tried."""
    return max((page.at for page in plan_pages(recipient, override, priority, at)), default=at)


def count_pages(recipient: Recipient, override: DeliveryOverride, priority: Priority) -> int:
    """Returns how many pages `plan_pages` plans at most."""
    methods, _ = select_methods(recipient, override, priority)
    return sum(method.repeat_times + 1 for method in methods) * (override.retries + 1)


def select_methods(
    recipient: Recipient, override: DeliveryOverride, priority: Priority
) -> tuple[tuple[NotificationMethod, ...], Reason]:
    """Returns the contact methods with their effective waits and repeats, and a note if the policy's methods could not
    be used.
    """
    usable = recipient.usable
    if chosen := _apply_method_rules(usable, override.methods):
        return chosen, NO_REASON
    note = delivery_reasons.POLICY_METHODS_UNUSABLE() if override.methods and usable else NO_REASON
    return _apply_method_rules(usable, recipient.rules.get(priority, ())) or usable, note


def _apply_method_rules(
    usable: Sequence[NotificationMethod], rules: Iterable[ContactMethodRule]
) -> tuple[NotificationMethod, ...]:
    return tuple(
        replace(method, wait=rule.wait, repeat_times=rule.repeat_times, repeat_every=rule.repeat_every)
        for rule in rules
        for method in usable
        if rule.matches(method)
    )


def _plan_method(
    recipient: Recipient,
    method: NotificationMethod,
    override: DeliveryOverride,
    priority: Priority,
    at: datetime,
    note: Reason,
) -> list[PlannedPage]:
    explanations_by_time: dict[datetime, list[Reason]] = {}
    deferred_from: dict[datetime, datetime] = {}
    for retry in range(override.retries + 1):
        for repetition in range(method.repeat_times + 1):
            requested_at = at + retry * override.retry_every + method.wait + repetition * method.repeat_every
            due = quiet_until(recipient, method, priority, requested_at)
            parts = _explain(method, repetition, retry, override.retries)
            if due != requested_at:
                parts.append(delivery_reasons.QUIET_HOURS())
                deferred_from[due] = min(requested_at, deferred_from.get(due, requested_at))
            explanations_by_time.setdefault(due, []).append(joined(*parts, separator=", "))
    pages = []
    for due, explanations in sorted(explanations_by_time.items()):
        merged = delivery_reasons.MERGED(count=len(explanations)) if len(explanations) > 1 else NO_REASON
        explanation = joined(explanations[0], merged, note, separator=", ")
        pages.append(PlannedPage(method, due, explanation, deferred_from.get(due), len(explanations_by_time) > 1))
    return pages


def _explain(method: NotificationMethod, repetition: int, retry: int, retries: int) -> list[Reason]:
    parts = [as_reason(method.label)]
    if method.wait:
        parts.append(delivery_reasons.AFTER_STEP(delay=method.wait))
    if repetition:
        parts.append(delivery_reasons.REPETITION(number=repetition, total=method.repeat_times))
    if retry:
        parts.append(delivery_reasons.RETRY(number=retry + 1, total=retries + 1))
    return parts


def is_quiet(recipient: Recipient, method: NotificationMethod, priority: Priority, at: datetime) -> bool:
    """Returns whether quiet hours would delay such a page that is due at `at`. A page is never brought forward into
    quiet hours.
    """
    return quiet_until(recipient, method, priority, at) != at


def quiet_until(recipient: Recipient, method: NotificationMethod, priority: Priority, at: datetime) -> datetime:
    """Returns when such a page that is due at `at` may be sent: then, or at the end of the user's quiet hours."""
    windows = [quiet.window for quiet in recipient.quiet if quiet.defers(method, priority)]
    # In a time zone that this machine does not know, quiet hours cannot be computed: page too early rather than never.
    if not windows or not is_zone(recipient.time_zone):
        return at
    zone = ZoneInfo(recipient.time_zone)
    moment = at
    for _ in range(_MAX_QUIET_WINDOWS):
        spans = [span for window in windows if (span := weekly_windows.current((window,), zone, moment)) is not None]
        if not spans:
            return moment
        moment = max(end for _start, end in spans)
    return at


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
        name, reason, candidates = _plan_request(request, recipients, contacts)
        recipient = recipients.get(request.user_id) if request.user_id is not None else None
        planned = _pages(request, recipient, candidates, find_problem)
        pages += planned
        if all(page.problem for page in planned):
            if not reason:
                problems = joined(*dict.fromkeys(page.problem for page in planned), separator=" ")
                reason = delivery_reasons.UNREACHABLE(user=Person(name, request.user_id), cause=problems)
            unreachable.append(Unreachable(request, name, reason))
    return PagePlan(tuple(pages), tuple(unreachable))


def _plan_request(
    request: PageRequest, recipients: Mapping[int, Recipient], contacts: Mapping[int, NotificationMethod]
) -> tuple[str, Reason, tuple[PlannedPage, ...]]:
    """Returns the recipient's name, why nobody can be reached, and the planned pages."""
    if request.group_contact_id is not None:
        contact = contacts.get(request.group_contact_id)
        if contact is None:
            return "A group contact", delivery_reasons.CONTACT_DELETED(), ()
        override = replace(request.delivery_override, methods=())
        planned = plan_pages(Recipient(0, contact.label, (contact,)), override, request.priority, request.at)
        return contact.label, NO_REASON, planned
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
    candidates: Sequence[PlannedPage],
    find_problem: FindAddressProblem,
) -> list[Page]:
    pages: list[Page] = []
    reported_labels: set[str] = set()
    problems = {one.method: find_problem(one.method.channel, one.method.address) or NO_REASON for one in candidates}
    for planned in _start_next_method_early(request, recipient, candidates, problems):
        method, reason = planned.method, as_reason(request.reason)
        page = Page(request, method.label, method.channel, method.address, request.at, reason)
        if not problems[method]:
            pages.append(
                replace(
                    page,
                    due_at=planned.at,
                    reason=delivery_reasons.EXPLAINED(reason=reason, explanation=planned.explanation),
                    deferred_from=planned.deferred_from,
                    is_repeated=planned.is_repeated,
                )
            )
        elif method.label not in reported_labels:
            reported_labels.add(method.label)
            problem = delivery_reasons.METHOD_UNUSABLE(method=method.label, problem=problems[method])
            pages.append(replace(page, problem=problem))
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
    next_page = min(candidates, key=lambda planned: planned.at, default=None)
    if next_page is None or not at < next_page.at <= at + NOTICE_HORIZON:
        return list(planned_pages)
    explanation = joined(next_page.explanation, delivery_reasons.AT_ONCE(), separator=", ")
    advanced = replace(next_page, at=at, explanation=explanation, deferred_from=None)
    return [advanced if planned is next_page else planned for planned in planned_pages]


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


def all_clears(
    paged: Iterable[PagedRecipient],
    responder_ids: Mapping[int, frozenset[int]],
    last_all_clears: Mapping[tuple[int, int], datetime],
    find_quietest: FindQuietest,
) -> list[PagedRecipient]:
    """Returns, for each user who was paged about an alert, has not responded, and has not had an all-clear since, the
    page whose contact method gets one.

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
            results.append(next(page for page in pages if page.channel == quietest_channel))
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
