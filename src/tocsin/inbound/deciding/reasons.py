"""Reasons of decisions about messages: what a message did, and why no alert opened, paged or closed. `why` is the rule
that matched, `when` completes "the alert opens …"."""

from __future__ import annotations

from typing import Final

from tocsin.core.reasons import ReasonType

# --- What a message did -------------------------------------------------------------------------------------------

OPENED: Final = ReasonType("message.opened", "{why}")
IGNORED_BY_RULE: Final = ReasonType("message.ignored_by_rule", "{why}")
DUPLICATE_DELIVERY: Final = ReasonType("message.duplicate_delivery", "same delivery as message {message}")
ARRIVED_LATE: Final = ReasonType(
    "message.arrived_late",
    "arrived late: sent at {at}, after a message of {latest} was already processed. If this is wrong, correct the "
    "sender's clock, or map source_time to when the message was sent",
)
DISABLED: Final = ReasonType("message.integration_disabled", "the integration is disabled")
WITHOUT_TICKET: Final = ReasonType(
    "message.without_ticket",
    "no ticket in the message, as in the test call of a new webhook; nothing to do",
)
DECIDED_WITHOUT_FETCH: Final = ReasonType("message.decided_without_fetch", "{decision}; {skipped}")
#: Of a message that says too little to know what it wants. Health checks count them by this code.
NOT_UNDERSTOOD: Final = ReasonType("message.not_understood", "{decision}")
ECHO_WITHOUT_ALERT: Final = ReasonType("message.echo_without_alert", "Tocsin itself set this status; no alert is open")
ECHO_OPENS_NOTHING: Final = ReasonType(
    "message.echo_opens_nothing", "echo of Tocsin's own change to {key}; no new alert"
)
NO_ALERT_TO_UPDATE: Final = ReasonType("message.no_alert_to_update", "{why}; no alert is open for {key}")
NO_ALERT_TO_CLOSE: Final = ReasonType("message.no_alert_to_close", "{why}; {effect}")
NOTHING_OPEN: Final = ReasonType("message.nothing_open", "nothing was open for {key}")
ENDED_BEFORE_OPENING: Final = ReasonType("message.ended_before_opening", "{why}; {effect}")
CLOSED_TOO_EARLY: Final = ReasonType("message.closed_too_early", "it closed before its alert opened")
#: Of a message that ends the alert of another id.
ABOUT_THE_SAME: Final = ReasonType(
    "message.about_the_same", "{why}; no alert has its id, and only one that is open is about the same thing"
)
CLOSED: Final = ReasonType("message.closed", "{why}; alert {alert} closed")
CANCELLED: Final = ReasonType("message.cancelled", "{why}; alert {alert} closed as a false alarm")
FILTERED: Final = ReasonType("message.filtered", "filter: {why}")
IN_MAINTENANCE: Final = ReasonType("message.in_maintenance", "maintenance: {window}, until {until}")
DELAYED: Final = ReasonType("message.delayed", "{why}; its alert opens {when}")
STILL_DELAYED: Final = ReasonType("message.still_delayed", "its alert opens {when}")
BELOW_THRESHOLD: Final = ReasonType(
    "message.below_threshold", "too few arrived within {duration}: an alert opens {when}"
)
APPENDED: Final = ReasonType("message.appended", "{why}, and alert {alert} is open for {key}: {effect}")
UPDATED: Final = ReasonType("message.updated", "{why}; {change}")
UNCHANGED: Final = ReasonType("message.unchanged", "{why}; nothing new")
JOINED_ALERT: Final = ReasonType("message.joined_alert", "{why}; it joins alert {alert}: {effects}")
COUNTED_ON_JOINED: Final = ReasonType("message.counted_on_joined", "{why}; {effects}")
MEMBER_ENDED: Final = ReasonType(
    "message.member_ended",
    "{why}; it left alert {alert}, which continues for {count} other",
    "{why}; it left alert {alert}, which continues for {count} others",
)
CHILD_ENDED: Final = ReasonType("message.child_ended", "{why}; it left alert {alert}, which its children do not close")

#: What a message is about.
KEY: Final = ReasonType("message.key", "id {source_id}")
NO_KEY: Final = ReasonType("message.no_key", "this message")
SUBJECT_AND_ID: Final = ReasonType("message.subject_and_id", "{subject} (id {source_id})")
ID_ONLY: Final = ReasonType("message.id_only", "Id {source_id}")
UNTITLED: Final = ReasonType("message.untitled", "A message")

#: Of messages that are not decided yet, or could not be decided.
PENDING: Final = ReasonType("message.pending", "queued for processing")
FETCHING_TICKET: Final = ReasonType("message.fetching_ticket", "ticket state missing; the ticket is fetched first")
UNDECIDABLE: Final = ReasonType("message.undecidable", "Processing failed. The message can be replayed.")
UNDECIDABLE_BECAUSE: Final = ReasonType(
    "message.undecidable_because", "Processing failed: {error}. The message can be replayed."
)
ONE_OF_MANY: Final = ReasonType(
    "message.one_of_many_delayed",
    "one of many delayed messages; the outcome combines the first and the newest",
)

