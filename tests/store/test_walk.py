"""A short walk through everything breaks no promise, and each promise can break. `python -m tests.walk` walks further,
by hand."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import LiteralString

import pytest

from tests.store.escalating import EscalationHarness
from tests.store.ingest import Ingest, message
from tests.store.people import ACTOR
from tests.walk import acts, foresight, promises, providers
from tests.walk.promises import ALWAYS, AT_REST, AT_THE_END, Broken
from tests.walk.walking import walk
from tests.walk.world import Asked, Undone, World, inhabited
from tocsin.alerts import service
from tocsin.alerts.commands import Acknowledge, Close
from tocsin.core.db import database as store
from tocsin.escalation.actions import next_steps
from tocsin.escalation.actions.forecast import NextAction
from tocsin.inbound.admin.commands import save_integration
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.storage.messages import MessageResult
from tocsin.notify.dispatch import delivery_queries
from tocsin.notify.rules.pre_send_check import CAPPED, SendNow
from tocsin.simulate import chain
from tocsin.web.alerts import queries
from tocsin.workflows.commands import save_workflow

SEED = 7
STEPS = 12

EVERY = (*ALWAYS, *AT_REST, *AT_THE_END)


def test_a_walk_breaks_no_promise(database: str) -> None:
    with inhabited(SEED) as world:
        try:
            walk(world, STEPS)
        except Broken as found:
            pytest.fail("\n".join([*world.story[-25:], str(found)]))
    assert world.rows("SELECT FROM notify_delivery WHERE purpose = 'page'"), "Nobody was paged: take another seed."


@dataclass
class Scene:
    """An alert that Alice was paged about, and one that was closed after it; nothing is due."""

    world: World
    desk: EscalationHarness
    alert: int
    patch: pytest.MonkeyPatch

    def acknowledge(self) -> None:
        order = Acknowledge(actor=self.desk.actor("alice"))
        service.act(self.alert, order, now=self.world.now)


def _ran(statement: LiteralString) -> Callable[[Scene], None]:
    def plant(scene: Scene) -> None:
        with store.transaction() as connection:
            connection.execute(statement)

    return plant


def _a_failure_is_logged(scene: Scene) -> None:
    try:
        raise ValueError("planted")
    except ValueError:
        logging.getLogger("tocsin.somewhere").exception("A turn failed.")


def _a_page_leaves_all_the_same(scene: Scene) -> None:
    scene.acknowledge()
    _ran("UPDATE notify_delivery SET status = 'queued', ended_at = NULL WHERE purpose = 'page'")(scene)
    scene.patch.setattr(delivery_queries, "verdict", lambda *_: SendNow())
    scene.world.live(timedelta(minutes=5))


def _undoing_left_something(scene: Scene) -> None:
    before = acts.looked_at(scene.world, scene.alert)
    scene.acknowledge()
    scene.world.undone = Undone(scene.alert, "acknowledge", before, acts.looked_at(scene.world, scene.alert))


def _a_message_is_not_counted(scene: Scene) -> None:
    opens = {"open": {"field": "source_status", "operator": "equals", "value": "New"}}
    mapping = {"source_id": "id", "source_status": "status", "subject": "subject"}
    spec = {"name": "Door", "kind": "api", "escalation_policy": "Standard", "anyway": True, "rules": opens}
    door = save_integration({**spec, "mapping": mapping}, actor=ACTOR, now=scene.world.now)
    payload = {"id": 1, "status": "New", "subject": "Down"}
    Ingest(scene.world.registry, scene.world.numbers).decide(
        [message(door, payload, scene.world.now)], now=scene.world.now
    )
    _ran("UPDATE alerts_alert SET count = 0")(scene)


def _a_link_acts(scene: Scene) -> None:
    scene.acknowledge()
    scene.world.opened = True


def _a_workflow_breaks_off(scene: Scene) -> None:
    spec = {"name": "Flow", "trigger": "manual", "actions": [{"do": "notify", "owner": True}]}
    save_workflow(spec, actor=ACTOR, now=scene.world.now)
    _ran(
        "INSERT INTO workflows_run (workflow_id, alert_id, status, cause, created_at, ended_at) "
        "SELECT w.id, a.id, 'stuck', 'planted', now(), now() FROM workflows_workflow w, alerts_alert a"
    )(scene)


def _a_call_is_made_twice(scene: Scene) -> None:
    scene.world.asked += [Asked(7, "alert:1", is_uncertain=False)] * 2


def _a_page_waits_for_no_limit(scene: Scene) -> None:
    with store.transaction() as connection:
        connection.execute(
            "UPDATE notify_delivery SET status = 'queued', reason = %s, due_at = '2030-01-01' WHERE id = "
            "(SELECT id FROM notify_delivery WHERE purpose = 'page' AND alert_id = %s LIMIT 1)",
            (CAPPED, scene.alert),
        )


def _a_hold_goes_on(scene: Scene) -> None:
    _ran("UPDATE alerts_alert SET status = 'on_hold', hold_until = '2020-01-01' WHERE status = 'open'")(scene)
    scene.world.remember()


def _an_acknowledgement_stands_for_ever(scene: Scene) -> None:
    scene.acknowledge()
    _ran("UPDATE escalation_run SET due_at = '2030-01-01' WHERE status <> 'ended'")(scene)
    _ran("UPDATE alerts_acknowledgement SET at = at - interval '1 hour'")(scene)
    _ran("UPDATE alerts_alertevent SET at = at - interval '1 hour'")(scene)
    scene.world.remember()


def _somebody_else_is_foretold(scene: Scene) -> None:
    scene.world.pass_by(timedelta(minutes=6))
    step = NextAction(scene.world.now, "pages Zed (primary, Desk)")
    scene.patch.setattr(next_steps, "next_steps", lambda *_: {scene.alert: step})
    foresight.see_next(scene.world)


def _something_else_is_simulated(scene: Scene) -> None:
    stored = MessageResult(MessageStatus.CLOSED, "closed", scene.alert)
    foreseen = foresight.Foreseen(chain.SimulatedOutcome(MessageStatus.OPENED, "opened", None), is_paused=False)
    foresight.compare(scene.world, foreseen, stored)


def _the_badge_is_wrong(scene: Scene) -> None:
    scene.patch.setattr(queries, "open_count", lambda: 99)


#: What breaks each promise.
PLANTED: list[tuple[promises.Promise, Callable[[Scene], None]]] = [
    (promises.no_failure_of_its_own, _a_failure_is_logged),
    (promises.one_live_alert_a_key, _ran("UPDATE alerts_alert SET key_hash = '\\x01', holds_key = false")),
    (promises.merged_into_one_that_is_not, _ran("UPDATE alerts_alert SET status = 'merged', merged_into_id = id")),
    (promises.status_and_owner_agree, _ran("UPDATE alerts_alert SET status = 'assigned'")),
    (
        promises.no_workflow_is_stuck,
        _a_workflow_breaks_off,
    ),
    (
        promises.one_run_for_each_live_alert,
        _ran("UPDATE escalation_run SET status = 'ended', due_at = NULL"),
    ),
    (promises.nobody_is_forgotten, _ran("UPDATE escalation_run SET due_at = NULL WHERE status <> 'ended'")),
    (
        promises.stopped_for_a_person_only,
        _ran("UPDATE escalation_run SET status = 'stopped' WHERE status <> 'ended'"),
    ),
    (promises.nobody_who_acted_is_paged, _a_page_leaves_all_the_same),
    (promises.dry_run_is_not_paged, _ran("UPDATE alerts_alert SET dry_run = true")),
    (promises.no_page_without_reason, _ran("UPDATE notify_notification SET reason = ''")),
    (promises.an_event_for_each_change, _ran("UPDATE alerts_alert SET priority = 'low'")),
    (promises.opening_a_link_changes_nothing, _a_link_acts),
    (promises.what_was_foretold_happens, _somebody_else_is_foretold),
    (promises.what_was_foretold_happens, _something_else_is_simulated),
    (promises.undoing_puts_back, _undoing_left_something),
    (promises.counts_equal_the_messages, _a_message_is_not_counted),
    (
        promises.nothing_due_at_rest,
        _ran("UPDATE escalation_run SET due_at = now() - interval '10 years' WHERE status <> 'ended'"),
    ),
    (promises.calls_are_made_in_their_order, _a_call_is_made_twice),
    (promises.what_is_lifted_holds_nothing_back, _a_page_waits_for_no_limit),
    (promises.every_hold_ends, _a_hold_goes_on),
    (promises.acknowledgements_expire, _an_acknowledgement_stands_for_ever),
    (
        promises.the_end_is_told,
        _ran("UPDATE alerts_alertevent SET kind = 'escalation_finished' WHERE kind = 'step_fired'"),
    ),
    (promises.a_step_pages_whom_it_names, _ran("UPDATE notify_notification SET purpose = 'notice'")),
    (
        promises.the_all_clear_is_told,
        _ran("UPDATE notify_notification SET purpose = 'notice' WHERE purpose = 'all_clear'"),
    ),
    (promises.counts_equal_the_rows, _the_badge_is_wrong),
    (promises.the_configuration_comes_back, _ran("UPDATE people_group SET name = ''")),
]


def test_each_promise_is_seen_to_break() -> None:
    assert {promise for promise, _ in PLANTED} == set(EVERY)


@pytest.mark.parametrize(("promise", "plant"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_wrong_breaks_its_promise(
    database: str, now: datetime, monkeypatch: pytest.MonkeyPatch,
    promise: promises.Promise, plant: Callable[[Scene], None],
) -> None:  # fmt: skip
    desk = EscalationHarness(now)
    with inhabited(SEED) as world:
        world.weather.fail_rates = {"": 0}
        providers.settle_in(world)
        alert = desk.open()
        over = desk.open(subject="Disk full")
        world.settle()
        service.act(over, Close(actor=desk.actor("bob")), now=world.now)
        world.settle()
        world.remember()
        promises.hold([promise], world)
        plant(Scene(world, desk, alert, monkeypatch))
        with pytest.raises(Broken) as broken:
            promises.hold(EVERY, world)
    assert broken.value.promise == promise.__name__
