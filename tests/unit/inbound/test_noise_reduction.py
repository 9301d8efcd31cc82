"""Noise reduction: invalid settings are named, and active alerts receive every message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.hypothesis_profiles import examples
from tocsin.alerts.states import Priority
from tocsin.catalogue.kinds import load_kinds
from tocsin.core.errors import Rejected
from tocsin.inbound.config.compiled_integration import CompiledIntegration, Credentials, ReferenceDirectory
from tocsin.inbound.config.normalizer import IntegrationDefinition, compile_normalizer
from tocsin.inbound.enums import IntegrationMode, MessageStatus, WindowAction
from tocsin.inbound.maintenance import CompiledWindow, Recurrence, Repeat, WindowClock
from tocsin.inbound.parsing.decode import Element
from tocsin.simulate.backtest import ReplayedMessage, ReplayOutcome, ReplayState

NOW = datetime(2026, 11, 24, 9, 15, tzinfo=UTC)

MAPPING = {"source_id": "id", "source_status": "status", "client": "client", "priority": "priority"}
RULES = {
    "open": {"field": "source_status", "operator": "equals", "value": "New"},
    "close": {"field": "source_status", "operator": "equals", "value": "Closed"},
    "update": True,
}


def integration(windows: tuple[CompiledWindow, ...] = (), **shapes: Any) -> CompiledIntegration:
    kind = load_kinds()["api"]
    reader = compile_normalizer(kind, IntegrationDefinition(mapping=MAPPING, rules=RULES, **shapes))
    about = tuple(one for window in windows if (one := window.for_integration(1, None, reader.mapping.names)))
    return CompiledIntegration(
        1, "Monitoring", "Monitoring", IntegrationMode.PAGE, reader, None, {}, None, (), (), Credentials(),
        ReferenceDirectory(), windows=about,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("shapes", "place"),
    [
        ({"delay": {"wait": "soon"}}, "delay.wait"),
        ({"delay": {"wait": "8d"}}, "delay.wait"),
        ({"delay": {"wait": "5m", "every": "5m"}}, "delay"),
        ({"delay": {"wait": "5m", "within": "5m"}}, "delay.within"),
        ({"delay": {"wait": "5m", "per": "integration"}}, "delay.per"),
        ({"delay": {"alerts": 1}}, "delay.alerts"),
        ({"delay": {"alerts": True}}, "delay.alerts"),
        ({"delay": "later"}, "delay"),
        ({"delay": {"sleep": "5m"}}, "delay.sleep"),
        ({"grouping": {"by": "<client>"}}, "grouping.within"),
        ({"grouping": {"by": "client", "within": "5m"}}, "grouping.by"),
        ({"grouping": {"within": "5m"}}, "grouping.by"),
        ({"parent": "<field:nothing>"}, "parent"),
        ({"flapping": {"alerts": 4, "within": "30m"}}, "flapping.stable"),
        ({"flood": {"burst": 0, "every": "1m"}}, "flood.burst"),
        ({"flood": {"burst": 5, "every": "0"}}, "flood.every"),
        ({"routes": [{"delay": {"wait": []}}]}, "routes[0].delay.wait"),
    ],
)
def test_what_is_wrong_is_refused_by_its_place(shapes: dict[str, Any], place: str) -> None:
    with pytest.raises(Rejected) as refused:
        integration(**shapes)
    assert refused.value.field == place


SHAPES: list[dict[str, Any]] = [
    {"delay": {"wait": "5m"}},
    {"delay": {"alerts": 3}},
    {"delay": {"alerts": 2, "within": "10m"}},
    {"delay": {"alerts": 3, "per": "integration"}},
    {"delay": {"every": "10m"}},
    {"delay": {"every": "10m", "per": "integration"}},
    {"grouping": {"by": "<client>", "within": "15m"}, "delay": {"wait": "2m"}},
    {"flapping": {"alerts": 2, "within": "20m", "stable": "3m"}},
    {"flood": {"burst": 2, "every": "4m"}},
    {"parent": "<part_of>", "flood": {"burst": 3, "every": "2m"}},
]

_LENGTH = timedelta(minutes=20)


def hold_window(start: int) -> CompiledWindow:
    """A maintenance window that begins after `start` minutes."""
    begins = NOW.replace(tzinfo=None) + timedelta(minutes=start)
    once = Recurrence(Repeat.ONCE, ZoneInfo("UTC"), begins, _LENGTH)
    return CompiledWindow(1, "Night", WindowAction.HOLD, WindowClock(once))


STEPS = st.lists(
    st.tuples(
        st.sampled_from("abc"),
        st.sampled_from(["New", "New", "Closed", "Other"]),
        st.integers(0, 6),
        st.sampled_from(["", "a"]),
        st.sampled_from([None, "low", "critical"]),
    ),
    max_size=40,
)


@examples(150)
@given(st.sampled_from(SHAPES), st.sampled_from([None, 0, 20]), STEPS)
def test_messages_of_active_alerts_are_never_delayed_or_lost(
    shapes: dict[str, Any], maintenance_start: int | None, steps: list[tuple[str, str, int, str, str | None]]
) -> None:
    windows = () if maintenance_start is None else (hold_window(maintenance_start),)
    world = ReplayState(integration(windows, **shapes))
    now, numbers = NOW, count(1)
    live: set[str] = set()  # keys whose messages must reach an alert

    def came(key: str, status: str, what: ReplayOutcome) -> None:
        if key in live:
            assert what.status not in (MessageStatus.DELAYED, MessageStatus.IGNORED), (key, what)
        if what.status in (MessageStatus.OPENED, MessageStatus.APPENDED) and status == "New":
            live.add(key)
        elif status == "Closed":
            if what.status is MessageStatus.CLOSED:
                # It may have been the alert of others too.
                live.clear()
            live.discard(key)

    for key, status, minutes, parent, priority in steps:
        now += timedelta(minutes=minutes)
        for _, what in world.process_due(now):
            if what.key is not None and what.status in (MessageStatus.OPENED, MessageStatus.APPENDED):
                live.add(what.key.rsplit(" / ", 1)[-1])
        number = UUID(int=next(numbers))
        payload = {"id": key, "status": status, "client": "Acme", "part_of": parent, "priority": priority}
        came(key, status, world.process(ReplayedMessage(number, now, b"{}", Element(payload, b"{}"))))
    # Whatever waits for a moment is over when that has come: nothing waits for ever by a timer.
    world.process_due(now + timedelta(days=1))
    assert not [waits for waits in world.delayed_alerts() if waits.due_at is not None]


@pytest.mark.parametrize("shapes", [{}, *SHAPES], ids=str)
def test_urgent_update_keeps_the_maintenance_hold_until_its_end(shapes: dict[str, Any]) -> None:
    world = ReplayState(integration((hold_window(0),), **shapes))
    end = NOW + _LENGTH
    payload = {"id": "a", "client": "Acme"}
    for number, (status, priority) in enumerate([("New", "low"), ("Other", "critical")], start=1):
        now = NOW + timedelta(minutes=number)
        payload = {**payload, "status": status, "priority": priority}
        message = ReplayedMessage(UUID(int=number), now, b"{}", Element(payload, b"{}"))
        assert world.process(message).status is MessageStatus.DELAYED
    (held,) = world.delayed_alerts()
    assert (held.due_at, held.is_released, held.priority, held.message_count) == (end, False, Priority.CRITICAL, 2)
    assert world.process_due(end - timedelta(seconds=1)) == []
    statuses = [outcome.status for _, outcome in world.process_due(end)]
    assert statuses == [MessageStatus.OPENED, MessageStatus.UPDATED]
