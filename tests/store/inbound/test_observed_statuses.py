"""Observed statuses, their effects, the tickets they suppressed, and one-click changes."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.support.ingest import NOW, Ingest, halo, make_integration
from tocsin.access.audit import AuditActor
from tocsin.access.models import AuditEntry
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.ids import first_uuid7
from tocsin.core.reasons import NO_REASON
from tocsin.inbound.admin.simple_rules import ObservedStatus, StatusEffect, load_observed_statuses, set_status
from tocsin.inbound.inspect import replay
from tocsin.inbound.models import InboundMessage, Integration

pytestmark = pytest.mark.usefixtures("database")

ACTOR = AuditActor(None, "Alice", "web")
NEW_TICKET = {"event": "new ticket logged"}


@pytest.fixture
def integration() -> Integration:
    return make_integration(settings={"anyway": True})


def receive(integration: Integration, ticket: int, status: str, ago: timedelta = timedelta(), **envelope: str) -> None:
    """A message that arrived that long ago."""
    known = set(InboundMessage.objects.values_list("pk", flat=True))
    Ingest().send(integration, {**halo(ticket, status), **envelope}, now=NOW - ago)
    row = InboundMessage.objects.exclude(pk__in=known).get()
    # The time is in the id, too: it is what the look back goes by. Of one moment, ids rise as the messages came.
    number = first_uuid7(NOW - ago).int + InboundMessage.objects.count()
    InboundMessage.objects.filter(pk=row.pk).update(id=f"{number:032x}")


def open_by_rules_only(integration: Integration) -> None:
    """New tickets open only by a status that the rules name."""
    assert integration.current_version is not None
    integration.settings = {**integration.settings, "new_tickets_open": False}
    integration.save()
    settings_store.bump()


def statuses_of(integration: Integration) -> dict[str, ObservedStatus]:
    return {one.name: one for one in load_observed_statuses(integration, NOW).statuses}


def test_each_status_shows_count_last_time_and_effect(integration: Integration) -> None:
    receive(integration, 1, "New", timedelta(days=40))
    receive(integration, 2, "New", timedelta(days=8))
    receive(integration, 3, "New", timedelta(days=1))
    receive(integration, 3, "In Progress", timedelta(hours=2))
    receive(integration, 3, "New", timedelta(hours=1))
    receive(integration, 3, "Closed")
    observed_statuses = load_observed_statuses(integration, NOW).statuses
    assert [(one.name, one.count, one.count_week, one.does) for one in observed_statuses] == [
        ("New", 3, 2, StatusEffect.OPEN),
        ("Closed", 1, 1, StatusEffect.CLOSE),
        ("In Progress", 1, 1, StatusEffect.UPDATE),
    ]
    assert statuses_of(integration)["New"].last_at == NOW - timedelta(hours=1)


def test_samples_and_replays_are_no_statuses_that_came(integration: Integration) -> None:
    receive(integration, 1, "New")
    replay(InboundMessage.objects.get().pk, None, ACTOR, NOW)
    InboundMessage.objects.create(
        id="0" * 32,
        integration=integration,
        received_at=NOW,
        status="Mapped Opened",
        source_status="New",
        raw=b"",
        test=True,
    )
    assert statuses_of(integration)["New"].count == 1


def test_tickets_starting_with_non_opening_status_are_reported(integration: Integration) -> None:
    open_by_rules_only(integration)
    for ticket in (1, 2):
        receive(integration, ticket, "Logged", **NEW_TICKET)
    receive(integration, 1, "In Progress")
    receive(integration, 3, "Triage", **NEW_TICKET)
    statuses = load_observed_statuses(integration, NOW)
    assert {one.name: one.opened_nothing for one in statuses.statuses} == {"Logged": 2, "In Progress": 0, "Triage": 1}
    assert (
        statuses.warning.code
        == "In the last 7 days, {count} new ticket started with {statuses} and opened no alert. {remedy}"
    )
    assert str(statuses.warning) == (
        'In the last 7 days, 3 new tickets started with "Logged" and "Triage" and opened no alert. No status '
        "seen in the last 7 days opens an alert. Choose the one that should page."
    )


def test_unopened_ticket_may_get_a_status_that_opens(integration: Integration) -> None:
    open_by_rules_only(integration)
    receive(integration, 1, "Logged", **NEW_TICKET)
    receive(integration, 2, "New")
    assert (
        load_observed_statuses(integration, NOW).warning.data["remedy"]["code"]
        == "Set it to open an alert if someone should be paged."
    )


def test_unopened_ticket_without_status_is_reported_as_such(integration: Integration) -> None:
    open_by_rules_only(integration)
    Ingest().send(integration, {"object_id": 1, "ticket": {"id": 1, "summary": "VPN down"}})
    warning = load_observed_statuses(integration, NOW).warning
    assert warning.data["statuses"] == [{"code": "no status", "data": {}}]


def test_later_earlier_or_older_openings_cause_no_warning(
    integration: Integration,
) -> None:
    receive(integration, 1, "Logged", **NEW_TICKET)
    receive(integration, 1, "New")
    receive(integration, 2, "New", timedelta(days=20))
    receive(integration, 2, "Closed", timedelta(days=19))
    receive(integration, 2, "Reviewed")
    receive(integration, 3, "In Progress")
    receive(integration, 4, "Logged", timedelta(days=8), **NEW_TICKET)
    receive(integration, 5, "Closed")
    statuses = load_observed_statuses(integration, NOW)
    assert statuses.warning == NO_REASON
    assert not any(one.opened_nothing for one in statuses.statuses)


def test_messages_without_any_event_count_as_new(integration: Integration) -> None:
    tool = make_integration("Tool", "api", settings={"anyway": True})
    Ingest().send(tool, {"id": 1, "status": "acknowledged"})
    assert load_observed_statuses(tool, InboundMessage.objects.get().received_at).warning["count"] == 1


def test_one_click_changes_a_status_action_as_new_version(integration: Integration) -> None:
    receive(integration, 1, "Logged", **NEW_TICKET)
    changed = set_status(integration, "Logged", StatusEffect.OPEN, actor=ACTOR, now=NOW)
    assert changed.current_version is not None
    assert changed.current_version.number == 2
    assert AuditEntry.objects.get().action == "update"
    assert statuses_of(changed)["Logged"].does is StatusEffect.OPEN
    assert load_observed_statuses(changed, NOW).warning == NO_REASON
    ingest = Ingest()
    assert [one.status.value for one in ingest.send(integration, halo(2, "Logged"), halo(3, "New"))] == [
        "Mapped Opened"
    ] * 2
    set_status(changed, "Resolved", StatusEffect.CLOSE, actor=ACTOR, now=NOW)
    set_status(changed, "New", StatusEffect.UPDATE, actor=ACTOR, now=NOW)
    results = ingest.send(integration, halo(2, "Resolved"), halo(4, "New"), halo(3, "Closed"))
    assert [one.status.value for one in results] == ["Mapped Closed", "Mapped Ignored", "Mapped Closed"]


def test_ambiguous_status_name_is_rejected_and_nothing_changes(integration: Integration) -> None:
    integration.current_version.definition = {"rules": {"cancel": True}}  # type: ignore[union-attr]
    integration.current_version.save()  # type: ignore[union-attr]
    with pytest.raises(Rejected) as caught:
        set_status(integration, "New", StatusEffect.OPEN, actor=ACTOR, now=NOW)
    assert (caught.value.code, caught.value.field) == ("not_possible", "status")
    for status in ("", "  ", "x" * 101):
        with pytest.raises(Rejected) as caught:
            set_status(integration, status, StatusEffect.OPEN, actor=ACTOR, now=NOW)
        assert caught.value.code == "invalid"
    assert integration.versions.count() == 1


def test_integration_with_invalid_rules_still_shows_observed_statuses(integration: Integration) -> None:
    receive(integration, 1, "New")
    integration.current_version.definition = {"rules": {"open": {"operator": "nonsense"}}}  # type: ignore[union-attr]
    statuses = load_observed_statuses(integration, NOW)
    assert [(one.name, one.does) for one in statuses.statuses] == [("New", None)]
    assert statuses.warning == NO_REASON
