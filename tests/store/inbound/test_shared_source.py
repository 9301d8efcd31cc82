"""A source is shared only by users who may change all of its integrations."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from tests.support.ingest import Ingest
from tests.support.people import ACTOR, make_group, make_user
from tocsin.access.audit import AuditActor
from tocsin.core.errors import Rejected
from tocsin.inbound.admin import commands, simple_rules
from tocsin.inbound.admin.simple_rules import StatusEffect
from tocsin.inbound.models import Integration
from tocsin.people.models import User

TICKET = {"ticket_id": 7, "status": "New", "summary": "VPN"}
RULES = {"close": {"field": "source_status", "operator": "equals", "value": "gone"}}


@pytest.fixture(autouse=True)
def groups(database: str, now: datetime) -> None:
    for name, group in (("anna", "Network"), ("ben", "Storage")):
        make_user(name, now, role="manager")
        make_group(group, now, members=(name,))


def save(
    who: str | None, now: datetime, name: str, group: str, existing: Integration | None = None, **more: Any
) -> Integration:
    """Saves as that user; None: as the command line."""
    actor = AuditActor.from_user(User.objects.get(username=who), "web", limits=None) if who else ACTOR
    spec = {"name": name, "kind": "api", "group": group, "anyway": True, **more}
    return commands.save_integration(spec, existing=existing, actor=actor, now=now)


@pytest.mark.parametrize(
    ("victim", "attack"),
    [
        ({"source": "Grid"}, {"source": "Grid"}),
        ({}, {"source": "Network alerts"}),
        ({"source": "Other"}, {"name": "Other"}),
        ({"kind": "haloitsm"}, {"kind": "haloitsm"}),
        ({"kind": "haloitsm"}, {"source": "HaloITSM"}),
    ],
)
def test_manager_cannot_take_another_groups_source(
    now: datetime, victim: dict[str, Any], attack: dict[str, Any]
) -> None:
    save("anna", now, "Network alerts", "Network", **victim)
    with pytest.raises(Rejected) as refused:
        save("ben", now, group="Storage", **{"name": "Storage alerts", **attack})
    assert (refused.value.code, refused.value.field) == ("shared_source", "source")
    assert "Network alerts" in refused.value.detail
    assert not Integration.objects.filter(group__name="Storage").exists()


def test_manager_cannot_change_own_integration_to_foreign_source(now: datetime) -> None:
    save("anna", now, "Network alerts", "Network", source="Grid")
    own = save("ben", now, "Storage alerts", "Storage")
    for mode in ("page", "disabled"):
        with pytest.raises(Rejected, match="which you can't edit"):
            save("ben", now, own.name, "Storage", Integration.objects.get(pk=own.pk), source="Grid", mode=mode)
    # A renamed integration keeps the keys of its first name, and so that name.
    mine = save("anna", now, "Alerts", "Network")
    save("anna", now, "Renamed", "Network", mine)
    with pytest.raises(Rejected, match="which you can't edit"):
        save("ben", now, "Storage alerts", "Storage", Integration.objects.get(pk=own.pk), source="Alerts")


def test_source_with_active_alerts_of_another_group_stays_reserved(now: datetime) -> None:
    theirs = save("anna", now, "Network alerts", "Network", source="Grid", kind="haloitsm")
    Ingest().send(theirs, TICKET)
    save("anna", now, "Network alerts", "Network", theirs, source="Moved", kind="haloitsm")
    with pytest.raises(Rejected, match="which you can't edit"):
        save("ben", now, "Storage alerts", "Storage", source="Grid", kind="haloitsm")


def test_source_has_no_separator_of_keys_in_it(now: datetime) -> None:
    with pytest.raises(Rejected, match="control character"):
        save("ben", now, "Storage alerts", "Storage", source="Grid\x1fAtera")


def test_shared_source_allows_only_harmless_changes_without_rights(now: datetime) -> None:
    save(None, now, "Network alerts", "Network", source="Grid")
    shared = {"source": "Grid", "mapping": {"subject": "summary"}}
    own = save(None, now, "Storage alerts", "Storage", source="Grid")
    own = save(None, now, "Storage alerts", "Storage", own, **shared)
    ben = AuditActor.from_user(User.objects.get(username="ben"), "web", limits=None)
    own = save("ben", now, "Storage alerts 2", "Storage", own, **shared, recipients={"users": ["ben"]})
    for change in ({"mapping": {}}, {"dedup_key": "<id>"}, {"mode": "disabled"}, {"rules": RULES}):
        with pytest.raises(Rejected, match="which you can't edit"):
            save("ben", now, own.name, "Storage", Integration.objects.get(pk=own.pk), **shared | change)
    with pytest.raises(Rejected, match="which you can't edit"):
        commands.restore_version(Integration.objects.get(pk=own.pk), 1, actor=ben, now=now)
    with pytest.raises(Rejected, match="which you can't edit"):
        simple_rules.set_status(Integration.objects.get(pk=own.pk), "Solved", StatusEffect.CLOSE, actor=ben, now=now)
    save(None, now, own.name, "Storage", Integration.objects.get(pk=own.pk), **shared, dedup_key="<id>")


def test_source_of_own_groups_and_administrators_is_shared(now: datetime) -> None:
    make_user("root", now, role="admin")
    save("anna", now, "Network alerts", "Network", source="Grid")
    save("anna", now, "Network alerts 2", "Network", source="Grid")
    save("root", now, "Storage alerts", "Storage", source="Grid")
