"""The alert list, the alert page and their commands."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from tests.web.conftest import Company
from tocsin.access import audit
from tocsin.access.audit import COMMAND_LINE
from tocsin.alerts.models import Acknowledgement, Alert, AlertEvent
from tocsin.alerts.states import AlertStatus, Priority
from tocsin.core.reasons import as_reason
from tocsin.core.runtime import clock
from tocsin.escalation.commands import policy_spec, save_policy
from tocsin.escalation.models import EscalationRun
from tocsin.escalation.reasons import EXHAUSTED_RUN
from tocsin.escalation.run.run_state import RunStatus
from tocsin.notify.models import Delivery, Notification
from tocsin.notify.states import DeliveryState
from tocsin.notify.text import signed_links
from tocsin.people.models import ContactMethod, OutOfOffice, User
from tocsin.web.alerts import detail
from tocsin.web.alerts.detail import assignees_of
from tocsin.web.alerts.queries import next_targets
from tocsin.web.ui import object_list

type Opens = Callable[..., int]
type BrowserOf = Callable[[User], Client]


def text_of(client: Client, path: str, **headers: str) -> str:
    return client.get(path, headers=headers).content.decode()


def word(number: int) -> str:
    """A word for a number: subjects that differ in digits alone are one row."""
    return f"{chr(97 + number // 26)}{chr(97 + number % 26)}"


def test_the_list_shows_open_alerts_and_counts_each_tab(
    company: Company, browser_of: BrowserOf, open_alert: Opens
) -> None:
    open_alert("VPN down"), open_alert("Disk full")
    count = open_alert("Printer stuck")
    client = browser_of(company.responder)
    client.post(f"/alerts/{count}/assign")
    text = text_of(client, "/alerts/")
    assert "VPN down" in text
    assert "Disk full" in text
    assert "Printer stuck" not in text
    assert "Open <b>2</b>" in text
    assert "Assigned <b>1</b>" in text
    assert "Printer stuck" in text_of(client, "/alerts/?tab=assigned")


def test_alert_list_uses_constant_queries_for_any_length(
    company: Company, browser_of: BrowserOf, open_alert: Opens
) -> None:
    client = browser_of(company.responder)
    counts = []
    for more in (2, 12):
        for number in range(more):
            open_alert(f"Alert {number}")
        with CaptureQueriesContext(connection) as queries:
            client.get("/alerts/")
        counts.append(len(queries))
    assert counts[0] == counts[1]
    assert counts[1] < 20


def test_truncated_timeline_links_to_its_beginning(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    number = open_alert("VPN down")
    beginning = str(AlertEvent.objects.filter(alert_id=number).earliest("pk").reason)
    changes = [
        AlertEvent(alert_id=number, kind="updated", at=clock.now(), reason=as_reason(f"site {one}."), via="web")
        for one in range(detail.INITIAL_ENTRIES + 1)
    ]
    client = browser_of(company.responder)
    assert "are not shown" not in text_of(client, f"/alerts/{number}/")
    AlertEvent.objects.bulk_create(changes)
    text = text_of(client, f"/alerts/{number}/")
    assert f"site {detail.INITIAL_ENTRIES}." in text
    assert beginning not in text
    assert "Earlier entries are not shown." in text
    assert 'href="?all"' in text
    whole = text_of(client, f"/alerts/{number}/?all")
    assert beginning in whole
    assert "are not shown" not in whole


def test_old_value_precedes_new_value_in_right_to_left_text() -> None:
    assert detail.add_direction_marks("it: subject الشبكة 1 → الشبكة 2; team a") == (
        "it: subject الشبكة 1\u200e → \u200eالشبكة 2\u200e; \u200eteam a"
    )
    assert detail.add_direction_marks("it: team 1 → 2; site a") == "it: team 1 → 2; site a"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("q=vpn", {"VPN down"}),
        ("q=globex", {"Disk full"}),
        ("q=nothing+like+it", set()),
        ("priority=low", {"Disk full"}),
        ("client=acme", {"VPN down"}),
        ("priority=nonsense", {"VPN down", "Disk full"}),
        ("cursor=nonsense", {"VPN down", "Disk full"}),
        ("q=%00", {"VPN down", "Disk full"}),
    ],
)
def test_the_list_is_filtered_and_searched(
    company: Company, browser_of: BrowserOf, open_alert: Opens, query: str, found: set[str]
) -> None:
    open_alert("VPN down", client="Acme")
    open_alert("Disk full", Priority.LOW, client="Globex")
    text = text_of(browser_of(company.observer), f"/alerts/?{query}")
    assert {subject for subject in ("VPN down", "Disk full") if subject in text} == found


def test_alert_is_searchable_by_number(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    number = open_alert("VPN down")
    open_alert("Disk full")
    text = text_of(browser_of(company.observer), f"/alerts/?q=%23{number}")
    assert "VPN down" in text
    assert "Disk full" not in text


def test_a_long_list_comes_in_pages(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    numbers = [open_alert(f"Alert {word(n)}") for n in range(53)]
    client = browser_of(company.observer)
    first = text_of(client, "/alerts/")
    assert f"Alert {word(52)}" in first
    assert f"Alert {word(2)}" not in first
    later = text_of(client, f"/alerts/?cursor={numbers[3]}")
    assert f"Alert {word(2)}" in later
    assert f"Alert {word(3)}" not in later


def test_live_update_renders_only_the_requested_part(
    company: Company, browser_of: BrowserOf, open_alert: Opens
) -> None:
    open_alert("VPN down")
    part = text_of(browser_of(company.observer), "/alerts/", **{"X-Part": "list"})
    assert "VPN down" in part
    assert "<html" not in part
    assert "<html" in text_of(browser_of(company.observer), "/alerts/", **{"X-Part": "nonsense"})


def test_bulk_assignment_continues_after_a_rejected_alert(
    company: Company, browser_of: BrowserOf, open_alert: Opens
) -> None:
    one, other, closed = open_alert("One"), open_alert("Other"), open_alert("Closed")
    client = browser_of(company.responder)
    client.post(f"/alerts/{closed}/close")
    answer = client.post("/alerts/bulk", {"alert": [one, other, closed], "command": "take"}, follow=True)
    text = answer.content.decode()
    assert "2 alerts assigned to you." in text
    assert f"Alert {closed} was already closed" in text
    assert set(Alert.objects.filter(owner=company.responder).values_list("pk", flat=True)) == {one, other}


def test_bulk_close_asks_first_and_can_be_undone(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    one, other = open_alert("VPN down"), open_alert("Disk full")
    client = browser_of(company.responder)
    form = {"alert": [one, other], "command": "close"}
    question = client.post("/alerts/bulk", form).content.decode()
    assert "Close 2 alerts?" in question
    assert "VPN down" in question
    assert set(Alert.objects.values_list("status", flat=True)) == {"open"}
    assert "2 alerts closed." in client.post("/alerts/bulk", {**form, "sure": "yes"}, follow=True).content.decode()
    assert set(Alert.objects.values_list("status", flat=True)) == {"closed"}
    assert "Undo for 2 alerts" in text_of(client, "/alerts/")
    assert "Undone for 2 alerts." in client.post("/alerts/bulk", {"command": "undo"}, follow=True).content.decode()
    assert set(Alert.objects.values_list("status", flat=True)) == {"open"}
    assert "Undo for" not in text_of(client, "/alerts/")


def test_bulk_reaches_the_whole_filtered_list(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    for number in range(object_list.DEFAULT_LIMIT + 3):
        open_alert(f"Storm {word(number)}")
    apart = open_alert("Quiet")
    client = browser_of(company.responder)
    text = text_of(client, "/alerts/?q=Storm")
    assert f"{object_list.DEFAULT_LIMIT} on this page" in text
    assert f"Select all {object_list.DEFAULT_LIMIT + 3}<" in text
    assert f"Select all {object_list.DEFAULT_LIMIT + 4}<" in text_of(client, "/alerts/")
    assert 'name="all"' not in text_of(client, "/alerts/?q=Quiet"), "one page is all of them"
    form = {"alert": [], "all": "yes", "command": "acknowledge", "q": "Storm"}
    question = client.post("/alerts/bulk", form).content.decode()
    assert f"Acknowledge {object_list.DEFAULT_LIMIT + 3} alerts?" in question
    named = re.findall(r'name="alert" value="(\d+)"', question)
    client.post("/alerts/bulk", {"alert": named, "command": "acknowledge", "sure": "yes"})
    assert Acknowledgement.objects.count() == object_list.DEFAULT_LIMIT + 3
    assert not Acknowledgement.objects.filter(alert=apart).exists()


def test_list_has_headed_columns_and_priority_bars(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    open_alert("VPN down", Priority.CRITICAL, client="Acme")
    other = open_alert("Disk full", Priority.LOW)
    client = browser_of(company.responder)
    text = text_of(client, "/alerts/")
    assert re.findall(r'<th scope="col"(?! class="choose")[^>]*>([^<]+)</th>', text) == [
        "Priority", "Subject", "Client", "Integration", "Assignee", "Age", "Next action",
    ]  # fmt: skip
    rows = {subject: next(one for one in text.split("<tr") if subject in one) for subject in ("VPN down", "Disk full")}
    assert 'class="stripe now"' in rows["VPN down"]
    assert 'class="stripe "' in rows["Disk full"]
    client.post(f"/alerts/{other}/assign")
    Alert.objects.filter(pk=other).update(priority=Priority.CRITICAL)
    assert 'class="stripe now"' in text_of(client, "/alerts/?tab=assigned"), "the priority, not the state"


def test_filters_are_saved_by_name_and_for_their_user(
    company: Company, browser_of: BrowserOf, open_alert: Opens
) -> None:
    open_alert("VPN down", Priority.CRITICAL)
    client = browser_of(company.responder)
    form = {
        "name": "Urgent",
        "tab": "open",
        "priority": "critical",
        "cursor": "7",
        "next": "/alerts/?priority=critical",
    }
    assert client.post("/alerts/preferences", form)["Location"] == "/alerts/?priority=critical"
    link = 'href="?tab=open&amp;priority=critical"'
    assert link in text_of(client, "/alerts/")
    assert '<bdi class="filter-name">Urgent</bdi>' in text_of(client, "/alerts/?priority=critical&tab=open")
    assert link not in text_of(browser_of(company.admin), "/alerts/"), "each user's own"
    client.post("/alerts/preferences", {**form, "name": "urgent", "priority": "low"})
    assert [one["query"] for one in User.objects.get(username="bob").alert_filters] == ["tab=open&priority=low"]
    nameless = client.post("/alerts/preferences", {**form, "name": " "}, follow=True).content.decode()
    assert 'class="notice wait' in nameless
    client.post("/alerts/preferences", {"forget": "urgent"})
    assert User.objects.get(username="bob").alert_filters == []


def test_density_of_the_list_is_remembered(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    open_alert("VPN down")
    client = browser_of(company.observer)
    assert "alert-rows compact" not in text_of(client, "/alerts/")
    client.post("/alerts/preferences", {"compact": "yes"})
    assert "alert-rows compact" in text_of(client, "/alerts/")
    client.post("/alerts/preferences", {"compact": "no"})
    assert "alert-rows compact" not in text_of(client, "/alerts/")


def test_bulk_goes_back_to_no_other_host(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    form = {"alert": [open_alert()], "command": "take", "next": "//evil.example.org/"}
    assert browser_of(company.responder).post("/alerts/bulk", form)["Location"] == "/alerts/"


def test_bulk_action_ignores_impossible_alert_numbers(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.responder)
    for number in ("9" * 6000, "9" * 19, "-1", "²"):
        answer = client.post("/alerts/bulk", {"alert": [number], "command": "take"}, follow=True)
        assert "Choose at least one alert." in answer.content.decode()


def test_the_page_of_an_alert_tells_its_story(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    number = open_alert(
        "VPN down", client="Acme", requester="José", requester_phone="+41 44 555 00 17", long_text="All are offline."
    )
    text = text_of(browser_of(company.responder), f"/alerts/{number}/")
    for shown_text in (
        "VPN down",
        "Acme",
        "All are offline.",
        'href="tel:+41 44 555 00 17"',
        "Next action",
        "Bob Brown",
    ):
        assert shown_text in text, shown_text
    assert "Opened by HaloITSM." in text


def test_delayed_and_cancelled_pages_show_their_end_time(
    company: Company, browser_of: BrowserOf, open_alert: Opens
) -> None:
    number = open_alert("VPN down")
    now = clock.now()
    page = Notification.objects.create(
        id=uuid4(), alert_id=number, user=company.responder, purpose="page", channel="voice", created_at=now
    )
    due = now + timedelta(hours=3)
    later = Delivery.objects.create(
        id=uuid4(), notification=page, alert_id=number, channel="voice", purpose="page", queued_at=now, due_at=due
    )
    moment = timezone.localtime(due, zoneinfo.ZoneInfo(company.admin.time_zone))
    text = text_of(browser_of(company.admin), f"/alerts/{number}/")
    line = text.partition("Call → Bob Brown")[2].partition("</li>")[0]
    assert " queued</span>" in line
    assert f"until {moment:%H:%M:%S}" in line

    Delivery.objects.filter(pk=later.pk).update(
        status="cancelled", ended_at=now, reason=as_reason("Bob Brown acknowledged it.")
    )
    entries = detail.read(Alert.objects.get(pk=number), now).entries
    (entry,) = (one for one in entries if one.state is DeliveryState.CANCELLED)
    assert entry.at == now, "it is no line of the future"


def test_html_of_a_ticket_is_made_safe(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    html = "<p onclick='x()'>Hello <b>you</b><script>alert(1)</script><img src=http://evil.example.org/x.png></p>"
    number = open_alert("<script>alert(2)</script>", long_text=html)
    text = text_of(browser_of(company.responder), f"/alerts/{number}/")
    assert "<b>you</b>" in text
    for bad in ("alert(1)", "<script>alert(2)", "onclick", "evil.example.org"):
        assert bad not in text, bad


@pytest.mark.parametrize(
    ("command", "form", "status"),
    [
        ("assign", {}, AlertStatus.ASSIGNED),
        ("assign", {"name": "Somebody outside"}, AlertStatus.ASSIGNED),
        ("hold", {"for": "30m"}, AlertStatus.ON_HOLD),
        ("hold", {"until": "2031-01-01T09:00"}, AlertStatus.OPEN),
        ("hold", {"for": "soon"}, AlertStatus.OPEN),
        ("hold", {}, AlertStatus.OPEN),
        ("close", {"note": "A cable."}, AlertStatus.CLOSED),
        ("cancel", {}, AlertStatus.CANCELLED),
        ("reply", {"text": "Looking."}, AlertStatus.OPEN),
        ("reply", {"text": ""}, AlertStatus.OPEN),
        ("merge", {"into": "999999"}, AlertStatus.OPEN),
        ("merge", {"into": "no number"}, AlertStatus.OPEN),
        ("escalate", {}, AlertStatus.OPEN),
        ("acknowledge", {}, AlertStatus.OPEN),
        ("assign", {"user": "999999"}, AlertStatus.OPEN),
    ],
)
def test_each_button_does_what_it_says_or_says_why_not(
    company: Company, browser_of: BrowserOf, open_alert: Opens, command: str, form: dict[str, str], status: AlertStatus
) -> None:
    number = open_alert()
    answer = browser_of(company.responder).post(f"/alerts/{number}/{command}", form, follow=True)
    assert answer.status_code == 200
    assert 'class="notice' in answer.content.decode()
    assert Alert.objects.get(pk=number).status == status


def test_unknown_command_or_alert_returns_404(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    client = browser_of(company.responder)
    assert client.post(f"/alerts/{open_alert()}/explode").status_code == 404
    assert client.post("/alerts/999999/close").status_code == 404


def test_opening_the_address_of_a_command_does_nothing(
    company: Company, browser_of: BrowserOf, open_alert: Opens
) -> None:
    number = open_alert()
    assert browser_of(company.responder).get(f"/alerts/{number}/close").status_code == 405
    assert Alert.objects.get(pk=number).status == AlertStatus.OPEN


def test_an_observer_sees_an_alert_and_cannot_act(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    number = open_alert()
    client = browser_of(company.observer)
    assert "Assign to me" not in text_of(client, f"/alerts/{number}/")
    assert client.post(f"/alerts/{number}/close").status_code == 403
    assert client.post("/alerts/bulk", {"alert": [number], "command": "close"}).status_code == 403
    assert Alert.objects.get(pk=number).status == AlertStatus.OPEN


def test_command_can_be_undone_for_a_minute(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    number = open_alert()
    client = browser_of(company.responder)
    client.post(f"/alerts/{number}/close")
    assert "Undo within" in text_of(client, f"/alerts/{number}/")
    assert "Undo within" not in text_of(browser_of(company.admin), f"/alerts/{number}/")
    client.post(f"/alerts/{number}/undo")
    assert Alert.objects.get(pk=number).status == AlertStatus.OPEN


def test_an_acknowledgement_is_the_persons_own(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    number = open_alert()
    browser_of(company.responder).post(f"/alerts/{number}/acknowledge")
    assert list(Acknowledgement.objects.values_list("user__username", flat=True)) == ["bob"]
    event = AlertEvent.objects.filter(alert=number, kind="acknowledged").get()
    assert (event.via, event.actor_name) == ("web", "Bob Brown")
    assert "Acknowledged <b>1</b>" in text_of(browser_of(company.admin), "/alerts/")


def test_an_alert_is_opened_by_hand_and_pages(company: Company, browser_of: BrowserOf) -> None:
    form = {
        "subject": "Server room is hot",
        "priority": "high",
        "policy": company.policy.pk,
        "groups": [company.desk.pk],
    }
    answer = browser_of(company.responder).post("/alerts/new/", form, follow=True)
    assert "Server room is hot" in answer.content.decode()
    assert "Bob Brown created the alert." in answer.content.decode()


def test_paging_preview_is_shown_before_creating_an_alert(company: Company, browser_of: BrowserOf) -> None:
    form = {"subject": "Server room is hot", "priority": "high", "policy": company.policy.pk, "preview": "1"}
    client = browser_of(company.responder)
    answer = client.post("/alerts/new/", {**form, "groups": [company.desk.pk]})
    text = answer.content.decode()
    assert "Would notify" in text
    assert "<bdi>Bob Brown</bdi>" in text
    assert 'value="Server room is hot"' in text
    nobody = client.post("/alerts/new/", {**form, "policy": ""}).content.decode()
    assert "pages no one" in nobody
    assert not Alert.objects.exists()


def test_alert_without_reachable_user_requires_confirmation(company: Company, browser_of: BrowserOf) -> None:
    form = {"subject": "Hot in the server room", "priority": "high", "policy": company.policy.pk}
    client = browser_of(company.responder)
    answer = client.post("/alerts/new/", form)
    assert answer.status_code == 422
    assert "Not created yet" in answer.content.decode()
    assert not Alert.objects.exists()
    assert client.post("/alerts/new/", {**form, "anyway": "1"}).status_code == 302
    assert Alert.objects.count() == 1


def test_the_only_group_is_whom_a_new_alert_is_for(company: Company, browser_of: BrowserOf) -> None:
    client = browser_of(company.responder)
    desk = f'name="groups" value="{company.desk.pk}"'

    def line() -> str:
        return next(one for one in text_of(client, "/alerts/new/").split("<input") if desk in one)

    assert "checked" not in line()
    company.night.delete()
    assert "checked" in line()


def test_what_was_typed_stays_when_something_is_missing(company: Company, browser_of: BrowserOf) -> None:
    answer = browser_of(company.responder).post("/alerts/new/", {"client": "Acme", "long_text": "It smells."})
    text = answer.content.decode()
    assert answer.status_code == 422
    assert "It smells." in text
    assert 'value="Acme"' in text


def test_lists_show_origin_and_state_in_readers_language(
    company: Company, browser_of: BrowserOf, open_alert: Opens
) -> None:
    over = open_alert("VPN down")
    EscalationRun.objects.filter(alert=over).update(status=RunStatus.EXHAUSTED, due_at=None, reason=EXHAUSTED_RUN())
    client = browser_of(company.responder)
    client.post("/alerts/new/", {"subject": "Hot", "priority": "high", "groups": [company.desk.pk], "anyway": "1"})
    Alert.objects.filter(pk=over).update(is_test=True)
    text = text_of(client, "/alerts/", **{"Accept-Language": "de"})
    assert "Niemand hat reagiert, und die Richtlinie ist erschöpft." in text
    assert "von Hand angelegt" in text
    for path in ("/alerts/", "/search/?q=VPN"):
        assert ">TEST<" in text_of(client, path), path


def test_hold_until_invalid_day_shows_expected_format(
    company: Company, browser_of: BrowserOf, open_alert: Opens
) -> None:
    number = open_alert()
    answer = browser_of(company.responder).post(f"/alerts/{number}/hold", {"until": "2026-02-31T00:00"}, follow=True)
    assert answer.status_code == 200
    assert "Enter an end date and time." in answer.content.decode()


def test_unstorable_characters_are_stripped_from_reply(
    company: Company, browser_of: BrowserOf, open_alert: Opens
) -> None:
    number = open_alert()
    assert browser_of(company.responder).post(f"/alerts/{number}/reply", {"text": "On\0 it"}).status_code == 302
    assert "On\ufffd it" in str(AlertEvent.objects.filter(alert_id=number, kind="replied").values())


def test_the_description_is_not_shown_again_with_its_html(
    company: Company, browser_of: BrowserOf, open_alert: Opens
) -> None:
    number = open_alert(long_text="Nobody receives mail.")
    Alert.objects.filter(pk=number).update(custom={"details": "<p>Nobody receives mail.</p>"})
    client = browser_of(company.responder)
    assert "&lt;p&gt;" not in text_of(client, f"/alerts/{number}/")
    Alert.objects.filter(pk=number).update(long_text="")
    assert "&lt;p&gt;" in text_of(client, f"/alerts/{number}/"), "nothing that was sent is left out"


def actions(client: Client, path: str) -> tuple[list[str], list[str]]:
    """The labels of the buttons beside the menu, and of what is in it; one that asks first ends in "…"."""
    page = client.get(path).content.decode().split('class="acts action-bar">')[-1].split('class="notice undo')[0]
    bar, _menu, more = page.partition("More actions")
    assert " disabled" not in page
    buttons = re.findall(r"<(button|summary) class=\"button(?! small)[^>]*>([^<]+)<", bar)
    items = re.findall(r"<(button|summary) class=\"menu-item[^>]*><svg.*?</svg><span>([^<]+)<", more)
    shown = [[f"{label}…" if tag == "summary" else label for tag, label in part] for part in (buttons, items)]
    return shown[0], shown[1]


def test_bar_follows_the_alerts_state(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    number = open_alert()
    mine, other = browser_of(company.responder), browser_of(company.manager)
    path = f"/alerts/{number}/"
    bar, more = actions(mine, path)
    assert bar == ["Acknowledge", "Assign to me"]
    assert more == [
        "Add note…", "Snooze…", "Reassign…", "Merge into another…", "Close…", "Close as false alarm…", "Escalate now…",
    ]  # fmt: skip
    mine.post(f"{path}acknowledge")
    assert actions(mine, path)[0] == ["Add note…", "Assign to me"]
    assert actions(other, path)[0] == ["Acknowledge too", "Assign to me"]
    mine.post(f"{path}assign")
    assert actions(mine, path)[0] == ["Add note…", "Close…"]
    assert actions(other, path)[0] == ["Acknowledge too", "Assign to me"]
    mine.post(f"{path}hold", {"for": "30m"})
    assert actions(mine, path)[0] == ["Resume", "Close…"]
    mine.post(f"{path}close")
    assert actions(mine, path) == (["Add note…", "Reopen…"], [])
    Alert.objects.update(closed_at=clock.now() - timedelta(hours=25))
    assert actions(mine, path) == (["Add note…"], [])


def test_signed_link_has_the_bar_of_its_commands(company: Company, open_alert: Opens) -> None:
    number = open_alert()
    path = signed_links.path(signed_links.sign(number, company.responder.pk, clock.now()))
    bar, more = actions(Client(), path)
    assert bar == ["Acknowledge", "Assign to me"]
    assert more == ["Add note…", "Snooze…", "Reassign…", "Close…", "Escalate now…"]
    Client().post(path, {"command": "assign"})
    bar, more = actions(Client(), path)
    assert bar == ["Add note…", "Close…"]
    assert more == ["Snooze…", "Reassign…", "Escalate now…"]


def test_assignee_is_asked_to_accept(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    number, client = open_alert(), browser_of(company.responder)
    path = f"/alerts/{number}/"
    browser_of(company.manager).post(f"{path}assign", {"user": company.responder.pk})
    assert actions(client, path)[0] == ["Accept", "Close…"]
    assert "Unless Bob Brown accepts the alert" in text_of(client, path)
    client.post(f"{path}acknowledge")
    assert actions(client, path)[0] == ["Add note…", "Close…"]
    assert "Paging stopped" in text_of(client, f"/alerts/{number}/")


def test_assignees_are_listed_on_call_first(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    number, now = open_alert(), clock.now()
    OutOfOffice.objects.create(user=company.manager, starts_at=now, ends_at=now + timedelta(hours=1))
    ContactMethod.objects.create(user=company.manager, label="Mail", channel="email", address="mia@example.org")
    groups = assignees_of(number, company.responder.pk, clock.now())
    assert [one.text.split(" (")[0] for one in groups[0].people] == ["Alice Andersson", "Mia Manager"]
    assert groups[0].people[1].text == "Mia Manager (on call, out of office, email only)"
    assert groups[1].people == ()
    assert groups[2].people == (), "an observer cannot respond"


def test_acknowledged_alert_says_what_happens_now(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    number, client = open_alert(), browser_of(company.responder)
    assert "Stops when" in text_of(client, f"/alerts/{number}/")
    client.post(f"/alerts/{number}/acknowledge")
    assert "Stops when" not in text_of(client, f"/alerts/{number}/")


def test_list_is_sorted_by_priority_then_age(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    for subject, priority in (("one", Priority.LOW), ("two", Priority.HIGH), ("three", Priority.CRITICAL)):
        open_alert(subject, priority)
    open_alert("four", Priority.HIGH)
    text = text_of(browser_of(company.responder), "/alerts/?sort=priority")
    subjects = re.findall(r'class="subject"[^>]*><bdi>(\w+)</bdi>', text)
    assert subjects == ["three", "two", "four", "one"]
    assert "P1 Critical" in text
    assert "P4 Low" in text


def test_sla_countdown_turns_into_overdue(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    client, now = browser_of(company.responder), clock.now()
    custom = {"respond_by": (now + timedelta(minutes=12)).isoformat(), "fix_by": (now - timedelta(hours=1)).isoformat()}
    number = open_alert()
    Alert.objects.filter(pk=number).update(custom=custom)
    assert "respond within" in text_of(client, "/alerts/")
    assert "respond within" in text_of(client, f"/alerts/{number}/")
    client.post(f"/alerts/{number}/acknowledge")
    text = text_of(client, "/alerts/?tab=acknowledged")
    assert "respond within" not in text
    assert "resolution was due" in text
    client.post(f"/alerts/{number}/close")
    assert "was due" not in text_of(client, f"/alerts/{number}/")


def test_slas_times_are_in_the_readers_zone(company: Company, browser_of: BrowserOf, open_alert: Opens) -> None:
    number = open_alert()
    # Halo sends local times of its own zone, and a year before 1971 for "not set".
    custom = {"respond_by": "2026-11-24T10:15:00", "fix_by": "1899-12-30T00:00:00"}
    Alert.objects.filter(pk=number).update(custom=custom)
    audit.change_settings({"time_zone": "America/New_York"}, actor=COMMAND_LINE, now=clock.now())
    User.objects.filter(pk=company.responder.pk).update(time_zone="Europe/Zurich")
    text = text_of(browser_of(company.responder), f"/alerts/{number}/")
    assert "Tue 24 Nov 2026, 16:15 CET" in text
    assert "Fix by" not in text
    assert "1899" not in text


def test_policy_targets_count_where_the_ticket_has_none(company: Company, open_alert: Opens) -> None:
    spec = {**policy_spec(company.policy), "sla": {"respond_by": "15m"}}
    save_policy(spec, existing=company.policy, actor=COMMAND_LINE, now=clock.now())
    company.policy.refresh_from_db()
    alert = Alert.objects.get(pk=open_alert())
    target = next_targets([alert], set(), alert.opened_at)[alert.pk]
    assert target.at == alert.opened_at + timedelta(minutes=15)
    assert not target.is_breached
    assert next_targets([alert], {alert.pk}, alert.opened_at) == {}
