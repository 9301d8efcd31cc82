"""Backup and restore on any PostgreSQL: complete, and without changes on failure."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import threading
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from django.contrib.sessions.models import Session
from django.db.migrations.loader import MigrationLoader
from psycopg import sql
from pytest_django import DjangoDbBlocker

from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.ingest import NOW, Ingest, halo, make_integration
from tests.support.installation import until
from tests.support.people import ACTOR
from tests.support.postgres import DatabasePool, Postgres, filled, in_use
from tocsin.access import tokens
from tocsin.access.roles import UNLIMITED
from tocsin.alerts.models import Alert
from tocsin.cli.main import run
from tocsin.core import ids
from tocsin.core.config import crypto, settings_store
from tocsin.core.config import environment as config
from tocsin.core.db import database, migrate
from tocsin.core.db.migrate import MIGRATION_LOCK
from tocsin.core.embedded_server import EmbeddedPostgres
from tocsin.core.errors import Rejected
from tocsin.core.runtime import clock
from tocsin.inbound.models import InboundMessage, Integration
from tocsin.notify.models import Pause, Provider, SandboxMessage
from tocsin.notify.text import signed_links
from tocsin.operate import http
from tocsin.operate.backup import archive, restoring, writing
from tocsin.operate.backup.archive import ArchiveKeys, BackupReader
from tocsin.operate.node_heartbeat import NodeHeartbeat
from tocsin.people.models import User
from tocsin.web.accounts import views
from tocsin.web.accounts.session_store import ResetTokenGenerator, SessionStore

AWKWARD = bytes(range(256)) + b'\\N \\. "\n\r\n\t' + "naïve 🔔 \u2028".encode()

type Make = Callable[[], str]

pytestmark = pytest.mark.usefixtures("own_data_dir")


@pytest.fixture
def bare(postgres: Postgres, database: str) -> Iterator[Make]:
    """Makes empty databases, without any tables."""
    names: list[str] = []

    def make() -> str:
        names.append(f"bare_{len(names)}_{hashlib.sha256(database.encode()).hexdigest()[:8]}")
        return postgres.make(names[-1])

    yield make
    for name in names:
        postgres.drop(name)


@pytest.fixture(scope="module")
def database_pool(postgres: Postgres, template: str, django_db_blocker: DjangoDbBlocker) -> Iterator[DatabasePool]:
    with filled(postgres, template, django_db_blocker, make_world) as databases:
        yield databases


def make_world() -> None:
    """Makes something in every room, and bytes that a careless copy would break."""
    with escalation_enabled():
        desk = EscalationHarness(NOW)
        desk.open()
        desk.run_until(0)
    integration = make_integration("Halo 🔔", token_text="t" * 32, policy=desk.policy)
    Ingest().send(integration, halo(1), halo(2), AWKWARD)
    tokens.create(desk.users["erin"], "script", limits=UNLIMITED, actor=ACTOR, now=NOW)
    Provider.objects.create(
        name="Mail", kind="smtp", channels=["email"], secrets=crypto.encrypt(json.dumps({"password": "hunter2"}))
    )


@pytest.fixture
def world(database: str) -> str:
    """A database with that in it."""
    return database


def contents(url: str) -> dict[str, list[bytes]]:
    """Every row of every table, as text, in an order of its own; what a restore may change is left out."""
    with psycopg.connect(url) as connection:
        names = archive.tables_at(archive.applied(connection))
        return {
            name: sorted(_rows(connection, name))
            for name in names
            if name not in (*archive.OMITTED, "core_configversion")
        }


def _rows(connection: psycopg.Connection, name: str) -> list[bytes]:
    if name == "people_user":
        # A restore gives each user a new one.
        connection.execute("UPDATE people_user SET session_stamp = ''")
    statement = sql.SQL("COPY (SELECT * FROM {}) TO STDOUT").format(sql.Identifier(name))
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        # A backup is recorded once it is made, so it does not contain that itself.
        return [bytes(row) for row in copy if not (name == "core_setting" and bytes(row).startswith(b"last_backup\t"))]


@contextmanager
def using(url: str, monkeypatch: pytest.MonkeyPatch, data_dir: Path | None = None) -> Iterator[None]:
    """Commands and models work on that database."""
    monkeypatch.setenv("TOCSIN_DATABASE_URL", url)
    if data_dir is not None:
        monkeypatch.setenv("TOCSIN_DATA_DIR", str(data_dir))
    config.read_again()
    with in_use(url):
        yield


def answer(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str]:
    status = run([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert out == ""
    return status, err


@pytest.fixture(scope="module")
def made_backup(
    database_pool: DatabasePool, django_db_blocker: DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A backup of that world, made once."""
    folder = tmp_path_factory.mktemp("made")
    with (
        pytest.MonkeyPatch.context() as patch, database_pool.lent() as url, django_db_blocker.unblock(),
        using(url, patch, folder / "data"), redirect_stderr(io.StringIO()) as output,
    ):  # fmt: skip
        assert run(["backup", str(folder / "state")]) == 0
        assert "rows of" in output.getvalue()
    return folder / "state"


