"""A policy as people write it: bad ones are refused with their place, good ones kept whole."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.alerts.states import Priority
from tocsin.core.errors import Rejected
from tocsin.escalation.policy import (
    AcknowledgeEffect,
    Names,
    PolicyPlan,
    Step,
    load,
    parse,
    references,
    store,
    write,
)
from tocsin.people.members import MemberRole

NAMES = Names(users={"alice": 1, "bob": 2}, groups={"service desk": 10, "network": 11})
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
        ({"steps": [{"notify": {"users": [7]}}]}, "steps[0].notify.users[0]"),
        ({"steps": [{"notify": {"roles": ["primary"], "groups": ["HR"]}}]}, "steps[0].notify.groups[0]"),
        ({"steps": [PRIMARY, {"notify": {"roles": ["secondary"]}}]}, "steps[1].after"),
        ({"steps": [PRIMARY, {**PRIMARY, "after": "5"}]}, "steps[1].after"),
        ({"steps": [PRIMARY, {**PRIMARY, "after": "-5m"}]}, "steps[1].after"),
        ({"steps": [{**PRIMARY, "name": 5}]}, "steps[0].name"),
        ({"steps": [PRIMARY], "default_priority": "urgent"}, "default_priority"),
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


def test_everything_that_is_wrong_is_told_at_once() -> None:
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
    assert plan.end_after == timedelta(minutes=5)


def test_what_is_left_out_has_the_documented_defaults() -> None:
    plan = parse({"steps": [{"notify": {"roles": ["primary"]}}]}, NAMES)
    assert plan == PolicyPlan(
        steps=(Step(after=timedelta(), roles=(MemberRole.PRIMARY,)),),
        default_priority=Priority.HIGH,
        effect=AcknowledgeEffect.STOP,
        acknowledge_timeout=timedelta(minutes=30),
        repeat_times=0,
        end_after=timedelta(minutes=5),
    )


SPANS = st.integers(min_value=1, max_value=86_400).map(lambda seconds: timedelta(seconds=seconds))
STEPS = st.builds(
    Step,
    after=SPANS,
    roles=st.lists(st.sampled_from(list(MemberRole)), min_size=1, unique=True).map(tuple),
    user_ids=st.lists(st.sampled_from([1, 2]), unique=True).map(tuple),
    group_ids=st.lists(st.sampled_from([10, 11]), unique=True).map(tuple),
    group_contacts=st.lists(st.sampled_from(["Chat", "List"]), unique=True).map(tuple),
    name=st.sampled_from(["", "wake the desk"]),
)


@st.composite
def plans(draw: st.DrawFn) -> PolicyPlan:
    effect = draw(st.sampled_from(list(AcknowledgeEffect)))
    times = draw(st.integers(min_value=0, max_value=5))
    return PolicyPlan(
        steps=tuple(draw(st.lists(STEPS, min_size=1, max_size=4))),
        default_priority=draw(st.sampled_from(list(Priority))),
        effect=effect,
        pause=draw(SPANS) if effect is AcknowledgeEffect.PAUSE else timedelta(),
        acknowledge_timeout=draw(SPANS),
        repeat_times=times,
        repeat_every=draw(SPANS) if times else timedelta(),
        end_after=draw(SPANS),
    )


@given(plans())
def test_a_plan_survives_storing_and_writing(plan: PolicyPlan) -> None:
    stored = json.loads(json.dumps(store(plan)))
    assert load(stored) == plan
    users, groups = {1: "alice", 2: "Bob"}, {10: "Service Desk", 11: "network"}
    assert parse(write(plan, users.__getitem__, groups.__getitem__), NAMES) == plan
    named = {user for step in plan.steps for user in step.user_ids}
    assert references(plan)[0] == named
