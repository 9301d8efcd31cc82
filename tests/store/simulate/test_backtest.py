"""Backtests: the effect of an edit on recent messages, which a replay then confirms."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.ingest import NOW, Ingest, halo, make_integration
from tocsin.access.audit import COMMAND_LINE, AuditActor
from tocsin.alerts import service as alerts
from tocsin.alerts.commands import Actor as AlertActor
from tocsin.alerts.commands import Close
from tocsin.alerts.models import Alert
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ACTIVE, ActorKind
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.escalation.commands import save_policy
from tocsin.escalation.models import EscalationRun
from tocsin.inbound.admin import commands
from tocsin.inbound.inspect import replay
from tocsin.inbound.models import InboundMessage, Integration, IntegrationVersion
from tocsin.inbound.storage import messages
from tocsin.inbound.storage.messages import MessageBudget
from tocsin.simulate import backtest
from tocsin.simulate.backtest import DifferenceKind, PagingEffect, count_totals
from tocsin.simulate.backtest import backtest as backtest_backtest

ACTOR = AuditActor(None, "Alice", "web", "127.0.0.1")
URGENT = {"field": "priority", "operator": "one of", "value": ["critical", "high"]}


@pytest.fixture(autouse=True)
def _wired(database: str) -> Iterator[None]:
    with escalation_enabled():
        yield


@pytest.fixture
def integration() -> Integration:
    """An integration that pages Alice by the desk's policy."""
    desk = EscalationHarness(NOW)
    integration = make_integration(policy=desk.policy)
    integration.recipient_groups.add(desk.group)
    settings_store.bump()
    return integration


def an_evening(integration: Integration) -> None:
    """Tickets of two clients by day and night: new, changed, closed, new again; one that nobody can read."""
    ingest = Ingest()
    for number, (ticket, status, more) in enumerate(
        (
            (1, "New", {"priority": {"name": "Critical"}}),
            (2, "Logged", {"client_name": "Globex", "priority": {"name": "Low"}}),
            (1, "In Progress", {}),
            (3, "New", {"priority": {"name": "Low"}}),
            (2, "Logged", {"client_name": "Globex"}),
            (1, "Closed", {}),
            (2, "Resolved", {}),
            (1, "New", {"client_name": "Globex", "priority": {"name": "High"}}),
            (3, "Closed", {}),
            (2, "Logged", {}),
        )
    ):
        ingest.send(integration, halo(ticket, status, **more), now=NOW + timedelta(hours=number))
    ingest.send(integration, b"<html>", now=NOW + timedelta(hours=11))


EDITS: list[dict[str, Any]] = [
    {"rules": {"open": {"field": "source_status", "operator": "one of", "value": ["New", "Logged"]}}},
    {"filters": URGENT},
    {"routes": [{"when": {"not": URGENT}, "action": "record"}]},
    {"routes": [{"when": {"field": "client", "operator": "equals", "value": "Globex"}, "priority": "low"}]},
    {"dedup_key": "<ticket^client_name>"},
    {"mapping": {"source_id": "ticket^client_name", "subject": {"template": "<ticket^client_name>: it is down"}}},
]


@pytest.mark.parametrize("edit", EDITS)
def test_replay_matches_the_backtest(integration: Integration, edit: dict[str, Any]) -> None:
    an_evening(integration)
    messages = list(InboundMessage.objects.order_by("pk"))
    found_backtest = backtest_backtest(integration, edit)
    body = {one.message_id: one for one in found_backtest.differences}
    assert found_backtest.message_count == len(messages)

    commands.save_integration(
        {**commands.integration_spec(integration), **edit}, existing=integration, actor=COMMAND_LINE, now=NOW
    )
    at = NOW + timedelta(days=1)
    closing = Close(actor=AlertActor(ActorKind.SYSTEM, "Test"))
    for number in Alert.objects.filter(status__in=sorted(ACTIVE)).values_list("pk", flat=True):
        alerts.apply_command(FoundAlert.by_tocsin(number), closing, now=at)
    for message in messages:
        at += timedelta(minutes=11)
        made = replay(message.pk, True, ACTOR, at)
        if message.pk not in body:
            assert (made.status, made.subject) == (message.status, message.subject)
            continue
        after = body[message.pk].after
        assert made.status == after.status
        if after.opening is not None:
            alert, run = Alert.objects.get(pk=made.alert_id), EscalationRun.objects.get(alert=made.alert_id)
            assert (alert.subject, alert.priority) == (after.opening.alert.subject, after.opening.alert.priority)
            assert (run.mode, run.version_id) == (after.opening.paging.mode, after.opening.paging.version_id)
    statuses = InboundMessage.objects.exclude(replay_of=None).values_list("status", flat=True)
    assert {status: list(statuses).count(status) for status in set(statuses)} == dict(found_backtest.after.statuses)


