"""An upgrade backs up existing tables before it changes them, and stops with one sentence if it cannot go on."""

from __future__ import annotations

import hashlib
import importlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import psycopg
import pytest
from django.apps import apps
from django.db import connection
from django.db.migrations import RunPython, RunSQL
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader
from django.test import override_settings
from psycopg.types.json import Jsonb

from tests.doubles.pgbouncer import pgbouncer
from tests.support.escalation_harness import EscalationHarness, escalation_enabled
from tests.support.people import make_user
from tests.support.postgres import Postgres, in_use
from tocsin.cli.main import run
from tocsin.core.config import environment as config
from tocsin.core.db import database as connections
from tocsin.core.db import migrate, start_up
from tocsin.core.db.partitions import Month, PartitionedTable, create_missing, drop
from tocsin.core.embedded_server import EmbeddedPostgres
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.ids import first_uuid7
from tocsin.core.reasons import NO_REASON, TEXT, Person, joined
from tocsin.inbound.models import InboundMessage
from tocsin.notify.rules.page_planner import NOT_RESENT
from tocsin.oncall.models import Schedule
from tocsin.operate.backup import archive as backup_tables
from tocsin.operate.backup import writing
from tocsin.operate.backup.archive import BackupReader
from tocsin.operate.models import Problem
from tocsin.people.models import Group, Membership
from tocsin.workflows.models import Workflow
from tocsin.workflows.reasons import ENDED_BY

pytestmark = pytest.mark.usefixtures("own_data_dir")

NEXT = "operate.0002_next"

#: The migrations that made one column of the two of each reason.
MERGE = "_one_column_a_reason"


@pytest.fixture
def empty(postgres: Postgres, database: str) -> Iterator[str]:
    """A database without tables."""
    name = f"empty_{hashlib.sha256(database.encode()).hexdigest()[:8]}"
    yield postgres.make(name)
    postgres.drop(name)


@contextmanager
def version(name: str) -> Iterator[None]:
    """Tocsin has the migrations of another version."""
    with override_settings(MIGRATION_MODULES={"operate": f"tests.upgrade.operate_{name}"}):
        yield


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        return {row[0] for row in connection.execute("SELECT relname FROM pg_class WHERE relkind = 'r'").fetchall()}


def backups(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "data" / writing.FOLDER).glob("*"))


def test_upgrade_writes_a_backup_first(database: str, tmp_path: Path, now: datetime) -> None:
    with escalation_enabled():
        EscalationHarness(now).open()
    with version("next"):
        assert migrate.migrate(writing.back_up) == [NEXT]
    (file,) = backups(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    with BackupReader.open(file) as reader:
        reader.verify()
        assert ("operate", "0002_next") not in reader.manifest.migrations
        assert {table.name: table.rows for table in reader.manifest.tables}["alerts_alert"] == 1
        # The key lies beside the file.
        assert (reader.manifest.keys.plain, reader.manifest.keys.sealed) == ([], "")
        assert reader.manifest.keys.fingerprints


def test_backup_of_the_upgrade_is_the_way_back(
    database: str, tmp_path: Path, now: datetime, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with escalation_enabled():
        EscalationHarness(now).open()
    with version("next"):
        migrate.migrate(writing.back_up)
    assert "operate_next" in tables(database)
    (file,) = backups(tmp_path)
    monkeypatch.setenv("TOCSIN_DATABASE_URL", database)
    with in_use(database):
        assert run(["restore", str(file)]) == 1
        assert "newer Tocsin's" in capsys.readouterr().err
        assert run(["restore", str(file), "--force"]) == 0
    assert "operate_next" not in tables(database)
    with in_use(database):
        assert migrate.newer_migrations() == migrate.missing_migrations() == []
        from tocsin.alerts.models import Alert

        assert Alert.objects.count() == 1


def test_only_the_newest_backups_of_upgrades_stay(database: str, tmp_path: Path) -> None:
    for year in range(2020, 2025):
        folder = tmp_path / "data" / writing.FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"before-upgrade-{year}").touch()
    (folder / "mine").touch()
    writing.back_up()
    names = [file.name for file in backups(tmp_path)]
    assert (len(names), names[0], names[1], names[-1]) == (4, "before-upgrade-2023", "before-upgrade-2024", "mine")


@pytest.mark.long
def test_repeated_attempts_keep_the_backup_from_before_the_first(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, now: datetime
) -> None:
    hours = iter(range(writing.MAX_KEPT + 2))
    monkeypatch.setattr("tocsin.core.runtime.clock.now", lambda: now + timedelta(hours=next(hours)))
    with version("broken"):
        for _ in range(writing.MAX_KEPT + 2):
            with pytest.raises(Permanent, match="0003_broken"):
                migrate.migrate(writing.back_up)
    kept = []
    for file in backups(tmp_path):
        with BackupReader.open(file) as reader:
            kept.append((("operate", "0002_next") in reader.manifest.migrations, reader.manifest.made_at))
    assert kept == [(False, now), (True, now + timedelta(hours=writing.MAX_KEPT + 1))]


def test_nothing_is_changed_without_space_for_the_backup(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage(NamedTuple):
        free: int

    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1000))
    with version("next"), pytest.raises(Rejected, match="TOCSIN_UPGRADE_BACKUP=0") as refused:
        migrate.migrate(writing.back_up)
    assert refused.value.code == "no_space"
    assert backups(tmp_path) == []
    assert "operate_next" not in tables(database)


