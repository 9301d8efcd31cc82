"""Messages use the reader's language; source texts and reply keywords are unchanged."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from tests.support.notification_messages import ALERT, NOW, every_purpose, page
from tocsin.core.reasons import ReasonType, reason_as_json
from tocsin.notify.providers.pool import CHANNELS
from tocsin.notify.rules.page_planner import AFTER_STEP
from tocsin.notify.rules.pre_send_check import DeliveryBundle, DueDelivery
from tocsin.notify.states import Purpose
from tocsin.notify.text.formatting import format_date, in_language, phrase
from tocsin.notify.text.render import message

BEGINS = ReasonType("testing.begins", "{start}")


def test_a_german_mail_keeps_the_subject_of_its_thread() -> None:
    german = replace(page(), language="de-ch", time_zone="Europe/Zurich")
    english = replace(german, language="en")
    channel = CHANNELS["email"]
    made = channel.render(german)
    assert made.subject == channel.render(english).subject
    assert '<html lang="de">' in made.html
    assert "Bestätigen, mir zuweisen oder schließen" in made.html
    assert "Eröffnet: 24. November 2026, 10:15 CET" in made.text
    assert "Kunde: Acme" in made.text
    assert "ack, assign, close" in made.text


def test_german_text_keeps_the_reply_keywords() -> None:
    text = CHANNELS["sms"].render(replace(page(), language="de")).text
    assert text.startswith("P1 KRITISCH Acme: VPN down, 40 users.")
    assert "Antwort ACK 42, ASSIGN 42." in text


@pytest.mark.parametrize("name", sorted(CHANNELS))
def test_unsupported_language_falls_back_to_english(name: str) -> None:
    channel = CHANNELS[name]
    for one in every_purpose("VPN down"):
        klingon, english = (channel.render(replace(one, language=language)) for language in ("tlh", ""))
        assert (klingon.subject, klingon.text) == (english.subject, english.text)


def test_places_are_filled_in_whatever_stands_in_a_value() -> None:
    assert phrase("de", "Still on it, {who}?", who="{boss}") == "Noch dran, {boss}?"
    assert format_date("", NOW) == "24 November 2026, 09:15 UTC"
    assert ALERT.subject == "VPN down"


def test_notice_uses_the_recipients_language_and_zone() -> None:
    data = {"title": reason_as_json(AFTER_STEP(delay=timedelta(minutes=3))), "text": reason_as_json(BEGINS(start=NOW))}
    due = DueDelivery(
        UUID(int=1), UUID(int=2), "email", "a@example.org", Purpose.NOTICE, NOW, NOW, user_id=1, user_name="Alice",
        data=data, language="de-ch", time_zone="Europe/Zurich",
    )  # fmt: skip
    with in_language("de-ch", ZoneInfo("Europe/Zurich")):
        german = message(DeliveryBundle((due,)), lambda *_: "", "", NOW, can_reply=False)
    assert (german.title, german.text) == ("3 Minuten nach dem Schritt", "Di, 24. Nov 2026, 10:15 CET")
    with in_language("tlh", ZoneInfo("Europe/Zurich")):
        english = message(DeliveryBundle((due,)), lambda *_: "", "", NOW, can_reply=False)
    assert (english.title, english.text) == ("3 minutes after the step", "Tue 24 Nov 2026, 10:15 CET")
