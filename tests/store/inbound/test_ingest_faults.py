"""Faults during ingest: no message is lost or processed twice, and senders are isolated."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg import errors, sql

from tests.doubles.postgres_wire import wire_to
from tests.support.escalation_harness import EscalationHarness
from tests.support.ingest import NOW, halo, make_integration, message
from tests.support.integrations import InboundServer, inbound_server, path_of, rows
from tocsin.access.audit import AuditActor
from tocsin.alerts.models import Alert
from tocsin.core.config import settings_store
from tocsin.core.db import database as db
from tocsin.core.errors import Rejected
from tocsin.escalation.models import Policy
from tocsin.inbound.config import registry
from tocsin.inbound.config.compiled_integration import CompiledIntegration, ReferenceDirectory
from tocsin.inbound.config.normalizer import NormalizedEvent, Normalizer
from tocsin.inbound.config.registry import IntegrationRegistry, TokenLookup, UnknownIntegration
from tocsin.inbound.inspect import replay
from tocsin.inbound.models import InboundMessage, Integration, IntegrationVersion
from tocsin.inbound.parsing.decode import Element
from tocsin.inbound.processing import committer
from tocsin.inbound.processing.committer import Committer, IngestRequest, NotStored
from tocsin.inbound.storage.messages import MessageResult

pytestmark = pytest.mark.usefixtures("database")


@pytest.fixture
def node() -> Iterator[InboundServer]:
    with inbound_server() as made:
        yield made


def execute(statement: str) -> None:
    with db.connect(name="test") as connection:
        connection.execute(statement.encode())


class Results:
    """What a committer answers to tickets, as somebody who waits for it sees it."""

    def __init__(self, number: int) -> None:
        self._missing = threading.Semaphore(0)
        self.found: list[list[MessageResult] | Exception | None] = [None] * number

    def ticket(self, number: int, *messages: Any) -> IngestRequest:
        def answer(result: list[MessageResult] | Exception) -> None:
            assert self.found[number] is None, "answered twice"
            self.found[number] = result
            self._missing.release()

        return IngestRequest(messages, sum(len(one.raw) for one in messages), answer)

    def wait(self) -> list[Any]:
        for _ in self.found:
            assert self._missing.acquire(timeout=20)
        return self.found


def decide_together(
    integrations: list[Integration], payloads: list[Any], registry: IntegrationRegistry | None = None
) -> tuple[list[Any], IntegrationRegistry]:
    """Puts all messages before the committer starts, so that they are one batch."""
    known = registry or IntegrationRegistry()
    known.refresh()
    made = Committer(known)
    results = Results(len(payloads))
    for number, (integration, payload) in enumerate(zip(integrations, payloads, strict=True)):
        assert made.put(results.ticket(number, message(integration, payload)))
    made.start()
    try:
        return results.wait(), known
    finally:
        made.stop(10)


# --- poison


class Spoiled(Normalizer):
    """A reader with a bug that one payload in the world meets."""

    def normalize(self, element: Element) -> NormalizedEvent | Any:
        if element.payload is not None and element.payload.get("poison"):
            raise ZeroDivisionError("a bug")
        return super().normalize(element)


class SpoiledRegistry(IntegrationRegistry):
    def find(self, token_hash: bytes, now: datetime) -> TokenLookup | None:
        token_lookup = super().find(token_hash, now)
        return (
            None
            if token_lookup is None
            else TokenLookup(self.get(token_lookup.integration.id), token_lookup.is_expired)
        )

    def get(self, integration_id: int) -> CompiledIntegration:
        integration = super().get(integration_id)
        normalizer = Spoiled(**{name: getattr(integration.normalizer, name) for name in Normalizer.__slots__})
        return replace(integration, normalizer=normalizer)


def test_message_that_raises_is_kept_alone_and_others_decided() -> None:
    integration = make_integration()
    payloads: list[Any] = [halo(number) for number in range(1, 12)]
    payloads[6] = {**halo(7), "poison": True}
    results, _ = decide_together([integration] * 11, payloads, SpoiledRegistry())
    statuses = [result[0].status.value for result in results]
    assert statuses == ["Mapped Opened"] * 6 + ["Mapping Failed"] + ["Mapped Opened"] * 4
    (kept_message,) = rows(status="Mapping Failed")
    assert "Processing failed: ZeroDivisionError" in str(kept_message.reason)
    assert b'"poison": true' in bytes(kept_message.raw)
    assert InboundMessage.objects.count() == 11
    # Fail open: somebody is told that there is something to look at.
    assert Alert.objects.get(pk=kept_message.alert_id).subject == (
        "HaloITSM sent a message that could not be parsed: new ticket logged"
    )


def test_message_rejected_by_database_is_kept_alone_and_others_decided() -> None:
    integration = make_integration()
    execute("ALTER TABLE alerts_alert ADD CONSTRAINT no_poison CHECK (subject <> 'poison')")
    payloads: list[Any] = [halo(number) for number in range(1, 8)]
    payloads[2] = halo(3, summary="poison")
    results, _ = decide_together([integration] * 7, payloads)
    assert [result[0].status.value for result in results].count("Mapped Opened") == 6
    assert results[2][0].status.value == "Mapping Failed"
    assert "CheckViolation" in str(results[2][0].reason)
    assert sorted(alert.source_id for alert in Alert.objects.exclude(source_id="")) == ["1", "2", "4", "5", "6", "7"]


def test_undecidable_and_unstorable_message_is_reported_and_others_stored() -> None:
    integration = make_integration()
    execute("ALTER TABLE inbound_inboundmessage ADD CONSTRAINT no_poison CHECK (position('poison'::bytea in raw) = 0)")
    results, _ = decide_together([integration] * 3, [halo(1), halo(2, summary="poison"), halo(3)])
    assert isinstance(results[1], NotStored)
    assert [result[0].status.value for result in (results[0], results[2])] == ["Mapped Opened"] * 2
    assert len(rows()) == 2


def test_batch_too_large_for_lock_table_is_split() -> None:
    integration = make_integration()
    with db.connect(name="somebody with very many locks") as holder:
        with pytest.raises(errors.OutOfMemory):
            holder.execute("SELECT count(pg_advisory_lock(1, i)) FROM generate_series(1, 1000000) AS i")
        holder.execute("SELECT count(pg_advisory_unlock(1, i)) FROM generate_series(1, 200) AS i")
        results, _ = decide_together([integration] * 400, [halo(number) for number in range(1, 401)])
    assert {result[0].status.value for result in results if isinstance(result, list)} == {"Mapped Opened"}
    assert Alert.objects.count() == 400


def test_error_on_arrival_keeps_the_message_too() -> None:
    integration = make_integration()
    with inbound_server(registry=SpoiledRegistry()) as node:
        replies = node.post_at_once(*((integration, {**halo(number), "poison": number == 2}) for number in (1, 2, 3)))
    assert [reply.body["status"] for reply in replies] == ["Mapped Opened", "Mapping Failed", "Mapped Opened"]
    assert "ZeroDivisionError" in replies[1].body["reason"]
    assert len(rows()) == 3


def test_what_the_database_refuses_is_kept_however_it_was_read(node: InboundServer) -> None:
    integration = make_integration()
    execute("ALTER TABLE alerts_alert ADD CONSTRAINT no_poison CHECK (subject <> 'poison')")
    reply = node.post(integration, [halo(1), halo(2, summary="poison"), halo(3)])
    assert [one["status"] for one in reply.body["messages"]] == ["Mapped Opened", "Mapping Failed", "Mapped Opened"]


# --- lost connections

#: Kills the backend that inserts messages, the first `times` times.
_KILLER = """
CREATE SEQUENCE kills;
CREATE FUNCTION kill() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('kills') <= {times} THEN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(5); END IF;
    RETURN NULL;
