"""The exact texts of mails, text messages and calls."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.notification_messages import ALERT, EXTREME, NOW, bundle, page
from tocsin.alerts.states import AlertStatus, Priority
from tocsin.notify.channels import chat, phone
from tocsin.notify.channels.email import EmailChannel
from tocsin.notify.channels.phone import ONE_ALERT, SEVERAL_ALERTS
from tocsin.notify.rules.pre_send_check import AlertFacts, DeliveryBundle, DueDelivery
from tocsin.notify.states import Purpose
from tocsin.notify.text import formatting, render

LINK = ALERT.link


def test_the_subject_of_a_mail_is_fixed_for_threading() -> None:
    expected = "[P1 Critical] Acme: VPN down (Halo 20817) (Tocsin #42)"
    assert formatting.subject(page()) == expected
    assert formatting.subject(replace(page(all_clear_text="Taken by Alice."), purpose=Purpose.ALL_CLEAR)) == expected
    assert formatting.subject(replace(page(), purpose=Purpose.ACK_REMINDER)) == expected


def test_a_subject_without_client_or_number_leaves_them_out() -> None:
    assert formatting.subject(page(client="", source_id="")) == "[P1 Critical] VPN down (Tocsin #42)"
    assert formatting.subject(page(source="Zabbix")) == "[P1 Critical] Acme: VPN down (Zabbix 20817) (Tocsin #42)"
    assert formatting.subject(page(priority=Priority.LOW, source_id="")) == "[P4 Low] Acme: VPN down (Tocsin #42)"


def test_bundle_subject_names_highest_priority_and_alert_count() -> None:
    alerts = (replace(ALERT, priority=Priority.LOW), replace(ALERT, id=43, priority=Priority.HIGH))
    message = replace(page(), alerts=alerts)
    assert formatting.subject(message) == "[P2 High] 2 alerts: Acme: VPN down (Tocsin #42) and 1 more"


@pytest.mark.parametrize("text", EXTREME.values(), ids=EXTREME)
def test_subject_keeps_marker_and_is_one_bounded_line(text: str) -> None:
    made = formatting.subject(page(subject=text, client=text, source_id=text))
    assert made.startswith("[P1 Critical] ")
    assert made.endswith("(Tocsin #42)")
    assert len(made) < 320
    assert not set(made) & set("\r\n\x00\u202e")


def test_a_text_message_says_what_where_and_how_to_answer() -> None:
    expected = f"P1 CRITICAL Acme: VPN down, 40 users. Halo 20817. Reply ACK 42, ASSIGN 42. {LINK}"
    assert phone.text_message(page()) == expected


def test_where_replies_cannot_work_there_is_the_link_only() -> None:
    made = phone.text_message(replace(page(), can_reply=False))
    assert made == f"P1 CRITICAL Acme: VPN down, 40 users. Halo 20817. {LINK}"


def test_a_text_message_without_a_short_text_says_the_subject() -> None:
    assert phone.text_message(page(short_text="")).startswith("P1 CRITICAL Acme: VPN down. Halo 20817.")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("VPN down \u26a0\ufe0f", "VPN down"),
        ("Step 1\ufe0f\u20e3", "Step 1"),
        ("Zu\u0308rich, L\u0301ukasz, re\u0301gion", "Zürich, Lukasz, région"),
        ("\u0939\u093f\u0928\u094d\u0926\u0940", "\u0939\u093f\u0928\u094d\u0926\u0940"),
    ],
)
def test_emoji_variation_selectors_never_shorten_a_text(text: str, message: str) -> None:
    """One character outside of the 7-bit alphabet leaves a segment 70 of its 160."""
    assert phone.for_phones(text) == message


def test_text_has_no_emoji_and_fits_160_gsm_characters() -> None:
    made = phone.text_message(page(short_text="🔥 “Łódź” – server’s café…"))
    assert made.startswith('P1 CRITICAL Acme: "Lodz" - server\'s café... Halo 20817.')
    assert phone.is_gsm(made)


def test_other_alphabets_stay_as_they_are() -> None:
    made = phone.text_message(page(short_text="Сервер не отвечает"))
    assert "Сервер не отвечает" in made


def test_long_text_is_truncated_but_keeps_number_replies_and_link() -> None:
    made = phone.text_message(page(short_text="very long " * 200))
    assert made.endswith(f"Halo 20817. Reply ACK 42, ASSIGN 42. {LINK}")
    assert "... Halo 20817. Reply" in made
    assert ONE_ALERT.allows(made)


@given(st.text(), st.text(), st.text())
def test_a_text_message_always_fits_and_ends_with_its_link(short: str, client: str, number: str) -> None:
    made = phone.text_message(page(short_text=short, subject="", client=client, source_id=number))
    assert ONE_ALERT.allows(made)
    assert made.endswith(LINK)
    assert "\n" not in made


@given(st.integers(2, 10), st.text())
def test_a_bundled_text_message_fits_and_has_every_number(number: int, subject: str) -> None:
    made = phone.text_message(bundle(number, subject=subject, client="Acme"))
    assert SEVERAL_ALERTS.allows(made)
    assert all(f"#{42 + index}" in made for index in range(number))


def test_bundled_text_explains_replying_to_all_or_one() -> None:
    made = phone.text_message(bundle(3))
    assert made == (
        "P1 CRITICAL 3 alerts: #42 Acme: VPN down; #43 Acme: VPN down; #44 Acme: VPN down. "
        "Reply ACK ALL, or ACK 42 for one. https://tocsin.example.org/alerts"
    )


def test_text_of_a_storm_names_three_and_counts_the_rest() -> None:
    storm = "Globex: Host web-# does not answer"
    made = phone.text_message(replace(bundle(3, client="Globex"), storm=storm, omitted_count=57))
    assert made == (
        "P1 CRITICAL 60 alerts: Globex: Host web-# does not answer. #42 Globex: VPN down; #43 Globex: VPN down; "
        "#44 Globex: VPN down and 57 more. Reply ACK ALL, or ACK 42 for one. https://tocsin.example.org/alerts"
    )
    assert phone.SmsChannel.bundle_limit == 3


@pytest.mark.parametrize(
    ("subjects", "integrations", "expected"),
    [
        ([f"Host web-{one} does not answer" for one in range(5)], {7}, "Acme: Host web-# does not answer"),
        ([f"Host web-{one} does not answer" for one in range(4)], {7}, ""),
        ([*(f"Host web-{one} does not answer" for one in range(5)), "VPN down"], {7}, ""),
        ([f"Host web-{one} does not answer" for one in range(6)], {7, 8}, ""),
    ],
    ids=["storm", "too few", "another subject", "two integrations"],
)
def test_message_says_what_a_storm_has_in_common(subjects: list[str], integrations: set[int], expected: str) -> None:
    ids = sorted(integrations)
    members = tuple(
        DueDelivery(
            UUID(int=index), UUID(int=index), "sms", "+41790000001", Purpose.PAGE, NOW, NOW,
            alert=AlertFacts(index, Priority.HIGH, subject, client="Acme", status=AlertStatus.OPEN),
            integration_id=ids[index % len(ids)], user_id=1,
        )
        for index, subject in enumerate(subjects)
    )  # fmt: skip
    made = render.message(DeliveryBundle(members), lambda *_: "", "", NOW, can_reply=True)
    assert made.storm == expected
    assert render.redact(made, render.ContentLevel.NUMBER).storm == ""


def test_mail_and_chat_say_what_a_storm_has_in_common() -> None:
    message = replace(bundle(20), storm="Globex: Host web-# does not answer", omitted_count=40)
    assert formatting.subject(message) == (
        "[P1 Critical] 60 alerts: Globex: Host web-# does not answer (Tocsin #42) and 59 more"
    )
    assert chat.render(message, max_chars=2000, max_details_chars=200).subject == (
        "🔴 P1 Critical: 60 alerts: Globex: Host web-# does not answer"
    )


def test_acknowledgement_reminder_names_user_alert_and_consequence() -> None:
    made = phone.text_message(replace(page(), purpose=Purpose.ACK_REMINDER))
    assert made == (
        f"Still on it, Alice? Acme: VPN down (#42). Reply ACK 42 within 5 minutes, or others are paged. {LINK}"
    )


def test_an_all_clear_is_its_sentence_alone() -> None:
    news = "Taken by Alice: VPN down (#42). Nothing to do."
    made = replace(page(all_clear_text=news), purpose=Purpose.ALL_CLEAR)
    assert phone.text_message(made) == news
    assert phone.spoken(made) == "Tocsin. Taken by Alice: VPN down. Nothing to do."


def test_call_names_user_problem_and_keys() -> None:
    assert phone.spoken(page()) == (
        "Tocsin. Critical alert for Alice. Acme: VPN down, 40 users. Press 7 to acknowledge, 8 to assign to "
        "yourself, 6 to escalate, 9 to close, 1 to repeat."
    )


def test_call_about_several_alerts_counts_them_and_offers_a_list() -> None:
    made = phone.script(bundle(2))
    assert phone.spoken(bundle(2)) == (
        "Tocsin. 2 alerts for Alice. Critical alert. Acme: VPN down. Press 7 to acknowledge all, 8 to assign all to "
        "yourself, 2 for the list, 1 to repeat."
    )
    assert made.listing == "Critical alert 42. Acme: VPN down. Critical alert 43. Acme: VPN down."
    assert made.without_keys().speech == f"Tocsin. 2 alerts for Alice. {made.listing}"


def test_a_test_alert_says_that_it_is_one() -> None:
    message = page(is_test=True)
    assert formatting.subject(message).startswith("[TEST] [P1 Critical]")
    assert phone.text_message(message).startswith("TEST P1 CRITICAL")
    assert "Critical test alert" in phone.spoken(message)


@given(st.text(), st.integers(1, 300))
def test_truncated_text_never_exceeds_its_limit(text: str, longest: int) -> None:
    assert len(formatting.cut(text, longest)) <= longest


def test_the_line_of_an_alert_in_a_list() -> None:
    assert formatting.named(ALERT) == "#42 P1 Critical Acme: VPN down (Halo 20817)"
    assert formatting.listed(["Alice"]) == "Alice"
    assert formatting.listed(["Alice", "Bob", "Carol"]) == "Alice, Bob and Carol"


@pytest.mark.parametrize(
    ("respond", "fix", "expected"),
    [
        (12, 60, "Respond within 12 minutes"),
        (None, 125, "Resolve within 2 hours 5 minutes"),
        (-1, 60, "Response overdue"),
        (None, -5, "Resolution overdue"),
        (None, None, ""),
    ],
)
def test_push_says_how_much_time_the_sla_leaves(respond: int | None, fix: int | None, expected: str) -> None:
    def at(minutes: int | None) -> datetime | None:
        return None if minutes is None else NOW + timedelta(minutes=minutes, seconds=20)

    message = page(respond_by=at(respond), fix_by=at(fix))
    assert formatting.deadline(message.alerts[0], NOW, "en") == expected
    lines = chat.render(message, max_chars=1000, max_details_chars=0).text.splitlines()
    assert (expected in lines) == bool(expected)


@pytest.mark.parametrize(
    ("priority", "push", "mail"),
    [
        (Priority.CRITICAL, "🔴 P1 Critical: ", "\u26a0\ufe0e P1 Critical"),
        (Priority.HIGH, "🟠 P2 High: ", "\u21c8 P2 High"),
        (Priority.MEDIUM, "P3 Medium: ", "\u2191 P3 Medium"),
        (Priority.LOW, "P4 Low: ", "\u2193 P4 Low"),
    ],
)
def test_priority_has_icon_word_and_colour_in_messages(priority: Priority, push: str, mail: str) -> None:
    message = page(priority=priority)
    assert chat.render(message, max_chars=1000, max_details_chars=0).subject.startswith(push)
    rendered = EmailChannel().render(message)
    assert f">{mail}</span>" in rendered.html
    assert f"#42 {mail.partition(' ')[2]} Acme" in rendered.text


def test_mail_gives_the_slas_moments_in_the_readers_zone() -> None:
    message = page(respond_by=NOW + timedelta(minutes=12), fix_by=NOW - timedelta(hours=1))
    text = EmailChannel().render(message).text
    assert "Respond by: 24 November 2026, 10:27 CET (in 12 minutes)" in text
    assert "Fix by: 24 November 2026, 09:15 CET (overdue)" in text
    german = EmailChannel().render(replace(message, language="de")).text
    assert "Antwort bis: 24. November 2026, 10:27 CET (in 12 Minuten)" in german
