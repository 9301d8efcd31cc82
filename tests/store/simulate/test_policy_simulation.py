"""Policy simulations match the escalation, for random policies, users and rules."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.hypothesis_profiles import examples
from tests.support.people import ACTOR
from tocsin.alerts import service as alerts
from tocsin.alerts.commands import SYSTEM, NewAlert, NewEvent, PagingConfig, PagingMode
from tocsin.alerts.states import EventKind, Priority
from tocsin.core.db import database
from tocsin.core.reasons import reason_from_json
from tocsin.escalation.commands import delete_policy, plan_of, save_policy
from tocsin.escalation.run import run_store
from tocsin.escalation.run.target_resolution import TargetContext
from tocsin.oncall.changes.commands import save_schedule, save_support_hours
from tocsin.people.changes import groups
from tocsin.people.changes import users as people
from tocsin.people.models import User
from tocsin.simulate.escalation import HypotheticalAlert, SimulatedRun, simulate

MINUTES = st.sampled_from(["0m", "1m", "5m", "7m"])
SPANS = st.sampled_from(["1m", "4m", "10m"])
WAYS = st.lists(
    st.builds(
        lambda label, wait, times: {
            "label": label,
            "wait": wait,
            **({"repeat": {"times": times, "every": "2m"}} if times else {}),
        },
        st.sampled_from(["Mail", "Text", "Fax"]),
        MINUTES,
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=2,
)
CONDITIONS = st.sampled_from(
    [
        {"priority": ["critical", "high"]},
        {"during": "Office"},
        {"during": {"not": "Office"}},
        {"between": {"from": "22:00", "to": "06:00", "time_zone": "America/Chicago"}},
        {"tags": {"environment": "production"}},
    ]
)
NOTIFY = st.sampled_from(
    [
        {"roles": ["primary"]},
        {"roles": ["primary", "secondary"]},
        {"roles": ["lead"], "users": ["erin"]},
        {"everybody": True},
        {"roles": ["secondary"], "groups": ["Nobody's"]},
        {"assignee": True},
        {"group_contacts": ["Room"], "users": ["bob"]},
    ]
)


@st.composite
def steps(draw: st.DrawFn) -> list[dict[str, Any]]:
    return [
        {
            "notify": draw(NOTIFY),
            "after": draw(MINUTES),
            **draw(st.sampled_from([{}, {}, {"sequential": "2m"}, {"sequential": "6m"}])),
            **draw(st.sampled_from([{}, {}, {"retries": {"times": 1, "every": "3m"}}])),
            **draw(st.just({}) | st.builds(lambda ways: {"methods": ways}, WAYS)),
            **draw(st.just({}) | st.builds(lambda when: {"when": when}, CONDITIONS)),
        }
        for _ in range(draw(st.integers(1, 3)))
    ]


POLICIES = st.fixed_dictionaries(
    {"steps": steps()},
    optional={
        "repeat": st.builds(lambda every: {"times": 1, "every": every}, SPANS),
        "groups_sequential": SPANS,
        "end": st.sampled_from(
            [{"then": "nothing"}, {"then": "keep_last_step", "every": "5m"}, {"then": "hand_over", "policy": "After"}]
        ),
    },
)
RULES = st.fixed_dictionaries(
    {},
    optional={
        "by_priority": st.sampled_from(
            [{"high": [{"method": "Text"}]}, {"low": [{"method": "Mail"}, {"method": "Text", "wait": "3m"}]}]
        ),
        "quiet_hours": st.sampled_from(
            [[{"from": "22:00", "to": "07:00"}], [{"from": "00:00", "to": "12:00", "methods": ["Text"]}]]
        ),
    },
)


@pytest.fixture
def desk(database: str, now: datetime) -> EscalationHarness:
    desk = EscalationHarness(now)
    groups.save_group({"name": "Nobody's"}, actor=ACTOR, now=now)
    groups.save_group(
        {"name": "Network", "members": [{"user": "bob", "roles": ["primary"]}, {"user": "carol", "roles": ["lead"]}],
         "contacts": [{"label": "Room", "channel": "email", "address": "room@example.org"}]},
        actor=ACTOR, now=now,
    )  # fmt: skip
    windows = [{"days": ["mon", "tue", "wed", "thu", "fri"], "from": "08:00", "to": "18:00"}]
    save_support_hours({"name": "Office", "time_zone": "Europe/Zurich", "windows": windows}, actor=ACTOR, now=now)
    save_policy({"name": "After", "steps": [{"notify": {"users": ["carol"]}, "after": "2m"}]}, actor=ACTOR, now=now)
    return desk


@settings(examples(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(POLICIES, st.lists(RULES, min_size=2, max_size=2), st.sampled_from(list(Priority)), st.integers(0, 7 * 24 * 60))
def test_policy_simulation_matches_actual_escalation(
    desk: EscalationHarness, policy: dict[str, Any], wishes: list[dict[str, Any]], priority: Priority, minute: int
) -> None:
    at = desk.at(minute)
    for name, rules in zip(("alice", "bob"), wishes, strict=True):
        _wish(name, rules, at)
    saved = save_policy({"name": "Tried", "anyway": True, **policy}, actor=ACTOR, now=at)
    recipients = tuple(groups.Group.objects.filter(name__in=["Service Desk", "Network"]).values_list("pk", flat=True))
    supposed = HypotheticalAlert((), recipients, priority, {"environment": "production"}, "carol@example.org")
    with escalation_enabled():
        played = simulate(plan_of(saved), supposed, at)
        paging = PagingConfig(PagingMode.PAGE, saved.current_version_id, (), recipients)
        alert = _opened(priority, at, paging)
        last = max(stage.at for stage in played.steps)
        while (due := _due(alert)) is not None and due <= last:
            desk.keeper.run_once(due)
    assert _events_until(alert, last) == [(line.at, str(line.reason)) for line in played.timeline]
    assert _sent(alert) == _planned(played)
    _over(alert)
    delete_policy(saved, actor=ACTOR, now=at)


def _wish(name: str, rules: dict[str, Any], at: datetime) -> None:
    user = User.objects.get(username=name)
    methods = [
        {"label": "Mail", "channel": "email", "address": f"{name}@example.org"},
        {"label": "Text", "channel": "sms", "address": "+41790000001", "wait": "2m"},
    ]
    spec = {"username": name, "email": user.email, "contact_methods": methods, "notification_rules": rules}
    people.save_user({**spec, "name": user.name, "role": user.role}, existing=user, actor=ACTOR, now=at)


def _opened(priority: Priority, at: datetime, paging: PagingConfig) -> int:
    columns = {"client": "Acme", "source_agent": "carol@example.org"}
    alert = NewAlert(0, priority, "VPN down", at, columns=columns, tags={"environment": "production"})
    event = NewEvent(0, EventKind.OPENED, at, SYSTEM, f"An alert opens, {priority}.")
    return alerts.create_manual_alert(alert, paging, event, now=at)


def _due(alert: int) -> datetime | None:
    with database.transaction() as connection:
        row = connection.execute(
            "SELECT due_at FROM escalation_run WHERE alert_id = %s AND status <> 'ended'", (alert,)
        ).fetchone()
    return row[0] if row else None


def _events_until(alert: int, last: datetime) -> list[tuple[datetime, str]]:
    with database.transaction() as connection:
        rows = connection.execute(
            "SELECT at, reason FROM alerts_alertevent WHERE alert_id = %s AND at <= %s ORDER BY id",
            (alert, last),
        ).fetchall()
    return [(at, str(reason_from_json(reason))) for at, reason in rows]


def _sent(alert: int) -> list[tuple[Any, ...]]:
    with database.transaction() as connection:
        results = connection.execute(
            "SELECT d.due_at, coalesce(d.user_id, 0), d.channel, d.address, n.reason "
            "FROM notify_delivery d "
            "JOIN notify_notification n ON n.id = d.notification_id WHERE d.alert_id = %s AND d.purpose = 'page'",
            (alert,),
        ).fetchall()
    return sorted((*page, str(reason_from_json(reason))) for *page, reason in results)


def _planned(played: SimulatedRun) -> list[tuple[Any, ...]]:
    return sorted((page.at, page.user_id or 0, page.channel, page.address, str(page.reason)) for page in played.pages)


def _over(alert: int) -> None:
    """The next example has its own alert; this one's timers are of no use any more."""
    with database.transaction() as connection:
        connection.execute("UPDATE escalation_run SET status = 'ended', due_at = NULL WHERE alert_id = %s", (alert,))


