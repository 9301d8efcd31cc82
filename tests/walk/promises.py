"""What must hold whatever happened. Each promise is a function that finds what breaks it; its docstring is the promise.

What costs more, or holds only when nothing is due any more, is kept apart: `ALWAYS`, `AT_REST`, `AT_THE_END`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.walk.world import Asked, World
from tocsin.alerts.states import ACTIVE, Priority
from tocsin.configure import config_files, export, plan, yaml_loader
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.notify.enqueue import queue
from tocsin.notify.rules.notification_rules import NotificationMethod, quiet_until
from tocsin.notify.rules.pre_send_check import CAPPED, IN_QUIET_HOURS
from tocsin.operate.http import gauges
from tocsin.web.alerts import queries

type Promise = Callable[[World], Iterator[str]]

_LIVE = "('open', 'assigned', 'on_hold')"


class Broken(AssertionError):
    """A promise does not hold."""

    def __init__(self, promise: Promise, found: str) -> None:
        self.promise = promise.__name__
        super().__init__(f"{self.promise}: {promise.__doc__}\n  {found}")


def hold(promises: Iterable[Promise], world: World) -> None:
    """Raises Broken for the first thing that breaks one of these."""
    for promise in promises:
        for found in promise(world):
            raise Broken(promise, found)


def no_failure_of_its_own(world: World) -> Iterator[str]:
    """Tocsin logs no failure of its own."""
    yield from world.troubles.texts


def one_live_alert_a_key(world: World) -> Iterator[str]:
    """An alert holds its key while it is live, and what is over holds none."""
    for row in world.rows(
        f"SELECT id, status FROM alerts_alert WHERE key_hash IS NOT NULL AND CASE WHEN status IN {_LIVE} "
        "THEN NOT holds_key ELSE holds_key AND status <> 'merged' END"
    ):
        yield f"#{row['id']} is {row['status']}, and the key says otherwise"


def merged_into_one_that_is_not(world: World) -> Iterator[str]:
    """Nothing is merged into what is merged itself."""
    for row in world.rows(
        "SELECT a.id, p.id AS into FROM alerts_alert a JOIN alerts_alert p ON p.id = a.merged_into_id "
        "WHERE a.status = 'merged' AND p.status = 'merged'"
    ):
        yield f"#{row['id']} is merged into #{row['into']}"


def status_and_owner_agree(world: World) -> Iterator[str]:
    """An assigned alert has an owner, an open one none, and a hold has an end."""
    for row in world.rows(
        "SELECT id, status FROM alerts_alert WHERE CASE status "
        "WHEN 'assigned' THEN owner_id IS NULL AND owner_name = '' "
        "WHEN 'open' THEN owner_id IS NOT NULL OR owner_name <> '' "
        "WHEN 'on_hold' THEN hold_until IS NULL ELSE false END"
    ):
        yield f"#{row['id']} is {row['status']}"


def no_workflow_is_stuck(world: World) -> Iterator[str]:
    """No workflow breaks off: what it cannot do, it says and goes on."""
    for row in world.rows("SELECT id, alert_id, reason FROM workflows_run WHERE status = 'stuck' OR failures > 0"):
        yield f"the run {row}"


def one_run_for_each_live_alert(world: World) -> Iterator[str]:
    """Each live alert has one run that has not ended, and no other alert has any."""
    for row in world.rows(
        "SELECT a.id, a.status, count(r.id) AS runs FROM alerts_alert a "
        "LEFT JOIN escalation_run r ON r.alert_id = a.id AND r.status <> 'ended' "
        f"GROUP BY a.id HAVING count(r.id) <> CASE WHEN a.status IN {_LIVE} THEN 1 ELSE 0 END"
    ):
        yield f"#{row['id']} is {row['status']} and has {row['runs']} runs"


def nobody_is_forgotten(world: World) -> Iterator[str]:
    """While nobody has an alert, its run has a timer, or has finished and the timeline says so."""
    for row in world.rows(
        "SELECT a.id, r.status FROM alerts_alert a JOIN escalation_run r ON r.alert_id = a.id AND r.status <> 'ended' "
        "WHERE a.status = 'open' AND r.mode <> 'record' AND r.due_at IS NULL AND (r.status <> 'finished' OR "
        "r.mode = 'page' AND NOT EXISTS (SELECT FROM alerts_alertevent e "
        "WHERE e.alert_id = a.id AND e.kind = 'escalation_finished'))"
    ):
        yield f"nobody has #{row['id']}, and its run is {row['status']}"


def stopped_for_a_person_only(world: World) -> Iterator[str]:
    """The run of an open alert stops only while somebody's acknowledgement stands."""
    for row in world.rows(
        "SELECT a.id, r.due_at FROM alerts_alert a JOIN escalation_run r ON r.alert_id = a.id "
        "WHERE a.status = 'open' AND r.status = 'stopped' AND r.mode = 'page' "
        "AND NOT EXISTS (SELECT FROM alerts_acknowledgement k WHERE k.alert_id = a.id)"
    ):
        yield f"the run of #{row['id']} is stopped until {row['due_at']}"


