"""The audit log is append-only: a hash chain finds every other change, and triggers refuse it."""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import Error, connection, transaction

from tests.support.audit_log import tamper
from tests.support.people import ACTOR, make_user
from tocsin.access import audit, audit_log
from tocsin.access.audit_log import BrokenLink, Damage
from tocsin.access.models import AuditChain, AuditEntry
from tocsin.core.db import database
from tocsin.operate import tasks
from tocsin.operate.checks import machine
from tocsin.people.changes import users

pytestmark = pytest.mark.usefixtures("database")


def record(now: datetime, number: int = 1) -> None:
    for index in range(number):
        audit.record(ACTOR, "update", now=now, object_type="group", object_id=index, after={"größe": [1, 2.50, "ä"]})


def link_all() -> None:
    while audit_log.link_new():
        pass


def broken() -> BrokenLink | None:
    with database.transaction() as session:
        return audit_log.find_broken_link(session, chunk=2)


def found_reason(now: datetime) -> tuple[str, dict[str, Any]]:
    with database.transaction() as session:
        [finding] = machine.check_audit_log(session, now)
    return finding.detail.code, finding.detail.data


def test_entries_are_linked_in_order_and_verified(now: datetime) -> None:
    assert broken() is None
    record(now, 3)
    link_all()
    record(now, 2)
    assert broken() is None
    link_all()
    assert list(AuditEntry.objects.order_by("pk").values_list("sequence", flat=True)) == [1, 2, 3, 4, 5]
    assert AuditChain.objects.get().head == 5
    assert broken() is None


@pytest.mark.parametrize(
    "change",
    [
        "actor_name = 'nobody'",
        "at = at - interval '1 second'",
        "action = 'create'",
        "object_id = '99'",
        "after = '{}'",
        "before = '{}'",
        "address = '192.0.2.9'",
        "via = 'cli'",
        "group_id = 7",
        "content_hash = decode(repeat('00', 32), 'hex')",
        "hash = decode(repeat('00', 32), 'hex')",
    ],
)
def test_a_changed_entry_is_found_and_named(now: datetime, change: str) -> None:
    record(now, 4)
    link_all()
    entry = AuditEntry.objects.get(sequence=3)
    tamper(f"UPDATE access_auditentry SET {change} WHERE sequence = 3")
    assert broken() == BrokenLink(3, entry.pk, Damage.CHANGED)
    with database.transaction() as session:
        [finding] = machine.check_audit_log(session, now)
    assert finding.id == "audit.broken_chain"
    assert finding.detail["entry"] == entry.pk


@pytest.mark.parametrize(("sequence", "missing"), [(1, 1), (3, 3), (4, 4)])
def test_a_deleted_entry_is_found(now: datetime, sequence: int, missing: int) -> None:
    record(now, 4)
    link_all()
    tamper("DELETE FROM access_auditentry WHERE sequence = %s", (sequence,))
    assert broken() == BrokenLink(missing, None, Damage.MISSING)
    assert found_reason(now) == ("The audit log lacks its entry number {sequence}.", {"sequence": missing})


def test_a_large_log_is_verified_in_rounds(now: datetime) -> None:
    def broken_after_task() -> BrokenLink | None:
        audit_log.verify_next(limit=4)
        with database.transaction() as session:
            return audit_log.find_broken_link(session, limit=4)

    record(now, 10)
    link_all()
    verified = []
    for _ in range(4):
        assert broken_after_task() is None
        verified.append(AuditChain.objects.get().verified)
    assert verified == [4, 8, 10, 4]
    tamper("UPDATE access_auditentry SET actor_name = 'nobody' WHERE sequence = 3")
    found = [damage.sequence for _ in range(4) if (damage := broken_after_task())]
    assert found == [3, 3, 3]
    assert AuditChain.objects.get().verified == 10