# --- The effect of a repeated message -----------------------------------------------------------------------------

COUNTED: Final = ReasonType("message.counted", "counted, no page")
COUNTED_ONLY: Final = ReasonType("message.counted_only", "counted, no page: {why}")
STARTS_PAGING: Final = ReasonType("message.starts_paging", "no one has been paged yet; pages {when}")
FROM_NOW_ON: Final = ReasonType("message.from_now_on", "from now on")
COUNTED_ON_ALERT: Final = ReasonType("message.counted_on_alert", "counted on alert {alert}, which it joined")
MERGED_INTO: Final = ReasonType("message.merged_into", "that alert is merged into alert {alert}")

# --- Messages that were delayed -----------------------------------------------------------------------------------

WAITED_THEN_JOINED: Final = ReasonType("message.waited_then_joined", "it was delayed, then joined alert {alert}")
WAITED_THEN_COUNTED: Final = ReasonType("message.waited_then_counted", "it was delayed, and counts on alert {alert}")
OVER_BEFORE_OPENING: Final = ReasonType(
    "message.over_before_opening", "closed after {duration}, before its alert opened ({when}); no one was paged"
)

# --- Noise reduction ----------------------------------------------------------------------------------------------

WAITED: Final = ReasonType("delay.waited", "it was delayed for {duration}, and opens {when}")
AFTER_ITS_DELAY: Final = ReasonType("delay.over", "after its delay")
AFTER_MAINTENANCE: Final = ReasonType("delay.after_maintenance", "when the maintenance {window} ends")
WHEN_STABLE: Final = ReasonType("delay.when_stable", "once it has been active for {duration}, because it is flapping")
FLAPPING: Final = ReasonType(
    "noise.flapping",
    "flapping: opened {openings} times within {within}; from now on opens only if active for {stable}",
)
OF_PARENT: Final = ReasonType("noise.of_parent", "alert {alert} is open for its parent")
SAME_GROUP: Final = ReasonType("noise.same_group", "the same group")
WAITED_TOGETHER: Final = ReasonType("noise.waited_together", "they were delayed together")
OVER_BURST: Final = ReasonType(
    "noise.over_burst", "more than {count} alert at once", "more than {count} alerts at once"
)
FLOOD: Final = ReasonType("noise.flood", "{cause}: grouped into this alert")
OVER_RATE: Final = ReasonType("noise.over_rate", "{cause}, and more than one every {every}")
JOINS: Final = ReasonType("noise.joins", "it joins alert {alert}: {cause}")
WINDOW_ACTIVE: Final = ReasonType("noise.window_active", "{window}, until {until}")
NOT_RESTRICTED: Final = ReasonType(
    "noise.not_restricted", "not held back by maintenance, parent, group, delay or rate limit"
)

# --- Paging -------------------------------------------------------------------------------------------------------

TEST_ONLY: Final = ReasonType("paging.test", "test: pages only its sender")
LOG_ONLY_REPLAY: Final = ReasonType("paging.log_only_replay", "log-only replay: no page")
LOG_ONLY_ROUTE: Final = ReasonType("paging.log_only_route", "{route}: log only, no page")
DRY_RUN: Final = ReasonType("paging.dry_run", "{integration} is in dry-run mode; {paging}")
POLICY: Final = ReasonType("paging.policy", "policy {policy}")
NO_POLICY: Final = ReasonType("paging.no_policy", "no policy")

# --- Timeline -----------------------------------------------------------------------------------------------------

ALERT_OPENED: Final = ReasonType("alert.opened_by_message", "Opened by {source}: {why}.")
ALERT_OPENED_UNREADABLE: Final = ReasonType(
    "alert.opened_by_unreadable_message", "{integration} sent a message that could not be parsed: {problem}; {paging}."
)
PAGING_STARTED: Final = ReasonType(
    "alert.paging_started_by_message",
    "{source} reported it again, and no one has been paged yet; {paging}",
)
PAGING_STARTED_UNREADABLE: Final = ReasonType(
    "alert.paging_started_by_unreadable_message",
    "{integration} sent another message that could not be parsed, and no one has been paged yet",
)
MESSAGE_JOINED: Final = ReasonType("alert.message_joined", "{message} joined: {cause}.")
ALERT_MEMBER_ENDED: Final = ReasonType(
    "alert.member_ended",
    "{message} ended: {why}; the alert continues for {count} other.",
    "{message} ended: {why}; the alert continues for {count} others.",
)
ALERT_CHILD_ENDED: Final = ReasonType(
    "alert.child_ended", "{message} ended: {why}; the alert is not closed by its children."
)
MEMBER_PRIORITY_RAISED: Final = ReasonType(
    "alert.member_priority_raised", "{message}, which joined it, is now {priority}."
)
CHILD_PRIORITY_RAISED: Final = ReasonType(
    "alert.child_priority_raised",
    "Alert {child}, which is merged into this one, is now {priority}; this alert was {previous}.",
)
TEAM_CHANGED: Final = ReasonType("alert.moved_between_teams", "Moved from {before} to {after}")
DELETED_AT_SOURCE: Final = ReasonType("alert.deleted_at_source", "deleted in {source}")
