"""Sentences stored in English are shown in the reader's language; user texts are unchanged."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator

import pytest
from django.utils import timezone, translation
from django.utils.translation import gettext

from tocsin.web.told import reading, told, told_in
from tocsin.web.told.duty_sentences import SENTENCES as OF_DUTY
from tocsin.web.told.failed_calls import FAILED_CALLS
from tocsin.web.told.findings import FINDINGS
from tocsin.web.told.judgements import JUDGEMENTS
from tocsin.web.told.mail_answers import SENTENCES as OF_MAIL_ANSWERS
from tocsin.web.told.rejected_forms import REJECTED_FORMS
from tocsin.web.told.rejected_messages import REJECTED_MESSAGES
from tocsin.web.told.sentences import SENTENCES
from tocsin.web.told.shaping_sentences import SENTENCES as OF_SHAPING
from tocsin.web.told.workflow_sentences import SENTENCES as OF_WORKFLOWS

EVERY = (
    *SENTENCES, *JUDGEMENTS, *OF_WORKFLOWS, *OF_DUTY, *FINDINGS, *REJECTED_FORMS, *REJECTED_MESSAGES, *FAILED_CALLS,
    *OF_MAIL_ANSWERS,
)  # fmt: skip


@pytest.fixture
def german() -> Iterator[None]:
    with translation.override("de"):
        yield


@pytest.mark.parametrize(
    ("english", "german_text"),
    [
        ("Alice Andersson acknowledged it.", "Alice Andersson hat ihn bestätigt."),
        ("The XML has more than 50,000 elements.", "Das XML hat mehr als 50.000 Elemente."),
        ("The form has more than 1,000 parts.", "Das Formular hat mehr als 1.000 Teile."),
        (
            "Wrote a private note; gave it to Alice; set its status to Closed; Halo has no agent Al.",
            "Private Notiz geschrieben; an Alice gegeben; Status auf Closed gesetzt; Halo hat keinen Bearbeiter Al.",
        ),
        ("tell Sales and Support by e-mail", "Sales and Support per E-Mail benachrichtigen"),
        ("tell Bob and everybody paged by e-mail", "Bob und alle Gerufenen per E-Mail benachrichtigen"),
        (
            "Step 3 of 3, pass 1 of 3 pages Alice A. (primary, Service Desk), Bob Brown (secondary, Service Desk).",
            "Schritt 3 von 3, Durchgang 1 von 3 ruft Alice A. (erste, Service Desk), Bob Brown (zweite, Service Desk).",
        ),
        (
            "Alice is paged as primary, Desk: step 1 of 2 of the escalation. (SMS, 3 minutes after the step)",
            "Alice wird gerufen als erste, Desk: Schritt 1 von 2 der Eskalation. (SMS, 3 Minuten nach dem Schritt)",
        ),
        ('status "Closed" contains Closed; alert 4 closed', 'Status "Closed" enthält Closed; Alarm 4 geschlossen'),
        ("Alert 7 was already closed by Bob 2 days ago.", "Alarm 7 hat Bob schon geschlossen, vor 2 Tagen."),
        ("Bob put it on hold for 2 days.", "Bob hat ihn für 2 Tage zurückgestellt."),
        ("pages Bob (secondary, Desk)", "ruft Bob (zweite, Desk)"),
        (
            "The alert was merged into #4 before this left.",
            "Der Alarm wurde mit #4 zusammengeführt, bevor dies hinausging.",
        ),
        (
            "Step 1 of 3, pass 2 of 2 pages Dr. Ann (manager, Net), Al (recipient). Nobody is manager in Desk; "
            "Bob is still being paged by an earlier step; nobody was primary in Net before.",
            "Schritt 1 von 3, Durchgang 2 von 2 ruft Dr. Ann (Leitung, Net), Al (Empfänger). Niemand ist Leitung "
            "in Desk; Bob wird noch von einem früheren Schritt gerufen; niemand war zuvor erste in Net.",
        ),
        (
            "Step 1 of 2 (asked for) would page Al (primary before, Net). Bob asked for it; Ann has acknowledged it.",
            "Schritt 1 von 2 (verlangt) würde Al (zuvor erste, Net) rufen. Bob hat es verlangt; Ann hat ihn bestätigt.",
        ),
        (
            "Step 3 of 4 pages Alice (named by the step). Carol is still being paged by an earlier step.",
            "Schritt 3 von 4 ruft Alice (im Schritt genannt). Carol wird noch von einem früheren Schritt gerufen.",
        ),
        (
            "Al is paged as recipient: step 1 of 1 of the escalation. (Push, in quiet hours, so it waits for "
            "their end)",
            "Al wird gerufen als Empfänger: Schritt 1 von 1 der Eskalation. (Push, in der Ruhezeit, also wartet es auf "
            "deren Ende)",
        ),
        (
            "It left bundled with #7, #10. This channel has no provider: the message is in the sandbox, and "
            "nothing left the machine.",
            "Es ging gebündelt hinaus mit #7, #10. Dieser Kanal hat keinen Anbieter: die Nachricht ist in der "
            "Sandbox, und nichts hat den Rechner verlassen.",
        ),
        (
            "Halo opened it again, and so far nobody was paged about it; policy P2, no routes: the integration's "
            "own policy and recipients. Nobody is paged now: Carol has it.",
            "Halo hat ihn wieder eröffnet, und bisher wurde niemand seinetwegen gerufen; Eskalationsplan P2, "
            "keine Routen: der eigene Eskalationsplan und die Empfänger des Eingangs. Jetzt wird niemand "
            "gerufen: Carol hat ihn.",
        ),
        (
            "The priority rose from high to critical. Al and Bob are told.",
            "Die Priorität stieg von hoch auf kritisch. Al and Bob werden benachrichtigt.",
        ),
        (
            "Al would be told: Nobody answered, and the escalation is at its end.",
            "Al würde benachrichtigt: Niemand hat geantwortet, und die Eskalation ist am Ende.",
        ),
        (
            "Nobody is primary of Desk: from Sat 28 Nov 18:00 (Europe/Zurich) for 3 hours (2 times in all).",
            "Niemand ist erste in Desk: ab Sa, 28. Nov 18:00 (Europe/Zurich), 3 Stunden lang (2-mal insgesamt).",
        ),
        (
            "HaloITSM changed it: site Zürich; team 1st → 2nd line; long text changed; ticket type Incident.",
            "HaloITSM hat ihn geändert: Standort Zürich; Team 1st → 2nd line; Langtext geändert; Ticketart Incident.",
        ),
        (
            "Say who is told: users, groups, owner or paged.",
            "Sagen Sie, wer es erfährt: Benutzer, Gruppen, wer den Alarm hat, oder alle, die gerufen wurden.",
        ),
        (
            'Opened by Halo: status "New" contains New; route night: client "Globex" equals Globex, outside Office',
            'Eröffnet von Halo: Status "New" enthält New; Route night: Kunde "Globex" ist gleich Globex, '
            "außerhalb von Office",
        ),
        (
            'route night: client "Sales and Support" is one of Globex, Sales and Support and no value at team, '
            "during Office: only recorded, nobody is paged",
            'Route night: Kunde "Sales and Support" ist eines von Globex, Sales and Support und kein Wert bei team, '
            "während Office: nur verzeichnet, niemand wird gerufen",
        ),
        ('status "a, outside b" contains x', 'Status "a, outside b" enthält x'),
        (
            "Step 1 of 2 is left out: only outside Office 2.0. The next step fires at once.",
            "Schritt 1 von 2 entfällt: nur außerhalb von Office 2.0. Der nächste Schritt löst sofort aus.",
        ),
        (
            "Step 1 of 2 is left out: only outside of mon, tue 08:00 to 18:00 (Europe/Zurich).",
            "Schritt 1 von 2 entfällt: nur außerhalb von Mo, Di 08:00 bis 18:00 (Europe/Zurich).",
        ),
        (
            "Step 1 of 2 is left out: only for critical and high alerts, and this one is low.",
            "Schritt 1 von 2 entfällt: nur für Alarme mit der Priorität kritisch und hoch, und dieser hat niedrig.",
        ),
        (
            "It was sent automatically (Auto-Submitted: auto-replied).",
            "Sie wurde automatisch versendet (Auto-Submitted: auto-replied).",
        ),
        (
            "It was sent automatically: nobody reads at its sender's.",
            "Sie wurde automatisch versendet: bei ihrem Absender liest niemand.",
        ),
        ("It came from a mailing list.", "Sie kam von einer Mailingliste."),
        (
            "HaloITSM changed it: priority low → high; site Bern.",
            "HaloITSM hat ihn geändert: Priorität niedrig → hoch; Standort Bern.",
        ),
        (
            "eve@example.org is not one of Alice Andersson's own addresses.",
            "eve@example.org ist keine von Alice Anderssons eigenen Adressen.",
        ),
        (
            "8 alerts are open for you: #3, #4 and 2 more. Send ACK 3, or ACK ALL.",
            "8 Alarme sind für Sie offen: #3, #4 und 2 weitere. Senden Sie ACK 3 oder ACK ALL.",
        ),
        ("members[0].user: is needed.", "members[0].user: wird gebraucht."),
        (
            '"Mars/Base" is not a time zone; write one like Europe/Zurich or UTC.',
            '"Mars/Base" ist keine Zeitzone; schreiben Sie zum Beispiel Europe/Zurich oder UTC.',
        ),
        ("Has at most 100 characters; this one has 130.", "Hat höchstens 100 Zeichen; hier sind es 130."),
        (
            "mail.acme.example port 25 does not answer: timed out.",
            "mail.acme.example, Port 25, antwortet nicht: timed out.",
        ),
        (
            "Left out, or not taken as meant: Dr. Dave: on (DTSTART, RRULE cannot be understood); an event without "
            "a title on 2026-11-28 (whoever is invited does not come); and 2 more.",
            "Ausgelassen oder nicht wie gemeint übernommen: Dr. Dave: on (DTSTART, RRULE ist nicht zu verstehen); "
            "ein Termin ohne Titel am Sa, 28. Nov 2026 (wer eingeladen ist, kommt nicht); und 2 weitere.",
        ),
        ("not taken: between “a” and “b”, only guid", "nicht genommen: zwischen “a” und “b”, nur guid"),
        ("not taken: no moment", "nicht genommen: kein Zeitpunkt"),
        ("alert #7", "Alarm #7"),
        (
            "X cannot be deleted: integration A, an override of schedule B and 2 more still needs it.",
            "X kann nicht gelöscht werden, denn gebraucht wird es noch von: Eingang A, eine Ausnahme im Dienstplan B "
            "und 2 weiteren.",
        ),
        ('taken as "high"', 'genommen als "high"'),
    ],
)
def test_stored_sentence_is_translated_to_german(german: None, english: str, german_text: str) -> None:
    assert told(english) == german_text


def test_message_is_translated_line_by_line_at_any_length() -> None:
    lines = [
        "What is wrong with who is on call in Ops in the next 60 days:",
        "",
        *["- Nobody is primary of Ops: from Mon 30 Nov 08:31 (Europe/Zurich) for 1 day."] * 20,
        "- and 3 more",
    ]
    assert told_in("\n".join(lines), "de").split("\n") == [
        "Was in den nächsten 60 Tagen mit der Bereitschaft in Ops nicht stimmt:",
        "",
        *["- Niemand ist erste in Ops: ab Mo, 30. Nov 08:31 (Europe/Zurich), 1 Tag lang."] * 20,
        "- und 3 weitere",
    ]


@pytest.mark.parametrize(
    ("english", "german_text"),
    [
        (
            "Bob is on call in Rota, Thu 24 Dec 17:00 to Fri 25 Dec 08:00 (Europe/Zurich)",
            "Bob ist in Rota in Bereitschaft, Do, 24. Dez 17:00 bis Fr, 25. Dez 08:00 (Europe/Zurich)",
        ),
        (
            "Bob is primary of Rota from Thu 24 Dec 17:00 to Fri 25 Dec 08:00 (UTC), instead of Al.\n\n"
            "Carol arranged it.",
            "Bob ist von Do, 24. Dez 17:00 bis Fr, 25. Dez 08:00 (UTC) erste in Rota, statt Al.\n\n"
            "Carol hat es eingetragen.",
        ),
        (
            "Bob covers for Al from Thu 24 Dec 17:00 to Fri 25 Dec 08:00 (UTC), in every other group.",
            "Bob vertritt Al von Do, 24. Dez 17:00 bis Fr, 25. Dez 08:00 (UTC), in allen anderen Gruppen.",
        ),
        (
            "You are primary of Desk from Mon 30 Nov 09:00 until Tue 01 Dec 09:00 (Europe/Zurich): override Xmas swap.",
            "Sie sind von Mo, 30. Nov 09:00 bis Di, 1. Dez 09:00 (Europe/Zurich) erste in Desk: Ausnahme Xmas swap.",
        ),
    ],
)
def test_on_call_mails_are_translated_to_german(english: str, german_text: str) -> None:
    assert told_in(english, "de") == german_text


def test_english_readers_get_what_is_stored() -> None:
    with translation.override("en"):
        assert told("Alice acknowledged it.") == "Alice acknowledged it."


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("Alice acknowledged it: nobody", ": nobody"),
        ("Bob closed it: switched off", ": switched off"),
        ('subject "Nobody answered; pages Bob" contains Nobody', '"Nobody answered; pages Bob"'),
    ],
)
def test_what_people_or_sources_wrote_stays_as_it_is(german: None, text: str, kept: str) -> None:
    assert told(text) != text
    assert kept in told(text)


@pytest.mark.parametrize(
    ("language", "stored", "shown"),
    [
        (
            "en",
            "maintenance: Patch night, until 2026-11-24 23:30 UTC",
            "maintenance: Patch night, until Wed 25 Nov 2026, 00:30 CET",
        ),
        (
            "de",
            "maintenance: Patch night, until 2026-07-24 10:00 UTC",
            "Wartung: Patch night, bis Fr, 24. Jul 2026, 12:00 CEST",
        ),
        (
            "de",
            "Patch night, until 2026-11-24 10:00 UTC",
            "Patch night, bis Di, 24. Nov 2026, 11:00 CET",
        ),
        (
            "en",
            "arrived late: it is of 2026-11-24 10:00:07 UTC, and one of 2026-11-24 10:01:00 UTC came before it",
            "arrived late: it is of Tue 24 Nov 2026, 11:00:07 CET, and one of Tue 24 Nov 2026, 11:01:00 CET "
            "came before it",
        ),
        (
            "de",
            "arrived late: it is of 2026-11-24 10:00:07 UTC, and one of 2026-11-24 10:01:00 UTC came before it",
            "zu spät: sie ist von Di, 24. Nov 2026, 11:00:07 CET, "
            "und eine von Di, 24. Nov 2026, 11:01:00 CET kam davor",
        ),
        ("en", "no moment: 2026-02-30 10:00 UTC", "no moment: 2026-02-30 10:00 UTC"),
        ("en", "no moment here: 9999-12-31 23:30 UTC", "no moment here: 9999-12-31 23:30 UTC"),
        (
            "en",
            'subject "Backup of 2026-11-24 10:00 UTC" contains Backup',
            'subject "Backup of 2026-11-24 10:00 UTC" contains Backup',
        ),
    ],
)
def test_stored_moment_is_shown_in_readers_time_zone(language: str, stored: str, shown: str) -> None:
    with translation.override(language), timezone.override("Europe/Zurich"):
        assert told(stored) == shown
    # A message has no reader's clock: its moments name their zone.
    assert "UTC" in told_in(stored, language)


@pytest.mark.parametrize("text", ["", "…", "((((", "x" * 5_000, "a, b; c. d: " * 60, "Something that nobody foresaw."])
def test_what_is_not_known_stays_and_takes_no_time(german: None, text: str) -> None:
    began = time.process_time()
    assert told(text) == text
    assert time.process_time() - began < 0.5


@pytest.mark.parametrize("sentence", ["Bob could not send it.", "It cannot be sent at all.", "Nobody was reached."])
def test_sender_imitating_tocsins_sentences_delays_no_page(german: None, sentence: str) -> None:
    """Each could end, or be part of, the one before it: of fifteen, all ways took longer than anybody waits."""
    subject = " ".join([sentence] * (500 // len(sentence)))
    began = time.process_time()
    told(f"HaloITSM changed it: subject VPN → {subject} It is down")
    assert time.process_time() - began < 1


def test_no_sentence_is_there_twice() -> None:
    rejected = (*REJECTED_FORMS, *REJECTED_MESSAGES)
    every = (*SENTENCES, *JUDGEMENTS, *OF_WORKFLOWS, *OF_SHAPING, *OF_DUTY, *FINDINGS, *rejected, *FAILED_CALLS,
             *OF_MAIL_ANSWERS)  # fmt: skip
    assert len(every) == len(set(every))


_FILLINGS = {
    "number": "7", "span": "5 minutes", "ago": "5 minutes ago", "role": "primary", "priority": "high",
    "step": "step 1 of 2", "quoted": '"Qwert"', "day": "Sat 28 Nov 18:00", "changes": "qwert asdf",
    "priorities": "high and low", "window": "mon 08:00 to 18:00 (UTC)", "date": "2026-11-28",
}  # fmt: skip


def test_each_sentence_matches_exactly_its_own_pattern(german: None) -> None:
    """However alike two are: none is taken for another, which would leave half of it in English."""
    others = []
    for sentence in EVERY:
        english = _filled(sentence, lambda name: _FILLINGS.get(name.partition("_")[0], "Qwert"))
        expected = _filled(
            gettext(sentence),
            lambda name: reading._value(name, _FILLINGS.get(name.partition("_")[0], "Qwert"), "de", 1),
        )
        if told(english) != expected:
            others.append((sentence, told(english)))
    assert others == []


def _filled(sentence: str, value: Callable[[str], str]) -> str:
    return re.sub(r"\{([a-z_]+)\}", lambda place: value(place[1]), sentence)
