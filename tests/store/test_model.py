"""A short random walk violates no invariant, and each invariant can be violated.

`python -m tests.model` runs longer walks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString

import pytest

from tests.model import forecasts, invariants, operations, providers
from tests.model.invariants import ALWAYS, AT_END, WHEN_IDLE, InvariantViolation
from tests.model.runner import run_walk
from tests.model.system import OutboundRequest, System, UndoneCommand, running_system
from tests.support.escalation_harness import EscalationHarness
from tests.support.ingest import Ingest, message
from tests.support.people import ACTOR
from tocsin.alerts import service
from tocsin.alerts.commands import Acknowledge, Close
from tocsin.alerts.service import FoundAlert
from tocsin.core.db import database as store
from tocsin.core.reasons import as_reason
from tocsin.escalation import explain
from tocsin.escalation.explain import NextAction
from tocsin.inbound.admin.commands import save_integration
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.storage.messages import MessageResult
from tocsin.notify.dispatch import claim
from tocsin.notify.rules.page_planner import HOURLY_LIMIT_REACHED
from tocsin.notify.rules.pre_send_check import SendNow
from tocsin.simulate import chain
from tocsin.web.alerts import queries
from tocsin.workflows.commands import save_workflow

SEED = 7
STEPS = 12

ALL_INVARIANTS = (*ALWAYS, *WHEN_IDLE, *AT_END)


def test_random_walk_violates_no_invariant(database: str) -> None:
    with running_system(SEED) as system:
        try:
            run_walk(system, STEPS)
        except InvariantViolation as violation:
            pytest.fail("\n".join([*system.history[-25:], str(violation)]))
    assert system.rows("SELECT FROM notify_delivery WHERE purpose = 'page'"), "No user was paged: choose another seed."


@dataclass
class Scenario:
    """An open alert that paged Alice, and a closed one; nothing is due."""

    system: System
    desk: EscalationHarness
    alert: int
    patch: pytest.MonkeyPatch

    def acknowledge(self) -> None:
        order = Acknowledge(actor=self.desk.actor("alice"))
        service.apply_command(FoundAlert.by_tocsin(self.alert), order, now=self.system.now)


def _execute(statement: LiteralString) -> Callable[[Scenario], None]:
    def violate(scenario: Scenario) -> None:
        with store.transaction() as connection:
            connection.execute(statement)

    return violate


def _log_internal_error(scenario: Scenario) -> None:
    try:
        raise ValueError("planted")
    except ValueError:
        logging.getLogger("tocsin.somewhere").exception("A turn failed.")


def _page_a_responder(scenario: Scenario) -> None:
    scenario.acknowledge()
    _execute("UPDATE notify_delivery SET status = 'queued', ended_at = NULL WHERE purpose = 'page'")(scenario)
    scenario.patch.setattr(claim, "pre_send_check", lambda *_: SendNow())
    scenario.system.run_for(timedelta(minutes=5))


def _leave_acknowledgement_after_undo(scenario: Scenario) -> None:
    before = operations.snapshot(scenario.system, scenario.alert)
    scenario.acknowledge()
    scenario.system.undone = UndoneCommand(
        scenario.alert, "acknowledge", before, operations.snapshot(scenario.system, scenario.alert)
    )


def _reset_message_count(scenario: Scenario) -> None:
    opens = {"open": {"field": "source_status", "operator": "equals", "value": "New"}}
    mapping = {"source_id": "id", "source_status": "status", "subject": "subject"}
    spec = {"name": "Door", "kind": "api", "escalation_policy": "Standard", "anyway": True, "rules": opens}
    integration = save_integration({**spec, "mapping": mapping}, actor=ACTOR, now=scenario.system.now)
    payload = {"id": 1, "status": "New", "subject": "Down"}
    Ingest(scenario.system.registry, scenario.system.numbers).decide(
        [message(integration, payload, scenario.system.now)], now=scenario.system.now
    )
    _execute("UPDATE alerts_alert SET count = 0")(scenario)


def _acknowledge_by_opening_link(scenario: Scenario) -> None:
    scenario.acknowledge()
    scenario.system.opened = True


def _add_stuck_workflow_run(scenario: Scenario) -> None:
    spec = {"name": "Flow", "trigger": "manual", "actions": [{"do": "notify", "owner": True}]}
    save_workflow(spec, actor=ACTOR, now=scenario.system.now)
    _execute(
        "INSERT INTO workflows_run (workflow_id, alert_id, status, cause, created_at, ended_at) "
        'SELECT w.id, a.id, \'stuck\', \'{"code": "test.planted", "data": {}}\', now(), now() '
        "FROM workflows_workflow w, alerts_alert a"
    )(scenario)


def _repeat_outbound_call(scenario: Scenario) -> None:
    scenario.system.outbound_requests += [OutboundRequest(7, "alert:1", is_uncertain=False)] * 2


def _delay_page_by_removed_limit(scenario: Scenario) -> None:
    with store.transaction() as connection:
        connection.execute(
            "UPDATE notify_delivery SET status = 'queued', reason = %s, due_at = '2030-01-01' WHERE id = "
            "(SELECT id FROM notify_delivery WHERE purpose = 'page' AND alert_id = %s LIMIT 1)",
            (HOURLY_LIMIT_REACHED(), scenario.alert),
        )


def _keep_expired_hold(scenario: Scenario) -> None:
    _execute("UPDATE alerts_alert SET status = 'on_hold', hold_until = '2020-01-01' WHERE status = 'open'")(scenario)
    scenario.system.begin_step()


def _keep_expired_acknowledgement(scenario: Scenario) -> None:
    scenario.acknowledge()
    _execute("UPDATE escalation_run SET due_at = '2030-01-01' WHERE status <> 'ended'")(scenario)
    _execute("UPDATE alerts_acknowledgement SET at = at - interval '1 hour'")(scenario)
    _execute("UPDATE alerts_alertevent SET at = at - interval '1 hour'")(scenario)
    scenario.system.begin_step()


def _forecast_another_user(scenario: Scenario) -> None:
    scenario.system.advance(timedelta(minutes=6))
    step = NextAction(scenario.system.now, as_reason("pages Zed (primary, Desk)"))
    scenario.patch.setattr(explain, "next_steps", lambda *_: {scenario.alert: step})
    forecasts.compare_next_steps(scenario.system)


def _simulate_another_outcome(scenario: Scenario) -> None:
    stored = MessageResult(MessageStatus.CLOSED, as_reason("closed"), scenario.alert)
    simulated_message = forecasts.SimulatedMessage(
        chain.SimulatedOutcome(MessageStatus.OPENED, as_reason("opened"), None), is_paused=False
    )
    forecasts.compare(scenario.system, simulated_message, stored)


def _show_wrong_badge(scenario: Scenario) -> None:
    scenario.patch.setattr(queries, "open_count", lambda: 99)


#: A violation of each invariant.
VIOLATIONS: list[tuple[invariants.Invariant, Callable[[Scenario], None]]] = [
    (invariants.no_internal_error, _log_internal_error),
    (
        invariants.active_alerts_have_their_keys,
        _execute("UPDATE alerts_alert SET key_hash = '\\x01', holds_key = false"),
    ),
    (invariants.parents_are_not_merged, _execute("UPDATE alerts_alert SET status = 'merged', merged_into_id = id")),
    (invariants.status_matches_owner, _execute("UPDATE alerts_alert SET status = 'assigned'")),
    (
        invariants.no_workflow_is_stuck,
        _add_stuck_workflow_run,
    ),
    (
        invariants.one_run_per_active_alert,
        _execute("UPDATE escalation_run SET status = 'ended', due_at = NULL"),
    ),
    (invariants.open_alerts_have_a_timer, _execute("UPDATE escalation_run SET due_at = NULL WHERE status <> 'ended'")),
    (
        invariants.runs_stop_only_for_acknowledgements,
        _execute("UPDATE escalation_run SET status = 'stopped' WHERE status <> 'ended'"),
    ),
    (invariants.responders_are_not_paged, _page_a_responder),
    (invariants.dry_run_alerts_never_page, _execute("UPDATE alerts_alert SET dry_run = true")),
    (invariants.pages_have_reasons, _execute("UPDATE notify_notification SET reason = '{}'")),
    (invariants.changes_have_timeline_events, _execute("UPDATE alerts_alert SET priority = 'low'")),
    (invariants.opening_a_link_changes_nothing, _acknowledge_by_opening_link),
    (invariants.forecasts_match_outcomes, _forecast_another_user),
    (invariants.forecasts_match_outcomes, _simulate_another_outcome),
    (invariants.undo_restores_state, _leave_acknowledgement_after_undo),
    (invariants.counts_match_messages, _reset_message_count),
    (
        invariants.nothing_is_due_when_idle,
        _execute("UPDATE escalation_run SET due_at = now() - interval '10 years' WHERE status <> 'ended'"),
    ),
    (invariants.outbound_calls_keep_order, _repeat_outbound_call),
    (invariants.removed_limits_delay_nothing, _delay_page_by_removed_limit),
    (invariants.holds_end, _keep_expired_hold),
    (invariants.acknowledgements_expire, _keep_expired_acknowledgement),
    (
        invariants.exhaustion_is_reported,
        _execute("UPDATE alerts_alertevent SET kind = 'escalation_finished' WHERE kind = 'step_fired'"),
    ),
    (
        invariants.pages_fail_only_permanently,
        _execute("UPDATE notify_delivery SET status = 'failed', is_permanent = false WHERE purpose = 'page'"),
    ),
    (invariants.steps_page_their_targets, _execute("UPDATE notify_notification SET purpose = 'notice'")),
    (
        invariants.all_clear_is_sent,
        _execute("UPDATE notify_notification SET purpose = 'notice' WHERE purpose = 'all_clear'"),
    ),
    (invariants.displayed_counts_match_rows, _show_wrong_badge),
    (invariants.configuration_round_trips, _execute("UPDATE people_group SET name = ''")),
]


def test_each_invariant_has_a_violation() -> None:
    assert {invariant for invariant, _ in VIOLATIONS} == set(ALL_INVARIANTS)


@pytest.mark.parametrize(("invariant", "violate"), VIOLATIONS, ids=lambda value: getattr(value, "__name__", ""))
def test_violation_is_reported_by_its_invariant(
    database: str, now: datetime, monkeypatch: pytest.MonkeyPatch,
    invariant: invariants.Invariant, violate: Callable[[Scenario], None],
) -> None:  # fmt: skip
    desk = EscalationHarness(now)
    with running_system(SEED) as system:
        system.conditions.fail_rates = {"": 0}
        providers.set_up(system)
        alert = desk.open()
        closed = desk.open(subject="Disk full")
        # Until the page that was bundled has left too.
        system.run_for(timedelta(seconds=11))
        service.apply_command(FoundAlert.by_tocsin(closed), Close(actor=desk.actor("bob")), now=system.now)
        system.run_until_idle()
        system.begin_step()
        invariants.check([invariant], system)
        violate(Scenario(system, desk, alert, monkeypatch))
        with pytest.raises(InvariantViolation) as violation:
            invariants.check(ALL_INVARIANTS, system)
    assert violation.value.invariant == invariant.__name__