END $$;
"""
_BETWEEN = "CREATE TRIGGER kill AFTER INSERT ON inbound_inboundmessage FOR EACH STATEMENT EXECUTE FUNCTION kill();"
_IN_COMMIT = """
CREATE CONSTRAINT TRIGGER kill AFTER INSERT ON inbound_inboundmessage DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW EXECUTE FUNCTION kill();
"""


@pytest.mark.parametrize("when", [_BETWEEN, _IN_COMMIT], ids=["between statements", "in COMMIT"])
def test_connection_lost_before_commit_costs_only_a_retry(node: InboundServer, when: str) -> None:
    integration = make_integration()
    execute(_KILLER.format(times=1) + when)
    reply = node.post(integration, halo(1))
    assert (reply.status, reply.body["status"]) == (200, "Mapped Opened")
    assert [str(row.pk) for row in rows()] == [reply.body["message_id"]]
    assert Alert.objects.get().count == 1
    assert node.post(integration, halo(2)).body["status"] == "Mapped Opened"


def test_commit_with_lost_reply_is_answered_and_applied_once(database: str) -> None:
    integration = make_integration()
    with wire_to(database) as (wire, through), inbound_server() as node:
        db.use(through)
        assert node.post(integration, halo(1)).body["status"] == "Mapped Opened"
        wire.cut_at_commit()
        reply = node.post(integration, [halo(1), halo(2), halo(3)])
        assert wire.cuts == 1
        assert reply.status == 200
        results = [(one["status"], one["alert_id"]) for one in reply.body["messages"]]
        # What was decided, not what a second decision would be: 2 and 3 were opened, not counted.
        assert [status for status, _ in results] == ["Mapped Appended", "Mapped Opened", "Mapped Opened"]
        assert [str(row.pk) for row in rows()][1:] == [one["message_id"] for one in reply.body["messages"]]
        assert dict(Alert.objects.values_list("source_id", "count")) == {"1": 2, "2": 1, "3": 1}
        # The numbers that the lost answer's alerts took are not given again.
        after = node.post(integration, halo(4))
        assert after.body["status"] == "Mapped Opened"
        assert after.body["alert_id"] not in [alert for _, alert in results]
        db.use(database)


def test_unreadable_message_with_lost_commit_reply_is_reported_unreadable(database: str) -> None:
    integration = make_integration("Tool", "api")
    with wire_to(database) as (wire, through), inbound_server() as node:
        db.use(through)
        node.post(integration, {"title": "a first one, so that the connection stands"})
        wire.cut_at_commit()
        reply = node.post(integration, b"{")
        assert wire.cuts == 1
        assert (reply.status, reply.body["error"]) == (400, "invalid_json")
        assert rows(pk=reply.body["message_id"])
        db.use(database)


def test_a_database_that_stays_away_is_answered_with_come_again() -> None:
    integration = make_integration()
    with inbound_server(max_wait=0.0) as node:
        node.registry.refresh()
        execute(_KILLER.format(times=1000) + _BETWEEN)
        reply = node.post(integration, halo())
    assert (reply.status, reply.body["error"]) == (503, "not_stored")
    assert int(reply.headers["retry-after"]) > 0
    assert not rows()


def test_token_lookup_failure_is_not_reported_as_unknown_token(database: str) -> None:
    integration = make_integration()
    with inbound_server() as node:
        path, name = path_of(integration), urlsplit(database).path.removeprefix("/")
        with psycopg.connect(database.replace(name, "postgres", 1), autocommit=True) as admin:
            switch = sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}")
            admin.execute(switch.format(sql.Identifier(name), sql.SQL("false")))
            db.close()
            try:
                assert node.post(path, halo()).status == 503
            finally:
                admin.execute(switch.format(sql.Identifier(name), sql.SQL("true")))
        assert node.post(integration, halo()).status == 200


# --- configuration


def test_queued_messages_of_deleted_integration_get_404_alone() -> None:
    gone, stays = make_integration("Gone"), make_integration("Stays", source="Other")
    registry = IntegrationRegistry()
    registry.refresh()
    made = Committer(registry)
    results = Results(3)
    for number, integration in enumerate((stays, gone, stays)):
        made.put(results.ticket(number, message(integration, halo(number + 1))))
    IntegrationVersion.objects.filter(integration=gone).update(integration=stays.pk, number=7)
    Integration.objects.filter(pk=gone.pk).delete()
    settings_store.bump()
    made.start()
    found_results = results.wait()
    made.stop(10)
    assert isinstance(found_results[1], UnknownIntegration)
    assert [one[0].status.value for one in (found_results[0], found_results[2])] == ["Mapped Opened"] * 2
    assert {row.integration_id for row in rows()} == {stays.pk}


def test_sender_to_deleted_integration_gets_404(node: InboundServer) -> None:
    integration = make_integration("Gone")
    assert node.post(integration, halo()).status == 200
    path = path_of(integration)
    Integration.objects.filter(pk=integration.pk).update(current_version=None)
    Integration.objects.get(pk=integration.pk).delete()
    settings_store.bump()
    assert node.post(path, halo()).status == 404


@pytest.mark.parametrize(
    "broken", [{"kind": "gone"}, {"definition": {"rules": {"open": {"field": "client", "operator": "smells"}}}}]
)
def test_messages_to_unusable_integration_are_replayed_after_repair(
    node: InboundServer, broken: dict[str, Any]
) -> None:
    integration = make_integration(**broken)
    answers = [node.post(integration, body) for body in (halo(), [halo(2), halo(3)], b"{")]
    assert [answer.status for answer in answers] == [200, 200, 200]
    assert {row.status for row in rows()} == {"Mapping Failed"}
    assert len(rows()) == 4
    assert "cannot be used" in str(rows()[0].reason)
    alert = Alert.objects.get()
    assert "sent a message that could not be parsed" in alert.subject, "somebody is told, once"
    with pytest.raises(Rejected, match="configuration is invalid"):
        replay(rows()[0].pk, True, AuditActor(None, "Alice", "web", None), NOW)
    Integration.objects.filter(pk=integration.pk).update(kind="haloitsm", current_version=None)
    settings_store.bump()
    assert replay(rows()[0].pk, True, AuditActor(None, "Alice", "web", None), NOW).status == "Mapped Opened"


def test_batch_uses_the_configuration_its_transaction_sees(node: InboundServer) -> None:
    integration = make_integration()
    assert node.post(integration, halo(1, "Logged")).body["status"] == "Mapped Ignored"
    version = node.registry.version
    integration.current_version = IntegrationVersion.objects.create(
        integration=integration, number=2, definition={"rules": {"open": True}}, created_at=NOW
    )
    integration.save()
    settings_store.bump()
    assert node.registry.version == version
    assert node.post(integration, halo(2, "Logged")).body["status"] == "Mapped Opened"
    assert node.registry.version > version
    assert rows()[-1].version_id == integration.current_version_id


# --- limits


def test_configuration_loaded_during_save_is_never_mixed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    integration = make_integration()
    whole = registry.load_directory

    def while_a_policy_is_added(connection: db.Connection) -> ReferenceDirectory:
        reference_directory = whole(connection)
        if not Policy.objects.exists():
            Integration.objects.filter(pk=integration.pk).update(policy=EscalationHarness(NOW).policy)
            settings_store.bump()
        return reference_directory

    monkeypatch.setattr(registry, "load_directory", while_a_policy_is_added)
    known = IntegrationRegistry()
    known.refresh()
    door = known.get(integration.pk)
    assert door.policy_id in door.directory.policies


def test_integration_with_broken_row_blocks_no_other(node: InboundServer) -> None:
    broken, other = make_integration("Broken"), make_integration("Other", source="Other")
    IntegrationVersion.objects.filter(pk=broken.current_version_id).update(definition={"rules": ["open"], "mapping": 7})
    settings_store.bump()
    assert node.post(other, halo(1)).body["status"] == "Mapped Opened"
    assert node.post(broken, halo(2)).body["status"] == "Mapping Failed"


def test_pending_bytes_count_all_messages_of_a_body() -> None:
    integration, node = make_integration("Alertmanager", "alertmanager"), InboundServer()
    node.registry.refresh()
    alerts = [{"status": "firing", "fingerprint": str(number), "labels": {}} for number in range(100)]
    body = {"version": "4", "commonAnnotations": {"text": "x" * 10_000}, "alerts": alerts}

    async def waiting() -> int:
        task = asyncio.ensure_future(
            node.ask(path_of(integration), [{"type": "http.request", "body": json.dumps(body).encode()}])
        )
        while not node.committer.queue_status().message_count:
            await asyncio.sleep(0)
        task.cancel()
        return node.committer.queue_status().size_bytes

    assert asyncio.run(waiting()) > 100 * 10_000


def test_more_than_may_wait_is_turned_away() -> None:
    integration = make_integration()
    registry = IntegrationRegistry()
    registry.refresh()
    made = Committer(registry)
    results = Results(2)
    half = [message(integration, halo(1)) for _ in range(committer.MAX_QUEUED_MESSAGES // 2)]
    assert made.put(results.ticket(0, *half))
    assert made.put(results.ticket(1, *half))
    assert not made.put(results.ticket(0, half[0]))


def test_excess_pending_bytes_are_rejected_but_one_always_fits() -> None:
    made = Committer(IntegrationRegistry())
    large = IngestRequest([], committer.MAX_QUEUED_BYTES + 1, lambda result: None)
    assert made.put(large)
    assert not made.put(IngestRequest([], 1, lambda result: None))


def test_sender_that_would_wait_too_long_is_rejected() -> None:
    made = Committer(IntegrationRegistry())
    first = IngestRequest([], 1, lambda result: None)
    assert made.put(first)
    assert made.put(IngestRequest([], 1, lambda result: None))
    first.queued_at -= committer.MAX_WAIT_SECONDS + 1
    assert not made.put(IngestRequest([], 1, lambda result: None))


def test_stopping_committer_finishes_queue_and_accepts_nothing_new() -> None:
    integration = make_integration()
    registry = IntegrationRegistry()
    registry.refresh()
    made = Committer(registry)
    results = Results(1)
    made.put(results.ticket(0, message(integration, halo())))
    made.start()
    made.stop(10)
    assert results.wait()[0][0].status.value == "Mapped Opened"
    assert not made.put(IngestRequest([], 1, lambda result: None))
    assert not made.is_alive()


def test_a_full_queue_is_answered_with_come_again() -> None:
    integration = make_integration()
    node = InboundServer()
    node.registry.refresh()
    assert node.committer.put(IngestRequest([], committer.MAX_QUEUED_BYTES, lambda result: None))
    reply = node.post(integration, halo())
    assert (reply.status, reply.body["error"]) == (503, "not_stored")
    assert "retry-after" in reply.headers
