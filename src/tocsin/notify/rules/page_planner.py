"""Plans pages and all-clears: to whom, on which contact method, and when. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from tocsin.alerts.states import Priority
from tocsin.core.reasons import NO_REASON, Person, Reason, ReasonType, as_reason, joined
from tocsin.core.validation.inputs import is_zone
from tocsin.oncall.calculation import weekly_windows
from tocsin.oncall.calculation.weekly_windows import WeeklyWindow
from tocsin.people import notification_rules

# ---------- delivery reasons
# The reasons of notifications and deliveries: why a recipient is paged, why a delivery waits, and how it ended.
#
# Other modules decide by their codes, also in SQL.


# Why a queued delivery waits.
ON_HOLD = ReasonType("delivery.on_hold", "The alert is snoozed. This is sent when the snooze ends.")
BUNDLED_LATER = ReasonType(
    "delivery.bundled_later", "A message to this address was just sent. This one is sent in a bundle within 10 seconds."
)
PAUSED = ReasonType("delivery.paused", "All paging is paused: {cause}. This is sent when the pause ends.")
PAUSED_BY = ReasonType(
    "delivery.paused_by", "All paging is paused by {user}: {cause}. This is sent when the pause ends."
)
HOURLY_LIMIT_REACHED = ReasonType(
    "delivery.hourly_limit_reached",
    "The recipient's hourly limit for this address is reached. This is sent later, together with the others.",
)
RATE_LIMITED = ReasonType(
    "delivery.rate_limited", "The provider's rate limit is reached. This is sent as soon as it allows."
)
IN_QUIET_HOURS = ReasonType("delivery.in_quiet_hours", "The recipient has quiet hours. This is sent when they end.")
PAGE_IN_PROGRESS = ReasonType("delivery.page_in_progress", "The page is still being sent. This is sent afterward.")

#: The codes of a delivery that waits for the end of a pause.
PAUSED_CODES = (PAUSED.code, PAUSED_BY.code)

# Why a page is sent before its delay is over.
STARTED_EARLY = ReasonType("delivery.started_early", "Sent before its delay was over, because {cause}.")
METHOD_FAILED = ReasonType("delivery.previous_method_failed", "the previous contact method failed")
CALL_NOT_REACHED = ReasonType("delivery.previous_call_not_reached", "the previous call reached no one")
NO_RECEIPT = ReasonType("delivery.previous_not_confirmed", "{provider} did not report the previous page as delivered")

# What a delivery shows once its wait is over and it is sent.
WAITED_FOR_PAUSE = ReasonType("delivery.waited_for_pause", "It waited for the end of a pause of all paging.")
WAITED_FOR_LIMIT = ReasonType(
    "delivery.waited_for_hourly_limit",
    "It waited for the recipient's hourly limit. All messages that waited were sent together.",
)
WAITED_FOR_QUIET_HOURS = ReasonType("delivery.waited_for_quiet_hours", "It waited for the end of quiet hours.")
WAITED_FOR_HOLD = ReasonType("delivery.waited_for_hold", "It waited for the end of a snooze.")

_AFTER_WAITING = {
    PAUSED.code: WAITED_FOR_PAUSE,
    PAUSED_BY.code: WAITED_FOR_PAUSE,
    HOURLY_LIMIT_REACHED.code: WAITED_FOR_LIMIT,
    IN_QUIET_HOURS.code: WAITED_FOR_QUIET_HOURS,
    ON_HOLD.code: WAITED_FOR_HOLD,
}

# Why a delivery is cancelled.
ALERT_CLOSED = ReasonType("delivery.alert_closed", "The alert was closed before this was sent.")
ALERT_CANCELLED = ReasonType("delivery.alert_cancelled", "The alert was closed as a false alarm before this was sent.")
ALERT_MERGED = ReasonType("delivery.alert_merged", "The alert was merged into #{alert} before this was sent.")
ALERT_ENDED = ReasonType("delivery.alert_ended", "The alert no longer needs a response.")
ACKNOWLEDGED = ReasonType("delivery.recipient_acknowledged", "{user} has acknowledged the alert.")
ASSIGNED = ReasonType("delivery.recipient_assigned", "The alert is assigned to {user}.")
RECIPIENT_DISABLED = ReasonType("delivery.recipient_disabled", "The account of {user} was disabled.")
RECIPIENT_DELETED = ReasonType("delivery.recipient_deleted", "The recipient's account was deleted.")
PAGE_NOT_SENT = ReasonType("delivery.page_not_sent", "The page was probably not sent, so no all-clear is needed.")
EARLIER_PAGE_WAITS = ReasonType(
    "delivery.earlier_page_waits", "An earlier page about this alert to the same address is still queued."
)
ONE_OF_OVERDUE = ReasonType(
    "delivery.one_of_overdue",
    "Several pages about this alert to the same address fell due before one could be sent. One is sent.",
)
NOT_RESENT = ReasonType("delivery.not_resent", "It may have been sent, and is not retried: {cause}")
STOPPED_BEFORE_SENT = ReasonType("delivery.stopped_before_sent", "It was not yet sent when this happened: {cause}")
SENT_BEFORE_STOPPED = ReasonType(
    "delivery.sent_before_stopped", "It was already being sent when this happened: {cause}"
)

# Why a delivery cannot be sent to its address.
OPTED_OUT = ReasonType(
    "delivery.opted_out", "This number opted out with STOP and receives no text messages until it sends START."
)
METHOD_REMOVED = ReasonType("delivery.method_removed", "{user} no longer uses {method}.")
CONTACT_REMOVED = ReasonType("delivery.contact_removed", "{method} is no longer a contact of its group.")
METHOD_UNUSABLE = ReasonType("delivery.method_unusable", "{method} cannot be used: {problem}")
FELL_BACK = ReasonType("delivery.fell_back", "It is sent by {method}, because {previous} can no longer be used.")

# How a sent delivery was sent.
BUNDLED_WITH = ReasonType("delivery.bundled_with", "It was sent in a bundle with {alerts}.")
BUNDLED_WITH_MORE = ReasonType("delivery.bundled_with_more", "It was sent in a bundle with {alerts} and {more} more.")
ALERT_NUMBER = ReasonType("delivery.alert_number", "#{alert}")
SANDBOXED = ReasonType(
    "delivery.sandboxed", "This channel has no provider: the message was kept in the sandbox and not sent."
)
DELIVERED_AFTER_ALL = ReasonType("delivery.delivered_after_all", "{provider} later reported it as delivered.")
NOT_CONFIRMED = ReasonType("delivery.not_confirmed", "{provider} did not report it as delivered within {duration}.")
CALL_CUT_OFF = ReasonType("delivery.call_cut_off", "The call ended before the message was played.")
MACHINE_ANSWERED = ReasonType("delivery.machine_answered", "A machine answered the call.")
KEY_PRESSED = ReasonType("delivery.key_pressed", "The key {key} was pressed.")
TEST_ANSWERED = ReasonType("delivery.test_answered", "The test was answered at {at}.")

# Why an attempt failed.
BOUNCED = ReasonType("delivery.bounced", "The email bounced: {error}.")
TIMED_OUT = ReasonType("delivery.timed_out", "The send did not end within {duration}.")
PROVIDER_STUCK = ReasonType(
    "delivery.provider_stuck",
    "{count} earlier send through this provider is still stuck.",
    "{count} earlier sends through this provider are still stuck.",
)
ADDRESS_STUCK = ReasonType("delivery.address_stuck", "An earlier send to this address is still stuck.")
CALL_SILENT = ReasonType("delivery.call_silent", "It did not report that it is making the call within {duration}.")
RECEIPT_OVERDUE = ReasonType("delivery.receipt_overdue", "It did not report a message as delivered within {duration}.")

# What the timeline and the notice to administrators say about a delivery that failed permanently.
UNSENT = ReasonType("delivery.unsent", "{message} could not be sent to {recipient}: {error}")
UNSENT_BY = ReasonType("delivery.unsent_by_method", "{message} could not be sent to {recipient} by {method}: {error}")
ABOUT_ALERT = ReasonType("delivery.message_about_alert", "{message} about alert #{alert}")
PAGE = ReasonType("delivery.purpose_page", "A page")
ALL_CLEAR = ReasonType("delivery.purpose_all_clear", "An all-clear")
ACK_REMINDER = ReasonType("delivery.purpose_acknowledgement_reminder", "An acknowledgement reminder")
NOTICE = ReasonType("delivery.purpose_notice", "A notice")
TEST = ReasonType("delivery.purpose_test", "A test")

# What follows a failed attempt.
RETRIED = ReasonType(
    "delivery.retried", "{count} attempt failed. It is retried.", "{count} attempts failed. It is retried."
)
RETRIED_UNKNOWN = ReasonType(
    "delivery.retried_outcome_unknown",
    "{count} attempt failed. It may have been sent; it is retried.",
    "{count} attempts failed. It may have been sent; it is retried.",
)
RETRIED_UNTIL_ANSWERED = ReasonType(
    "delivery.retried_until_answered",
    "{count} attempt failed. It is retried until someone responds.",
    "{count} attempts failed. It is retried until someone responds.",
)
RETRIED_WORKER_LOST = ReasonType(
    "delivery.retried_worker_lost", "The process that was sending it stopped. It may have been sent; it is retried."
)
FAILED_OVER = ReasonType("delivery.failed_over", "{provider} could not send it. {next} takes over.")
PROVIDER_FAILED = ReasonType("delivery.provider_failed", "{provider} could not send it.")
GAVE_UP = ReasonType(
    "delivery.gave_up",
    "Gave up after {count} attempt: it could not be sent.",
    "Gave up after {count} attempts: it could not be sent.",
)
GAVE_UP_ON_ALL = ReasonType(
    "delivery.gave_up_on_all_providers",
    "Gave up after {count} attempt: none of the {providers} providers could send it.",
    "Gave up after {count} attempts: none of the {providers} providers could send it.",
)
STUCK = ReasonType(
    "delivery.stuck",
    "It failed {count} time with an internal error.",
    "It failed {count} times with an internal error.",
)
UNSENDABLE = ReasonType("delivery.unsendable", "It can't be sent.")
ADMINISTRATORS_NOTIFIED = ReasonType("delivery.administrators_notified", "Administrators were notified.")

# Why a recipient gets a notification.
TEST_REQUESTED = ReasonType("notification.test_requested", "A user requested this test.")
DAILY_TEST = ReasonType("notification.daily_test", "The daily test of a provider.")
PROVIDER_TEST = ReasonType("notification.provider_test", "A provider test.")
CODE_REQUESTED = ReasonType("notification.code_requested", "A code to verify this address was requested.")
WAS_PAGED = ReasonType("notification.was_paged", "You were paged about this alert. No action is needed.")
ACKNOWLEDGED_BEFORE = ReasonType("notification.acknowledged_before", "You acknowledged this alert a while ago.")
IS_ADMINISTRATOR = ReasonType("notification.is_administrator", "You administer this installation.")
REPLIED_BY_EMAIL = ReasonType("notification.replied_by_email", "You replied by email.")
OWN_ACCOUNT = ReasonType("notification.own_account", "It is about your account.")
REMINDER_RULE = ReasonType("notification.reminder_rule", "A reminder that you set up under Me.")
EMAILED_INSTEAD = ReasonType(
    "notification.emailed_instead", "It could not be sent by {method}, so it is sent by email."
)

# The texts of a test.
TEST_TITLE = ReasonType("test.title", "Tocsin test: {name} works")
TEST_TEXT = ReasonType("test.text", "This is a test from Tocsin. {name} works. No action is needed.")

# Why a page is sent on this contact method at this time.
EXPLAINED = ReasonType("page.explained", "{reason} ({explanation})")
AFTER_STEP = ReasonType("page.after_step", "{delay} after the step")
REPETITION = ReasonType("page.repetition", "repeat {number} of {total}")
RETRY = ReasonType("page.retry", "attempt {number} of {total}")
QUIET_HOURS = ReasonType("page.in_quiet_hours", "quiet hours: sent when they end")
MERGED = ReasonType(
    "page.merged",
    "one message for {count} page due at the same time",
    "one message for {count} pages due at the same time",
)
POLICY_METHODS_UNUSABLE = ReasonType(
    "page.policy_methods_unusable",
    "none of the policy's contact methods is available; using the user's notification rules",
)
AT_ONCE = ReasonType("page.at_once", "immediately, because the previous contact method is failing")

# Why a recipient cannot be paged.
CONTACT_DELETED = ReasonType("page.contact_deleted", "The group contact that this step names was deleted.")
USER_DELETED = ReasonType("page.user_deleted", "The user that this step names was deleted.")
USER_DISABLED = ReasonType("page.user_disabled", "{user} was to be paged, but the account is disabled.")
UNREACHABLE = ReasonType("page.unreachable", "{user} was to be paged but cannot be reached: {cause}")
METHODS_DISABLED = ReasonType("page.methods_disabled", "all contact methods are disabled.")
NO_METHOD = ReasonType("page.no_method", "no contact methods.")
NOT_REMINDED = ReasonType("page.not_reminded", "{user} acknowledged the alert and cannot be reminded of it: {cause}")
ACCOUNT_DISABLED = ReasonType("page.account_disabled", "the account is disabled.")
NO_USABLE_METHOD = ReasonType("page.no_usable_method", "no contact method can be used.")


def after_waiting(reason: Reason) -> Reason:
    """Returns the reason that a delivery shows once its wait is over and it is sent."""
    if reason.code == STARTED_EARLY.code:
        return reason
    kind = _AFTER_WAITING.get(reason.code)
    return kind() if kind is not None else NO_REASON


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
    note = POLICY_METHODS_UNUSABLE() if override.methods and usable else NO_REASON
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
                parts.append(QUIET_HOURS())
                deferred_from[due] = min(requested_at, deferred_from.get(due, requested_at))
            explanations_by_time.setdefault(due, []).append(joined(*parts, separator=", "))
    pages = []
    for due, explanations in sorted(explanations_by_time.items()):
        merged = MERGED(count=len(explanations)) if len(explanations) > 1 else NO_REASON
        explanation = joined(explanations[0], merged, note, separator=", ")
        pages.append(PlannedPage(method, due, explanation, deferred_from.get(due), len(explanations_by_time) > 1))
    return pages


def _explain(method: NotificationMethod, repetition: int, retry: int, retries: int) -> list[Reason]:
    parts = [as_reason(method.label)]
    if method.wait:
        parts.append(AFTER_STEP(delay=method.wait))
    if repetition:
        parts.append(REPETITION(number=repetition, total=method.repeat_times))
    if retry:
        parts.append(RETRY(number=retry + 1, total=retries + 1))
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
                reason = UNREACHABLE(user=Person(name, request.user_id), cause=problems)
            unreachable.append(Unreachable(request, name, reason))
    return PagePlan(tuple(pages), tuple(unreachable))


def _plan_request(
    request: PageRequest, recipients: Mapping[int, Recipient], contacts: Mapping[int, NotificationMethod]
) -> tuple[str, Reason, tuple[PlannedPage, ...]]:
    """Returns the recipient's name, why nobody can be reached, and the planned pages."""
    if request.group_contact_id is not None:
        contact = contacts.get(request.group_contact_id)
        if contact is None:
            return "A group contact", CONTACT_DELETED(), ()
        override = replace(request.delivery_override, methods=())
        planned = plan_pages(Recipient(0, contact.label, (contact,)), override, request.priority, request.at)
        return contact.label, NO_REASON, planned
    recipient = recipients.get(request.user_id) if request.user_id is not None else None
    if recipient is None:
        return "Somebody", USER_DELETED(), ()
    person = Person(recipient.name, recipient.id)
    if not recipient.is_active:
        return recipient.name, USER_DISABLED(user=person), ()
    planned_pages = plan_pages(recipient, request.delivery_override, request.priority, request.at)
    if not planned_pages:
        cause = METHODS_DISABLED() if recipient.methods else NO_METHOD()
        return recipient.name, UNREACHABLE(user=person, cause=cause), ()
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
                    reason=EXPLAINED(reason=reason, explanation=planned.explanation),
                    deferred_from=planned.deferred_from,
                    is_repeated=planned.is_repeated,
                )
            )
        elif method.label not in reported_labels:
            reported_labels.add(method.label)
            problem = METHOD_UNUSABLE(method=method.label, problem=problems[method])
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
    explanation = joined(next_page.explanation, AT_ONCE(), separator=", ")
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
