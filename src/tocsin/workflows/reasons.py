"""The reasons of workflows: why a run acts, waits or ends, the results of actions, and descriptions."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

# What a run waits for, or why it ends.

DISABLED = ReasonType("workflow.disabled", "The workflow is disabled.")
DELETED = ReasonType("workflow.deleted", "The workflow was deleted.")
ALERT_DELETED = ReasonType("workflow.alert_deleted", "The alert was deleted.")
TEST_ALERT = ReasonType("workflow.test_alert", "Test alert: workflows do not run.")
DRY_RUN_ALERT = ReasonType("workflow.dry_run_alert", "The integration is in dry-run mode: workflows do not run.")
FOREIGN_ALERT = ReasonType(
    "workflow.foreign_alert",
    "The alert does not belong to {group}. A group's workflow runs only on alerts of the group's "
    "integrations and alerts that page the group.",
)
CHAIN_TOO_LONG = ReasonType(
    "workflow.chain_too_long",
    "Workflows triggered each other once in a row. The chain is stopped.",
    "Workflows triggered each other {count} times in a row. The chain is stopped.",
)
STOP_CONDITION_HOLDS = ReasonType("workflow.stop_condition_holds", "The exception matched: {why}.")
DONE = ReasonType("workflow.done", "All actions were executed.")
WAIT_ENDED = ReasonType("workflow.wait_ended", "{why} The remaining actions are skipped.")
WAITS = ReasonType("workflow.waits", "Waiting for {duration}.")
NEWER_RUN = ReasonType("workflow.newer_run", "A newer run replaced this one, and the timer restarted.")
ANSWERED_IN_TIME = ReasonType("workflow.answered_in_time", "Acknowledged in time by {users}.")
ASSIGNED_IN_TIME = ReasonType("workflow.assigned_in_time", "Assigned in time to {user}.")
ALERT_ON_HOLD = ReasonType("workflow.alert_on_hold", "The alert is snoozed. It is checked again when the snooze ends.")
TOO_OFTEN = ReasonType(
    "workflow.too_often",
    "Skipped: already ran once on this alert within a minute.",
    "Skipped: already ran {count} times on this alert within a minute.",
)
TOO_MANY_RUNS = ReasonType(
    "workflow.too_many_runs",
    "Skipped: already ran once on this alert.",
    "Skipped: already ran {count} times on this alert.",
)
NO_MOMENT = ReasonType("workflow.no_moment", "The alert has no date for {moment}.")
MOMENT_HANDLED = ReasonType("workflow.moment_handled", "Already ran for {moment}, {at}.")
MOMENT_PAST = ReasonType("workflow.moment_past", "Too late for {moment}, {at}.")
WAITS_FOR_MOMENT = ReasonType("workflow.waits_for_moment", "Waiting for {moment}, {at}.")
NO_CONDITIONS = ReasonType("workflow.no_conditions", "No conditions.")
CONDITIONS_HOLD = ReasonType("workflow.conditions_hold", "Conditions matched: {why}.")
CONDITIONS_FAIL = ReasonType("workflow.conditions_fail", "Conditions not matched: {why}.")
CONDITIONS_FAIL_NOW = ReasonType(
    "workflow.conditions_fail_now", "Conditions not matched: {why}. They will be checked again."
)
TRIGGER_CHANGED = ReasonType("workflow.trigger_changed", "The workflow was changed and now has another trigger.")
ACTIONS_CHANGED = ReasonType(
    "workflow.actions_changed",
    "The workflow was changed while the run was waiting. Its remaining actions are skipped.",
)
ENDED_BY = ReasonType("workflow.ended_by", "{actor} ended the run.")
RETRIED = ReasonType("workflow.retried", "Failed ({failures} of {limit}), will be retried: {error}")
STUCK = ReasonType("workflow.stuck", "Stuck: {error}")
PRESSED = ReasonType("workflow.pressed", "{user} pressed {workflow}.")
TRIED = ReasonType("workflow.tried", "Dry run.")

# SLA moments.

RESPOND_BY = ReasonType("workflow.respond_by", "the respond-by time")
FIX_BY = ReasonType("workflow.fix_by", "the fix-by time")
TIME_LIMIT = ReasonType("workflow.time_limit", "the time limit")
AFTER_CREATION = ReasonType("workflow.after_creation", "{duration} after the alert's creation")

# Results of actions.

RESULT = ReasonType("workflow.result", "Workflow {workflow}: {result}")
PRESSED_RESULT = ReasonType("workflow.pressed_result", "{user} pressed {workflow}: {result}")
ACTION_SKIPPED = ReasonType("workflow.action_skipped", "Workflow {workflow} skipped an action: {why}")
ACTION_FAILED = ReasonType("workflow.action_failed", 'Workflow {workflow}: the action "{action}" failed: {why}')
LIMIT_REACHED = ReasonType(
    "workflow.limit_reached",
    "Limit of {limit} calls, notes and alerts in {period} reached. Check whether the called systems create new alerts.",
)
BUTTON_NOTE = ReasonType("workflow.button_note", "via the button {workflow}")
NOTE_QUEUED = ReasonType("workflow.note_queued", "Queued a note for the ticket.")
CALL_QUEUED = ReasonType("workflow.call_queued", "Queued a call to {integration}.")
CALL_FOR_ALERT = ReasonType("workflow.call_for_alert", "{workflow}, for alert {alert}")
NOTIFIED = ReasonType("workflow.notified", "Notified {recipients}.")
NOTIFIED_BY = ReasonType("workflow.notified_by", "Notified {recipients} by {method}.")
NOT_NOTIFIED = ReasonType("workflow.not_notified", "Not notified: {missed}.")
NOTICE_RECEIVED = ReasonType("notice.received_from_workflow", "You receive this from the workflow {workflow}.")
ALERT_CREATED = ReasonType("workflow.alert_created", "Created alert {alert}: {subject}.")
CREATED = ReasonType("workflow.created", "Workflow {workflow} created the alert.")
CREATED_FOR_POLICY = ReasonType(
    "workflow.created_for_policy", "Workflow {workflow} created the alert with policy {policy}."
)
CREATED_FOR_USERS = ReasonType(
    "workflow.created_for_users", "Workflow {workflow} created the alert for the users it lists."
)
BECAUSE_OF = ReasonType("workflow.created_because_of", "Created because of alert {alert}.")

# The capacity in which a user is a recipient.

NAMED = ReasonType("capacity.named_by_workflow", "listed in the workflow")
ASSIGNEE = ReasonType("capacity.assignee", "assignee")
WAS_PAGED = ReasonType("capacity.was_paged", "paged about the alert")

# Descriptions.

WORKFLOW = ReasonType("workflow.description", "{trigger}: {actions}.")
WHEN_OPENED = ReasonType("trigger.opened", "When an alert is created")
WHEN_UPDATED = ReasonType("trigger.updated", "When an alert is updated")
WHEN_STATUS_CHANGED = ReasonType("trigger.status_changed", "When the status of an alert or its ticket changes")
WHEN_ACKNOWLEDGED = ReasonType("trigger.acknowledged", "When an alert is acknowledged")
WHEN_ASSIGNED = ReasonType("trigger.assigned", "When an alert is assigned")
WHEN_ESCALATED = ReasonType("trigger.escalated", "When the next escalation step fires")
WHEN_EXHAUSTED = ReasonType("trigger.exhausted", "When escalation is exhausted")
WHEN_REPLIED = ReasonType("trigger.replied", "When a note is added")
WHEN_CLOSED = ReasonType("trigger.closed", "When an alert is closed")
WHEN_PRESSED = ReasonType("trigger.pressed", "When the button is pressed")
WHEN_UNACKNOWLEDGED = ReasonType("trigger.unacknowledged", "When an alert is unacknowledged for {duration}")
WHEN_UNASSIGNED = ReasonType("trigger.unassigned", "When an alert is unassigned for {duration}")
BEFORE_MOMENT = ReasonType("trigger.before_moment", "{duration} before {moment}")
AFTER_MOMENT = ReasonType("trigger.after_moment", "{duration} after {moment}")
AT_MOMENT = ReasonType("trigger.at_moment", "At {moment}")
EVERY = ReasonType("trigger.every", "Every {interval} while the alert is active")

NOTIFY_BY = ReasonType("action.notify_by", "notify {recipients} by {method}")
NOTIFY_BY_EMAIL = ReasonType("action.notify_by_email", "notify {recipients} by email")
START_POLICY = ReasonType("action.start_policy", "start policy {policy}")
ADD_RESPONDERS = ReasonType("action.add_responders", "also page {recipients}")
ESCALATE = ReasonType("action.escalate", "escalate to the next step")
SET_PRIORITY = ReasonType("action.set_priority", "set the priority to {priority}")
SET_TAGS = ReasonType("action.set_tags", "set tags: {changes}")
HOLD = ReasonType("action.hold", "snooze the alert for {duration}")
CLOSE = ReasonType("action.close", "close the alert")
REPLY = ReasonType("action.reply", "add a note")
CALL = ReasonType("action.call", "call {integration}")
WRITE_ON_TICKET = ReasonType("action.write_on_ticket", "update the ticket")
WRITE_STATUS = ReasonType("action.write_status", "update the ticket, status {status}")
OPEN_ALERT = ReasonType("action.open_alert", "create another alert")
WAIT = ReasonType("action.wait", "wait {duration}")
GROUP_ROLES = ReasonType("action.group_roles", "{group} ({roles})")
GROUP_CONTACTS = ReasonType("action.group_contacts", "their contacts")
THE_GROUP_CONTACTS = ReasonType("action.the_group_contacts", "the groups' contacts")
GROUP_MANAGERS = ReasonType("action.group_managers", "the managers of the alert's groups")
THE_ASSIGNEE = ReasonType("action.assignee", "the assignee")
EVERYBODY_PAGED = ReasonType("action.everybody_paged", "everyone paged")
NOBODY = ReasonType("action.nobody", "no one")

# Problems.

UNREADABLE = ReasonType("workflow.unreadable", "The workflow is not valid: {error}. Save it again.")
DOES_NOTHING = ReasonType("workflow.does_nothing", "Workflow {workflow} does not run: {why}")
STUCK_RUNS = ReasonType(
    "workflow.stuck_runs",
    "Workflow {workflow}: 1 run is stuck. {why}",
    "Workflow {workflow}: {count} runs are stuck. {why}",
)
LIMITED = ReasonType(
    "workflow.limited",
    "Workflow {workflow} reached its limit, and 1 action was skipped. It may be in a loop with another "
    "system. Check its log.",
    "Workflow {workflow} reached its limit, and {count} actions were skipped. It may be in a loop with "
    "another system. Check its log.",
)
TITLE_STUCK = ReasonType("notice.workflow_stuck", "Workflow {workflow} is stuck")
TEXT_STUCK = ReasonType(
    "notice.workflow_stuck_text",
    "It could not continue for alert {alert}: {error}\n\nPaging continues without it. Fix it under Workflows, and "
    "press Try again in its log.",
)
TITLE_LIMITED = ReasonType("notice.workflow_limited", "Workflow {workflow} reached its limit")
TEXT_LIMITED = ReasonType(
    "notice.workflow_limited_text",
    "{workflow}: {why}\n\nFurther actions were skipped, and each alert says so. See its log under Workflows: if it "
    "runs in circles, narrow its conditions; if that many are intended, raise its limit.",
)
RECEIVED_AS_MANAGER = ReasonType(
    "notice.received_as_workflow_manager", "You receive this because you manage this workflow."
)
