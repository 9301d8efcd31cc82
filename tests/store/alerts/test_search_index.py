"""Alerts and messages match partial words, before and after indexing."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.db import connection

from tests.store.inbound.test_message_retention import rows_read, uuid_at
from tests.support.ingest import make_integration
from tocsin.alerts import service
from tocsin.alerts import store as alerts
from tocsin.alerts.commands import Actor
from tocsin.alerts.models import Alert, AlertText
from tocsin.alerts.service import FoundAlert
from tocsin.alerts.states import ActorKind, CommandChannel
from tocsin.api.alerts import AlertFilters, filtered
from tocsin.core.db import database
from tocsin.core.db.queries import first
from tocsin.inbound.models import InboundMessage, Integration, MessageText
from tocsin.inbound.storage import retention
from tocsin.inbound.storage.retention import RetentionTask
from tocsin.web.alerts import queries

pytestmark = pytest.mark.usefixtures("database")

MINUTE = timedelta(minutes=1)


@pytest.fixture
def integration(database: object) -> Integration:
    return make_integration()


def alert(subject: str, at: datetime, status: str = "closed", **fields: object) -> Alert:
    return Alert.objects.create(subject=subject, status=status, opened_at=at, last_message_at=at, **fields)


def message(integration: Integration, at: datetime, subject: str, **fields: object) -> InboundMessage:
    return InboundMessage.objects.create(
        id=uuid_at(at),
        integration=integration,
        received_at=at,
        raw=b"{}",
        subject=subject,
        **{"status": "Mapped Ignored", **fields},
    )


def closed(text: str = "", **chosen: str) -> list[str]:
    return [one.subject for one in first(queries.filtered("closed", chosen, text), 50)]


def indexed_subjects() -> set[str]:
    return set(MessageText.objects.values_list("subject", flat=True))


def test_closed_alerts_match_equally_before_and_after_indexing(now: datetime) -> None:
    alert("VPN down in Zürich", now - 9 * MINUTE, client="Acme 100%", source_id="4711", tags={"site": "Rack-7"})
    alert("Mail is slow", now - 8 * MINUTE, status="cancelled", client="Globex")
    alert("VPN is slow", now - 7 * MINUTE, status="open")
    alert("Ошибка диска C:\\Temp", now - 6 * MINUTE)
    latest = alert("Disk full", now - 6 * MINUTE)
    requests = [
        ({"text": "vpn"}, ["VPN down in Zürich"]),
        ({"text": "zÜRI"}, ["VPN down in Zürich"]),
        ({"text": "00%"}, ["VPN down in Zürich"]),
        ({"text": "o_n"}, []),
        ({"text": "#4711"}, ["VPN down in Zürich"]),
        ({"text": "471"}, []),
        ({"text": "ОШИБКА ДИ"}, ["Ошибка диска C:\\Temp"]),
        ({"text": "c:\\t"}, ["Ошибка диска C:\\Temp"]),
        ({"text": "q"}, []),
        ({"text": "globex"}, ["Mail is slow"]),
        ({"text": "l"}, ["Disk full", "Mail is slow"]),
        ({"text": f"#{latest.pk}"}, ["Disk full"]),
        ({"client": "acme"}, ["VPN down in Zürich"]),
        ({"tag": "rack-7"}, ["VPN down in Zürich"]),
        ({"tag": "site=rack"}, ["VPN down in Zürich"]),
        ({"tag": "room=rack"}, []),
        ({"text": "slow", "client": "acme"}, []),
    ]
    for words, results in requests:
        assert closed(**words) == results, words
    retention.run_once(now)
    assert AlertText.objects.count() == 5
    for words, results in requests:
        assert closed(**words) == results, words


def test_manually_set_tags_are_searchable_after_the_alert_ends(now: datetime) -> None:
    tagged = alert("VPN down", now - 9 * MINUTE, status="open")
    retention.run_once(now)
    with database.transaction() as pooled:
        service.set_tags_within(
            pooled,
            FoundAlert.by_tocsin(tagged.pk),
            {"site": "Rack-7"},
            (),
            Actor(ActorKind.USER, "Alice"),
            CommandChannel.WEB,
            now,
        )
    Alert.objects.filter(pk=tagged.pk).update(status="closed")
    assert closed(tag="site=rack") == ["VPN down"]


def test_alert_with_early_reserved_number_is_searchable(integration: Integration, now: datetime) -> None:
    number = alert("taken", now - 9 * MINUTE).pk
    Alert.objects.filter(pk=number).delete()
    alert("later", now - 8 * MINUTE)
    retention.run_once(now)
    opened = alert("late comer", now - 2 * MINUTE, pk=number)
    message(integration, now - 2 * MINUTE, "late comer", alert_id=opened.pk, status="Mapped Opened")
    assert closed("late comer") == []
    retention.run_once(now)
    assert closed("late comer") == ["late comer"]


def test_recent_alerts_are_indexed_after_older_transactions_finish(integration: Integration, now: datetime) -> None:
    alert("old", now - MINUTE)
    alert("new", now)
    message(integration, now - MINUTE, "old")
    message(integration, now - timedelta(seconds=5), "new")
    retention.run_once(now)
    assert [one.subject for one in AlertText.objects.all()] == ["OLD"]
    assert indexed_subjects() == {"OLD"}
    assert closed("e") == ["new"]
    retention.run_once(now + MINUTE)
    assert indexed_subjects() == {"OLD", "NEW"}
    assert closed("e") == ["new"]


def test_pending_message_is_indexed_with_its_known_fields(integration: Integration, now: datetime) -> None:
    waiting = message(integration, now - 3 * MINUTE, "", status="Pending")
    message(integration, now - 2 * MINUTE, "later")
    retention.run_once(now)
    assert not indexed_subjects()
    InboundMessage.objects.filter(pk=waiting.pk).update(status="Mapped Opened", subject="decided")
    retention.run_once(now)
    assert indexed_subjects() == {"DECIDED", "LATER"}


def test_long_pending_message_blocks_indexing_no_more(integration: Integration, now: datetime) -> None:
    message(integration, now - 11 * MINUTE, "", status="Pending")
    message(integration, now - MINUTE, "later")
    retention.run_once(now)
    assert indexed_subjects() == {"", "LATER"}


def test_words_follow_a_message_that_changed_its_alert(integration: Integration, now: datetime) -> None:
    one = alert("VPN down", now - 5 * MINUTE)
    retention.run_once(now)
    Alert.objects.update(subject="Router down")
    assert closed("router") == []
    message(integration, now - MINUTE, "Router down", alert=one, status="Mapped Updated")
    retention.run_once(now)
    assert closed("router") == ["Router down"]
    assert closed("vpn") == []


def test_run_indexes_a_bounded_number_in_arrival_order(integration: Integration, now: datetime) -> None:
    for number in range(5):
        alert(f"a{number}", now - MINUTE)
        message(integration, now - 9 * MINUTE + number * MINUTE, f"m{number}")
    retention.run_once(now, max_rows=2)
    assert indexed_subjects() == {"M0", "M1"}
    for _attempt in range(3):
        retention.run_once(now, max_rows=2)
    assert indexed_subjects() == {f"M{number}" for number in range(5)}
    assert AlertText.objects.count() == 5


def test_words_are_pruned_with_their_messages(integration: Integration, now: datetime) -> None:
    message(integration, now - timedelta(days=121), "old")
    message(integration, now - timedelta(days=1), "young")
    retention.run_once(now)
    assert indexed_subjects() == {"OLD", "YOUNG"}
    RetentionTask().run_once(now)
    assert indexed_subjects() == {"YOUNG"}


def test_rare_word_is_matched_without_scanning_other_alerts(now: datetime) -> None:
    Alert.objects.bulk_create(
        Alert(subject=f"VPN down {n}", status="closed", opened_at=now - MINUTE, last_message_at=now)
        for n in range(3_000)
    )
    alert("Zanzibar", now - MINUTE)
    retention.run_once(now, max_rows=5_000)
    with database.pool().connection() as pipelined_connection:
        pipelined_connection.execute("ANALYZE alerts_alert, alerts_alerttext")
    for word in ("zanzibar", "qwertz"):
        assert rows_read("alerts_alert", lambda word=word: closed(word)) < 100


def test_rare_priority_is_matched_without_scanning_other_alerts(now: datetime) -> None:
    Alert.objects.bulk_create(
        Alert(subject=f"VPN down {n}", status="closed", opened_at=now - MINUTE, last_message_at=now)
        for n in range(3_000)
    )
    over = {alert(status, now - MINUTE, status, priority="low").pk for status in ("closed", "cancelled", "merged")}
    live = {alert(status, now - MINUTE, status, priority="low").pk for status in ("open", "assigned", "on_hold")}
    with database.pool().connection() as pipelined_connection:
        pipelined_connection.execute("ANALYZE alerts_alert")

    def asked(**query: list[str]) -> set[int]:
        filters = AlertFilters.model_validate({"priority": ["low"], **query})
        return {one.pk for one in first(filtered(Alert.objects.all(), filters), 50)}

    assert set(closed(priority="low")) == {"closed", "cancelled", "merged"}
    assert asked() == over | live
    assert asked(status=["open", "closed"]) < over | live
    for attempt in (lambda: closed(priority="low"), asked, lambda: asked(status=["closed"])):
        assert rows_read("alerts_alert", attempt) < 100


def test_recently_opened_alerts_are_located_by_binary_search(now: datetime) -> None:
    made = [alert(f"a{n}", now - timedelta(days=30 - n)).pk for n in range(30)]
    Alert.objects.filter(pk__in=made[10:15]).delete()
    with database.transaction() as held_connection:
        assert alerts.first_id_opened_since(held_connection, now - timedelta(days=30)) <= made[0]
        for n in (9, 16, 29):
            assert made[n - 1] < alerts.first_id_opened_since(held_connection, now - timedelta(days=30 - n)) <= made[n]
        assert alerts.first_id_opened_since(held_connection, now - timedelta(days=19)) in range(
            made[9] + 1, made[15] + 1
        )
        assert alerts.first_id_opened_since(held_connection, now + timedelta(days=1)) == made[-1] + 1


def test_no_alerts_are_halved_to_nothing(now: datetime) -> None:
    with database.transaction() as held_connection:
        assert not Alert.objects.filter(pk__gte=alerts.first_id_opened_since(held_connection, now)).exists()


def test_search_works_without_the_trigram_extension(now: datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "DROP EXTENSION pg_trgm CASCADE; CREATE ROLE modest; "
            "GRANT SELECT ON django_migrations TO modest; SET ROLE modest"
        )
    try:
        make_text_indexes()
        assert text_indexes() == set()
    finally:
        with connection.cursor() as cursor:
            cursor.execute("RESET ROLE; DROP OWNED BY modest; DROP ROLE modest")
    alert("VPN down", now - MINUTE)
    retention.run_once(now)
    assert closed("vpn") == ["VPN down"]
    make_text_indexes()
    assert text_indexes() == {"alerts_text_parts", "inbound_messagetext_parts"}
    assert closed("vpn") == ["VPN down"]


def make_text_indexes() -> None:
    """Creates them as the first start does."""
    for model in (AlertText, MessageText):
        with connection.schema_editor() as editor:
            for index in model._meta.indexes:
                editor.add_index(model, index)


def text_indexes() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT c.relname FROM pg_class c WHERE pg_get_indexdef(c.oid) LIKE '%gin_trgm_ops%' "
            "AND c.relkind IN ('i', 'I') AND NOT c.relispartition"
        )
        return {row[0] for row in cursor.fetchall()}