def test_differences_are_described_in_sentences(integration: Integration) -> None:
    an_evening(integration)
    opens = backtest_backtest(integration, EDITS[0])
    assert opens.counts == {DifferenceKind.OUTCOME: 4}
    says = [str(change.reason) for one in opens.differences for change in one.changes]
    assert says[-1].startswith("Mapped Opened instead of Mapped Ignored: status “Logged”") or "Logged" in says[-1]
    assert (opens.before.opened, opens.after.opened) == (4, 5), (
        "three for tickets that are new, one for the page of HTML"
    )
    records = backtest_backtest(integration, EDITS[2])
    assert [str(change.reason) for one in records.differences for change in one.changes] == [
        "log only instead of pages"
    ]
    assert (records.before.pages, records.after.pages) == (4, 3)
    delayed = backtest_backtest(integration, {"delay": {"wait": "5m"}})
    others = backtest_backtest(integration, {"routes": [{"recipients": {"users": [], "groups": []}}]})
    never = backtest_backtest(integration, {"filters": False})
    for result, effects in (
        (opens, {PagingEffect.OPENS: 1, PagingEffect.OTHER: 3}),
        (records, {PagingEffect.NO_LONGER_PAGES: 1}),
        (others, {PagingEffect.PAGES_OTHERS: others.before.opened - 1}),
    ):
        assert result.effects == effects
    assert delayed.effects[PagingEffect.DELAYS] == delayed.before.opened - 1, "an unreadable message is not delayed"
    assert never.effects[PagingEffect.NO_LONGER_OPENS] == never.before.opened - never.after.opened
    codes = [reason.code for result in (opens, records, others, delayed, never) for reason in result.effect_reasons]
    assert set(codes) == {
        "{count} more message would open an alert",
        "{count} message would open its alert after a delay",
        "{count} message would no longer open an alert",
        "{count} message would have another outcome",
        "{count} alert would no longer page anyone", "{count} alert would page differently",
    }  # fmt: skip
    keys = backtest_backtest(integration, EDITS[4])
    assert DifferenceKind.KEY in keys.counts
    whole = backtest.as_json(keys)
    assert whole["looked_at"] == 11
    assert whole["more"] == 0


def reason_codes(integration: Integration, edit: dict[str, Any]) -> set[str]:
    """The codes of the differences that an edit makes, and of the reasons in them."""
    differences = [change.reason for one in backtest_backtest(integration, edit).differences for change in one.changes]
    parts = [value.code for reason in differences for _, value in reason.params if isinstance(value, Reason)]
    return {reason.code for reason in differences} | set(parts)


def test_another_policy_is_named_or_said_to_be_none(integration: Integration) -> None:
    steps = [{"notify": {"roles": ["primary"]}}]
    save_policy({"name": "Nights only", "steps": steps}, actor=COMMAND_LINE, now=NOW)
    Integration.objects.update(policy=None)
    settings_store.bump()
    an_evening(integration)
    other_policy = {"routes": [{"escalation_policy": "Nights only"}]}
    assert reason_codes(integration, other_policy) == {"by {after} instead of {before}", "no policy", "reason.text"}


