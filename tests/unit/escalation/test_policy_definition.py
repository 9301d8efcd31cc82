"""Policy definitions: invalid ones are rejected with their location, valid ones are kept unchanged."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.access.roles import MemberRole
from tocsin.alerts.states import Priority
from tocsin.core.errors import Rejected
from tocsin.escalation.policy import (
    AcknowledgeEffect,
    CompiledPolicy,
    DailyWindow,
    IfEmpty,
    OnExhausted,
    PolicyStep,
    StepCondition,
    load,
    parse,
    references,
    store,
    write_policy,
)
from tocsin.notify.rules.page_planner import USER_RULES, ContactMethodRule, DeliveryOverride
from tocsin.oncall.calculation.weekly_windows import WeeklyWindow

NAMES = {
    "users": {"alice": 1, "bob": 2},
    "groups": {"service desk": 10, "network": 11},
    "schedules": {"nights": 20},
    "support_hours": {"office": 30},
    "policies": {"other": 40},
}
PRIMARY = {"notify": {"roles": ["primary"]}, "after": "0m"}
STANDARD: dict[str, Any] = {
    "default_priority": "high",
    "acknowledge": {"effect": "stop", "timeout": "30m"},
    "repeat": {"times": 2, "every": "10m"},
    "steps": [
        {"notify": {"roles": ["primary"]}, "after": "0m"},
        {"notify": {"roles": ["secondary"]}, "after": "5m"},
        {"notify": {"roles": ["primary", "secondary"]}, "after": "10m"},
    ],
}


@pytest.mark.parametrize(
    ("definition", "place"),
    [
        ("page alice", None),
        ({}, "steps"),
        ({"steps": []}, "steps"),
        ({"steps": {"notify": 1}}, "steps"),
        ({"steps": [PRIMARY] * 51}, "steps"),
        ({"steps": ["primary"]}, "steps[0]"),
        ({"steps": [PRIMARY], "stepz": []}, "stepz"),
        ({"steps": [{"notfy": {}}]}, "steps[0].notfy"),
        ({"steps": [{"after": "5m"}]}, "steps[0].notify"),
        ({"steps": [{"notify": {}}]}, "steps[0].notify"),
        ({"steps": [{"notify": {"roles": []}}]}, "steps[0].notify"),
        ({"steps": [{"notify": {"groups": ["Network"]}}]}, "steps[0].notify"),
        ({"steps": [{"notify": {"roles": ["boss"]}}]}, "steps[0].notify.roles[0]"),
        ({"steps": [{"notify": {"roles": "primary"}}]}, "steps[0].notify.roles"),
        ({"steps": [{"notify": {"users": ["alice", "carol"]}}]}, "steps[0].notify.users[1]"),
        ({"steps": [{"notify": {"users": ["#1"]}}]}, "steps[0].notify.users[0]"),
        ({"steps": [{**PRIMARY, "sequential": "0m"}]}, "steps[0].sequential"),
        ({"steps": [{**PRIMARY, "retries": {"times": 2}}]}, "steps[0].retries.every"),
        ({"steps": [{**PRIMARY, "methods": [{"wait": "1m"}]}]}, "steps[0].methods[0].label"),
        ({"steps": [{**PRIMARY, "when": {}}]}, "steps[0].when.priority"),
        ({"steps": [{**PRIMARY, "when": {"during": "Nowhere"}}]}, "steps[0].when.during"),
        ({"steps": [{**PRIMARY, "when": {"between": {"from": "25:00", "to": "8"}}}]}, "steps[0].when.between.from"),
        ({"steps": [{**PRIMARY, "when": {"tags": {"env": 1}}}]}, "steps[0].when.tags.env"),
        ({"steps": [{**PRIMARY, "if_empty": "ring"}]}, "steps[0].if_empty"),
        ({"steps": [PRIMARY], "end": {"then": "hand_over", "policy": "Nobody's"}}, "end.policy"),
        ({"steps": [PRIMARY], "end": {"then": "keep_last_step", "every": "5s"}}, "end.every"),
        ({"steps": [PRIMARY], "acknowledge": {"people": 0}}, "acknowledge.people"),
        ({"steps": [{"notify": {"users": [7]}}]}, "steps[0].notify.users[0]"),
        ({"steps": [{"notify": {"roles": ["primary"], "groups": ["HR"]}}]}, "steps[0].notify.groups[0]"),
        ({"steps": [PRIMARY, {"notify": {"roles": ["secondary"]}}]}, "steps[1].after"),
        ({"steps": [PRIMARY, {**PRIMARY, "after": "5"}]}, "steps[1].after"),
        ({"steps": [PRIMARY, {**PRIMARY, "after": "-5m"}]}, "steps[1].after"),
        ({"steps": [{**PRIMARY, "name": 5}]}, "steps[0].name"),
        ({"steps": [PRIMARY], "default_priority": "urgent"}, "default_priority"),
        ({"steps": [PRIMARY], "sla": {"fix_by": "0"}}, "sla.fix_by"),
        ({"steps": [PRIMARY], "sla": {"mend_by": "4h"}}, "sla.mend_by"),
        ({"steps": [PRIMARY], "acknowledge": "stop"}, "acknowledge"),
        ({"steps": [PRIMARY], "acknowledge": {"effect": "halt"}}, "acknowledge.effect"),
        ({"steps": [PRIMARY], "acknowledge": {"effect": "pause"}}, "acknowledge.pause"),
        ({"steps": [PRIMARY], "acknowledge": {"effect": "pause", "pause": "0m"}}, "acknowledge.pause"),
        ({"steps": [PRIMARY], "acknowledge": {"effect": "stop", "pause": "5m"}}, "acknowledge.pause"),
        ({"steps": [PRIMARY], "acknowledge": {"timeout": "soon"}}, "acknowledge.timeout"),
        ({"steps": [PRIMARY], "acknowledge": {"timeout": "0"}}, "acknowledge.timeout"),
        ({"steps": [PRIMARY], "repeat": {"times": 2}}, "repeat.every"),
        ({"steps": [PRIMARY], "repeat": {"times": 2, "every": "0m"}}, "repeat.every"),
        ({"steps": [PRIMARY], "repeat": {"times": 101, "every": "1m"}}, "repeat.times"),
        ({"steps": [PRIMARY], "repeat": {"times": True, "every": "1m"}}, "repeat.times"),
        ({"steps": [PRIMARY], "repeat": {"times": "2", "every": "1m"}}, "repeat.times"),
        ({"steps": [PRIMARY], "end_after": "0m"}, "end_after"),
    ],
)
def test_a_bad_policy_is_refused_and_the_place_named(definition: object, place: str | None) -> None:
    with pytest.raises(Rejected) as refused:
        parse(definition, NAMES)
    assert (place in refused.value.fields) if place else (refused.value.field is None)
    assert refused.value.detail.endswith((".", "?"))


def test_all_policy_errors_are_reported_at_once() -> None:
    bad = {"steps": [{"notify": {"roles": ["boss"]}, "after": "soon"}], "end_after": "0m", "color": "red"}
    with pytest.raises(Rejected) as refused:
        parse(bad, NAMES)
    assert set(refused.value.fields) == {"steps[0].notify.roles[0]", "steps[0].after", "end_after", "color"}


def test_the_standard_policy_is_read_down_to_the_second() -> None:
    plan = parse({**STANDARD, "steps": [*STANDARD["steps"], {"notify": {"users": ["Bob"]}, "after": "90s"}]}, NAMES)
    assert [step.after for step in plan.steps] == [
        timedelta(),
        timedelta(minutes=5),
        timedelta(minutes=10),
        timedelta(seconds=90),
    ]
    assert plan.steps[2].roles == (MemberRole.PRIMARY, MemberRole.SECONDARY)
    assert plan.steps[3].user_ids == (2,)
    assert (plan.repeat_times, plan.repeat_every) == (2, timedelta(minutes=10))
    assert plan.final_action_after == timedelta(minutes=5)


def test_what_is_left_out_has_the_documented_defaults() -> None:
    plan = parse({"steps": [{"notify": {"roles": ["primary"]}}]}, NAMES)
    assert plan == CompiledPolicy(
        steps=(PolicyStep(after=timedelta(), roles=(MemberRole.PRIMARY,)),),
        default_priority=Priority.HIGH,
        effect=AcknowledgeEffect.STOP,
        acknowledge_timeout=timedelta(minutes=30),
        repeat_times=0,
        final_action_after=timedelta(minutes=5),
    )


SPANS = st.integers(min_value=1, max_value=86_400).map(lambda seconds: timedelta(seconds=seconds))
RULES = st.builds(
    lambda way, wait, times: ContactMethodRule(*way, wait, times, timedelta(minutes=1) if times else timedelta()),
    st.sampled_from([("SMS", ""), ("", "email")]),
    st.integers(0, 3600).map(lambda seconds: timedelta(seconds=seconds)),
    st.integers(0, 3),
)
CALLINGS = st.builds(
    lambda methods, times: DeliveryOverride(methods, times, timedelta(minutes=3) if times else timedelta()),
    st.lists(RULES, max_size=2).map(tuple),
    st.integers(0, 2),
)
CONDITIONS = st.builds(
    StepCondition,
    priorities=st.sampled_from([(Priority.HIGH,), (Priority.CRITICAL, Priority.LOW)]),
    hours=st.sampled_from([None, 30]),
    between=st.none() | st.builds(
        DailyWindow,
        st.builds(WeeklyWindow, st.just(frozenset({0, 4})), st.just(60), st.just(480)),
        st.just("Europe/Zurich"),
    ),
    tags=st.sampled_from([(), (("environment", "production"),)]),
)  # fmt: skip
STEPS = st.builds(
    PolicyStep,
    after=SPANS,
    roles=st.lists(st.sampled_from(list(MemberRole)), min_size=1, unique=True).map(tuple),
    user_ids=st.lists(st.sampled_from([1, 2]), unique=True).map(tuple),
    group_ids=st.lists(st.sampled_from([10, 11]), unique=True).map(tuple),
    group_contacts=st.lists(st.sampled_from(["Chat", "List"]), unique=True).map(tuple),
    name=st.sampled_from(["", "wake the desk"]),
    everybody=st.booleans(),
    schedule_ids=st.sampled_from([(), (20,)]),
    assignee=st.booleans(),
    previous_on_call=st.booleans(),
    sequential_interval=st.none() | SPANS,
    delivery_override=st.just(USER_RULES) | CALLINGS,
    when=st.none() | CONDITIONS,
    only_until_acknowledged=st.booleans(),
    if_empty=st.sampled_from(list(IfEmpty)),
)


@st.composite
def plans(draw: st.DrawFn, *, ends: bool = False) -> CompiledPolicy:
    """Any policy; with `ends` one that comes to its end whoever is on call."""
    effect = draw(st.sampled_from(list(AcknowledgeEffect)))
    times = draw(st.integers(min_value=0, max_value=5))
    at_end = draw(st.sampled_from([one for one in OnExhausted if not (ends and one is OnExhausted.REPEAT_LAST_STEP)]))
    steps = draw(st.lists(STEPS, min_size=1, max_size=4))
    return CompiledPolicy(
        steps=tuple(replace(step, if_empty=IfEmpty.SKIP) if ends else step for step in steps),
        default_priority=draw(st.sampled_from(list(Priority))),
        fix_by=draw(st.none() | st.just(timedelta(hours=4))),
        effect=effect,
        pause=draw(SPANS) if effect is AcknowledgeEffect.PAUSE else timedelta(),
        acknowledge_timeout=draw(SPANS),
        repeat_times=times,
        repeat_every=draw(SPANS) if times else timedelta(),
        final_action_after=draw(SPANS),
        required_acks=draw(st.integers(min_value=1, max_value=2)),
        groups_sequential_interval=draw(st.none() | SPANS),
        on_exhausted=at_end,
        last_step_interval=timedelta(minutes=draw(st.integers(1, 60)))
        if at_end is OnExhausted.REPEAT_LAST_STEP
        else timedelta(),
        handover_policy_id=40 if at_end is OnExhausted.HAND_OVER else None,
    )


@given(plans())
def test_a_plan_survives_storing_and_writing(plan: CompiledPolicy) -> None:
    stored = json.loads(json.dumps(store(plan)))
    assert load(stored) == plan
    names = {
        "users": {1: "alice", 2: "Bob"},
        "groups": {10: "Service Desk", 11: "network"},
        "schedules": {20: "Nights"},
        "support_hours": {30: "Office"},
        "policies": {40: "Other"},
    }
    assert parse(write_policy(plan, lambda key, number: names[key][number]), NAMES) == plan
    assert references(plan).users == {user for step in plan.steps for user in step.user_ids}


def test_what_an_earlier_version_stored_reads_as_it_was_meant() -> None:
    stored = {
        "default_priority": "high",
        "acknowledge": {"effect": "stop", "timeout": "30m"},
        "repeat": {"times": 2, "every": "10m"},
        "steps": [{"notify": {"roles": ["primary"], "users": ["#7"], "groups": ["#3"]}, "after": "0m"}],
    }
    plan = load(stored)
    assert plan.steps == (PolicyStep(timedelta(), roles=(MemberRole.PRIMARY,), user_ids=(7,), group_ids=(3,)),)
    assert (plan.required_acks, plan.groups_sequential_interval, plan.on_exhausted) == (
        1,
        None,
        OnExhausted.NOTIFY_LEADS,
    )
    assert store(plan) == stored, "saving it again makes no new version"


def test_the_former_name_of_the_lead_is_read() -> None:
    former = {
        "steps": [{"notify": {"roles": ["primary", "manager"]}, "after": "0m"}],
        "end": {"then": "tell_managers"},
    }
    plan = parse(former, NAMES)
    assert plan.on_exhausted is OnExhausted.NOTIFY_LEADS
    assert write_policy(plan, lambda _key, number: str(number))["steps"][0]["notify"] == {"roles": ["primary", "lead"]}
    both = {"steps": [{"notify": {"roles": ["lead", "manager"]}, "after": "0m"}]}
    assert parse(both, NAMES).steps[0].roles == (MemberRole.LEAD,)
    with pytest.raises(Rejected, match=r"steps\[0\].notify.roles\[0\]") as rejected:
        parse({"steps": [{"notify": {"roles": ["boss"]}, "after": "0m"}]}, NAMES)
    assert "manager" not in str(rejected.value.reason), "it offers the names of today only"
