"""Nights that go wrong: the process dies while a text is leaving, two people answer at once, and hundreds of alerts
come in a minute."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.doubles.twilio import TwilioDouble, twilio_double
from tests.support.installation import CONFIGURATION, Installation, ask, ticket, traces, until
from tests.support.variants import first

BASE = "https://tocsin.example.org"
ALICE, BOB = "+41790000001", "+41790000002"
HALO_TOKEN = "0123456789abcdef0123456789abcdef"


def configuration(twilio: TwilioDouble) -> str:
    """Alice and Bob are texted at once; nobody else is called for five minutes."""
    whole = CONFIGURATION.replace("notify: {roles: [primary]}", "notify: {roles: [primary, secondary]}")
    for name, number in (("alice", ALICE), ("bob", BOB)):
        mail = f"contact_methods: [{{label: Email-Official, channel: email, address: {name}@example.org}}]"
        whole = whole.replace(mail, f"contact_methods: [{{label: SMS, channel: sms, address: '{number}'}}]")
    return whole + (
        f"providers: [{{name: Twilio, kind: twilio, account_sid: {twilio.settings['account_sid']}, auth_token: "
        f"{twilio.token}, from_number: '{twilio.settings['from_number']}', api_base: '{twilio.url}'}}]\n"
    )


def serve(tocsin: Installation, twilio: TwilioDouble) -> None:
    tocsin.serve(TOCSIN_BASE_URL=BASE, TOCSIN_ALLOW_TARGETS="127.0.0.0/8")
    twilio.server = tocsin.url


def statuses(tocsin: Installation) -> set[str]:
    return {row["status"] for row in tocsin.rows("SELECT status FROM notify_delivery WHERE purpose = 'page'")}


def test_text_interrupted_by_kill_is_resent_with_same_key(tocsin: Installation) -> None:
    with twilio_double() as twilio:
        tocsin.apply(configuration(twilio))
        twilio.takes = 60
        serve(tocsin, twilio)
        tocsin.post(ticket(20817))
        before = [*until("both texts are leaving", lambda: len(twilio.messages) == 2 and twilio.messages)]
        tocsin.nodes[-1].kill()
        twilio.takes = 0
        serve(tocsin, twilio)
        until("both have left again", lambda: len(twilio.messages) == 4, 40)
        until("that is written down", lambda: statuses(tocsin) == {"sent"})
        texts = {(text["To"], text["Body"], text["StatusCallback"]) for text in twilio.messages}
        assert texts == {(text["To"], text["Body"], text["StatusCallback"]) for text in before}
        reasons = tocsin.rows("SELECT reason, attempts FROM notify_delivery WHERE purpose = 'page'")
        assert {row["attempts"] for row in reasons} == {2}
        assert not traces(tocsin.logs())


@pytest.mark.parametrize("count", first(1, [100, 500]))
def test_concurrent_replies_work_and_many_alerts_are_few_texts(tocsin: Installation, count: int) -> None:
    with twilio_double() as twilio:
        tocsin.apply(configuration(twilio))
        serve(tocsin, twilio)
        number = tocsin.post(ticket(20817)).json()["alert_id"]
        until("both are texted", lambda: len(twilio.messages) == 2)
        until("that is written down", lambda: statuses(tocsin) == {"sent"})
        with ThreadPoolExecutor(2) as pool:
            answers = list(
                pool.map(lambda who: twilio.text(f"{BASE}/hooks/twilio/sms", who, "take", who), (ALICE, BOB))
            )
        events = [event["kind"] for event in tocsin.api(f"alerts/{number}/events")["items"]]
        assert events.count("assigned") == 1, "the second hears how it stands"
        assert answers.count(f"Alert {number} is assigned to you.") == 1, answers
        tocsin.jump(minutes=5)

        twilio.messages.clear()
        for second in range(0, 60, 6):
            burst = [ticket(30000 + second * 100 + n) for n in range(count // 10)]
            assert ask("POST", f"{tocsin.url}/in/{HALO_TOKEN}", burst).status in (200, 202)
            tocsin.jump(seconds=6)
        tocsin.jump(seconds=11)
        sent = "SELECT count(*) AS n FROM notify_delivery WHERE purpose = 'page' AND status = 'sent'"
        until("all are sent", lambda: tocsin.rows(sent)[0]["n"] == 2 + 2 * count, 60)
        mine = [text["Body"] for text in twilio.messages if text["To"] == ALICE]
        assert len(mine) <= 12, mine
        match = sum(int(found_match[1]) if (found_match := re.search(r"(\d+) alerts: ", body)) else 1 for body in mine)
        assert match == count
        assert all(f"{BASE}/a/" in body for body in mine if " more" in body)
        assert not traces(tocsin.logs())
