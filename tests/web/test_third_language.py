"""A third language needs a catalogue and nothing else: in a language of brackets, no English text stands outside."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from uuid import UUID
from zoneinfo import available_timezones

import pytest
from django.test import Client

from tests.support.pseudo_language import CODE, pseudo_language, untranslated_words, words_of_page
from tests.web.conftest import Company
from tests.web.integrations.test_integrations import arrived
from tocsin.access.audit import COMMAND_LINE
from tocsin.alerts.states import Priority
from tocsin.core.reasons import REASON_TYPES
from tocsin.core.runtime import clock
from tocsin.notify.interfaces import AlertContent, Message
from tocsin.notify.providers.pool import CHANNELS
from tocsin.notify.states import Purpose
from tocsin.oncall.changes.commands import save_schedule
from tocsin.oncall.models import Schedule
from tocsin.people.models import User


def words_of(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"[^\W\d_]{2,}", text))


#: What is the same in every language: people, things and texts of the sample company, products, protocols, the
#: outcomes of messages, time zones.
SAME = words_of(
    "Tocsin Esperanto English Deutsch GLPI Django PostgreSQL Python HaloITSM VIP SMS SLA MB YAML UTC http https "
    "localhost Alice Andersson AA Bob Brown BB Mia Manager MM Olga Observer alice bob mia olga example org "
    "Service Desk Night Standard Office Days Email Official VPN down halo haloitsm Opened by Mapped"
) | words_of(" ".join(available_timezones()))

#: Names in YAML, payloads and settings, by the beginning of a page's path.
NAMES = {
    "/integrations/": "New Closed deleted cancel close open id name object status summary ticket acme com",
    "/inbound-log/": "New Closed cancel close open id ticket acme com",
    "/audit-log/": "acknowledge cli contact default email escalation group kind members methods name policy priority "
    "recipients role settings shifts steps time token username zone",
    # A version of PostgreSQL names who packaged it.
    "/system/": "Debian Ubuntu",
    "/system/doctor/": "fsync",
    "/providers/add/": "auto none starttls tls",
    "/settings/": "smtp user password tocsin hc ping com",
}

#: The subject of a mail and the command words are the same in every language.
SAME_IN_MESSAGES = SAME | words_of("Xyz xyz ALL Critical All clear for alerts and more")


@pytest.fixture(scope="module")
def third_language(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pseudo_language(tmp_path_factory.mktemp("locale")):
        yield


def paths(company: Company, alert: int, message: str, schedule: int) -> list[str]:
    halo = f"/integrations/{company.halo.pk}/"
    return [
        "/", "/alerts/", "/alerts/?tab=closed", f"/alerts/{alert}/", f"/alerts/{alert}/why-not-notified/",
        "/alerts/new/",
        "/inbound-log/", f"/inbound-log/{message}/",
        "/integrations/", halo, f"{halo}mapping/", f"{halo}rules/", f"{halo}routing/", f"{halo}settings/",
        f"{halo}test/",
        f"{halo}security/", f"{halo}versions/",
        "/policies/", f"/policies/{company.policy.pk}/", f"/policies/{company.policy.pk}/edit/", "/policies/new/",
        "/on-call/", f"/on-call/groups/{company.desk.pk}/", f"/on-call/schedules/{schedule}/", "/groups/",
        f"/groups/{company.desk.pk}/", "/system/", "/system/doctor/", "/settings/", "/providers/",
        "/providers/add/smtp/",
        "/outbound/", "/workflows/", "/workflows/new/?from=unacknowledged", "/maintenance/", "/audit-log/", "/me/",
        "/me/pages/", "/users/", f"/users/{company.responder.pk}/", "/reports/", "/search/?q=halo", "/nowhere/",
    ]  # fmt: skip


def names_on(path: str) -> set[str]:
    return set().union(*(words_of(words) for begin, words in NAMES.items() if path.startswith(begin)))


def test_pages_show_no_english_in_a_third_language(
    company: Company, browser_of: Callable[[User], Client], open_alert: Callable[..., int], third_language: None
) -> None:
    shift = {"name": "Days", "rotate": {"users": ["bob", "alice"], "every": "1w", "at": "08:00"}, "start": "2026-01-05"}
    spec = {"name": "Office", "group": "Service Desk", "time_zone": "UTC", "shifts": [shift]}
    save_schedule(spec, actor=COMMAND_LINE, now=company.now)
    alert, message = open_alert(), arrived(company)
    client = browser_of(company.responder)
    client.post(f"/alerts/{alert}/acknowledge")
    client.post(f"/alerts/{alert}/hold", {"for": "1h"})
    User.objects.update(language=CODE)
    company.admin.refresh_from_db()
    admin = browser_of(company.admin)
    english = {
        path: sorted(words)
        for path in paths(company, alert, message, Schedule.objects.get().pk)
        if (words := words_of_page(admin.get(path).content.decode()) - SAME - names_on(path))
    }
    assert english == {}


def test_messages_have_no_english_in_a_third_language(third_language: None) -> None:
    now = clock.now()
    alert = AlertContent(
        id=7, subject="Xyz", long_text="Xyz", priority=Priority.CRITICAL, opened_at=now, link="https://xyz.example/",
        client="Xyz", site="Xyz", source="Xyz", source_id="7",
    )  # fmt: skip
    english = {}
    for purpose in Purpose:
        message = Message(UUID(int=0), purpose, now, alerts=(alert,), title="Xyz", text="Xyz", language=CODE)
        for bundle in (message, replace(message, alerts=(alert, replace(alert, id=8)))):
            for name, channel in CHANNELS.items():
                rendered = channel.render(bundle)
                words = untranslated_words(rendered.text) | words_of_page(rendered.html)
                words |= untranslated_words(" ".join(button.label for button in rendered.buttons))
                if rendered.script is not None:
                    words |= untranslated_words(f"{rendered.script.message} {rendered.script.menu}")
                if words - SAME_IN_MESSAGES:
                    english[f"{purpose} {name}"] = sorted(words - SAME_IN_MESSAGES)
    assert english == {}


def test_reasons_have_no_english_in_a_third_language(third_language: None) -> None:
    english = {}
    for code, kind in REASON_TYPES.items():
        reason = kind(**dict.fromkeys(kind.names, 2))
        if not code.startswith("testing.") and (words := untranslated_words(reason.localized(CODE))):
            english[code] = sorted(words)
    assert english == {}
