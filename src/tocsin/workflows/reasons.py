"""The reasons of workflows: why a run acts, waits or ends, the results of actions."""

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
    "workflow.actions_changed", "The workflow was changed while the run was waiting. Its remaining actions are skipped."
)
ENDED_BY = ReasonType("workflow.ended_by", "{actor} ended the run.")
RETRIED = ReasonType("workflow.retried", "Failed ({failures} of {limit}), will be retried: {error}")
STUCK = ReasonType("workflow.stuck", "Stuck: {error}")
PRESSED = ReasonType("workflow.pressed", "{user} pressed {workflow}.")


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
ALERT_CREATED = ReasonType("workflow.alert_created", "Created alert {alert}: {subject}.")
CREATED = ReasonType("workflow.created", "Workflow {workflow} created the alert.")
CREATED_FOR_POLICY = ReasonType(
    "workflow.created_for_policy", "Workflow {workflow} created the alert with policy {policy}."
)
CREATED_FOR_USERS = ReasonType(
    "workflow.created_for_users", "Workflow {workflow} created the alert for the users it lists."
)
BECAUSE_OF = ReasonType("workflow.created_because_of", "Created because of alert {alert}.")


# Problems.

UNREADABLE = ReasonType("workflow.unreadable", "The workflow is not valid: {error}. Save it again.")
