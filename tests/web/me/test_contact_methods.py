"""Contact methods: administrators add them for others, users verify them, and a wrong code is explained."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.test import Client

from tests.web.conftest import Company
from tocsin.access.audit import AuditActor
from tocsin.access.models import AuditEntry
from tocsin.core.db import database
from tocsin.core.runtime import clock
from tocsin.notify.inbound import verification
from tocsin.notify.models import VerificationCode
from tocsin.notify.pages import load_recipients
from tocsin.people.changes import users
from tocsin.people.models import ContactMethod, User

type BrowserOf = Callable[[User], Client]

PHONE = {"label": "Work phone", "channel": "sms", "address": "+41790000009"}


@pytest.fixture
def pending(company: Company) -> ContactMethod:
    """A phone that Alice added for Bob."""
    alice = AuditActor.from_user(company.admin, "web", limits=None)
    return users.save_contact_method(company.responder, PHONE, actor=alice, now=clock.now())


def usable_labels(user: User) -> list[str]:
    with database.transaction() as connection:
        recipient = load_recipients(connection, {user.pk})[user.pk]
    return [method.label for method in recipient.usable]


def test_administrator_adds_a_contact_method_that_waits(company: Company, browser_of: BrowserOf) -> None:
    bob = company.responder
    admin = browser_of(company.admin)
    path = f"/me/contact-methods/new/?user={bob.pk}"
    assert "Bob Brown verifies a new address with a code." in admin.get(path).content.decode()
    answer = admin.post(path, {**PHONE, "enabled": "on"}, follow=True)
    assert answer.redirect_chain == [(f"/users/{bob.pk}/", 302)]
    text = answer.content.decode()
    assert "Saved. It is not used until Bob Brown verifies it." in text
    assert "pending verification" in text
    assert usable_labels(bob) == ["Email-Official"]
    assert (
        AuditEntry.objects.filter(object_type="user", object_id=str(bob.pk)).latest("pk").actor_id == company.admin.pk
    )


def test_user_is_asked_on_home_to_verify(company: Company, browser_of: BrowserOf, pending: ContactMethod) -> None:
    bob = browser_of(company.responder)
    assert f'href="/me/contact-methods/{pending.pk}/confirm/"' in bob.get("/").content.decode()
    assert "is not used until you verify it" not in browser_of(company.admin).get("/").content.decode()


def test_administrator_edits_and_deletes_anothers_contact_method(
    company: Company, browser_of: BrowserOf, pending: ContactMethod
) -> None:
    admin = browser_of(company.admin)
    path = f"/me/contact-methods/{pending.pk}/"
    admin.post(path, {**PHONE, "label": "Pager", "enabled": "on"})
    pending.refresh_from_db()
    assert (pending.label, pending.awaits_code) == ("Pager", True)
    assert admin.post(f"{path}delete")["Location"] == f"/users/{company.responder.pk}/"
    assert not ContactMethod.objects.filter(pk=pending.pk).exists()


def test_only_the_user_confirms_the_code(company: Company, browser_of: BrowserOf, pending: ContactMethod) -> None:
    assert browser_of(company.admin).get(f"/me/contact-methods/{pending.pk}/confirm/").status_code == 404


def test_others_cannot_change_a_contact_method(company: Company, browser_of: BrowserOf, pending: ContactMethod) -> None:
    manager = browser_of(company.manager)
    assert manager.get(f"/me/contact-methods/new/?user={company.responder.pk}").status_code == 403
    assert manager.post(f"/me/contact-methods/{pending.pk}/", PHONE).status_code == 404
    assert manager.post(f"/me/contact-methods/{pending.pk}/delete").status_code == 404


def test_code_without_a_provider_is_not_said_to_be_sent(
    company: Company, browser_of: BrowserOf, pending: ContactMethod
) -> None:
    path = f"/me/contact-methods/{pending.pk}/confirm/"
    text = browser_of(company.responder).post(path, {"send": "1"}, follow=True).content.decode()
    assert "No provider carries SMS: the code is in the sandbox" in text
    assert "We sent you a code" not in text


def test_wrong_code_is_explained_beside_its_field(
    company: Company, browser_of: BrowserOf, pending: ContactMethod
) -> None:
    bob, path = browser_of(company.responder), f"/me/contact-methods/{pending.pk}/confirm/"
    verification.send_code(pending, now=clock.now())
    answer = bob.post(path, {"code": "12"})
    assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["code"])
    text = answer.content.decode()
    assert "Wrong code." in text
    assert "Send a new code" in text


def test_used_up_or_expired_code_keeps_its_explanation(
    company: Company, browser_of: BrowserOf, pending: ContactMethod
) -> None:
    bob, path = browser_of(company.responder), f"/me/contact-methods/{pending.pk}/confirm/"
    verification.send_code(pending, now=clock.now())
    for _ in range(verification.MAX_CODE_TRIES + 1):
        answer = bob.post(path, {"code": "12"})
    assert "Too many wrong codes." in answer.content.decode()
    VerificationCode.objects.update(expires_at=clock.now() - timedelta(minutes=1))
    text = bob.post(path, {"code": "12"}).content.decode()
    assert "This code has expired." in text
    assert "Send a new code" in text


def test_answer_whether_a_push_rings_is_kept(company: Company, browser_of: BrowserOf) -> None:
    actor = AuditActor.from_user(company.responder, "cli", limits=None)
    push = {"label": "Push", "channel": "ntfy", "address": "bob-topic"}
    method = users.save_contact_method(company.responder, push, actor=actor, now=clock.now())
    path = f"/me/contact-methods/{method.pk}/"
    bob = browser_of(company.responder)
    assert "Did it ring while the phone was silenced?" in bob.get(path).content.decode()
    answer = bob.post(f"{path}ring", {"rings": "no"}, follow=True)
    assert "You said that it does not ring" in answer.content.decode()
    method.refresh_from_db()
    assert method.rings_silenced is False
    assert browser_of(company.admin).post(f"{path}ring", {"rings": "yes"}).status_code == 404
    assert AuditEntry.objects.latest("pk").after == {"contact_method": "Push", "rings_silenced": False}
    users.save_contact_method(
        company.responder, {**push, "address": "other"}, existing=method, actor=actor, now=clock.now()
    )
    method.refresh_from_db()
    assert method.rings_silenced is None
