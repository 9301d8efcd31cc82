"""Nodes starting together migrate the tables once, and none waits forever."""

from __future__ import annotations

import re
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import call_command
from django.db import connections
from pytest_django import DjangoDbBlocker

from tests.support.postgres import Postgres, in_use
from tocsin.core.db import database, migrate
from tocsin.core.errors import Permanent

pytestmark = pytest.mark.usefixtures("database")

#: What migrations, and whoever listens to them, write.
_FIRST_ROWS = (
    "SELECT app, name FROM django_migrations ORDER BY id",
    "SELECT app_label, model FROM django_content_type ORDER BY 1, 2",
    "SELECT app_label, model, codename, name FROM auth_permission p "
    "JOIN django_content_type t ON t.id = content_type_id ORDER BY 1, 2, 3",
)


def test_two_starting_nodes_create_the_tables_once(postgres: Postgres) -> None:
    def start(_number: int) -> list[str]:
        try:
            return migrate.migrate()
        finally:
            connections.close_all()

    # Another session holds the lock at first, so that both nodes wait.
    with in_use(postgres.make("empty")), ThreadPoolExecutor(2) as nodes:
        with database.connect(name="third") as third:
            third.execute("SELECT pg_advisory_lock(%s)", (migrate.MIGRATION_LOCK,))
            started = [nodes.submit(start, number) for number in range(2)]
        applied = sorted((node.result(timeout=60) for node in started), key=len)
    assert applied[0] == []
    assert "alerts.0001_initial" in applied[1]
    postgres.drop("empty")


def test_older_tocsin_starts_on_newer_tables_with_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert migrate.migrate() == []
    assert not caplog.messages
    with database.transaction() as other:
        other.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('alerts', '9999_later', now())")
    assert migrate.migrate() == []
    (text,) = caplog.messages
    assert "newer Tocsin's (alerts.9999_later)" in text


def test_migration_that_fails_is_named_with_its_remedy() -> None:
    with database.transaction() as other:
        # Its tables are there already.
        other.execute("DELETE FROM django_migrations WHERE app = 'workflows'")
    with pytest.raises(Permanent) as caught:
        migrate.migrate()
    assert caught.value.reason["migration"] == "workflows.0001_initial"
    codes = [caught.value.reason.code, caught.value.remedy_reason.code]
    assert codes == [
        "The upgrade of the database stopped at {migration}: {error}",
        "That step was undone, and earlier ones stay. Mend the cause and start Tocsin again, which goes on there; "
        "or go back: `tocsin restore --force FILE` with the version and the backup from before the upgrade.",
    ]


def test_schema_and_initial_rows_match_django_migrations(
    postgres: Postgres, template: str, django_db_blocker: DjangoDbBlocker
) -> None:
    with django_db_blocker.unblock(), in_use(postgres.make("django")):
        call_command("migrate", verbosity=0, interactive=False)
        theirs = _first_rows()
    with in_use(postgres.url(template)):
        ours = _first_rows()
    assert ours == theirs
    assert _definitions(postgres, template) == _definitions(postgres, "django")
    postgres.drop("django")


def _first_rows() -> list[list[tuple[object, ...]]]:
    with database.connect(name="test") as connection:
        return [connection.execute(statement.encode()).fetchall() for statement in _FIRST_ROWS]


def _definitions(postgres: Postgres, name: str) -> list[str]:
    program = postgres.server.binaries.folder / "pg_dump"
    done = subprocess.run([program, "--schema-only", postgres.url(name)], capture_output=True, text=True, check=True)
    lines = (line.strip().rstrip(",") for line in done.stdout.splitlines())
    # Columns are in the order of the fields here, and in the order of the operations there. The key of one table of
    # Django's own is an integer here, as its app says, and a bigint there, where an app's default is not known.
    return sorted(
        re.sub(r"^(AS|id) integer\b", r"\1 bigint", line)
        for line in lines
        if not line.startswith(("\\restrict", "\\unrestrict"))
    )
