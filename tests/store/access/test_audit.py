"""The audit log: changes with masked secrets, and sign-ins."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.support.people import ACTOR, make_user
from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.access.models import AuditEntry
from tocsin.core.config import settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.models import ConfigVersion, Setting
from tocsin.people.changes import users

pytestmark = pytest.mark.usefixtures("database")


def test_secrets_are_masked_at_any_depth(now: datetime) -> None:
    audit.record_change(
        ACTOR,
        now=now,
        object_type="provider",
        object_id=1,
        object_name="Twilio",
        before={"auth_token": "old", "list": [{"password": "p"}], "token": ""},
        after={"auth_token": "new", "list": [{"password": "q"}], "token": ""},
    )
    entry = AuditEntry.objects.get()
    assert entry.before == {"auth_token": "•••", "list": [{"password": "•••"}]}
    assert entry.after == entry.before


def test_successful_and_failed_sign_ins_are_recorded_with_their_address(now: datetime) -> None:
    user = make_user("alice", now, name="Alice")
    audit.record_sign_in(user, "alice", succeeded=True, address="192.0.2.1", now=now)
    audit.record_sign_in(None, "mallory", succeeded=False, address="2001:db8::1", now=now)
    rows = AuditEntry.objects.filter(action__startswith="sign_in").order_by("id")
    assert [(row.action, row.actor_id, row.actor_name, row.address) for row in rows] == [
        ("sign_in", user.pk, "Alice", "192.0.2.1"),
        ("sign_in_failed", None, "mallory", "2001:db8::1"),
    ]


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"retention": 1}, "retention"),
        ({"message_retention_days": 0}, "message_retention_days"),
        ({"message_retention_days": "90"}, "message_retention_days"),
        ({"bundle_pages": "on"}, "bundle_pages"),
        ({"time_zone": "Mars"}, "time_zone"),
        ({"organisation_name": "x" * 101}, "organisation_name"),
    ],
)
def test_invalid_setting_is_rejected_by_name_and_nothing_is_written(
    now: datetime, values: dict[str, object], place: str
) -> None:
    with pytest.raises(Rejected) as raised:
        audit.change_settings({"audit_retention_days": 30, **values}, actor=ACTOR, now=now)
    assert place in raised.value.fields
    assert not isinstance(raised.value, RejectedAll)
    assert not Setting.objects.exists()


def test_changed_setting_takes_effect_everywhere_and_is_audited(now: datetime) -> None:
    assert settings_store.get("message_retention_days") == 90
    assert audit.change_settings({"message_retention_days": 30, "bundle_pages": True}, actor=ACTOR, now=now)
    assert settings_store.get(settings_store.MESSAGE_RETENTION_DAYS) == 30
    with database.transaction() as connection:
        loaded = settings_store.load(connection)
    assert loaded["message_retention_days"] == 30
    assert loaded["delivery_retention_days"] == 400
    entry = AuditEntry.objects.get()
    assert (entry.before, entry.after) == ({"message_retention_days": 90}, {"message_retention_days": 30})
    version = ConfigVersion.objects.get().version
    assert not audit.change_settings({"message_retention_days": 30}, actor=ACTOR, now=now)
    assert ConfigVersion.objects.get().version == version
    assert audit.change_settings({"message_retention_days": 90}, actor=AuditActor(None, "x", "web"), now=now)
    assert not Setting.objects.exists()


def test_a_deleted_persons_addresses_are_erased_from_the_log(now: datetime) -> None:
    user = make_user("alice", now, email="first@example.org")
    methods = [{"label": "Phone", "channel": "sms", "address": "+41791234567"}]
    spec = {"username": "alice", "email": "second@example.org", "contact_methods": methods}
    users.save_user(spec, existing=user, actor=ACTOR, now=now)
    for tried in ("First@example.org", "second@example.org"):
        audit.record_sign_in(None, tried, succeeded=False, address="192.0.2.1", now=now)
        audit.record_sign_in(user, tried, succeeded=True, address="192.0.2.1", now=now)
    users.delete_user(user, actor=ACTOR, now=now)
    with database.transaction() as connection:
        log = " ".join(row[0] for row in connection.execute("SELECT t::text FROM access_auditentry t"))
    for address in ("first@example.org", "second@example.org", "+41791234567"):
        assert address not in log.lower()
    assert AuditEntry.objects.filter(action__startswith="sign_in", object_name="alice").count() == 4