def nobody_who_acted_is_paged(world: World) -> Iterator[str]:
    """No page leaves about an alert that is over, held or a dry run, or for whoever has it or acknowledged it."""
    yield from world.misdirected


def dry_run_is_not_paged(world: World) -> Iterator[str]:
    """A dry-run alert has no run that pages."""
    for row in world.rows(
        "SELECT a.id FROM alerts_alert a JOIN escalation_run r ON r.alert_id = a.id AND r.status <> 'ended' "
        "WHERE a.dry_run AND r.mode = 'page'"
    ):
        yield f"#{row['id']}"


def no_page_without_reason(world: World) -> Iterator[str]:
    """Each page says why this person gets it, and each that was withdrawn why not."""
    for row in world.rows("SELECT id, alert_id FROM notify_notification WHERE purpose = 'page' AND reason = ''"):
        yield f"the notification {row['id']} about #{row['alert_id']}"
    for row in world.rows("SELECT id, alert_id FROM notify_delivery WHERE status = 'cancelled' AND reason = ''"):
        yield f"the delivery {row['id']} about #{row['alert_id']}"


def an_event_for_each_change(world: World) -> Iterator[str]:
    """Whatever changes about an alert is an event of its timeline, with a reason and who did it."""
    events: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for event in world.rows(
        "SELECT alert_id, kind, actor_name, reason FROM alerts_alertevent WHERE id > %s", world.before.last_event
    ):
        events[event["alert_id"]].append(event)
        if not event["reason"] or not event["actor_name"]:
            yield f"the event {event}"
    known = {row["id"] for row in world.rows("SELECT id FROM people_user")}
    for alert, state in world.states().items():
        was = world.before.states.get(alert)
        if was is not None and state["status"] not in ACTIVE:
            # What is over forgets whose account is deleted; live alerts keep it from being.
            acknowledged = [user for user in was["acks"] or () if user in known]
            was |= {"owner_id": was["owner_id"] if was["owner_id"] in known else None, "acks": acknowledged or None}
        if state != was and not events[alert]:
            yield f"#{alert} was {was} and is {state}"


def opening_a_link_changes_nothing(world: World) -> Iterator[str]:
    """Who opens a link of a message, or has something look at it, does nothing with that."""
    if world.opened:
        for alert, state in world.states().items():
            if state != (was := world.before.states.get(alert)):
                yield f"#{alert} was {was} and is {state}"
        for row in world.rows("SELECT alert_id, kind FROM alerts_alertevent WHERE id > %s", world.before.last_event):
            yield f"#{row['alert_id']}: {row['kind']}"


