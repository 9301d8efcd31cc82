"""A message is answered once a synchronous standby has it, however PostgreSQL's wait for the standby ended."""

from __future__ import annotations

from queue import Queue

import psycopg
import pytest

from tests.support.ingest import halo, make_integration, message
from tests.support.replication import set_standbys, wait_until
from tocsin.inbound.config.registry import IntegrationRegistry
from tocsin.inbound.processing.committer import Committer, IngestRequest, NotStored
from tocsin.inbound.storage.messages import MessageResult

WAITING = (
    "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND application_name = 'tocsin committer' "
    "AND pid || query <> %s"
)


@pytest.mark.parametrize("end", ["pg_cancel_backend", "pg_terminate_backend"])
@pytest.mark.parametrize("is_patient", [True, False])
def test_ended_wait_for_a_standby_is_no_answer(primary: str, end: str, *, is_patient: bool) -> None:
    integration = make_integration()
    registry = IntegrationRegistry()
    registry.refresh()
    committer = Committer(registry, max_wait=60 if is_patient else 0)
    answers: Queue[list[MessageResult] | Exception] = Queue()
    with psycopg.connect(primary, autocommit=True) as operator:
        set_standbys(operator, "missing")
        committer.start()
        try:
            assert committer.put(IngestRequest([message(integration, halo(1))], 100, answers.put))
            wait_until(operator, WAITING, "")
            row = operator.execute("SELECT pid || query FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchone()
            assert row is not None
            operator.execute(
                f"SELECT {end}(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'".encode(),
            )
            if is_patient:
                wait_until(operator, WAITING, row[0])
                assert answers.empty()
                set_standbys(operator, "")
                assert isinstance(answers.get(timeout=10), list)
            else:
                assert isinstance(answers.get(timeout=10), NotStored)
        finally:
            set_standbys(operator, "")
            committer.stop(10)