def test_users_with_low_hourly_limits_are_named_in_simulation(desk: EscalationHarness) -> None:
    _wish("alice", {"most_per_hour": 2}, desk.start)
    step = {"notify": {"users": ["alice"]}, "after": "0m", "retries": {"times": 3, "every": "5m"}}
    saved = save_policy({"name": "Tried", "steps": [step]}, actor=ACTOR, now=desk.start)
    notes = simulate(plan_of(saved), HypotheticalAlert(), desk.start).notes
    assert any("Alice wants at most 2 messages an hour" in str(note) for note in notes)
    assert simulate(plan_of(saved), HypotheticalAlert(), desk.start).pages[-1].after == timedelta(minutes=17)


def test_waiting_step_is_simulated_without_per_minute_queries(
    desk: EscalationHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    every_day = {"days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"], "from": "09:40", "to": "10:00"}
    shift = {"name": "Late", "fixed": {"windows": [every_day], "users": ["bob"]}}
    spec = {"name": "Late", "group": "Service Desk", "time_zone": "UTC", "shifts": [shift]}
    save_schedule(spec, actor=ACTOR, now=desk.start)
    waits = {"notify": {"schedules": ["Late"]}, "after": "0m", "if_empty": "wait", "methods": [{"channel": "email"}]}
    saved = save_policy({"name": "Waits", "steps": [waits]}, actor=ACTOR, now=desk.start)
    loaded = []
    load = run_store.load_target_context

    def counted(*given: Any) -> TargetContext:
        loaded.append(given)
        return load(*given)

    with monkeypatch.context() as patched:
        patched.setattr(run_store, "load_target_context", counted)
        played = simulate(plan_of(saved), HypotheticalAlert(), desk.start)
    assert [(page.name, page.at) for page in played.pages] == [("Bob", desk.start.replace(hour=9, minute=40))]
    assert len(loaded) < 10
    with escalation_enabled():
        alert = _opened(Priority.HIGH, desk.start, PagingConfig(PagingMode.PAGE, saved.current_version_id, (), ()))
        last = max(stage.at for stage in played.steps)
        while (due := _due(alert)) is not None and due <= last:
            desk.keeper.run_once(due)
    assert _events_until(alert, last) == [(line.at, str(line.reason)) for line in played.timeline]
    assert _sent(alert) == _planned(played)
