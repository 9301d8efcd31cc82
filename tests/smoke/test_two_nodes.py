"""Two nodes on one PostgreSQL share the work, take over after a crash, and never collide."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from tests.doubles.smtp import SmtpDouble
from tests.support.installation import HALO_TOKEN, HttpResponse, Installation, Node, ask, ticket, traces, until
from tests.support.load_generator import LoadGenerator, known_to_be_sent, named, nothing_answered_is_lost
from tests.support.variants import first


def senders(tocsin: Installation) -> set[str]:
    """Which nodes have mails on their way."""
    return {row["leased_by"] for row in tocsin.rows("SELECT leased_by FROM notify_delivery WHERE status = 'sending'")}


def test_the_other_node_takes_over_from_one_that_is_killed(tocsin: Installation, mails: SmtpDouble) -> None:
    tocsin.apply("settings: {bundle_pages: false}")
    mails.takes = 0.6
    first, second = tocsin.serve(), tocsin.serve()
    with LoadGenerator([first.url, second.url], range(1, 121)) as load:
        load.finish()
        assert load.unanswered == {}
        until("both send", lambda: len(senders(tocsin)) == 2 and known_to_be_sent(tocsin))
        first.kill()
    sent = known_to_be_sent(tocsin)
    assert 0 < len(sent) < 120
    mails.takes = 0

    nothing_answered_is_lost(tocsin, load)
    # A lease is ten seconds, and is looked for each two.
    until("every alert has paged", lambda: known_to_be_sent(tocsin) == set(load.answered), 25)
    data = named(mails.mails)
    assert set(data) == set(load.answered)
    assert {number: data[number] for number in sent if data[number] != 1} == {}
    assert traces(second.log) == []


@pytest.mark.parametrize("count", first(1, [12, 40]))
def test_the_same_tickets_from_two_nodes_at_once_end_right(tocsin: Installation, count: int) -> None:
    keys = range(1, count + 1)
    nodes = tocsin.serve(), tocsin.serve()
    assert len({node.url for node in nodes}) == 2
    random.seed(20817)

    at_once(tocsin, [partial(post, node, key, "New") for key in keys for node in nodes * 2])
    opened = tocsin.rows("SELECT id, source_id, count FROM alerts_alert")
    assert sorted((int(row["source_id"]), row["count"]) for row in opened) == [(key, 4) for key in keys]
    number = {int(row["source_id"]): row["id"] for row in opened}

    everything: list[Callable[[], HttpResponse]] = []
    for key in keys:
        for node in nodes:
            commands = ("acknowledge", "escalate", "reply")
            everything += [partial(act, tocsin, node, number[key], command) for command in commands]
            everything += [partial(post, node, key, status) for status in ("New", "In Progress", "Closed")]
    random.shuffle(everything)
    at_once(tocsin, everything)

    at_once(tocsin, [partial(post, node, key, "Closed") for key in keys for node in nodes])
    assert tocsin.rows("SELECT id FROM alerts_alert WHERE status <> 'closed' OR closed_at IS NULL") == []
    outcomes = Counter(row["status"] for row in tocsin.rows("SELECT status FROM inbound_inboundmessage"))
    alerts = len(tocsin.rows("SELECT id FROM alerts_alert"))
    assert outcomes["Mapped Opened"] == outcomes["Mapped Closed"] == alerts >= count
    assert sum(outcomes.values()) == count * 12
    assert tocsin.rows("SELECT id FROM escalation_run WHERE status <> 'ended'") == []
    until(
        "nothing is left to send",
        lambda: (
            not tocsin.rows("SELECT 1 FROM notify_delivery WHERE status IN ('queued', 'sending') AND purpose = 'page'")
        ),
    )
    (database,) = tocsin.rows("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    assert database["deadlocks"] == 0
    assert traces(tocsin.logs()) == []
    assert [node.terminate() for node in nodes] == [0, 0]


def post(node: Node, key: int, status: str) -> HttpResponse:
    return ask("POST", f"{node.url}/in/{HALO_TOKEN}", ticket(key, status))


def act(tocsin: Installation, node: Node, alert: int, command: str) -> HttpResponse:
    return tocsin.act(f"alerts/{alert}/{command}", {"text": "Looking."} if command == "reply" else {}, node)


def at_once(tocsin: Installation, requests: list[Callable[[], HttpResponse]]) -> None:
    """Sends all, sixteen at a time, and waits until everything is decided. None may be refused for our sake."""
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda send: send(), requests))
    assert [answer.text for answer in answers if answer.status >= 500] == []
    assert {answer.status for answer in answers} <= {200, 202, 409}
    until("all are decided", lambda: not tocsin.rows("SELECT 1 FROM inbound_inboundmessage WHERE status = 'Pending'"))