@pytest.fixture
def saved(world: str, made_backup: Path, tmp_path: Path) -> Path:
    """A backup of that world, which a test may change."""
    return Path(shutil.copy2(made_backup, tmp_path))


def test_backup_restores_into_empty_database_and_work_continues(
    saved: Path,
    world: str,
    bare: Make,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    target = bare()
    with using(target, monkeypatch):
        status, output = answer(capsys, "restore", saved)
        assert (status, output.startswith("Restored ")) == (0, True)
        assert contents(target) == contents(world)
        assert bytes(InboundMessage.objects.get(status="Mapping Failed").raw) == AWKWARD
        assert crypto.decrypt(Integration.objects.get().token) == "t" * 32
        before = max(Alert.objects.values_list("pk", flat=True))
        with escalation_enabled():
            sent = Ingest().send(Integration.objects.get(), halo(3))
        assert sent[0].alert_id is not None
        assert sent[0].alert_id > before


@pytest.mark.long
def test_backup_moves_between_bundled_and_local_postgresql_versions(
    saved: Path,
    world: str,
    bare: Make,
    data_dir: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    again = tmp_path / "again"
    with EmbeddedPostgres(data_dir) as embedded, using(embedded.start(), monkeypatch):
        assert answer(capsys, "restore", saved)[0] == 0
        assert contents(embedded.start()) == contents(world)
        assert answer(capsys, "backup", again)[0] == 0
    target = bare()
    with using(target, monkeypatch):
        assert answer(capsys, "restore", again)[0] == 0
    assert contents(target) == contents(world)


def test_every_reference_and_index_is_there_again(
    saved: Path, world: str, bare: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    target = bare()
    with using(target, monkeypatch):
        answer(capsys, "restore", saved)
    assert _structure(target) == _structure(world)


def _structure(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT conrelid::regclass::text, contype::text, pg_get_constraintdef(oid), convalidated "
            "FROM pg_constraint WHERE conrelid IN "
            "(SELECT oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND NOT relispartition) "
            "UNION ALL SELECT indrelid::regclass::text, 'i', regexp_replace(pg_get_indexdef(indexrelid), "
            "'INDEX \\S+', ''), true FROM pg_index WHERE indrelid IN "
            "(SELECT oid FROM pg_class WHERE relnamespace = current_schema()::regnamespace AND NOT relispartition) "
            "ORDER BY 1, 2, 3"
        ).fetchall()


def test_what_is_there_is_replaced_only_with_force(
    saved: Path,
    world: str,
    database: str,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with using(world, monkeypatch):
        stored = contents(world)
        Alert.objects.update(subject="changed since")
        User.objects.create(username="new", email="new@example.org")
        changed = contents(world)
        status, output = answer(capsys, "restore", saved)
        assert status == 1
        assert output == (
            "tocsin: This Tocsin is not empty: it holds 5 users, 1 integration, 4 alerts and 3 messages. "
            "With --force all of it is replaced by the backup.\n"
        )
        assert contents(world) == changed
        status, output = answer(capsys, "restore", saved, "--force")
        assert status == 0
        assert "live: Tocsin pages people about them as soon as it starts" in output
    assert contents(world) == stored


@pytest.mark.long
def test_running_nodes_would_notice_that_the_configuration_is_another(
    saved: Path, world: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tocsin.core.config import settings_store as config_version

    with using(world, monkeypatch):
        with database.transaction() as connection:
            before = config_version.current_version(connection)
        answer(capsys, "restore", saved, "--force")
        with database.transaction() as connection:
            assert config_version.current_version(connection) > before


@pytest.mark.parametrize("name", ["tocsin listener", "tocsin committer"])
def test_a_tocsin_that_runs_must_be_stopped_first(
    name: str, saved: Path, world: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with using(world, monkeypatch), database.connect(name=name):
        status, output = answer(capsys, "restore", saved, "--force")
        assert (status, output) == (
            1,
            "tocsin: Tocsin runs on this database: stop it first, on every machine. Nothing was changed.\n",
        )


def test_paused_restore_sends_no_pages(
    saved: Path, bare: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with using(bare(), monkeypatch):
        assert answer(capsys, "restore", saved, "--paused")[0] == 0
        assert Pause.objects.get(ended_at=None).reason == "Restored from a backup"


@pytest.mark.long
def test_a_backup_of_older_tables_is_brought_up_to_date(
    bare: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from django.db import transaction

    every = MigrationLoader(None).disk_migrations
    last = max(key for key in every if key[0] == "configure")
    older = [key for key in every if key != last]
    file = tmp_path / "state"
    with using(bare(), monkeypatch):
        with transaction.atomic():
            archive.migrate_to(older)
        answer(capsys, "backup", file)
    with using(bare(), monkeypatch), BackupReader.open(file) as reader:
        assert last not in reader.manifest.migrations
        status, output = answer(capsys, "restore", file)
        assert (status, "Brought up to date: 1 migrations applied." in output) == (0, True)


def test_backup_during_work_is_transactionally_consistent(
    world: str,
    bare: Make,
    tmp_path: Path,
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    begun, stop = threading.Event(), threading.Event()

    def work() -> None:
        with psycopg.connect(world, autocommit=True) as connection:
            while not stop.is_set():
                connection.execute(
                    "WITH a AS (INSERT INTO alerts_alert (subject, status, priority, opened_at, last_message_at) "
                    "VALUES ('busy', 'closed', 'low', now(), now()) RETURNING id) "
                    "INSERT INTO alerts_alertevent (alert_id, at, kind) SELECT id, now(), 'opened' FROM a"
                )
                begun.set()

    file, target = tmp_path / "state", bare()
    worker = threading.Thread(target=work)
    with using(world, monkeypatch):
        worker.start()
        assert begun.wait(30)
        try:
            assert answer(capsys, "backup", file)[0] == 0
        finally:
            stop.set()
            worker.join()
    with using(target, monkeypatch):
        assert answer(capsys, "restore", file)[0] == 0
        assert Alert.objects.filter(subject="busy").exists()
        assert not Alert.objects.filter(subject="busy", events=None).exists()


def test_a_backup_takes_little_memory_however_large_the_bodies_are(
    world: str, tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    with database.transaction() as connection:
        connection.execute("UPDATE inbound_inboundmessage SET raw = convert_to(repeat(id::text || 'x', 30000), 'UTF8')")
    with using(world, monkeypatch):
        tracemalloc.start()
        manifest = writing.write(tmp_path / "state", now, keys=ArchiveKeys())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    size = next(table.size for table in manifest.tables if table.name == "inbound_inboundmessage")
    assert size > 6_000_000
    assert peak < 12_000_000


def test_processes_that_run_are_not_part_of_the_state(
    world: str, tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    from uuid import uuid4

    NodeHeartbeat(uuid4(), "all", list).run_once()
    with using(world, monkeypatch):
        manifest = writing.write(tmp_path / "state", now, keys=ArchiveKeys())
    assert "operate_node" not in [table.name for table in manifest.tables]


# Files that cannot be used: a clear line, and nothing is changed.


def _refused(
    file: Path, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *options: str
) -> str:
    """What `restore` says of a file that it refuses, having changed nothing."""
    before = contents(url)
    with using(url, monkeypatch):
        status, output = answer(capsys, "restore", file, "--force", *options)
    assert (status, output.count("\n")) == (1, 1)
    assert contents(url) == before
    return output.removeprefix("tocsin: ").rstrip("\n")


def test_missing_or_foreign_file_is_rejected(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "state"
    assert "cannot be read: No such file" in _refused(file, database, monkeypatch, capsys)
    file.write_bytes(b"")
    assert "is not a backup of Tocsin's" in _refused(file, database, monkeypatch, capsys)
    file.write_bytes(b"-- PostgreSQL database dump\n" * 100)
    assert "is not a backup of Tocsin's" in _refused(file, database, monkeypatch, capsys)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("manifest.json", "{}")
    assert "is not a backup of Tocsin's" in _refused(file, database, monkeypatch, capsys)
    assert "cannot be read" in _refused(tmp_path, database, monkeypatch, capsys)


def test_a_file_that_was_cut_off_anywhere_is_refused(
    saved: Path, world: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = saved.read_bytes()
    for part in (0.01, 0.5, 0.99):
        saved.write_bytes(whole[: int(len(whole) * part)])
        _refused(saved, world, monkeypatch, capsys)


def test_flipped_bit_in_any_table_is_detected_and_named(
    saved: Path, world: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = saved.read_bytes()
    with zipfile.ZipFile(saved) as archive:
        entries = [entry for entry in archive.infolist() if entry.file_size > 100]
    assert len(entries) > 10
    for entry in entries[::3]:
        place = entry.header_offset + 30 + len(entry.filename) + entry.compress_size // 2
        saved.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
        text = _refused(saved, world, monkeypatch, capsys)
        name = entry.filename.removeprefix("tables/").removesuffix(".copy")
        assert text.startswith("The backup is damaged: ")
        assert name in text


def remade(file: Path, change: Callable[[dict[str, Any], dict[str, bytes]], None]) -> None:
    """Changes a backup's manifest and streams as somebody would who makes the sums right again."""
    with zipfile.ZipFile(file) as archive:
        streams = {name: archive.read(name) for name in archive.namelist()}
    manifest = json.loads(streams.pop("manifest.json"))
    change(manifest, streams)
    for table in manifest["tables"]:
        data = streams[f"tables/{table['name']}.copy"]
        table |= {"rows": data.count(b"\n"), "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, data in streams.items():
            archive.writestr(name, data)
        written = json.dumps(manifest).encode()
        archive.writestr("manifest.json", written)
        archive.comment = b"tocsin backup " + hashlib.sha256(written).hexdigest().encode()
    file.write_bytes(whole.getvalue())


def test_newer_format_and_newer_tables_are_rejected_by_name(
    saved: Path, world: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remade(saved, lambda manifest, _: manifest["migrations"].append(["alerts", "9999_the_future"]))
    assert "made by a newer Tocsin" in _refused(saved, world, monkeypatch, capsys)
    remade(saved, lambda manifest, _: manifest.update(format=2))
    assert "has format 2; this Tocsin reads 1" in _refused(saved, world, monkeypatch, capsys)


def test_unrestorable_or_dangling_rows_leave_everything_unchanged(
    saved: Path, world: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    original = saved.read_bytes()

    def without_users(_: dict[str, Any], streams: dict[str, bytes]) -> None:
        streams["tables/people_user.copy"] = b""

    remade(saved, without_users)
    assert "refer to missing rows" in _refused(saved, world, monkeypatch, capsys)
    saved.write_bytes(original)

    def nonsense(_: dict[str, Any], streams: dict[str, bytes]) -> None:
        streams["tables/people_user.copy"] += b"nonsense\n"

    remade(saved, nonsense)
    assert "people_user cannot be read" in _refused(saved, world, monkeypatch, capsys)


def test_backup_without_an_early_migration_is_rejected(
    saved: Path, world: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remade(saved, lambda manifest, _: manifest["migrations"].remove(["contenttypes", "0001_initial"]))
    problem = _refused(saved, world, monkeypatch, capsys)
    assert problem.startswith("The backup is damaged: migrations before")
    assert problem.endswith("are missing.")


def test_table_that_ends_early_is_rejected(
    saved: Path, world: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def with_end_marker(_: dict[str, Any], streams: dict[str, bytes]) -> None:
        streams["tables/people_user.copy"] += b"\\.\n"

    remade(saved, with_end_marker)
    assert "The backup is damaged: people_user has" in _refused(saved, world, monkeypatch, capsys)


def test_a_backup_that_lacks_a_table_is_refused(
    saved: Path, world: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    remade(saved, lambda manifest, _: manifest["tables"].pop())
    assert "its tables are not those of its version" in _refused(saved, world, monkeypatch, capsys)


def test_unwritable_destination_is_one_clear_error_line(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with using(database, monkeypatch):
        status, output = answer(capsys, "backup", tmp_path / "missing" / "state")
        assert (status, "cannot be written: No such file or directory." in output) == (1, True)
        status, output = answer(capsys, "backup", tmp_path)
        assert (status, "is a folder" in output) == (1, True)
    assert list(tmp_path.glob(".*")) == []


def test_a_backup_that_fails_leaves_the_one_before_it(
    saved: Path, bare: Make, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = saved.read_bytes()
    with using(bare(), monkeypatch):
        status, output = answer(capsys, "backup", saved)
    assert (status, "There is nothing to back up" in output) == (1, True)
    assert saved.read_bytes() == before
    assert list(saved.parent.glob(".*.part")) == []


@pytest.mark.long
def test_leftover_of_killed_backup_is_removed_by_the_next(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def begun(name: str) -> tuple[subprocess.Popen[bytes], Path]:
        """A backup that waits, and what it has written."""
        program = [Path(sys.executable).with_name("tocsin"), "backup", tmp_path / name]
        process = subprocess.Popen(program, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        path = until("a backup begins", lambda: next(tmp_path.glob(f".{name}.*.part"), None), 60)
        os.utime(path, (1, 1))
        return process, path

    other = tmp_path / ".film.mkv.part"
    other.write_bytes(b"PK\x03\x04")
    os.utime(other, (1, 1))
    with using(world, monkeypatch), psycopg.connect(world, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(%s)", (MIGRATION_LOCK,))
        (killed, path), (working, theirs) = begun("one"), begun("two")
        try:
            killed.kill()
            killed.wait()
            assert answer(capsys, "restore", path)[0] == 1
            connection.execute("SELECT pg_advisory_unlock(%s)", (MIGRATION_LOCK,))
            assert working.wait(60) == 0
            assert answer(capsys, "backup", tmp_path / "three")[0] == 0
        finally:
            working.kill()
            working.wait()
    assert not path.exists()
    assert not theirs.exists()
    assert (tmp_path / "two").exists()
    assert not (tmp_path / "one").exists()
    assert other.exists()


def test_pipe_named_like_a_leftover_never_blocks_a_backup(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where others may write, one without a writer would keep the backup waiting for ever."""
    pipe = tmp_path / ".one.0123abcd.part"
    os.mkfifo(pipe)
    writer = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
    os.write(writer, b"PK\x03\x04")
    os.utime(pipe, (1, 1))
    with using(world, monkeypatch):
        assert answer(capsys, "backup", tmp_path / "one")[0] == 0
    os.close(writer)
    assert pipe.exists()


def test_killed_restore_with_restored_state_has_already_paused_paging(
    saved: Path, bare: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def killed() -> list[str]:
        raise Killed

    url = bare()
    with using(url, monkeypatch):
        with monkeypatch.context() as patch:
            patch.setattr(restoring.migrate, "migrate", killed)
            with pytest.raises(Killed):
                run(["restore", str(saved), "--paused"])
        assert Alert.objects.exists()
        assert Pause.objects.get(ended_at=None).reason == "Restored from a backup"


# The secret key.


@pytest.fixture
def keyed(world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: datetime) -> Path:
    """A data directory with a key of its own, under which a secret of that world is stored."""
    monkeypatch.delenv("TOCSIN_SECRET_KEY")
    data_dir = tmp_path / "first"
    with using(world, monkeypatch, data_dir):
        sealed = crypto.encrypt("t" * 32)
        Integration.objects.update(token=sealed)
        Provider.objects.all().delete()
    return data_dir


def _keys(data_dir: Path) -> list[str]:
    return (data_dir / "secret.key").read_text().split()


def test_key_is_included_only_under_a_passphrase(
    keyed: Path,
    world: str,
    bare: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, passphrase, wrong = tmp_path / "state", tmp_path / "passphrase", tmp_path / "wrong"
    passphrase.write_text("correct horse\n")
    wrong.write_text("battery staple\n")
    with using(world, monkeypatch, keyed):
        status, output = answer(capsys, "backup", file, "--passphrase-file", passphrase)
    assert (status, "WARNING" in output) == (0, False)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with zipfile.ZipFile(file) as archive:
        body = b"".join(archive.read(name) for name in archive.namelist())
    assert _keys(keyed)[0].encode() not in body

    second, target = tmp_path / "second", bare()
    with using(target, monkeypatch, second):
        status, output = answer(capsys, "restore", file)
        assert (status, "Pass it with --passphrase-file" in output) == (1, True)
        status, output = answer(capsys, "restore", file, "--passphrase-file", wrong)
        assert (status, output) == (1, "tocsin: That is not the passphrase of this backup.\n")
        assert not (second / "secret.key").exists()
        status, output = answer(capsys, "restore", file, "--passphrase-file", passphrase)
        assert (status, "secret key is in" in output) == (0, True)
        assert crypto.decrypt(Integration.objects.get().token) == "t" * 32
    assert _keys(second)[0] == _keys(keyed)[0]
    assert stat.S_IMODE((second / "secret.key").stat().st_mode) == 0o600


def test_the_passphrase_may_come_from_the_environment(
    keyed: Path, world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "state"
    monkeypatch.setenv("TOCSIN_BACKUP_PASSPHRASE", "correct horse")
    with using(world, monkeypatch, keyed):
        assert "WARNING" not in answer(capsys, "backup", file)[1]
    with BackupReader.open(file) as reader:
        assert reader.manifest.keys.sealed
        assert reader.manifest.keys.plain == []


def test_key_without_passphrase_is_stored_with_a_loud_warning(
    keyed: Path,
    world: str,
    bare: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "state"
    with using(world, monkeypatch, keyed):
        status, output = answer(capsys, "backup", file)
    assert (status, output.startswith("WARNING: the backup is not under a passphrase.")) == (0, True)
    second = tmp_path / "second"
    with using(bare(), monkeypatch, second):
        assert answer(capsys, "restore", file)[0] == 0
        assert crypto.decrypt(Integration.objects.get().token) == "t" * 32


@pytest.mark.long
def test_the_key_that_was_there_stays_behind_the_new_one(
    keyed: Path,
    world: str,
    bare: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file, second = tmp_path / "state", tmp_path / "second"
    with using(world, monkeypatch, keyed):
        answer(capsys, "backup", file)
    old = crypto.stored_key(second)
    with using(bare(), monkeypatch, second):
        answer(capsys, "restore", file)
        assert _keys(second) == [*_keys(keyed), old]
        answer(capsys, "restore", file, "--force")
    assert _keys(second) == [*_keys(keyed), old]


def test_environment_key_must_match_the_backup_or_be_waived(
    keyed: Path,
    world: str,
    bare: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "state"
    with using(world, monkeypatch, keyed):
        answer(capsys, "backup", file)
    monkeypatch.setenv("TOCSIN_SECRET_KEY", "another-key-of-at-least-thirty-two-characters")
    with using(bare(), monkeypatch, tmp_path / "second"):
        status, output = answer(capsys, "restore", file)
        assert (status, output.startswith("tocsin: TOCSIN_SECRET_KEY is not the key of this backup.")) == (1, True)
        status, output = answer(capsys, "restore", file, "--without-key")
        assert (status, "WARNING: the backup's secret key is missing" in output) == (0, True)
    monkeypatch.setenv("TOCSIN_SECRET_KEY", f"newer-key-of-at-least-thirty-two-characters,{_keys(keyed)[0]}")
    with using(bare(), monkeypatch, tmp_path / "third"):
        status, output = answer(capsys, "restore", file)
        assert (status, "WARNING" in output) == (0, False)


def test_a_passphrase_file_that_is_empty_or_missing_is_refused(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    with using(world, monkeypatch):
        for given, reason in ((empty, "no passphrase on its first line"), (tmp_path / "none", "cannot be read")):
            status, output = answer(capsys, "backup", tmp_path / "state", "--passphrase-file", given)
            assert (status, reason in output) == (1, True)
    assert not (tmp_path / "state").exists()


def test_database_of_newer_tocsin_is_overwritten_by_force_only(
    saved: Path, world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with database.transaction() as connection:
        connection.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('alerts', '9999_the_future', now())"
        )
    with using(world, monkeypatch):
        status, output = answer(capsys, "backup", tmp_path / "other")
        assert (status, "newer Tocsin's" in output) == (1, True)
        status, output = answer(capsys, "restore", saved)
        assert (status, "newer Tocsin's" in output) == (1, True)
        assert answer(capsys, "restore", saved, "--force")[0] == 0
        assert migrate.newer_migrations() == []


def test_backup_is_recorded_for_system_doctor_and_metrics(
    world: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "state"
    with using(world, monkeypatch):
        before = clock.now()
        assert run(["backup", str(file), "--no-passphrase"]) == 0
        now = clock.now()
        with database.transaction() as connection:
            status = settings_store.load_backup_status(connection, now)
            gauges_now = http.database_gauges(connection, now)
            metrics = {metric.name: metric.samples[0].value for metric in gauges_now if metric.samples}
    assert status.last is not None
    assert before <= status.last.at <= now
    assert (status.last.size_bytes, status.last.location) == (file.stat().st_size, f"{socket.gethostname()}:{file}")
    assert metrics["tocsin_backup_size_bytes"] == file.stat().st_size
    assert metrics["tocsin_backup_age_seconds"] == (now - status.last.at).total_seconds()


# What gives access.


def test_no_session_and_no_link_is_in_a_backup(
    world: str, bare: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    session = SessionStore()
    session["_auth_user_id"] = "1"
    session.create()
    token = tokens.make()
    SandboxMessage.objects.create(
        delivery=uuid4(), channel="email", address="a@example.org", content={"text": "/welcome/secret-link"}, at=now
    )
    file = tmp_path / "state"
    with using(world, monkeypatch):
        assert run(["backup", str(file), "--no-passphrase"]) == 0
    with zipfile.ZipFile(file) as archive:
        body = b"".join(archive.read(name) for name in archive.namelist())
    assert b"django_session" not in body
    assert b"secret-link" not in body
    assert ids.token_hash(token).hex().encode() not in body
    with using(bare(), monkeypatch):
        assert run(["restore", str(file)]) == 0
        assert not SessionStore(session.session_key).load()
        assert not tokens.is_valid(token)


def test_the_database_holds_no_session_key(world: str) -> None:
    session = SessionStore()
    session["a"] = "b"
    session.create()
    key = session.session_key
    assert key is not None
    assert not Session.objects.filter(session_key__contains=key).exists()
    assert SessionStore(key)["a"] == "b"
    assert not SessionStore(Session.objects.get().session_key).load(), "what the table holds opens nothing"
    session.cycle_key()
    assert not SessionStore(key).load()
    session.flush()
    assert not Session.objects.exists()


def test_a_restore_ends_invitations_and_keeps_links_of_alerts(
    world: str, bare: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    file = tmp_path / "state"
    with using(world, monkeypatch):
        erin = User.objects.get(username="erin")
        erin.set_unusable_password()
        erin.save()
        assert run(["backup", str(file), "--no-passphrase"]) == 0
        invited = views.link(erin).rstrip("/").rpartition("/")[2]
        reset = ResetTokenGenerator().make_token(erin)
        assert views.find_user(invited) == erin
        assert ResetTokenGenerator().check_token(erin, reset)
        page = signed_links.sign(Alert.objects.first().pk, erin.pk, now)
    with using(bare(), monkeypatch):
        assert run(["restore", str(file)]) == 0
        with pytest.raises(Rejected):
            views.find_user(invited)
        assert not ResetTokenGenerator().check_token(User.objects.get(username="erin"), reset)
        assert signed_links.verify(page, now)[1] == erin.pk


@pytest.mark.long
def test_a_backup_that_still_holds_sessions_restores_without_them(
    saved: Path, bare: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = b"a" * 32 + b"\tdata\t2030-01-01 00:00:00+00\n"

    def change(manifest: dict[str, Any], parts: dict[str, bytes]) -> None:
        parts["tables/django_session.copy"] = row
        manifest["tables"].append(
            {
                "name": "django_session",
                "columns": ["session_key", "session_data", "expire_date"],
                "rows": 1,
                "size": len(row),
                "sha256": hashlib.sha256(row).hexdigest(),
            }
        )

    remade(saved, change)
    with using(bare(), monkeypatch):
        assert run(["restore", str(saved)]) == 0
        assert not Session.objects.exists()


def test_a_manifest_says_when_and_from_what_it_was_made(saved: Path, postgres: Postgres) -> None:
    with BackupReader.open(saved) as reader, psycopg.connect(postgres.url("postgres")) as connection:
        assert reader.manifest.postgres == connection.info.server_version // 10_000
        written_at = datetime.fromtimestamp(saved.stat().st_mtime, UTC)
        assert abs((written_at - reader.manifest.made_at).total_seconds()) < 60
        with pytest.raises(Rejected, match="nothing_such"):
            list(reader.stream(reader.manifest.tables[0].__class__("nothing_such", [], 0, 0, "")))