def what_was_foretold_happens(world: World) -> Iterator[str]:
    """What the simulator says of a message, and an alert's page of what is next, is what then happens."""
    yield from world.contradictions


def undoing_puts_back(world: World) -> Iterator[str]:
    """What is undone at once is as if it had not been done; only a run that had come to rest may go on again, and who
    was asked "Still on it?", and acted instead, may be asked again."""
    if (undone := world.undone) is None:
        return
    for what, was in undone.before.items():
        may_differ = what == "run" and (not was or was[0]["is_asking"])
        if undone.after[what] != was and not may_differ:
            yield f"{undone.what} of #{undone.alert}, {what}: it was {was} and is {undone.after[what]}"


def counts_equal_the_messages(world: World) -> Iterator[str]:
    """An alert counts every message that was mapped to it, and a message that opened one knows which."""
    for row in world.rows(
        "SELECT a.id, a.count, count(m.id) AS messages FROM alerts_alert a JOIN inbound_inboundmessage m "
        "ON m.alert_id = a.id AND m.status IN ('Mapped Opened', 'Mapped Appended') "
        "GROUP BY a.id HAVING a.count < count(m.id)"
    ):
        yield f"#{row['id']} says {row['count']} and has {row['messages']}"
    for row in world.rows("SELECT id FROM inbound_inboundmessage WHERE status = 'Mapped Opened' AND alert_id IS NULL"):
        yield f"the message {row['id']} opened no alert"


def nothing_due_at_rest(world: World) -> Iterator[str]:
    """When the loops rest, whatever is due was decided and sent."""
    for row in world.rows("SELECT alert_id, due_at FROM escalation_run WHERE due_at <= %s", world.now):
        yield f"the run of #{row['alert_id']} is due since {row['due_at']}"
    late = world.now - timedelta(seconds=1)
    for row in world.rows(
        "SELECT id, alert_id, status, due_at, reason FROM notify_delivery WHERE status = 'sending' "
        "OR status = 'queued' AND due_at < %s AND (purpose <> 'page' OR NOT EXISTS "
        "(SELECT FROM notify_pause p WHERE p.ended_at IS NULL AND p.until > %s))",
        late,
        world.now,
    ):
        yield f"the delivery {row}"
    for row in world.rows("SELECT id, reason FROM inbound_inboundmessage WHERE status = 'Pending'"):
        yield f"the message {row}"
    for row in world.rows("SELECT id, alert_id, due_at, cause FROM workflows_run WHERE due_at <= %s", world.now):
        yield f"the workflow's run {row}"
    for row in world.rows("SELECT id, title FROM oncall_pendingnotice WHERE sent_at IS NULL"):
        yield f"the duty notice {row}"
    for row in world.rows("SELECT * FROM oncall_reminder WHERE done_at IS NULL AND due_at <= %s", world.now):
        yield f"the reminder {row}"
    for row in world.rows("SELECT * FROM notify_awaitedreceipt WHERE due_at <= %s", world.now):
        yield f"the receipt {row}"
    for row in world.rows(
        "SELECT c.id, c.status, c.due_at FROM outbound_call c JOIN outbound_integrationstatus s USING (integration_id) "
        "WHERE c.status = 'sending' OR c.status = 'queued' AND c.due_at < %s "
        "AND coalesce(greatest(s.open_until, s.not_before, s.blocked_until), c.due_at) < %s "
        "AND NOT EXISTS (SELECT FROM outbound_call b WHERE b.order_key = c.order_key AND b.id < c.id "
        "AND b.status = 'queued')",
        late,
        late,
    ):
        yield f"the call {row}"


def calls_are_made_in_their_order(world: World) -> Iterator[str]:
    """Another system is asked in the order of an alert's calls, and again only for what may not have been heard."""
    newest: dict[str, Asked] = {}
    for one in world.asked:
        before = newest.get(one.order_key)
        if before is not None and one.call < before.call:
            yield f"{one} comes after {before}"
        if before is not None and one.call == before.call and not one.is_uncertain:
            yield f"{one} was heard before"
        newest[one.order_key] = one


