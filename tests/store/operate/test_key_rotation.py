"""Retiring a secret key: all stored values are re-encrypted beside a running server."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret
from psycopg import sql

import tocsin
from tests.support.people import ACTOR
from tests.support.postgres import in_use
from tests.web.conftest import make_user
from tocsin.cli.main import run
from tocsin.core.config import crypto
from tocsin.core.config import environment as config
from tocsin.core.config.crypto import mask_encrypted
from tocsin.inbound.admin import commands as inbound
from tocsin.notify.integrations import web_push as push_keys
from tocsin.notify.models import LastSent, Notification, OptOut, Provider
from tocsin.operate import encryption
from tocsin.operate.checks import machine as check
from tocsin.operate.encryption import COLUMNS
from tocsin.operate.node_heartbeat import NodeHeartbeat
from tocsin.outbound import commands as outbound
from tocsin.people import addresses
from tocsin.people.changes import users as people
from tocsin.people.models import ContactMethod

OLD, NEW = "o" * 40, "n" * 40

SLACK = "slack://T0000/B0000/XXXXXXXX"

#: Who encrypts, and the columns (`table.column`) where it is stored; one that only passes a value on stores none.
WRITERS = {
    "people/addresses.py": set[str](),
    "access/audit_log.py": {"access_auditforwarding.secret"},
    "core/config/settings_store.py": {"core_setting.value"},
    "identity/commands.py": {"identity_identityprovider.client_secret"},
    "importers/import_runs.py": {"configure_importrun.configuration"},
    "inbound/admin/secrets.py": {"inbound_integration.token", "inbound_integration.credentials"},
    "notify/channels/chat.py": {"people_contactmethod.address", "people_groupcontact.address"},
    "notify/integrations/gotify.py": {"people_contactmethod.address", "people_groupcontact.address"},
    "notify/integrations/web_push.py": {"notify_pushdevice.subscription", "notify_pushkey.private"},
    "notify/providers/commands.py": {"notify_provider.secrets"},
    "oncall/changes/specs.py": {"oncall_schedule.definition", "oncall_calendarimport.url"},
    "notify/inbound/verification.py": {"notify_notification.data"},
    "outbound/commands.py": {"outbound_outboundintegration.secrets"},
    "web/accounts/adapter.py": {"mfa_authenticator.data"},
}


@pytest.fixture(autouse=True)
def environment(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TOCSIN_DATABASE_URL", database)
    monkeypatch.setenv("TOCSIN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("TOCSIN_SECRET_KEY", OLD)
    config.read_again()
    with in_use(database):
        yield
    config.read_again()


def remaining(url: str) -> encryption.Remaining:
    with psycopg.connect(url) as connection:
        return encryption.count(connection)


def findings(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        return [finding.id for finding in check.check_keys(connection)]


def use_keys(monkeypatch: pytest.MonkeyPatch, *keys: str) -> None:
    monkeypatch.setenv("TOCSIN_SECRET_KEY", ",".join(keys))
    config.read_again()


@pytest.fixture
def filled(database: str, now: datetime) -> str:
    """Something encrypted wherever something can be."""
    alice = make_user("alice", "admin")
    people.save_contact_method(alice, {"label": "Chat", "channel": "chat", "address": SLACK}, actor=ACTOR, now=now)
    address = ContactMethod.objects.get(label="Chat").address
    inbound.save_integration(
        {
            "name": "In",
            "kind": "checkmk",
            "mode": "dry_run",
            "credentials": {"header": {"name": "X-Key", "value": "hush"}},
        },
        actor=ACTOR, now=now,
    )  # fmt: skip
    outbound.save_outbound(
        {"name": "Out", "kind": "http", "url": "https://example.org/", "auth": "bearer", "token": "hush"},
        actor=ACTOR, now=now,
    )  # fmt: skip
    Provider.objects.create(name="P", kind="smtp", channels=["email"], secrets=crypto.encrypt_bundle({"password": "p"}))
    TOTP.activate(alice, generate_totp_secret())
    push_keys.pair(now)
    Notification.objects.create(
        id=uuid4(), user=alice, purpose="test", channel="chat", address=address, created_at=now,
        data={"sealed": crypto.encrypt("123456")},
    )  # fmt: skip
    LastSent.objects.create(recipient=alice.pk, channel="chat", address=address, purpose="page", last_sent_at=now)
    OptOut.objects.create(channel="chat", address=address, provider_name="x", at=now)
    return database


def columns_with_values(url: str) -> set[str]:
    """Every column of every table in which anything looks encrypted."""
    with psycopg.connect(url) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = current_schema() "
            "AND data_type IN ('text', 'character varying', 'jsonb')"
        ).fetchall()
        return {
            f"{table}.{column}"
            for table, column in columns
            for (text,) in connection.execute(
                sql.SQL("SELECT {}::text FROM {}").format(sql.Identifier(column), sql.Identifier(table))
            )
            if text and mask_encrypted(text, "") != text
        }


def test_whatever_is_stored_encrypted_is_registered(filled: str) -> None:
    registered = {f"{column.table}.{column.column}" for column in COLUMNS}
    results = columns_with_values(filled)
    assert {"people_contactmethod.address", "mfa_authenticator.data"} <= results
    assert results <= registered


def test_every_caller_of_encryption_names_a_registered_column() -> None:
    root = Path(tocsin.__file__).parent
    callers = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        # A migration fills what the module of its room writes.
        if path.parent.name != "migrations" and _encrypts(ast.parse(path.read_text("utf-8")))
    }
    assert callers == WRITERS.keys(), "whatever encrypts stands here, with a column of operate.encryption.columns"
    registered = {f"{column.table}.{column.column}" for column in COLUMNS}
    assert set().union(*WRITERS.values()) <= registered


def _encrypts(tree: ast.AST) -> bool:
    names = {
        ("crypto", "encrypt"), ("crypto", "encrypt_deterministically"), ("crypto", "encrypt_bundle"),
        ("addresses", "encrypt_address"),
    }  # fmt: skip
    return any(
        isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and (node.value.id, node.attr) in names
        and not _is_backup(tree)
        for node in ast.walk(tree)
    )  # fmt: skip


def _is_backup(tree: ast.AST) -> bool:
    """The backup's module of the same name seals keys under a passphrase, in the file and nowhere else."""
    return any(
        isinstance(node, ast.ImportFrom) and node.module == "tocsin.operate.backup"
        and any(name.name == "key_encryption" for name in node.names)
        for node in ast.walk(tree)
    )  # fmt: skip


