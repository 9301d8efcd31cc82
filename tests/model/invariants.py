"""Invariants of the system. Each is a function that yields its violations; its docstring states the invariant.

`ALWAYS` is checked after each step, `WHEN_IDLE` when no work is due, and `AT_END` once, since it is expensive.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.model.system import OutboundRequest, System
from tocsin.alerts.states import ACTIVE, Priority
from tocsin.configure import config_files, plan, yaml_loader
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.notify.pages import load_recipients
from tocsin.notify.rules.page_planner import HOURLY_LIMIT_REACHED, IN_QUIET_HOURS, NotificationMethod, quiet_until
from tocsin.operate import http
from tocsin.web.alerts import queries

type Invariant = Callable[[System], Iterator[str]]

_LIVE = "('open', 'assigned', 'on_hold')"


class InvariantViolation(AssertionError):
    """An invariant is violated."""

    def __init__(self, invariant: Invariant, violation: str) -> None:
        self.invariant = invariant.__name__
        super().__init__(f"{self.invariant}: {invariant.__doc__}\n  {violation}")


def check(invariants: Iterable[Invariant], system: System) -> None:
    """Raises InvariantViolation for the first violation."""
    for invariant in invariants:
        for violation in invariant(system):
            raise InvariantViolation(invariant, violation)


def no_internal_error(system: System) -> Iterator[str]:
    """Tocsin logs no internal error."""
    yield from system.error_log.texts


def active_alerts_have_their_keys(system: System) -> Iterator[str]:
    """An active alert holds its deduplication key, and a closed alert holds none."""
    for row in system.rows(
        f"SELECT id, status FROM alerts_alert WHERE key_hash IS NOT NULL AND CASE WHEN status IN {_LIVE} "
        "THEN NOT holds_key ELSE holds_key AND status <> 'merged' END"
    ):
        yield f"#{row['id']} is {row['status']}, and the key says otherwise"


def parents_are_not_merged(system: System) -> Iterator[str]:
    """No alert is merged into a merged alert."""
    for row in system.rows(
        "SELECT a.id, p.id AS into FROM alerts_alert a JOIN alerts_alert p ON p.id = a.merged_into_id "
        "WHERE a.status = 'merged' AND p.status = 'merged'"
    ):
        yield f"#{row['id']} is merged into #{row['into']}"


def status_matches_owner(system: System) -> Iterator[str]:
    """An assigned alert has an owner, an open one has none, and a hold has an end."""
    for row in system.rows(
        "SELECT id, status FROM alerts_alert WHERE CASE status "
        "WHEN 'assigned' THEN owner_id IS NULL AND owner_name = '' "
        "WHEN 'open' THEN owner_id IS NOT NULL OR owner_name <> '' "
        "WHEN 'on_hold' THEN hold_until IS NULL ELSE false END"
    ):
        yield f"#{row['id']} is {row['status']}"


def no_workflow_is_stuck(system: System) -> Iterator[str]:
    """No workflow run is stuck: a failing action is recorded and the run continues."""
    for row in system.rows("SELECT id, alert_id, reason FROM workflows_run WHERE status = 'stuck' OR failures > 0"):
        yield f"the run {row}"


def one_run_per_active_alert(system: System) -> Iterator[str]:
    """Each active alert has exactly one run that has not ended, and no other alert has any."""
    for row in system.rows(
        "SELECT a.id, a.status, count(r.id) AS runs FROM alerts_alert a "
        "LEFT JOIN escalation_run r ON r.alert_id = a.id AND r.status <> 'ended' "
        f"GROUP BY a.id HAVING count(r.id) <> CASE WHEN a.status IN {_LIVE} THEN 1 ELSE 0 END"
    ):
        yield f"#{row['id']} is {row['status']} and has {row['runs']} runs"


def open_alerts_have_a_timer(system: System) -> Iterator[str]:
    """The run of an unassigned alert has a timer, or it is exhausted and the timeline shows it."""
    for row in system.rows(
        "SELECT a.id, r.status FROM alerts_alert a JOIN escalation_run r ON r.alert_id = a.id AND r.status <> 'ended' "
        "WHERE a.status = 'open' AND r.mode <> 'record' AND r.due_at IS NULL AND (r.status <> 'finished' OR "
        "r.mode = 'page' AND NOT EXISTS (SELECT FROM alerts_alertevent e "
        "WHERE e.alert_id = a.id AND e.kind = 'escalation_finished'))"
    ):
        yield f"#{row['id']} is unassigned, and its run is {row['status']}"


def runs_stop_only_for_acknowledgements(system: System) -> Iterator[str]:
    """The run of an open alert stops only while the alert is acknowledged."""
    for row in system.rows(
        "SELECT a.id, r.due_at FROM alerts_alert a JOIN escalation_run r ON r.alert_id = a.id "
        "WHERE a.status = 'open' AND r.status = 'stopped' AND r.mode = 'page' "
        "AND NOT EXISTS (SELECT FROM alerts_acknowledgement k WHERE k.alert_id = a.id)"
    ):
        yield f"the run of #{row['id']} is stopped until {row['due_at']}"


def responders_are_not_paged(system: System) -> Iterator[str]:
    """No page is sent for a closed, held or dry-run alert, or to its responders, unless it asks for acceptance."""
    yield from system.misdirected


def dry_run_alerts_never_page(system: System) -> Iterator[str]:
    """A dry-run alert has no run that pages."""
    for row in system.rows(
        "SELECT a.id FROM alerts_alert a JOIN escalation_run r ON r.alert_id = a.id AND r.status <> 'ended' "
        "WHERE a.dry_run AND r.mode = 'page'"
    ):
        yield f"#{row['id']}"


def pages_have_reasons(system: System) -> Iterator[str]:
    """Each page has a reason, and so has each cancelled delivery."""
    for row in system.rows("SELECT id, alert_id FROM notify_notification WHERE purpose = 'page' AND reason = '{}'"):
        yield f"the notification {row['id']} about #{row['alert_id']}"
    for row in system.rows("SELECT id, alert_id FROM notify_delivery WHERE status = 'cancelled' AND reason = '{}'"):
        yield f"the delivery {row['id']} about #{row['alert_id']}"


def changes_have_timeline_events(system: System) -> Iterator[str]:
    """Each change of an alert is an event on its timeline, with a reason and an actor."""
    events: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in system.rows(
        "SELECT alert_id, kind, actor_name, reason FROM alerts_alertevent WHERE id > %s", system.before.last_event
    ):
        events[event["alert_id"]].append(event)
        if not event["reason"] or not event["actor_name"]:
            yield f"the event {event}"
    known = {row["id"] for row in system.rows("SELECT id FROM people_user")}
    for alert, state in system.states().items():
        was = system.before.states.get(alert)
        if was is not None and state["status"] not in ACTIVE:
            # A closed alert loses its deleted users; users of active alerts cannot be deleted.
            acknowledged = [user for user in was["acks"] or () if user in known]
            was |= {"owner_id": was["owner_id"] if was["owner_id"] in known else None, "acks": acknowledged or None}
        if state != was and not events[alert]:
            yield f"#{alert} was {was} and is {state}"


def opening_a_link_changes_nothing(system: System) -> Iterator[str]:
    """Opening a signed link, by a user or a mail scanner, changes nothing."""
    if system.opened:
        for alert, state in system.states().items():
            if state != (was := system.before.states.get(alert)):
                yield f"#{alert} was {was} and is {state}"
        for row in system.rows("SELECT alert_id, kind FROM alerts_alertevent WHERE id > %s", system.before.last_event):
            yield f"#{row['alert_id']}: {row['kind']}"


def forecasts_match_outcomes(system: System) -> Iterator[str]:
    """The simulation of a message and the forecast of an alert match the outcome."""
    yield from system.contradictions


def undo_restores_state(system: System) -> Iterator[str]:
    """An immediate undo restores the alert; an idle run may continue, and a reminder may be repeated."""
    if (undone := system.undone) is None:
        return
    for what, was in undone.before.items():
        may_differ = what == "run" and (not was or was[0]["is_asking"])
        if undone.after[what] != was and not may_differ:
            yield f"{undone.what} of #{undone.alert}, {what}: it was {was} and is {undone.after[what]}"


def counts_match_messages(system: System) -> Iterator[str]:
    """An alert counts every message mapped to it, and a message that opened an alert refers to it."""
    for row in system.rows(
        "SELECT a.id, a.count, count(m.id) AS messages FROM alerts_alert a JOIN inbound_inboundmessage m "
        "ON m.alert_id = a.id AND m.status IN ('Mapped Opened', 'Mapped Appended') "
        "GROUP BY a.id HAVING a.count < count(m.id)"
    ):
        yield f"#{row['id']} says {row['count']} and has {row['messages']}"
    for row in system.rows("SELECT id FROM inbound_inboundmessage WHERE status = 'Mapped Opened' AND alert_id IS NULL"):
        yield f"the message {row['id']} opened no alert"


def nothing_is_due_when_idle(system: System) -> Iterator[str]:
    """When the tasks are idle, all due work is decided and sent."""
    for row in system.rows("SELECT alert_id, due_at FROM escalation_run WHERE due_at <= %s", system.now):
        yield f"the run of #{row['alert_id']} is due since {row['due_at']}"
    late = system.now - timedelta(seconds=1)
    for row in system.rows(
        "SELECT id, alert_id, status, due_at, reason FROM notify_delivery WHERE status = 'sending' "
        "OR status = 'queued' AND due_at < %s AND (purpose <> 'page' OR NOT EXISTS "
        "(SELECT FROM notify_pause p WHERE p.ended_at IS NULL AND p.until > %s))",
        late,
        system.now,
    ):
        yield f"the delivery {row}"
    for row in system.rows("SELECT id, reason FROM inbound_inboundmessage WHERE status = 'Pending'"):
        yield f"the message {row}"
    for row in system.rows("SELECT id, alert_id, due_at, cause FROM workflows_run WHERE due_at <= %s", system.now):
        yield f"the workflow's run {row}"
    for row in system.rows("SELECT id, title FROM oncall_pendingnotice WHERE sent_at IS NULL"):
        yield f"the shift notice {row}"
    for row in system.rows("SELECT * FROM oncall_reminder WHERE done_at IS NULL AND due_at <= %s", system.now):
        yield f"the reminder {row}"
    for row in system.rows("SELECT * FROM notify_awaitedreceipt WHERE due_at <= %s", system.now):
        yield f"the receipt {row}"
    for row in system.rows(
        "SELECT c.id, c.status, c.due_at FROM outbound_call c JOIN outbound_integrationstatus s USING (integration_id) "
        "WHERE c.status = 'sending' OR c.status = 'queued' AND c.due_at < %s "
        "AND coalesce(greatest(s.open_until, s.not_before, s.blocked_until), c.due_at) < %s "
        "AND NOT EXISTS (SELECT FROM outbound_call b WHERE b.order_key = c.order_key AND b.id < c.id "
        "AND b.status = 'queued')",
        late,
        late,
    ):
        yield f"the call {row}"


def outbound_calls_keep_order(system: System) -> Iterator[str]:
    """An external system receives the calls of an alert in order, and repeats only after an unknown outcome."""
    newest: dict[str, OutboundRequest] = {}
    for one in system.outbound_requests:
        before = newest.get(one.order_key)
        if before is not None and one.call < before.call:
            yield f"{one} comes after {before}"
        if before is not None and one.call == before.call and not one.is_uncertain:
            yield f"{one} was received before"
        newest[one.order_key] = one


def removed_limits_delay_nothing(system: System) -> Iterator[str]:
    """When the tasks are idle, no page waits for removed quiet hours or a removed limit."""
    waiting = system.rows(
        "SELECT d.id, d.user_id, d.channel, d.address, n.label, d.due_at, d.reason->>'code' AS reason_code, "
        "a.priority, (n.data ->> 'held_from')::timestamptz AS held_from FROM notify_delivery d "
        "JOIN notify_notification n ON n.id = d.notification_id JOIN alerts_alert a ON a.id = d.alert_id "
        "WHERE d.status = 'queued' AND d.user_id IS NOT NULL AND (d.reason->>'code' = %s OR (n.data ? 'held_from' "
        "AND d.attempts = 0 AND (d.reason = '{}' OR d.reason->>'code' = %s)))",
        HOURLY_LIMIT_REACHED.code,
        IN_QUIET_HOURS.code,
    )
    with database.transaction() as connection:
        people = load_recipients(connection, {row["user_id"] for row in waiting})
    for row in waiting:
        person = people[row["user_id"]]
        if row["reason_code"] == HOURLY_LIMIT_REACHED.code:
            if not person.most_per_hour:
                yield f"the delivery {row} exceeds no limit"
            continue
        method = NotificationMethod(row["label"], row["channel"], row["address"])
        at = max(row["held_from"], system.now)
        if row["due_at"] > quiet_until(person, method, Priority(row["priority"]), at) + timedelta(seconds=1):
            yield f"the delivery {row}"


def holds_end(system: System) -> Iterator[str]:
    """When the tasks are idle, no alert is on hold past its end."""
    for row in system.rows(
        "SELECT id, hold_until FROM alerts_alert WHERE status = 'on_hold' AND hold_until <= %s "
        "AND NOT EXISTS (SELECT FROM notify_pause p WHERE p.ended_at IS NULL AND p.until > %s)",
        system.now, system.now,
    ):  # fmt: skip
        yield f"#{row['id']} is on hold until {row['hold_until']}"


def acknowledgements_expire(system: System) -> Iterator[str]:
    """An acknowledgement of an open alert expires after an unanswered acknowledgement reminder."""
    for row in system.rows(
        "SELECT a.id, max(k.at) AS at FROM alerts_alert a JOIN alerts_acknowledgement k ON k.alert_id = a.id "
        "JOIN escalation_run r ON r.alert_id = a.id AND r.status <> 'ended' AND r.mode = 'page' "
        "WHERE a.status = 'open' AND NOT EXISTS (SELECT FROM alerts_alertevent e WHERE e.alert_id = a.id "
        "AND e.at > %s AND e.kind <> 'updated') "
        "AND NOT EXISTS (SELECT FROM notify_pause p WHERE coalesce(p.ended_at, p.until) > %s) "
        "GROUP BY a.id HAVING max(k.at) < %s",
        system.now - timedelta(minutes=36), system.now - timedelta(minutes=36), system.now - timedelta(minutes=36),
    ):  # fmt: skip
        yield f"#{row['id']} is acknowledged since {row['at']}"


def pages_fail_only_permanently(system: System) -> Iterator[str]:
    """A page fails permanently only if a provider rejected it permanently or Tocsin failed five times."""
    for row in system.rows(
        "SELECT n.id, n.alert_id FROM notify_notification n WHERE n.purpose = 'page' "
        "AND NOT EXISTS (SELECT FROM notify_delivery d WHERE d.notification_id = n.id "
        "AND (d.status <> 'failed' OR d.is_final OR d.receipt = 'failed' OR d.own_failures >= 5))"
    ):
        yield f"the notification {row['id']} about #{row['alert_id']}"


def exhaustion_is_reported(system: System) -> Iterator[str]:
    """An exhausted policy hands over or notifies a user, unless its final action is to do nothing."""
    for row in system.rows(
        "SELECT e.alert_id, e.at FROM alerts_alertevent e WHERE e.kind = 'escalation_finished' "
        "AND e.reason::text NOT LIKE '%%escalation.handed_over%%' "
        "AND e.reason::text NOT LIKE '%%escalation.last_step_repeats%%' "
        "AND NOT EXISTS (SELECT FROM escalation_run r LEFT JOIN escalation_policyversion v ON v.id = r.version_id "
        "WHERE r.alert_id = e.alert_id AND (r.mode <> 'page' OR v.definition -> 'end' ->> 'then' = 'nothing')) "
        "AND NOT EXISTS (SELECT FROM alerts_alertevent t WHERE t.alert_id = e.alert_id AND t.kind = 'told')"
    ):
        yield f"#{row['alert_id']} at {row['at']}"


def steps_page_their_targets(system: System) -> Iterator[str]:
    """Each target of a fired step has a page, or the timeline explains why it has none."""
    for row in system.rows(
        "SELECT e.alert_id, p.value AS person, e.at FROM alerts_alertevent e "
        "CROSS JOIN LATERAL jsonb_array_elements_text(e.data -> 'people') p "
        "JOIN people_user u ON u.id = p.value::bigint "
        "WHERE e.kind = 'step_fired' "
        "AND NOT EXISTS (SELECT FROM escalation_run r WHERE r.alert_id = e.alert_id AND r.mode = 'dry_run') "
        "AND NOT EXISTS (SELECT FROM notify_notification n WHERE n.alert_id = e.alert_id AND n.user_id = u.id "
        "AND n.purpose = 'page' AND n.created_at >= e.at - interval '1 s') "
        "AND NOT EXISTS (SELECT FROM alerts_alertevent f "
        "WHERE f.alert_id = e.alert_id AND f.kind = 'page_failed' AND f.at >= e.at)"
    ):
        yield f"#{row['alert_id']} at {row['at']}: {row['person']}"


def all_clear_is_sent(system: System) -> Iterator[str]:
    """Each user possibly paged for a closed alert gets an all-clear, unless they were its owner, responded or were
    disabled."""
    for row in system.rows(
        "SELECT d.alert_id, d.user_id, max(coalesce(d.sent_at, d.queued_at)) AS paged_at FROM notify_delivery d "
        "JOIN alerts_alert a ON a.id = d.alert_id AND a.status IN ('closed', 'cancelled') "
        "JOIN people_user u ON u.id = d.user_id AND u.is_active "
        "WHERE d.purpose = 'page' AND (d.status IN ('sent', 'delivered') OR d.outcome_unknown_at IS NOT NULL) "
        "AND a.owner_id IS DISTINCT FROM d.user_id "
        "AND NOT EXISTS (SELECT FROM alerts_acknowledgement k WHERE k.alert_id = a.id AND k.user_id = d.user_id) "
        "AND NOT EXISTS (SELECT FROM alerts_alertevent e WHERE e.alert_id = a.id AND e.actor_id = d.user_id "
        "AND e.kind IN ('closed', 'cancelled')) "
        "GROUP BY d.alert_id, d.user_id HAVING NOT EXISTS (SELECT FROM notify_notification n "
        "WHERE n.alert_id = d.alert_id AND n.user_id = d.user_id AND n.purpose = 'all_clear' "
        "AND n.created_at >= max(coalesce(d.sent_at, d.queued_at)) "
        "AND EXISTS (SELECT FROM notify_delivery c WHERE c.notification_id = n.id AND c.status <> 'cancelled'))"
    ):
        if row["user_id"] not in system.toggled_users:
            yield f"#{row['alert_id']}: {row['user_id']} was paged at {row['paged_at']}"


def displayed_counts_match_rows(system: System) -> Iterator[str]:
    """The counts on tabs, badge and metrics match the rows."""
    counts = queries.active_counts()
    for tab in queries.tabs("open", counts):
        if tab.count is not None and tab.count != (rows := queries.alerts_in_tab(tab.key).count()):
            yield f"the tab {tab.key} says {tab.count} and has {rows}"
    rows = queries.alerts_needing_answer().count()
    for number in (queries.open_count(), counts.needing_answer):
        if number != rows:
            yield f"the badge says {number} and there are {rows}"
    with database.transaction() as connection:
        metrics = http.database_gauges(connection, system.now)
    reported = {s.labels["status"]: s.value for m in metrics for s in m.samples if s.name == "tocsin_alerts"}
    rows_by_status = system.rows(f"SELECT status, count(*) AS n FROM alerts_alert WHERE status IN {_LIVE} GROUP BY 1")
    for row in rows_by_status:
        if reported[row["status"]] != row["n"]:
            yield f"the metric says {reported[row['status']]} of {row['status']}, and there are {row['n']}"


def configuration_round_trips(system: System) -> Iterator[str]:
    """An exported configuration can be applied and changes nothing."""
    text = plan.write(plan.export_configuration(with_secrets=True))
    try:
        expected = config_files.collect([yaml_loader.parse(text, "export.yaml", Path())])
        changes = plan.preview(expected, prune=True, now=system.now)
    except Rejected as rejection:
        yield f"it is rejected: {rejection}"
    else:
        if not changes.is_empty:
            yield str(changes)


ALWAYS: tuple[Invariant, ...] = (
    no_internal_error,
    active_alerts_have_their_keys,
    parents_are_not_merged,
    status_matches_owner,
    no_workflow_is_stuck,
    one_run_per_active_alert,
    open_alerts_have_a_timer,
    runs_stop_only_for_acknowledgements,
    responders_are_not_paged,
    dry_run_alerts_never_page,
    pages_have_reasons,
    changes_have_timeline_events,
    opening_a_link_changes_nothing,
    forecasts_match_outcomes,
    undo_restores_state,
    counts_match_messages,
)
WHEN_IDLE: tuple[Invariant, ...] = (
    nothing_is_due_when_idle,
    outbound_calls_keep_order,
    removed_limits_delay_nothing,
    holds_end,
    acknowledgements_expire,
    pages_fail_only_permanently,
    exhaustion_is_reported,
    steps_page_their_targets,
    all_clear_is_sent,
)
AT_END: tuple[Invariant, ...] = (displayed_counts_match_rows, configuration_round_trips)
