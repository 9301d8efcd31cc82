"""One ticket with real processes: mails, an answer, and the all-clear."""

from __future__ import annotations

import re

import httpx

from tests.doubles.smtp import Mail, SmtpDouble
from tests.support.installation import Installation, ticket, traces, until


def to(mails: SmtpDouble, name: str) -> list[Mail]:
    return [mail for mail in mails.mails if mail.to == f"{name}@example.org"]


def link_of(mail: Mail) -> str:
    """The link to the page with the buttons; both parts of the mail have the same."""
    (link,) = set(re.findall(r"https?://\S+/a/[\w-]+", mail.part("plain")))
    assert f'href="{link}"' in mail.part("html")
    return str(link)


def press(link: str, button: str) -> httpx.Response:
    """What a person does: opens the page of a link and presses a button."""
    with httpx.Client(follow_redirects=True, timeout=30) as browser:
        page = browser.get(link)
        assert page.status_code == 200
        assert f'value="{button}"' in page.text
        protection = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert protection is not None
        answer = browser.post(link, data={"csrfmiddlewaretoken": protection[1], "command": button})
        assert answer.status_code == 200
        return answer


def test_ticket_pages_users_in_order_until_acknowledged(tocsin: Installation, mails: SmtpDouble) -> None:
    tocsin.is_forked = False  # it starts as users start it
    tocsin.serve()

    opened = tocsin.post(ticket(20817)).json()
    assert opened["status"] == "Mapped Opened"
    number = opened["alert_id"]
    until("Alice is mailed", lambda: to(mails, "alice"))
    (page,) = mails.mails
    assert page.subject == f"[P2 High] Acme: VPN 20817 down (Halo 20817) (Tocsin #{number})"
    assert "VPN 20817 down" in page.part("plain")
    assert "VPN 20817 down" in page.part("html")

    again = tocsin.post(ticket(20817)).json()
    assert (again["status"], again["alert_id"]) == ("Mapped Appended", number)
    assert tocsin.api(f"alerts/{number}")["count"] == 2
    assert "pages Bob Brown" in tocsin.api(f"alerts/{number}")["next_step"]["summary"]["text"]

    tocsin.jump(minutes=5)
    until("Bob is mailed", lambda: to(mails, "bob"))
    assert len(to(mails, "alice")) == 1

    link = link_of(to(mails, "bob")[0])
    assert httpx.get(link, timeout=30).status_code == 200
    assert httpx.head(link).status_code in (200, 405)
    assert tocsin.api(f"alerts/{number}")["acknowledged_by"] == []
    press(link, "acknowledge")
    alert = tocsin.api(f"alerts/{number}")
    assert (alert["status"], alert["acknowledged_by"]) == ("open", ["bob"])

    # Past the end of the policy, and nobody is told of it: somebody has answered.
    tocsin.jump(minutes=20)
    tocsin.jump(minutes=10)
    until("Bob is asked", lambda: len(to(mails, "bob")) == 2)
    assert "Still on it, Bob?" in to(mails, "bob")[1].part("plain")
    assert [len(to(mails, name)) for name in ("alice", "bob", "carol")] == [1, 2, 0]
    press(link_of(to(mails, "bob")[1]), "acknowledge")

    closed = tocsin.post(ticket(20817, "Closed")).json()
    assert (closed["status"], closed["alert_id"]) == ("Mapped Closed", number)
    alert = tocsin.api(f"alerts/{number}")
    assert (alert["status"], alert["source_status"]) == ("closed", "Closed")
    until("Alice is told that all is clear", lambda: len(to(mails, "alice")) == 2)
    assert "VPN 20817 down" in to(mails, "alice")[1].part("plain")
    assert "Nothing to do." in to(mails, "alice")[1].part("plain")

    late = tocsin.post(ticket(20817, "Closed")).json()
    assert late["status"] == "Mapped Ignored"
    log = tocsin.api("inbound-messages")["items"]
    statuses = ["Mapped Ignored", "Mapped Closed", "Mapped Appended", "Mapped Opened"]
    assert [message["status"] for message in log] == statuses
    assert all(message["reason"] for message in log)

    deliveries = tocsin.api(f"deliveries?alert_id={number}")["items"]
    sent = sorted((one["user"], one["purpose"], one["status"]) for one in deliveries)
    assert sent == [
        ("alice", "all_clear", "sent"),
        ("alice", "page", "sent"),
        ("bob", "page", "sent"),
        ("bob", "still_on_it", "sent"),
    ]
    assert len(mails.mails) == 4
    assert traces(tocsin.logs()) == []


def test_unanswered_escalation_notifies_the_manager(tocsin: Installation, mails: SmtpDouble) -> None:
    tocsin.serve()
    number = tocsin.post(ticket(7)).json()["alert_id"]
    until("Alice is mailed", lambda: to(mails, "alice"))
    tocsin.jump(minutes=5)
    until("Bob is mailed", lambda: to(mails, "bob"))
    assert to(mails, "carol") == []
    tocsin.jump(minutes=5)
    until("Carol is told", lambda: to(mails, "carol"))
    (notice,) = to(mails, "carol")
    assert f"(Tocsin #{number})" in notice.subject
    assert tocsin.api(f"alerts/{number}")["status"] == "open"
    assert traces(tocsin.logs()) == []