def test_an_inserted_entry_is_found(now: datetime) -> None:
    record(now, 3)
    link_all()
    tamper(
        "INSERT INTO access_auditentry (at, actor_name, action, object_type, object_id, object_name, via, sequence, "
        "hash, content_hash, salt) SELECT at, 'forged', action, object_type, object_id, object_name, via, 4, hash, "
        "content_hash, salt FROM access_auditentry WHERE sequence = 3"
    )
    tamper("UPDATE access_auditchain SET head = 4")
    damage = broken()
    assert damage is not None
    assert (damage.sequence, damage.damage) == (4, Damage.CHANGED)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE access_auditentry SET actor_name = 'nobody'",
        "UPDATE access_auditentry SET salt = NULL",
        "UPDATE access_auditentry SET sequence = NULL",
        "DELETE FROM access_auditentry",
        "TRUNCATE access_auditentry",
        "SET LOCAL tocsin.audit_change = 'erasure'; UPDATE access_auditentry SET action = 'x', salt = NULL",
        "SET LOCAL tocsin.audit_change = 'link'; UPDATE access_auditentry SET actor_name = 'nobody'",
        "SET LOCAL tocsin.audit_change = 'erasure'; DELETE FROM access_auditentry",
    ],
)
def test_the_database_refuses_every_other_change(now: datetime, statement: str) -> None:
    record(now, 2)
    link_all()
    with pytest.raises(Error, match="append-only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert AuditEntry.objects.count() == 2
    assert broken() is None


def test_retention_leaves_an_anchor(now: datetime) -> None:
    record(now - timedelta(days=500), 3)
    record(now - timedelta(days=1), 2)
    link_all()
    tasks.delete_expired(now)
    assert AuditEntry.objects.count() == 2
    assert AuditChain.objects.get().anchor == 3
    assert broken() is None
    tamper("DELETE FROM access_auditentry WHERE sequence = 4")
    assert broken() == BrokenLink(4, None, Damage.MISSING)


def test_retention_deletes_only_the_beginning_of_the_chain(now: datetime) -> None:
    record(now, 1)
    record(now - timedelta(days=500), 2)
    link_all()
    tasks.delete_expired(now)
    assert AuditEntry.objects.count() == 3


def test_all_may_expire_and_the_chain_goes_on(now: datetime) -> None:
    record(now - timedelta(days=500), 2)
    link_all()
    tasks.delete_expired(now)
    assert broken() is None
    record(now, 1)
    link_all()
    assert AuditEntry.objects.get().sequence == 3
    assert broken() is None


def erased(now: datetime) -> None:
    """A person with a phone number is linked, and then deleted."""
    user = make_user("alice", now, email="alice@example.org")
    methods = [{"label": "Phone", "channel": "sms", "address": "+41791234567"}]
    users.save_user({**users.user_spec(user), "contact_methods": methods}, existing=user, actor=ACTOR, now=now)
    audit.record_sign_in(None, "Alice@example.org", succeeded=False, address="192.0.2.1", now=now)
    link_all()
    users.delete_user(user, actor=ACTOR, now=now)


def test_an_erased_person_leaves_a_whole_chain(now: datetime) -> None:
    erased(now)
    assert broken() is None
    link_all()
    assert broken() is None
    record_of_it = AuditEntry.objects.get(action=audit_log.ERASE)
    named = {int(number) for number in record_of_it.after["entries"]}
    assert named >= set(AuditEntry.objects.filter(salt=None).values_list("pk", flat=True)) != set()
    with database.transaction() as session:
        log = " ".join(row[0] for row in session.execute("SELECT t::text FROM access_auditentry t"))
    assert "+41791234567" not in log
    assert "alice@example.org" not in log.lower()


def test_an_erased_entry_cannot_be_changed_again(now: datetime) -> None:
    erased(now)
    link_all()
    entry = AuditEntry.objects.filter(salt=None).order_by("sequence")[0]
    tamper("UPDATE access_auditentry SET after = '{}' WHERE id = %s", (entry.pk,))
    assert broken() == BrokenLink(entry.sequence or 0, entry.pk, Damage.ERASED)


def test_an_unrecorded_erasure_is_found(now: datetime) -> None:
    record(now, 2)
    link_all()
    entry = AuditEntry.objects.get(sequence=2)
    with transaction.atomic():
        audit_log.change_for_erasure(
            "UPDATE access_auditentry SET actor_name = 'x', salt = NULL WHERE id = %s", (entry.pk,)
        )
    assert broken() == BrokenLink(2, entry.pk, Damage.ERASED)
    assert found_reason(now) == (
        "The entry {entry} of the audit log was changed, and no erasure explains it.",
        {"entry": entry.pk},
    )


def test_concurrent_linkers_make_one_chain(now: datetime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_log, "BATCH", 7)
    record(now, 60)
    threads = [threading.Thread(target=link_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    link_all()
    assert set(AuditEntry.objects.values_list("sequence", flat=True)) == set(range(1, 61))
    assert broken() is None


def test_a_log_that_nobody_links_is_a_finding(now: datetime) -> None:
    record(now - timedelta(hours=1), 1)
    with database.transaction() as session:
        [finding] = machine.check_audit_log(session, now)
    assert finding.id == "audit.unlinked"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("gAAAAA" + "x" * 80, "•••"),
        ("sealed:slack:abc-DEF_123", "slack://•••"),
        ({"address": ["sealed:ntfy:abc"]}, {"address": ["ntfy://•••"]}),
        ("plain", "plain"),
    ],
)
def test_an_entry_holds_nothing_that_a_key_rotation_would_change(now: datetime, value: object, shown: object) -> None:
    audit.record(ACTOR, "update", now=now, after={"value": value})
    assert AuditEntry.objects.get().after == {"value": shown}