def what_is_lifted_holds_nothing_back(world: World) -> Iterator[str]:
    """When the loops rest, no page waits for the end of quiet hours that hold no more, or for a limit that is gone."""
    waiting = world.rows(
        "SELECT d.id, d.user_id, d.channel, d.address, n.label, d.due_at, d.reason, a.priority, "
        "(n.data ->> 'held_from')::timestamptz AS held_from FROM notify_delivery d "
        "JOIN notify_notification n ON n.id = d.notification_id JOIN alerts_alert a ON a.id = d.alert_id "
        "WHERE d.status = 'queued' AND d.user_id IS NOT NULL AND (d.reason = %s OR (n.data ? 'held_from' "
        "AND d.attempts = 0 AND d.reason IN ('', %s)))",
        CAPPED,
        IN_QUIET_HOURS,
    )
    with database.transaction() as connection:
        people = queue.people_of(connection, {row["user_id"] for row in waiting})
    for row in waiting:
        person = people[row["user_id"]]
        if row["reason"] == CAPPED:
            if not person.most_per_hour:
                yield f"the delivery {row} is beyond no limit"
            continue
        method = NotificationMethod(row["label"], row["channel"], row["address"])
        at = max(row["held_from"], world.now)
        if row["due_at"] > quiet_until(person, method, Priority(row["priority"]), at) + timedelta(seconds=1):
            yield f"the delivery {row}"


def every_hold_ends(world: World) -> Iterator[str]:
    """When the loops rest, no alert is on hold whose hold is over."""
    for row in world.rows(
        "SELECT id, hold_until FROM alerts_alert WHERE status = 'on_hold' AND hold_until <= %s "
        "AND NOT EXISTS (SELECT FROM notify_pause p WHERE p.ended_at IS NULL AND p.until > %s)",
        world.now, world.now,
    ):  # fmt: skip
        yield f"#{row['id']} is on hold until {row['hold_until']}"


def acknowledgements_expire(world: World) -> Iterator[str]:
    """An acknowledgement of an open alert stands until its person was asked "Still on it?" and did not answer."""
    for row in world.rows(
        "SELECT a.id, max(k.at) AS at FROM alerts_alert a JOIN alerts_acknowledgement k ON k.alert_id = a.id "
        "JOIN escalation_run r ON r.alert_id = a.id AND r.status <> 'ended' AND r.mode = 'page' "
        "WHERE a.status = 'open' AND NOT EXISTS (SELECT FROM alerts_alertevent e WHERE e.alert_id = a.id "
        "AND e.at > %s AND e.kind <> 'updated') "
        "AND NOT EXISTS (SELECT FROM notify_pause p WHERE coalesce(p.ended_at, p.until) > %s) "
        "GROUP BY a.id HAVING max(k.at) < %s",
        world.now - timedelta(minutes=36), world.now - timedelta(minutes=36), world.now - timedelta(minutes=36),
    ):  # fmt: skip
        yield f"#{row['id']} is acknowledged since {row['at']}"


def no_page_is_given_up(world: World) -> Iterator[str]:
    """A page fails for good only where a provider refused it for good, or Tocsin itself failed five times."""
    for row in world.rows(
        "SELECT n.id, n.alert_id FROM notify_notification n WHERE n.purpose = 'page' "
        "AND NOT EXISTS (SELECT FROM notify_delivery d WHERE d.notification_id = n.id "
        "AND (d.status <> 'failed' OR d.is_permanent OR d.receipt = 'failed' OR d.own_failures >= 5))"
    ):
        yield f"the notification {row['id']} about #{row['alert_id']}"


