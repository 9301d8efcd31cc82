"""`tocsin demo` creates a team with Alice on call this week, and a history that fills the screens."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.people import ACTOR
from tocsin.access.models import AuditEntry
from tocsin.alerts import store
from tocsin.alerts.models import Alert
from tocsin.alerts.states import AlertStatus
from tocsin.cli.demo import command as demo
from tocsin.cli.demo import incidents
from tocsin.core.config import settings_store
from tocsin.core.db import database as db
from tocsin.core.errors import Rejected
from tocsin.core.runtime import clock
from tocsin.escalation.models import EscalationRun
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.enums import MessageStatus
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.notify.models import Delivery
from tocsin.notify.states import DeliveryStatus, Purpose
from tocsin.oncall import loader
from tocsin.oncall.models import Override, SwapRequest
from tocsin.operate.checks import integrations as integration_checks
from tocsin.operate.checks import people
from tocsin.operate.finding import FindingLevel
from tocsin.outbound.models import OutboundIntegration
from tocsin.people.models import Group, User
from tocsin.reports import alert_reports, fairness
from tocsin.reports.counted_alerts import Bucket, GroupBy, Period
from tocsin.web import home
from tocsin.workflows.models import WorkflowRun

PASSWORD = "a tall green bicycle"
MONDAY = datetime(2026, 11, 23, 8, 1, tzinfo=UTC)
SUNDAY = datetime(2026, 11, 29, 22, tzinfo=UTC)


@pytest.fixture
def start(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, database: str) -> datetime:
    """The demo begins at this moment."""
    monkeypatch.setattr(clock, "now", lambda: request.param)
    return request.param


@pytest.mark.parametrize("start", [MONDAY, SUNDAY], ids=["monday", "sunday"], indirect=True)
def test_demo_schedule_alternates_alice_and_bob_without_problems(start: datetime) -> None:
    demo._create_sample_team(PASSWORD)
    group = Group.objects.get(name="Service Desk").pk

    def primary(at: datetime) -> str:
        with db.transaction() as connection:
            return loader.on_call(connection, [group], at)[group][0].name

    assert primary(start) == "Alice Andersson"
    assert primary(start + timedelta(minutes=30)) == "Alice Andersson"
    assert primary(datetime(2026, 11, 30, 12, tzinfo=UTC)) == "Bob Brown"
    assert primary(datetime(2026, 12, 1, 18, tzinfo=UTC)) == "Dana Keller"
    with db.transaction() as connection:
        assert [
            finding for finding in people.check_on_call(connection, start) if finding.level is FindingLevel.PROBLEM
        ] == []


@pytest.mark.long
@pytest.mark.parametrize("start", [SUNDAY], ids=["sunday"], indirect=True)
def test_history_fills_the_screens_and_ends_with_a_storm(start: datetime) -> None:
    demo._create_sample_team(PASSWORD, with_history=True)
    alerts = Alert.objects.all()
    assert alerts.count() > 60
    assert alerts.earliest("pk").opened_at < start - timedelta(days=19)
    assert set(alerts.values_list("status", flat=True)) >= {
        AlertStatus.CLOSED, AlertStatus.CANCELLED, AlertStatus.ON_HOLD, AlertStatus.ASSIGNED, AlertStatus.OPEN,
    }  # fmt: skip
    waiting = alerts.filter(status=AlertStatus.OPEN, acknowledgements=None)
    assert [len(storm.alerts) for _lead, storm in store.first_entries(waiting, 50)[0] if storm] == [60]
    assert waiting.count() == 62
    due = {"due_at__lt": start + timedelta(hours=6)}
    assert not Delivery.objects.filter(status=DeliveryStatus.QUEUED, **due).exclude(alert__in=waiting).exists()
    assert not EscalationRun.objects.filter(**due).exclude(alert__in=waiting).exists()
    pages = Delivery.objects.filter(purpose=Purpose.PAGE, status__in=(DeliveryStatus.SENT, DeliveryStatus.DELIVERED))
    assert set(pages.values_list("user__username", flat=True)) >= {"alice", "bob", "chen", "emma"}
    assert home.last_night(User.objects.get(username="alice"), start).pages > 0
    assert {MessageStatus.FAILED, MessageStatus.IGNORED} <= set(InboundMessage.objects.values_list("status", flat=True))
    assert {"Dana Keller", "Chen Wei", "Emma Evans"} <= set(AuditEntry.objects.values_list("actor_name", flat=True))
    assert set(SwapRequest.objects.values_list("state", flat=True)) == {"accepted", "asked"}
    assert Override.objects.filter(ends_at__lt=start).count() == 2
    with db.transaction() as connection:
        nights = fairness.load_interruptions(
            connection, Period(start - timedelta(days=21), start, incidents.ZONE), settings_store.night_hours()
        )
        kept = alert_reports.load_sla(
            connection, Period.last_days(21, start, incidents.ZONE), GroupBy.CLIENT, Bucket.WEEK, now=start
        ).figures.total.stats.response
    assert [load for load in nights if load.at_night]
    assert kept.kept > kept.breached > 0, "the tickets' dates are in their time zone"
    assert not pages.filter(provider_name="sandbox").exists(), "reports do not count these"
    assert WorkflowRun.objects.exists()
    newest = Delivery.objects.latest("pk")
    assert newest.queued_at > start - timedelta(hours=1), "ids are in the order of time"
    for days in (0, 1, 2, 4):
        findings = integration_checks.check_messages(start + timedelta(days=days))
        assert [finding.about for finding in findings if finding.id == "integration.silent"] == []


def test_same_moment_gives_the_same_incidents() -> None:
    assert incidents.incidents(SUNDAY) == incidents.incidents(SUNDAY)
    assert all(incident.at < SUNDAY for incident in incidents.incidents(SUNDAY))


def test_demo_refuses_a_data_directory_that_is_not_its_own(tmp_path: Path) -> None:
    first = demo._password(tmp_path / "demo")
    assert demo._password(tmp_path / "demo") == first
    (tmp_path / "production").mkdir()
    (tmp_path / "production" / "secret-key").write_text("key")
    with pytest.raises(Rejected) as refused:
        demo._password(tmp_path / "production")
    assert (
        refused.value.reason.code
        == "{folder} holds data that is not the demo's. Name another folder with --data-dir or TOCSIN_DATA_DIR."
    )


def test_demo_uses_the_data_directory_of_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TOCSIN_DATA_DIR", str(tmp_path))
    assert demo.demo_data_dir() is None
    monkeypatch.delenv("TOCSIN_DATA_DIR")
    own = demo.demo_data_dir()
    assert own is not None
    assert own.name.endswith("-demo")


def test_demo_with_renamed_or_deleted_integration_starts_again(database: str) -> None:
    demo._create_sample_team(PASSWORD)
    begun = demo._connect_halo("http://127.0.0.1:8687")
    integration = Integration.objects.get(kind="haloitsm")
    integrations.save_integration(
        {**integrations.integration_spec(integration), "name": "Our Halo"},
        existing=integration,
        actor=ACTOR,
        now=clock.now(),
    )
    assert demo._connect_halo("http://127.0.0.1:8690") == begun, "the URL that the small Halo posts to stays"
    # Somebody made it another Halo's, in whose Source the small one has no place.
    integration = Integration.objects.get(kind="haloitsm")
    spec = {**integrations.integration_spec(integration), "outbound": None, "settings": {}}
    integrations.save_integration(spec, existing=integration, actor=ACTOR, now=clock.now())
    other = {"name": "Theirs", "kind": "haloitsm", "settings": {"halo_address": "https://acme.haloitsm.com"},
             "escalation_policy": "Standard", "recipients": {"groups": ["Service Desk"]}}  # fmt: skip
    second = integrations.save_integration(other, actor=ACTOR, now=clock.now())
    assert demo._connect_halo("http://127.0.0.1:8690") == begun
    integrations.delete_integration(second, actor=ACTOR, now=clock.now())
    integrations.delete_integration(Integration.objects.get(kind="haloitsm"), actor=ACTOR, now=clock.now())
    assert demo._connect_halo("http://127.0.0.1:8691") == ""
    assert OutboundIntegration.objects.get().name == "Halo"
