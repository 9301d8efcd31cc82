"""The reasons of escalation: whom a step pages or skips and why, the state of a run, and forecasts."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType, Text

# A step of a policy, with its position. These parts are joined by ", ".

STEP = ReasonType("policy.step", "Step {step} of {steps}")
NAMED_STEP = ReasonType("policy.step_named", "Step {step} of {steps} ({name})")
GROUP_ROUND = ReasonType("policy.group_round", "group {number} of {groups}")
NAMED_GROUP_ROUND = ReasonType("policy.group_round_named", "group {number} of {groups} ({group})")
LOOP = ReasonType("policy.loop", "round {number} of {rounds}")

# The capacity in which a user is paged.

ROLE_IN_GROUP = Text("{role}, {group}")
PREVIOUS_ROLE_IN_GROUP = Text("previous {role}, {group}")
ON_SCHEDULE = Text("on call on {schedule}")
GROUP_MEMBER = Text("member of {group}")
NAMED_BY_STEP = Text("listed in the step")
TICKET_ASSIGNEE = Text("assignee of the ticket")
RECIPIENT = Text("recipient")
GROUP_CONTACT = Text("group contact")

# Whom a step pages.

PAGED_USER = ReasonType("policy.paged_user", "{user} ({capacity})")
PAGED_CONTACT = ReasonType("policy.paged_contact", "{contact} of {group}")
PAGED_AS = ReasonType("page.sent_by_step", "{step}: {user} is paged as {capacity}.")
PAGED_AS_ASSIGNEE = ReasonType("page.sent_to_assignee", "{actor} assigned the alert to {user}.")
ASSIGNEE = ReasonType("page.assignee", "assignee")
CONTACT_PAGED = ReasonType("page.sent_to_contact", "{step}: {contact} of {group} is notified.")

# Why a step pages somebody else or nobody.

NO_GROUP_FOR_ROLE = Text("no group has a {role}")
NOBODY_HAS_ROLE = Text("no {role} on call in {group}")
NOBODY_ELSE_HAS_ROLE = Text("no other {role} on call in {group}")
NOBODY_HAD_ROLE = Text("no previous {role} in {group}")
GROUP_DELETED = Text("a group of this step no longer exists")
GROUP_EMPTY = Text("{group} has no members")
NO_GROUP = Text("no recipient group")
SCHEDULE_DELETED = Text("a schedule of this step no longer exists")
NOBODY_ON_SCHEDULE = Text("no one is on call on {schedule}")
ASSIGNEE_UNKNOWN = Text("the ticket is assigned to {assignee}, who is not a user")
NO_ASSIGNEE = Text("the ticket is unassigned")
NO_CONTACT = Text("no group has a contact {contact}")
NO_TARGETS = Text("it has no recipients")
USER_DELETED = Text("a user of this step no longer exists")
USER_DEACTIVATED = Text("{user} is deactivated")
NO_CONTACT_METHOD = Text("{user} has no enabled contact method")
STILL_BEING_PAGED = Text("{user} is still being paged by an earlier step")
HAS_ACKNOWLEDGED = Text("{user} has acknowledged the alert")
IS_ASSIGNED = Text("{user} is assigned to the alert")
REQUESTED_ESCALATION = Text("{user} requested the escalation")
REACHES_NOBODY = Text("No one would be notified: {notes}.")

# Fired, empty, waiting and skipped steps.

STEP_FIRED = ReasonType("policy.step_fired", "{step} pages {targets}.")
STEP_REQUESTED = ReasonType("policy.step_requested", "{step} (requested) pages {targets}.")
STEP_WOULD_FIRE = ReasonType("policy.step_fired_in_dry_run", "{step} would page {targets}.")
STEP_REQUESTED_IN_DRY_RUN = ReasonType("policy.step_requested_in_dry_run", "{step} (requested) would page {targets}.")
STEP_EMPTY = ReasonType("policy.step_empty", "{step} has no one to page: {notes}.")
STEP_ADDS_NOBODY = ReasonType("policy.step_adds_nobody", "{step} pages no one else: {notes}.")
STEP_WAITS = ReasonType("policy.step_waits", "{step} waits until someone is on call: {notes}.")
STEP_SKIPPED = ReasonType("policy.step_skipped", "{step} is skipped: {why}.")
SKIPPED_ONCE_ACKNOWLEDGED = ReasonType("policy.step_acknowledged", "{users} acknowledged the alert")
NOT_PAGED = ReasonType("policy.not_paged", "Not paged: {notes}.")
NEXT_USER_IN = ReasonType("policy.next_user_in", "The next user is paged in {delay}.")
NEXT_STEP_NOW = ReasonType("policy.next_step_now", "The next step fires immediately.")
NEXT_ACTION_IN = ReasonType("policy.next_action_in", "The next action follows in {delay}.")
NOBODY_LEFT = ReasonType(
    "policy.nobody_left", "No one left to page: everyone in the policy is already responding or being paged."
)

# Conditions of steps that do not hold.

ONLY_PRIORITIES = Text("only for {priorities} alerts; this alert's priority is {priority}")
ONLY_DURING = Text("only during {hours}")
ONLY_OUTSIDE = Text("only outside {hours}")
ONLY_IN_WINDOW = Text("only {window}")
ONLY_OUTSIDE_WINDOW = Text("only outside {window}")
ONLY_TAG = Text("only if {tag} is {value}")
ONLY_OTHER_TAG = Text("only if {tag} is {value}; it is {actual}")
WINDOW = Text("{start} to {end} ({zone})")
WINDOW_ON_DAYS = Text("{days} {start} to {end} ({zone})")

# What a run waits for, or why it has no timer.

NEXT_STEP = ReasonType("escalation.next_step", "Step {step} of {steps} is next.")
ALL_STEPS_FIRED = ReasonType(
    "escalation.all_steps_fired", "All steps of this round have fired. The next action follows."
)
ALERT_CLOSED = ReasonType("escalation.alert_closed", "The alert is closed.")
ALERT_CANCELLED = ReasonType("escalation.alert_cancelled", "The alert was closed as a false alarm.")
ALERT_MERGED = ReasonType("escalation.alert_merged", "The alert is merged into {alert}.")
ON_HOLD = ReasonType("escalation.on_hold", "Snoozed. The due step fires when the snooze ends.")
LOG_ONLY = ReasonType("escalation.log_only", "Log only: no one is paged.")
DRY_RUN = ReasonType("escalation.dry_run", "The integration is in dry-run mode: no one is paged.")
ALERT_ASSIGNED = ReasonType("escalation.alert_assigned", "The alert is assigned to {user}.")
AWAITS_ACCEPTANCE = ReasonType(
    "escalation.awaits_acceptance", "{user} was paged and must accept the alert, or escalation restarts."
)
ASSIGNEE_PAGED = ReasonType(
    "escalation.assignee_paged", "Paged {user}. Escalation restarts if they do not accept within {timeout}."
)
ASSIGNEE_NOTIFIED = ReasonType("escalation.assignee_notified", "Paged {user}.")
ASSIGNEE_WOULD_BE_PAGED = ReasonType("escalation.assignee_would_be_paged", "{user} would be paged.")
ASSIGNEE_INACTIVE = ReasonType("escalation.assignee_inactive", "{user} cannot be paged: the account is deactivated.")
NOT_ACCEPTED = ReasonType("escalation.not_accepted", "{user} did not accept within {timeout}")
PAGING_PAUSED = ReasonType("escalation.paging_paused", "All paging is paused: {why}")
STOPPED_BY_ACK = ReasonType(
    "escalation.stopped_by_acknowledgement", "{users} acknowledged the alert. The acknowledgement reminder is next."
)
PAUSED_BY_ACK = ReasonType(
    "escalation.paused_by_acknowledgement", "{users} acknowledged the alert: escalation pauses for {pause}."
)
EXHAUSTED_RUN = ReasonType("escalation.run_exhausted", "No one responded, and the policy is exhausted.")
RUN_REPLACED = ReasonType("escalation.run_replaced", "A newer run replaced this one.")
RUN_HANDED_OVER = ReasonType("escalation.run_handed_over", "The policy is exhausted. Policy {policy} takes over.")
STUCK = ReasonType(
    "escalation.stuck",
    "Stuck: determining whom to page has failed once. Tocsin retries every hour.",
    "Stuck: determining whom to page has failed {count} times. Tocsin retries every hour.",
)
FAILED = ReasonType("escalation.failed", "Determining whom to page failed ({failures} of {limit}). Tocsin retries.")
ERROR = ReasonType("escalation.error", "Error: {error}")

# Why a policy was chosen.

HANDED_OVER_FROM = ReasonType("escalation.handed_over_from", "The previous policy handed over to this one.")
POLICY_STARTED_BY = ReasonType("escalation.policy_started_by", "{actor} started policy {policy}.")
MANUAL_WITHOUT_RECIPIENTS = ReasonType(
    "escalation.manual_without_recipients", "No policy or recipients, so no one is paged."
)
MANUAL_BY_POLICY = ReasonType("escalation.manual_by_policy", "Created manually with policy {policy}.")
MANUAL_BY_RECIPIENTS = ReasonType("escalation.manual_by_recipients", "Created manually for the selected recipients.")

# Starts, stops and continuations.

RESTARTED = ReasonType("escalation.restarted", "Escalation restarts at step 1. Earlier responses no longer count.")
RESTARTED_AT_STEP_1 = ReasonType("escalation.restarted_at_step_1", "Escalation restarts at step 1.")
CONTINUED = ReasonType("escalation.continued", "Escalation continues with the due step.")
TOO_FEW_ACKS = ReasonType(
    "escalation.too_few_acknowledgements", "Escalation continues: too few acknowledgements remain."
)
MISSING_ACKS = ReasonType(
    "escalation.missing_acknowledgements",
    "{acknowledged} of {required} required users have acknowledged the alert. Escalation continues until all have.",
)
STOPS = ReasonType("escalation.stops", "Escalation stops.")
PAUSES = ReasonType("escalation.pauses", "Escalation pauses for {pause}.")
CONTINUES_UNTIL_ASSIGNED = ReasonType(
    "escalation.continues_until_assigned", "Escalation continues until the alert is assigned."
)
ACK_REMINDER_FOLLOWS = ReasonType(
    "escalation.reminder_follows",
    "The acknowledgement reminder is sent in {timeout} unless the alert is assigned or closed.",
)
WAITS_FOR_PAUSE = ReasonType(
    "escalation.waits_for_pause",
    "Escalation waits: all paging is paused ({why}). The due step fires when the pause ends.",
)
CLOCK_ROLLED_BACK = ReasonType(
    "escalation.clock_rolled_back",
    "The database clock went back by {offset}. Pending steps fire earlier by the same amount.",
)
PRIORITY_ROSE = ReasonType("escalation.priority_rose", "The priority rose from {before} to {after}.")
MOVED = ReasonType("escalation.moved", "{why}, and the routes select other recipients.")
PAGING_STARTED_RUN = ReasonType("escalation.paging_started", "{why}. A newer run replaced this one.")
PAGING_STARTS = ReasonType("escalation.paging_starts", "{why}. Escalation starts at step 1.")
PAGING_STARTS_AT = ReasonType("escalation.paging_starts_at", "{why}. Escalation starts at step 1 {when}.")
PAGING_STARTS_AFTER_HOLD = ReasonType(
    "escalation.paging_starts_after_hold", "{why}. Escalation starts at step 1 when the snooze ends."
)
PAGING_NOT_NEEDED = ReasonType("escalation.paging_not_needed", "{why}. No one is paged now: {status}")

# Exhaustion, and notices.

NOBODY_ANSWERED = ReasonType("escalation.nobody_answered", "No one responded, and escalation is exhausted.")
ONLY_ACKNOWLEDGED = ReasonType(
    "escalation.only_acknowledged", "{users} acknowledged the alert, but it is unassigned, and escalation is exhausted."
)
LAST_STEP_REPEATS = ReasonType(
    "escalation.last_step_repeats", "The last step repeats every {interval} until someone responds."
)
HANDED_OVER = ReasonType("escalation.handed_over", "Policy {policy} takes over.")
NOBODY_PAGED_YET = ReasonType(
    "escalation.nobody_paged_yet", "No one has been paged yet: the step waits until someone is on call."
)
NOBODY_PAGED = ReasonType("escalation.nobody_paged", "No one could be paged: no step of the policy has a recipient.")
# The codes have the role's former name: timelines have stored them.
LEADS_NOTIFIED = ReasonType("escalation.managers_notified", "{users} is notified: {why}", "{users} are notified: {why}")
LEADS_WOULD_BE_NOTIFIED = ReasonType("escalation.managers_notified_in_dry_run", "{users} would be notified: {why}")
NO_LEADS = ReasonType("escalation.no_managers", "{why} No lead or administrator can be notified.")
ADMINISTRATORS_NOTIFIED = ReasonType("escalation.administrators_notified", "Administrators are notified: {why}")
RESPONDERS_NOTIFIED = ReasonType(
    "escalation.responders_notified", "{why} {users} is notified.", "{why} {users} are notified."
)
RESPONDERS_WOULD_BE_NOTIFIED = ReasonType(
    "escalation.responders_notified_in_dry_run", "{why} {users} would be notified."
)
RESPONDER_UNREACHABLE = ReasonType(
    "escalation.responder_unreachable", "{why} The alert is assigned to {user}, who cannot be notified."
)
ACK_REMINDER = ReasonType(
    "escalation.reminder", "{user} acknowledged the alert {ago}, and it is neither assigned nor closed."
)
ACK_REMINDER_SENT = ReasonType(
    "escalation.reminder_sent",
    "Acknowledgement reminder sent to {user}. Without an answer within {timeout}, escalation restarts.",
)
ACK_REMINDER_WOULD_BE_SENT = ReasonType(
    "escalation.reminder_sent_in_dry_run",
    "An acknowledgement reminder would be sent to {user}. Without an answer within {timeout}, escalation restarts.",
)
HEADING_NOBODY_ANSWERED = Text("No response")
RECEIVED_AS_ADMINISTRATOR = Text("You receive this because you administer Tocsin.")

# Manual escalation.

OPENED_FOR_GROUPS = Text("Alert {alert} is open. Policy {policy} pages {groups}.")
NOT_OPENED_FOR_NOBODY = Text("Nothing was opened: you have no group, or see no escalation policy. Use New alert.")
CREATED_BY = ReasonType("alert.created_by", "{actor} created the alert.")
CREATED_WITH_NOTE = ReasonType("alert.created_with_note", "{actor} created the alert: {note}.")
POLICY_STARTED = ReasonType("escalation.policy_started", "Policy {policy} started.")
POLICY_WAITS = ReasonType("escalation.policy_waits", "Policy {policy} started. Waiting: {why}")
RESPONDER_ADDED = ReasonType("page.responder_added", "{actor} added you as a responder: {capacity}.")
RESPONDERS_ADDED = ReasonType("escalation.responders_added", "{actor} added {users} as responders.")
RESPONDERS_PAGED = ReasonType("escalation.responders_paged", "Paged {users}.")
RESPONDERS_DEACTIVATED = ReasonType(
    "escalation.responders_deactivated",
    "None of the paged users has an active account any more: escalation continues at once.",
)
ACCOUNT_DEACTIVATED = ReasonType("user.account_deactivated", "the account was deactivated")