def test_log_only_route_of_a_dry_run_is_a_difference(integration: Integration) -> None:
    an_evening(integration)
    Integration.objects.update(mode="dry_run")
    settings_store.bump()
    assert reason_codes(integration, EDITS[2]) == {
        "{after} instead of {before}",
        "log only",
        "would page, but is a dry run",
    }


def test_nothing_is_stored_and_samples_and_replays_do_not_count(integration: Integration) -> None:
    an_evening(integration)
    message = InboundMessage.objects.first()
    assert message is not None
    replay(message.pk, False, ACTOR, NOW)
    InboundMessage.objects.filter(pk=message.pk).update(test=True)
    before = (InboundMessage.objects.count(), Alert.objects.count())
    assert backtest_backtest(integration, {}).message_count == 10
    assert backtest_backtest(integration, {}, limit=3).message_count == 3
    assert (InboundMessage.objects.count(), Alert.objects.count()) == before


@pytest.mark.parametrize(
    ("parts", "place"),
    [
        ({"rules": {"open": {"field": "client", "operator": "matches", "value": "("}}}, "rules.open.value"),
        ({"mapping": {"subjct": "a"}}, "mapping.subjct"),
        ({"routes": [{"escalation_policy": "Nothing"}]}, "routes[0].escalation_policy"),
        ({"filters": "new"}, "filters"),
    ],
)
def test_unsavable_definition_is_rejected_like_on_save(
    integration: Integration, parts: dict[str, Any], place: str
) -> None:
    with pytest.raises(Rejected) as caught:
        backtest_backtest(integration, parts)
    assert caught.value.field == place


def test_version_that_no_longer_compiles_is_compared_by_its_behaviour(integration: Integration) -> None:
    an_evening(integration)
    broken = {"rules": {"open": {"field": "client", "operator": "smells"}}}
    IntegrationVersion.objects.filter(pk=integration.current_version_id).update(definition=broken)
    settings_store.bump()
    found_backtest = backtest_backtest(integration, {"rules": {}})
    assert "smells" in str(found_backtest.problem)
    assert found_backtest.after.opened == 4


def test_thousand_messages_take_under_two_cpu_seconds(
    integration: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(messages, "MAX_SECONDS", 60.0)
    body = halo(1, details="A long story. " * 100)
    ingest = Ingest()
    for start in range(0, 1_000, 250):
        tickets = range(start + 1, start + 251)
        ingest.send(integration, *({**body, "object_id": n, "ticket": {**body["ticket"], "id": n}} for n in tickets))
    notices: list[tuple[int, int]] = []
    began = time.thread_time()
    found_backtest = backtest_backtest(
        integration, EDITS[2], progress=lambda done, whole: notices.append((done, whole))
    )
    assert time.thread_time() - began < 2
    assert found_backtest.message_count == 1_000
    assert found_backtest.differing_count == 1_000
    assert len(found_backtest.differences) == 500
    assert notices == [(done, 1_000) for done in range(100, 1_001, 100)]


def test_backtest_ends_in_time_and_says_what_is_left_out(
    integration: Integration, monkeypatch: pytest.MonkeyPatch
) -> None:
    an_evening(integration)
    monkeypatch.setattr(messages, "MAX_VALUES", 5)
    large = backtest_backtest(integration, {})
    assert (large.message_count, large.budget.left_out) == (1, 10)
    monkeypatch.setattr(messages, "MAX_SECONDS", 0.0)
    found = backtest.as_json(backtest_backtest(integration, {}))
    assert (found["looked_at"], found["left_out"]) == (0, 11)
    assert found["partial"]["text"].startswith("11 messages were left out")


def test_a_week_is_counted_by_several_versions_at_once(integration: Integration) -> None:
    from tocsin.inbound.admin import commands as drafts

    an_evening(integration)
    integrations = [drafts.compile_draft(integration, edit) for edit in ({}, EDITS[2])]
    everything, urgent = count_totals(integration, integrations, NOW, MessageBudget())
    assert (everything.pages, urgent.pages) == (4, 3)
    assert everything.at_night <= everything.pages
