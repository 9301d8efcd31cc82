"""A node killed with `kill -9`: no answered message is lost, and every page is sent."""

from __future__ import annotations

import time
from typing import Any

import psycopg
import pytest

from tests.doubles.smtp import SmtpDouble
from tests.support.installation import Installation, traces, until
from tests.support.load_generator import LoadGenerator, known_to_be_sent, named, nothing_answered_is_lost, send_again
from tocsin.node import RECORD_TIMEOUT, STOP_TIMEOUT


def test_killed_node_keeps_every_answered_message_after_restart(single: Installation, mails: SmtpDouble) -> None:
    # Every page leaves alone, and each mail server's answer takes a moment: some are on their way when it happens.
    single.apply("settings: {bundle_pages: false}")
    mails.takes = 0.2
    node = single.serve()
    with LoadGenerator([node.url], range(1, 2001)) as load:
        load.wait_for(100)
        until(
            "some mails are sent, and others are on their way",
            lambda: len(known_to_be_sent(single)) > 5 and deliveries_in_progress(single),
        )
        node.kill()
        load.stop()
    assert len(load.answered) < 2000

    sent = known_to_be_sent(single)
    assert sent
    waiting = deliveries_in_progress(single)
    assert waiting
    mails.takes = 0
    again = single.serve()
    send_again(single, load, again)
    nothing_answered_is_lost(single, load)

    # Those that were on their way are taken up when their lease of ten seconds has run out.
    until("every alert has paged", lambda: known_to_be_sent(single) == set(load.answered), 40)
    data = named(mails.mails)
    assert set(data) == set(load.answered)
    assert {number: data[number] for number in sent if data[number] != 1} == {}
    assert sum(data.values()) <= len(data) + len(waiting)
    assert traces(again.log) == []
    assert again.terminate() == 0


@pytest.mark.long
def test_node_without_its_synchronous_standby_stops_in_time(single: Installation) -> None:
    node = single.serve()
    assert node.url
    with psycopg.connect(single.database_url, autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET synchronous_standby_names = 'missing'")
        connection.execute("SELECT pg_reload_conf()")
        until(
            "a commit waits",
            lambda: connection.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'").fetchone(),
        )
        started_at = time.monotonic()
        node.terminate(60)
        assert time.monotonic() - started_at < STOP_TIMEOUT + RECORD_TIMEOUT + 15


def deliveries_in_progress(tocsin: Installation) -> list[dict[str, Any]]:
    """The deliveries that a node is at."""
    return tocsin.rows("SELECT id FROM notify_delivery WHERE status = 'sending'")
