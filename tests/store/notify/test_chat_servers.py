"""Only administrators, and managers for their group, add chat addresses at unknown hosts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.people import make_group, make_user
from tocsin.access.audit import AuditActor
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.people.changes import groups, users
from tocsin.people.models import ContactMethod, User

pytestmark = pytest.mark.usefixtures("database")

OWN = "gotify://push.evil.example/AbcdefghijKLMNO"
VENDOR = "tgram://123456789:abcdefg_hijklmnop/12315544/"


def add(user: User, address: str, actor: User | None = None, via: str = "web", **spec: Any) -> ContactMethod:
    given = {"label": "Chat", "channel": "chat", "address": address, **spec}
    return users.save_contact_method(
        user, given, actor=AuditActor.from_user(actor or user, via, limits=None), now=datetime.now(UTC)
    )


def test_responder_may_add_known_services_but_no_own_server(now: datetime) -> None:
    alice = make_user("alice", now, role="responder")
    method = add(alice, VENDOR)
    for changes in ({"existing": None}, {"existing": method}):
        with pytest.raises(Rejected) as refused:
            users.save_contact_method(
                alice,
                {"label": "Own", "channel": "chat", "address": OWN},
                actor=AuditActor.from_user(alice, "api", limits=None),
                now=now,
                **changes,
            )
        assert (refused.value.code, refused.value.field) == ("own_server", "address")
        assert "push.evil.example" in refused.value.detail
        assert "Abcdefghij" not in refused.value.detail
    with pytest.raises(Rejected):
        add(alice, OWN, channel="push", label="Push")
    assert list(alice.contact_methods.filter(channel__in=("chat", "push")).values_list("label", flat=True)) == ["Chat"]


def test_an_administrator_adds_any_server_and_its_owner_keeps_it(now: datetime) -> None:
    alice, erin = make_user("alice", now, role="responder"), make_user("erin", now, role="admin")
    method = add(alice, OWN, erin)
    spec = {"label": "Renamed", "channel": "chat", "address": "gotify://•••"}
    users.save_contact_method(
        alice, spec, existing=method, actor=AuditActor.from_user(alice, "web", limits=None), now=now
    )
    assert ContactMethod.objects.get(pk=method.pk).label == "Renamed"


@pytest.mark.parametrize(
    ("setting", "manager_may", "responder_may"),
    [("managers", True, False), ("admins", False, False), ("everybody", True, True)],
)
def test_setting_restricts_who_adds_server_addresses(
    now: datetime, setting: str, manager_may: bool, responder_may: bool
) -> None:
    alice, bob = make_user("alice", now, role="responder"), make_user("bob", now, role="manager")
    group = make_group("Service Desk", now)
    settings_store.set("chat_servers_by", setting)
    spec = {**groups.group_spec(group), "contacts": [{"label": "Room", "channel": "chat", "address": OWN}]}
    for is_allowed, change in (
        (
            manager_may,
            lambda: groups.save_group(
                spec, existing=group, actor=AuditActor.from_user(bob, "web", limits=None), now=now
            ),
        ),
        (responder_may, lambda: add(alice, OWN)),
    ):
        if is_allowed:
            change()
        else:
            with pytest.raises(Rejected, match="administrator"):
                change()
