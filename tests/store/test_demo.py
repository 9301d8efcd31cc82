"""`tocsin demo` creates a schedule with Alice on call this week."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from importlib.resources import files

import pytest

from tests.support.people import ACTOR
from tocsin.cli import demo
from tocsin.configure import config_files, plan, yaml_loader
from tocsin.core.db import database as db
from tocsin.core.runtime import clock
from tocsin.inbound.admin import commands as integrations
from tocsin.inbound.models import Integration
from tocsin.oncall import loader
from tocsin.oncall.changes import commands
from tocsin.oncall.models import Schedule
from tocsin.operate.checks import on_call
from tocsin.operate.finding import FindingLevel
from tocsin.outbound.models import OutboundIntegration


@pytest.mark.parametrize(
    "started_at",
    [datetime(2026, 11, 23, 7, 59, tzinfo=UTC), datetime(2026, 11, 29, 22, tzinfo=UTC)],
    ids=["monday", "sunday"],
)
def test_demo_schedule_alternates_alice_and_bob_without_problems(database: str, started_at: datetime) -> None:
    yaml_document = yaml_loader.read(files("tocsin.cli") / "demo.yaml")  # type: ignore[arg-type]
    plan.apply(config_files.collect([yaml_document]), prune=False, now=started_at)
    commands.save_schedule(demo.schedule(started_at), actor=ACTOR, now=started_at)
    group = Schedule.objects.get().group_id

    def primary(at: datetime) -> str:
        with db.transaction() as connection:
            return loader.on_call(connection, [group], at)[group][0].name

    assert primary(started_at) == "Alice Andersson"
    assert primary(started_at + timedelta(minutes=30)) == "Alice Andersson"
    assert primary(datetime(2026, 11, 30, 12, tzinfo=UTC)) == "Bob Brown"
    assert primary(datetime(2026, 12, 1, 18, tzinfo=UTC)) == "Dana Keller"
    with db.transaction() as connection:
        assert [
            finding for finding in on_call.check(connection, started_at) if finding.level is FindingLevel.PROBLEM
        ] == []


def test_demo_with_renamed_or_deleted_integration_starts_again(database: str) -> None:
    demo._create_sample_team("a tall green bicycle")
    begun = demo._connect_halo("http://127.0.0.1:8687")
    integration = Integration.objects.get()
    integrations.save_integration(
        {**integrations.integration_spec(integration), "name": "Our Halo"},
        existing=integration,
        actor=ACTOR,
        now=clock.now(),
    )
    assert demo._connect_halo("http://127.0.0.1:8690") == begun, "the URL that the small Halo posts to stays"
    # Somebody made it another Halo's, in whose Source the small one has no place.
    spec = {**integrations.integration_spec(Integration.objects.get()), "outbound": None, "settings": {}}
    integrations.save_integration(spec, existing=Integration.objects.get(), actor=ACTOR, now=clock.now())
    other = {"name": "Theirs", "kind": "haloitsm", "settings": {"halo_address": "https://acme.haloitsm.com"},
             "escalation_policy": "Standard", "recipients": {"groups": ["Service Desk"]}}  # fmt: skip
    second = integrations.save_integration(other, actor=ACTOR, now=clock.now())
    assert demo._connect_halo("http://127.0.0.1:8690") == begun
    integrations.delete_integration(second, actor=ACTOR, now=clock.now())
    integrations.delete_integration(Integration.objects.get(), actor=ACTOR, now=clock.now())
    assert demo._connect_halo("http://127.0.0.1:8691") == ""
    assert OutboundIntegration.objects.get().name == "Halo"
