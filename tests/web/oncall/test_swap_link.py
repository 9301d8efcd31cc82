"""The signed link of a swap request: it answers only on a button press, once, as the requested user."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client

from tests.web.conftest import Company
from tests.web.oncall.test_on_call_pages import make_schedule, next_monday, primary
from tocsin.access.audit import COMMAND_LINE
from tocsin.access.models import AuditEntry
from tocsin.core.config import environment
from tocsin.core.runtime import clock
from tocsin.notify import notices
from tocsin.notify.dispatch.dispatcher import DeliveryDispatcher
from tocsin.notify.models import SandboxMessage
from tocsin.notify.text import signed_links
from tocsin.notify.text.signed_links import LinkSubject
from tocsin.oncall.changes import swaps
from tocsin.oncall.changes.swaps import ShiftRange
from tocsin.oncall.models import SwapRequest
from tocsin.people.models import User


@pytest.fixture
def swap(company: Company) -> SwapRequest:
    """Bob asks Mia to take a shift of his."""
    rotate = {"every": "1w", "at": "09:00", "on": "monday", "users": ["bob"]}
    schedule = make_schedule(company, [{"name": "Weekly", "rotate": rotate, "start": "2026-01-05"}])
    monday = next_monday(clock.now())
    return swaps.request_swap(
        schedule,
        ShiftRange(monday, monday + timedelta(days=1)),
        requester=company.responder,
        requested_user=company.manager,
        in_return=None,
        message="My daughter's concert",
        actor=COMMAND_LINE,
        now=clock.now(),
    )


def link(swap: SwapRequest, user: User, age: timedelta = timedelta()) -> str:
    token = signed_links.sign(swap.pk, user.pk, clock.now() - age, LinkSubject.SWAP)
    return signed_links.path(token, LinkSubject.SWAP)


def state(swap: SwapRequest) -> str:
    return SwapRequest.objects.get(pk=swap.pk).state


def test_mail_of_a_request_carries_both_answers(company: Company, swap: SwapRequest) -> None:
    notices.queue_pending_notices(clock.now())
    box = DeliveryDispatcher()
    while box.run_once():
        box.settle()
    box.settle()
    box.close()
    mail = SandboxMessage.objects.get(address="mia@example.org").content
    links = re.findall(r"^(Accept|Decline): (\S+)$", mail["text"], re.MULTILINE)
    assert [label for label, _url in links] == ["Accept", "Decline"]
    assert all(f'href="{url}"' in mail["html"] for _label, url in links)
    assert "Opening one changes nothing" in mail["text"]
    path = dict(links)["Decline"].removeprefix(environment.current().public_url)
    assert "My daughter&#x27;s concert" in Client().get(path).content.decode()
    assert state(swap) == "asked"


def test_link_accepts_as_its_user_without_sign_in(swap: SwapRequest, company: Company) -> None:
    client, path = Client(), link(swap, company.manager)
    for method in ("get", "head"):
        assert getattr(client, method)(path).status_code == 200
    assert state(swap) == "asked", "opening changes nothing"
    text = client.post(path, {"answer": "accept"}, follow=True).content.decode()
    assert "Accepted. The shift is yours." in text
    assert state(swap) == "accepted"
    assert primary(swap.schedule, swap.starts_at) == "Mia Manager"
    entry = AuditEntry.objects.filter(object_type="swap").latest("pk")
    assert (entry.actor_id, entry.via) == (company.manager.pk, "email")
    assert client.get("/").status_code == 302, "the link signs nobody in"


def test_link_declines_once_and_then_shows_the_answer(swap: SwapRequest, company: Company) -> None:
    client, path = Client(), link(swap, company.manager)
    assert "Declined." in client.post(path, {"answer": "decline"}, follow=True).content.decode()
    text = client.post(path, {"answer": "accept"}, follow=True).content.decode()
    assert "already been declined" in text
    assert 'name="answer"' not in text
    assert state(swap) == "declined"


def test_unknown_answer_changes_nothing(swap: SwapRequest, company: Company) -> None:
    text = Client().post(link(swap, company.manager), {"answer": "perhaps"}, follow=True).content.decode()
    assert "Choose one of the buttons." in text
    assert state(swap) == "asked"


def test_link_of_anyone_else_opens_nothing(swap: SwapRequest, company: Company, open_alert: Callable[..., int]) -> None:
    assert Client().get(link(swap, company.responder)).status_code == 410
    alert = signed_links.sign(open_alert(), company.manager.pk, clock.now())
    assert Client().get(f"/swap/{alert}").status_code == 410, "a link of an alert answers no swap"
    own = signed_links.sign(swap.pk, company.manager.pk, clock.now(), LinkSubject.SWAP)
    assert Client().get(f"/a/{own}").status_code == 410, "nor the other way round"


def test_expired_link_says_so(swap: SwapRequest, company: Company) -> None:
    answer = Client().post(link(swap, company.manager, timedelta(days=8)), {"answer": "accept"})
    assert answer.status_code == 410
    assert "This link has expired." in answer.content.decode()
    assert state(swap) == "asked"


def test_link_of_a_deactivated_user_opens_nothing(swap: SwapRequest, company: Company) -> None:
    User.objects.filter(pk=company.manager.pk).update(is_active=False)
    assert Client().post(link(swap, company.manager), {"answer": "accept"}).status_code == 410
    assert state(swap) == "asked"
