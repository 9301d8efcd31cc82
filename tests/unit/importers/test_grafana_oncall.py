"""Grafana OnCall objects become an equivalent configuration and a report of omissions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.doubles import grafana_oncall as account
from tests.support.hypothesis_profiles import examples
from tests.support.imported_schedules import local, moments, on_call, utc
from tocsin.importers import grafana_oncall
from tocsin.importers.config_builder import ConvertedConfig, as_text
from tocsin.importers.grafana_oncall import _UNSUPPORTED, convert
from tocsin.importers.rotation_converter import UnsupportedRotation

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)
DAYS = ["MO", "TU", "WE", "TH", "FR", "SA", "SU"]


@pytest.fixture(scope="module")
def moved() -> ConvertedConfig:
    return convert(account.documents(), NOW)


def named(moved: ConvertedConfig, key: str, name: str, by: str = "name") -> dict[str, Any]:
    return next(entry for entry in moved.configuration[key] if entry[by] == name)


def of_event(shift: dict[str, Any], at: datetime) -> frozenset[str]:
    """Who has a shift at a local time, by its recurrence rule: each day is looked at, and nothing is worked out ahead.

    https://grafana.com/docs/oncall/latest/oncall-api-reference/on_call_shifts/
    """
    start, duration = datetime.fromisoformat(shift["start"]), timedelta(seconds=shift["duration"])
    if shift["type"] in ("single_event", "override"):
        return frozenset(shift["users"]) if start <= at < start + duration else frozenset()
    rounds = shift["rolling_users"] or [shift["users"]]
    first = shift.get("start_rotation_from_user_index") or 0
    rounds = rounds[first:] + rounds[:first]
    results: set[str] = set()
    for back in range(duration // timedelta(days=1) + 2):
        begins = datetime.combine(at.date() - timedelta(days=back), start.time())
        if begins < start or not begins <= at < begins + duration:
            continue
        if shift["until"] and begins > datetime.fromisoformat(shift["until"]):
            continue
        if shift["frequency"] == "daily":
            periods = (begins - start).days
        else:
            if DAYS[begins.weekday()] not in (shift["by_day"] or [DAYS[start.weekday()]]):
                continue
            week_start = DAYS.index(shift["week_start"])
            sunday = start.date() - timedelta(days=(start.weekday() - week_start) % 7)
            periods = (begins.date() - sunday).days // 7
        if periods % shift["interval"] == 0:
            results |= set(rounds[periods // shift["interval"] % len(rounds)])
    return frozenset(results)


def test_acknowledgement_timeout_is_reported(moved: ConvertedConfig) -> None:
    assert "ask “Still on it?” 30 minutes after an acknowledgement" in as_text(moved)


def test_month_of_levels_days_and_overrides_keeps_on_call_users(moved: ConvertedConfig) -> None:
    asked = on_call(named(moved, "schedules", "SRE-Primary"))
    names = {"UALICE": "alice", "UBOB": "bob", "UCAROL": "carol"}
    for at in moments(NOW + timedelta(minutes=15), 30):
        expected: frozenset[str] = frozenset()
        for level in range(5):
            here = [shift for shift in account.SHIFTS[:5] if shift["level"] == level]
            people = {
                user for shift in here for user in of_event(shift, local(at, shift["time_zone"] or "Europe/Zurich"))
            }
            expected = frozenset(names[user] for user in people if user in names) or expected
        if utc("2026-12-08T10:00:00+01:00") <= at < utc("2026-12-09T10:00:00+01:00"):
            expected = frozenset({"bob"})
        assert asked(at) == expected, at


@examples(60)
@example(
    frequency="daily", interval=1, by_day=[], week_start="MO", users=[["a"]], start=datetime(2026, 11, 2), hours=48,
    until=datetime(2026, 11, 11),
)  # fmt: skip
@example(
    frequency="daily", interval=1, by_day=[], week_start="MO", users=[["a"]], start=datetime(2026, 11, 11, 1), hours=24,
    until=datetime(2026, 11, 11),
)  # fmt: skip
@given(
    frequency=st.sampled_from(["daily", "weekly"]),
    interval=st.integers(1, 3),
    by_day=st.lists(st.sampled_from(DAYS), max_size=4, unique=True),
    week_start=st.sampled_from(["MO", "SU", "SA"]),
    users=st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=2, unique=True), min_size=1, max_size=3),
    start=st.integers(0, 13 * 24).map(lambda n: datetime(2026, 11, 2) + n * timedelta(hours=1)),
    hours=st.sampled_from([1, 8, 12, 24, 48, 168]),
    until=st.none() | st.integers(24, 800).map(lambda n: datetime(2026, 11, 10) + n * timedelta(hours=1)),
)
def test_a_rule_says_the_same_here_at_every_moment(
    frequency: str, interval: int, by_day: list[str], week_start: str, users: list[list[str]], start: datetime,
    hours: int, until: datetime | None,
) -> None:  # fmt: skip
    shift = account.rolling("O", "R", users, start.isoformat(), hours * 3600)
    shift |= {"frequency": frequency, "interval": interval, "week_start": week_start}
    shift |= {"by_day": by_day if frequency == "weekly" else None, "until": until.isoformat() if until else None}
    since = datetime(2026, 11, 10, 9)
    try:
        event = grafana_oncall.read(shift, "R", 1, tuple(tuple(several) for several in users))
        made = grafana_oncall.shifts(event, since)
    except UnsupportedRotation:
        return
    asked = on_call({"name": "S", "group": "G", "time_zone": "UTC", "shifts": made}) if made else None
    for at in moments(since.replace(tzinfo=UTC) + timedelta(minutes=1), 36, 360):
        assert (asked(at) if asked else frozenset()) == of_event(shift, local(at, "UTC")), at


def test_wait_steps_become_waits_and_the_repeat_comes_five_times(moved: ConvertedConfig) -> None:
    policy = named(moved, "escalation_policies", "default")
    assert policy == {
        "name": "default",
        "group": "SRE",
        "repeat": {"times": 5, "every": "1m"},
        "steps": [
            {"notify": {"schedules": ["SRE-Primary"]}, "after": "0m"},
            {"notify": {"users": ["bob"]}, "after": "5m"},
            {"notify": {"users": ["alice", "bob"]}, "after": "15m"},
        ],
    }
    text = as_text(moved)
    for expected in (
        "chain default: step 3: not in the policy. OnCall waits until a time of day",
        "chain default: step 6: notifies all of them at once",
        "chains default: page by each user's usual notification rules",
        "chain slack only: not imported",
        "shift Paydays: not in the schedule. It recurs by an unsupported rule: monthly",
        "shift Pairs on week days: has fewer users in a turn",
        'integration Prometheus: route to default: not imported ({{ payload.commonLabels.severity == "critical" }})',
        "webhooks Status page: not imported",
        "users alice: have fewer contact methods",
    ):
        assert expected in text, expected
    assert "secret" not in text, "addresses of calendars and integrations are secrets"


@pytest.mark.parametrize("kind", _UNSUPPORTED)
def test_step_without_equivalent_is_reported_with_its_reason(kind: str) -> None:
    steps = [account.policy(0, "notify_persons", persons_to_notify=["UBOB"]), account.policy(1, kind)]
    moved = convert({**account.documents(), "escalation_policies": steps}, NOW)
    reason, remedy = _UNSUPPORTED[kind]
    assert (reason, remedy) in {(finding.reason, finding.remedy) for finding in moved.findings}
    assert str(reason) in as_text(moved)


def test_calendars_are_read_here_too_and_integrations_have_their_kind(moved: ConvertedConfig) -> None:
    calendar = named(moved, "schedules", "From a calendar")
    assert calendar["shifts"] == [
        {
            "name": "Calendar",
            "calendar": {"url": "https://calendar.example.org/secret-path.ics", "roles": ["primary"]},
        }
    ]
    kinds = {
        entry["name"]: (entry["kind"], entry.get("escalation_policy")) for entry in moved.configuration["integrations"]
    }
    assert kinds == {"Prometheus": ("alertmanager", "default"), "Anything": ("api", None)}
    alice = named(moved, "users", "alice", "username")
    assert alice["contact_methods"] == [
        {"label": "Email-Official", "channel": "email", "address": "alice@example.org", "wait": "5m"}
    ]


@pytest.mark.parametrize("broken", [None, 7, "x", {"id": 5}, [None]])
def test_documents_of_another_shape_break_nothing(broken: Any) -> None:
    whole = account.documents()
    for kind in whole.keys() - {"not_shown"}:
        for one in whole[kind]:
            for name in (key for key in one if key not in ("id", "email", "name")):
                spoilt = {**whole, kind: [*[other for other in whole[kind] if other is not one], {**one, name: broken}]}
                assert convert(spoilt, NOW).configuration["users"]


def test_what_a_list_has_twice_is_there_once() -> None:
    whole = account.documents()
    assert convert({kind: [*results, *results] for kind, results in whole.items()}, NOW) == convert(whole, NOW)


def test_users_sharing_an_address_become_one_member() -> None:
    whole = account.documents()
    twin = {**next(one for one in whole["users"] if one["id"] == "UALICE"), "id": "UTWIN"}
    moved = convert({**whole, "users": [*whole["users"], twin]}, NOW)
    members = [one["user"] for one in named(moved, "groups", "SRE")["members"]]
    assert len(members) == len(set(members)) == 2