def test_partitions_count_for_the_space_of_the_backup(database: str) -> None:
    query = """
        SELECT sum(pg_table_size(c.oid))::bigint, count(parent.relname) FROM pg_class c
        LEFT JOIN pg_inherits i ON i.inhrelid = c.oid LEFT JOIN pg_class parent ON parent.oid = i.inhparent
        WHERE c.relkind = 'r' AND coalesce(parent.relname, c.relname) = ANY(%s)
    """
    with psycopg.connect(database) as connection:
        names = set(backup_tables.tables_at(backup_tables.applied(connection))) - backup_tables.OMITTED
        row = connection.execute(query, (list(names),)).fetchone()
        assert row is not None
        assert row[1] > 0
        assert writing.max_backup_size(connection) == row[0]


def test_nothing_is_changed_if_the_backup_cannot_be_written(database: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / writing.FOLDER).write_text("a file in its place")
    with version("next"), pytest.raises(Rejected, match="cannot be written") as refused:
        migrate.migrate(writing.back_up)
    assert refused.value.code == "cannot_write"
    assert "operate_next" not in tables(database)


def test_backup_of_an_upgrade_can_be_declined(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOCSIN_UPGRADE_BACKUP", "0")
    config.read_again()
    with version("next"):
        assert migrate.migrate(writing.back_up) == [NEXT]
    assert backups(tmp_path) == []


def test_new_database_needs_no_backup(empty: str, tmp_path: Path) -> None:
    with in_use(empty):
        assert "alerts.0001_initial" in migrate.migrate(writing.back_up)
    assert backups(tmp_path) == []


def test_failed_upgrade_names_its_step_and_goes_on_later(database: str) -> None:
    with version("broken"), pytest.raises(Permanent, match=r"operate\.0003_broken: division by zero"):
        migrate.migrate()
    assert "operate_next" in tables(database)
    assert "operate_half" not in tables(database)
    with version("broken"):
        assert migrate.missing_migrations() == ["operate.0003_broken"]
    # The cause is mended.
    with version("next"):
        assert migrate.migrate() == []


def test_tables_of_another_application_are_left_alone(empty: str) -> None:
    with psycopg.connect(empty) as connection:
        connection.execute("CREATE TABLE customers (id int)")
        connection.execute("CREATE TABLE django_migrations (id int, app text, name text, applied timestamptz)")
        connection.execute("INSERT INTO django_migrations VALUES (1, 'core', '0001_initial', now())")
    with in_use(empty), pytest.raises(Permanent, match="another application, such as customers"):
        migrate.migrate()
    assert "alerts_alert" not in tables(empty)


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_new_database_of_another_encoding_is_left_alone(postgres: Postgres, encoding: str) -> None:
    name = f"encoded_{encoding.lower()}"
    url = postgres.make(name, encoding=encoding)
    try:
        with (
            in_use(url),
            pytest.raises(Permanent, match=f"has the encoding {encoding}, and Tocsin needs UTF8") as raised,
        ):
            migrate.migrate()
        assert f"CREATE DATABASE {name} OWNER tocsin ENCODING 'UTF8' TEMPLATE template0" in str(raised.value)
        assert tables(url) & {"alerts_alert", "django_migrations"} == set()
    finally:
        postgres.drop(name)


def test_interrupted_creation_leaves_no_tables(empty: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with in_use(empty):
        monkeypatch.setattr("django.db.migrations.recorder.MigrationRecorder.record_applied", interrupt)
        with pytest.raises(KeyboardInterrupt):
            migrate.migrate()
        assert "alerts_alert" not in tables(empty)
        monkeypatch.undo()
        assert "alerts.0001_initial" in migrate.migrate()


@pytest.mark.usefixtures("database")
def test_data_directory_of_a_newer_version_is_left_alone(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TOCSIN_DATA_DIR", str(data_dir))
    monkeypatch.delenv("TOCSIN_DATABASE_URL", raising=False)
    with EmbeddedPostgres(data_dir) as embedded:
        url = embedded.start()
        with in_use(url), version("next"):
            migrate.migrate()
        with in_use(url):
            assert run(["serve", "--port", "0"]) == 1
        output = capsys.readouterr().err
        assert "newer Tocsin's: its tables have had operate.0002_next" in output
        assert "tocsin restore --force" in output
        assert output.count("\n") == 1


@pytest.mark.parametrize("sessions", [1, 10])
def test_migrations_refuse_a_pooler_that_shares_sessions(empty: str, sessions: int) -> None:
    with pgbouncer(empty, sessions=sessions) as url, in_use(url):
        assert start_up.shares_sessions()
        with pytest.raises(Permanent, match="pool_mode = session"):
            migrate.migrate()
    assert tables(empty) & {"alerts_alert", "django_migrations"} == set()


def test_pooler_with_sessions_of_its_own_is_accepted(empty: str, database: str) -> None:
    with in_use(database):
        assert not start_up.shares_sessions()
    with pgbouncer(empty, mode="session") as url, in_use(url):
        assert not start_up.shares_sessions()
        assert "alerts.0001_initial" in migrate.migrate()


def test_wrong_addresses_of_the_database_end_in_one_sentence(
    database: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(url: str, status: int = 1) -> str:
        monkeypatch.setenv("TOCSIN_DATABASE_URL", url)
        with in_use(url if url.startswith("postgresql") else database):
            assert run(["token", "list"]) == status
        output = capsys.readouterr().err
        assert output.startswith("tocsin: ")
        assert output.count("\n") == 1
        return output

    host = psycopg.conninfo.conninfo_to_dict(database)["host"]
    assert "must look like postgresql://" in refuse("mysql://localhost/tocsin", status=78)
    assert 'database "nowhere" does not exist' in refuse(f"postgresql:///nowhere?host={host}&user=tocsin")
    assert "unavailable" in refuse("postgresql://127.0.0.1:1/tocsin")
    assert "unavailable" in refuse("postgresql://nowhere.invalid/tocsin")


def test_stored_reasons_read_the_same_after_the_upgrade(empty: str) -> None:
    cause = TEXT(text="It said “no” \\ 'twice'.")
    nested = joined(NOT_RESENT(cause=cause), ENDED_BY(actor=Person("Ann", 3)), separator=" ")
    old, new, other = (first_uuid7(datetime(year, 11, 29, tzinfo=UTC)) for year in (2020, 2026, 2021))
    with in_use(empty):
        executor = MigrationExecutor(connection)
        nodes = executor.loader.graph.nodes
        executor.migrate([before for name in nodes if name[1].endswith(MERGE) for before in nodes[name].dependencies])
        with connections.transaction() as stored:
            table = PartitionedTable("inbound_inboundmessage", "id")
            create_missing(stored, table, [Month(2026, 11)])
            for number, (message, reason) in enumerate(((old, nested), (new, cause), (other, NO_REASON))):
                stored.execute(
                    "INSERT INTO inbound_inboundmessage (id, integration_id, received_at, status, raw, reason_code, "
                    "reason_data) VALUES (%s, 1, now(), 'Mapped Ignored', %s, %s, %s)",
                    (message, bytes([number]), reason.code, Jsonb(reason.data)),
                )
            stored.execute(
                "INSERT INTO operate_problem (id, title_code, title_data, detail_code, detail_data, remedy_code, "
                "remedy_data, since, seen_at) VALUES ('x', %s, %s, %s, %s, '', '{}', now(), now())",
                (cause.code, Jsonb(cause.data), nested.code, Jsonb(nested.data)),
            )
        assert {name for name in migrate.migrate() if name.endswith(MERGE)}
        messages = {row.pk: (row.reason, bytes(row.raw)) for row in InboundMessage.objects.all()}
        assert messages == {old: (nested, b"\0"), new: (cause, b"\1"), other: (NO_REASON, b"\2")}
        assert str(messages[old][0]) == str(nested)
        problem = Problem.objects.get()
        assert (problem.title, problem.detail, problem.remedy) == (cause, nested, NO_REASON)
        # A month that is made after the upgrade has the same columns.
        with connections.transaction() as stored:
            create_missing(stored, table, [Month(2020, 11)])
            assert drop(stored, table, Month(2026, 11), "true")
        assert InboundMessage.objects.get(pk=old).reason == nested
        assert InboundMessage.objects.get(reason__code=cause.code).pk == new


def test_the_former_name_of_the_lead_is_renamed_where_stored(database: str, now: datetime) -> None:
    desk = Group.objects.create(name="Desk", time_zone="UTC")
    user = make_user("ann", now)
    Membership.objects.create(user=user, group=desk, roles=["primary", "manager"])
    shifts = [{"name": "Day", "fixed": {"roles": ["manager"], "users": [user.pk]}}, {"name": "Night", "calendar": {}}]
    schedule = Schedule.objects.create(name="S", group=desk, time_zone="UTC", definition={"shifts": shifts})
    actions = [{"do": "notify", "managers": True, "roles": ["manager"], "subject": "manager"}, {"do": "close"}]
    stored = {"trigger": {"on": "opened"}, "actions": actions}
    workflow = Workflow.objects.create(name="W", trigger="opened", definition=stored, created_at=now)
    for app in ("people", "oncall", "workflows"):
        (name,) = (
            name for label, name in MigrationLoader(None).disk_migrations if (label, name[5:]) == (app, "lead_role")
        )
        migration = importlib.import_module(f"tocsin.{app}.migrations.{name}").Migration
        for operation in migration.operations:
            with connection.cursor() as cursor:
                if isinstance(operation, RunSQL):
                    cursor.execute(operation.sql)
                elif isinstance(operation, RunPython):
                    operation.code(apps, None)
    assert Membership.objects.get().roles == ["primary", "lead"]
    schedule.refresh_from_db()
    assert schedule.definition["shifts"][0]["fixed"]["roles"] == ["lead"]
    workflow.refresh_from_db()
    assert workflow.definition["actions"][0] == {"do": "notify", "leads": True, "roles": ["lead"], "subject": "manager"}