def the_end_is_told(world: World) -> Iterator[str]:
    """A policy that ends without an answer hands over, or tells somebody, unless it is to do nothing."""
    for row in world.rows(
        "SELECT e.alert_id, e.at FROM alerts_alertevent e WHERE e.kind = 'escalation_finished' "
        "AND right(e.reason, 8) <> 'goes on.' AND right(e.reason, 17) <> 'somebody answers.' "
        "AND NOT EXISTS (SELECT FROM escalation_run r LEFT JOIN escalation_policyversion v ON v.id = r.version_id "
        "WHERE r.alert_id = e.alert_id AND (r.mode <> 'page' OR v.definition -> 'end' ->> 'then' = 'nothing')) "
        "AND NOT EXISTS (SELECT FROM alerts_alertevent t WHERE t.alert_id = e.alert_id AND t.kind = 'told')"
    ):
        yield f"#{row['alert_id']} at {row['at']}"


def a_step_pages_whom_it_names(world: World) -> Iterator[str]:
    """Whoever a step fired for has a page about the alert, or the timeline says that there could be none."""
    for row in world.rows(
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


def the_all_clear_is_told(world: World) -> Iterator[str]:
    """Whoever was paged about an alert that is over, or may have been, was told so, unless they had it, acted, or were
    switched off."""
    for row in world.rows(
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
        if row["user_id"] not in world.switched_off:
            yield f"#{row['alert_id']}: {row['user_id']} was paged at {row['paged_at']}"


def counts_equal_the_rows(world: World) -> Iterator[str]:
    """The numbers on tabs, on the badge and of the metrics are those of the rows."""
    for tab in queries.tabs("open"):
        if tab.count is not None and tab.count != (rows := queries.of_tab(tab.key).count()):
            yield f"the tab {tab.key} says {tab.count} and has {rows}"
    if queries.open_count() != (rows := queries.needing_somebody().count()):
        yield f"the badge says {queries.open_count()} and there are {rows}"
    with database.transaction() as connection:
        metrics = gauges.of_database(connection, world.now)
    told = {s.labels["status"]: s.value for m in metrics for s in m.samples if s.name == "tocsin_alerts"}
    rows_by_status = world.rows(f"SELECT status, count(*) AS n FROM alerts_alert WHERE status IN {_LIVE} GROUP BY 1")
    for row in rows_by_status:
        if told[row["status"]] != row["n"]:
            yield f"the metric says {told[row['status']]} of {row['status']}, and there are {row['n']}"


def the_configuration_comes_back(world: World) -> Iterator[str]:
    """What is exported can be applied, and changes nothing."""
    text = export.write(export.everything(with_secrets=True))
    try:
        wanted = config_files.collect([yaml_loader.parse(text, "export.yaml", Path())])
        found = plan.preview(wanted, prune=True, now=world.now)
    except Rejected as refusal:
        yield f"it is refused: {refusal}"
    else:
        if not found.is_empty:
            yield str(found)


ALWAYS: tuple[Promise, ...] = (
    no_failure_of_its_own,
    one_live_alert_a_key,
    merged_into_one_that_is_not,
    status_and_owner_agree,
    no_workflow_is_stuck,
    one_run_for_each_live_alert,
    nobody_is_forgotten,
    stopped_for_a_person_only,
    nobody_who_acted_is_paged,
    dry_run_is_not_paged,
    no_page_without_reason,
    an_event_for_each_change,
    opening_a_link_changes_nothing,
    what_was_foretold_happens,
    undoing_puts_back,
    counts_equal_the_messages,
)
AT_REST: tuple[Promise, ...] = (
    nothing_due_at_rest,
    calls_are_made_in_their_order,
    what_is_lifted_holds_nothing_back,
    every_hold_ends,
    acknowledgements_expire,
    no_page_is_given_up,
    the_end_is_told,
    a_step_pages_whom_it_names,
    the_all_clear_is_told,
)
AT_THE_END: tuple[Promise, ...] = (counts_equal_the_rows, the_configuration_comes_back)