def test_after_a_rotation_the_new_key_alone_opens_everything(
    filled: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_keys(monkeypatch, NEW, OLD)
    assert findings(filled) == ["secrets.old_key"]
    assert remaining(filled).old["contact methods"] == 1
    assert run(["keys", "rotate"]) == 0
    assert "Nothing needs an older key" in capsys.readouterr().err
    use_keys(monkeypatch, NEW)
    left_over = remaining(filled)
    assert (left_over.old, left_over.unreadable) == ({}, {})
    address = ContactMethod.objects.get(label="Chat").address
    assert addresses.decrypt_address(address) == SLACK
    assert address == addresses.encrypt_address("slack", SLACK), "found again by the same address"
    assert Notification.objects.get().address == OptOut.objects.get().address == address
    assert crypto.decrypt(Notification.objects.get().data["sealed"]) == "123456"
    assert crypto.decrypt_bundle(Provider.objects.get().secrets) == {"password": "p"}


def test_the_doctor_says_when_the_old_key_can_go(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_keys(monkeypatch, NEW, OLD)
    list(encryption.rotate())
    assert findings(filled) == ["secrets.old_key_unused"]


@pytest.mark.long
def test_a_killed_rotation_goes_on_when_run_again(
    filled: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    token = crypto.encrypt_bundle({"password": "x" * 400})
    Provider.objects.bulk_create(
        Provider(name=f"N{n}", kind="smtp", channels=["email"], secrets=token) for n in range(3000)
    )
    use_keys(monkeypatch, NEW, OLD)
    command = [sys.executable, "-c", "from tocsin.cli.main import main; main()", "keys", "rotate"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert "notify_provider" in next(line for line in running.stderr if "notify_provider" in line)
        running.kill()
    assert 0 < remaining(filled).old["providers"] < 3001, "it was killed in the middle"
    assert run(["keys", "rotate"]) == 0
    assert remaining(filled).old == {}


def test_locked_row_is_rotated_in_a_later_pass(filled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    use_keys(monkeypatch, NEW, OLD)
    steps = encryption.rotate()
    with psycopg.connect(filled) as other:
        other.execute("SELECT 1 FROM notify_provider FOR UPDATE")
        for step in steps:
            if step.column.table == "notify_provider":
                assert step.values == 0
                break
    list(steps)
    assert remaining(filled).old == {}


def test_rotation_with_a_locked_row_is_to_be_run_again(
    filled: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_keys(monkeypatch, NEW, OLD)
    with psycopg.connect(filled) as other:
        other.execute("SELECT 1 FROM notify_provider FOR UPDATE")
        assert run(["keys", "rotate"]) == 1
    assert "Still encrypted with an older key: 1 of providers. Run it again." in capsys.readouterr().err


def test_nothing_is_rotated_while_a_node_lacks_the_key(
    filled: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    NodeHeartbeat(uuid4(), "all", list, "pager-1").run_once()
    use_keys(monkeypatch, NEW, OLD)
    monkeypatch.setattr("tocsin.cli.backup._WAIT_FOR_NODES", 0)
    assert run(["keys", "rotate"]) == 1
    assert "pager-1 runs without the new key" in capsys.readouterr().err
    assert remaining(filled).old


def test_key_file_gains_new_key_once_and_drops_the_old(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TOCSIN_SECRET_KEY")
    config.read_again()
    Provider.objects.create(name="P", kind="smtp", channels=["email"], secrets=crypto.encrypt_bundle({"password": "p"}))
    path = tmp_path / "data" / "secret.key"
    [old] = path.read_text().split()
    for _ in range(2):
        assert run(["keys", "rotate"]) == 0
        assert len(path.read_text().split()) == 2
    assert run(["keys", "retire"]) == 0
    assert old not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert crypto.decrypt_bundle(Provider.objects.get().secrets) == {"password": "p"}


def test_a_key_that_is_still_needed_is_not_retired(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TOCSIN_SECRET_KEY")
    config.read_again()
    Provider.objects.create(name="P", kind="smtp", channels=["email"], secrets=crypto.encrypt_bundle({"password": "p"}))
    path = tmp_path / "data" / "secret.key"
    path.write_text(f"{NEW}\n{path.read_text()}\n")
    assert run(["keys", "retire"]) == 1
    assert "1 of providers" in capsys.readouterr().err
    assert len(path.read_text().split()) == 2


def test_one_key_in_the_variable_is_no_rotation(filled: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["keys", "rotate"]) == 1
    assert "contains only one key" in capsys.readouterr().err
