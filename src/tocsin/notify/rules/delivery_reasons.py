"""The reasons of notifications and deliveries: why a recipient is paged, why a delivery waits, and how it ended.

Other modules decide by their codes, also in SQL.
"""

from __future__ import annotations

from tocsin.core.reasons import NO_REASON, Reason, ReasonType

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

# Why an attempt failed.
BOUNCED = ReasonType("delivery.bounced", "The email bounced: {error}.")
TIMED_OUT = ReasonType("delivery.timed_out", "The send did not end within {duration}.")
PROVIDER_STUCK = ReasonType(
    "delivery.provider_stuck",
    "{count} earlier send through this provider is still stuck.",
    "{count} earlier sends through this provider are still stuck.",
)
ADDRESS_STUCK = ReasonType("delivery.address_stuck", "An earlier send to this address is still stuck.")
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
