"""Nodes that start at the same time bring the tables up to date once, and none waits for ever."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.management import call_command
from django.db import connection, connections

from tocsin.core import database, schema

pytestmark = pytest.mark.usefixtures("database")

_INDEX = """
SELECT count(*) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
WHERE relname = 'escalation_run_at_its_end' AND indisvalid
"""


def test_two_nodes_and_an_index_made_without_locking_do_not_wait_for_each_other() -> None:
    call_command("migrate", "escalation", "0002", verbosity=0)
    connection.close()

    def start(_number: int) -> list[str]:
        try:
            return schema.migrate()
        finally:
            connections.close_all()

    # A third holds the lock at first, so that both really wait.
    with ThreadPoolExecutor(2) as nodes:
        with database.connect(name="third") as third:
            third.execute("SELECT pg_advisory_lock(%s)", (schema.MIGRATION_LOCK,))
            started = [nodes.submit(start, number) for number in range(2)]
        done = sorted(node.result(timeout=30) for node in started)
    assert done == [[], ["escalation.0003_runs_at_their_end"]]
    with connection.cursor() as cursor:
        cursor.execute(_INDEX)
        assert cursor.fetchone() == (1,)
