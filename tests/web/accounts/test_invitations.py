"""Several invitations at once: pasted addresses or CSV, in the browser and over the API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from tests.web.conftest import Company
from tocsin.core.errors import Rejected
from tocsin.notify.models import SandboxMessage
from tocsin.people.changes import invitations
from tocsin.people.models import User

PAGE = "/users/invite/several/"
CSV = """email,name,phone,role,groups
carl@example.org,Carl Clark,+41790000009,observer,Service Desk; night
dora@example.org
"""


@pytest.fixture
def admin(company: Company, browser_of: Callable[[User], Client]) -> Client:
    return browser_of(company.admin)


def entries(text: str) -> list[tuple[int, dict[str, Any]]]:
    return [(line.number, dict(line.values)) for line in invitations.read_lines(text)]


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("a@x.org\n\nb@x.org\n", [(1, "a@x.org"), (3, "b@x.org")]),
        ("a@x.org, b@x.org,\nc@x.org", [(1, "a@x.org"), (1, "b@x.org"), (2, "c@x.org")]),
        ("a@x.org; b@x.org", [(1, "a@x.org"), (1, "b@x.org")]),
    ],
)
def test_pasted_addresses_are_read(text: str, addresses: list[tuple[int, str]]) -> None:
    assert [(number, values["email"]) for number, values in entries(text)] == addresses


def test_names_beside_pasted_addresses_are_kept() -> None:
    assert entries("Ann Example <ann@x.org>") == [(1, {"name": "Ann Example", "email": "ann@x.org"})]


def test_csv_is_read_by_its_column_names() -> None:
    assert entries("Name;Email;Groups;Role\nAnn;ann@x.org;Desk|Night;ADMIN") == [
        (2, {"name": "Ann", "email": "ann@x.org", "groups": ["Desk", "Night"], "role": "admin"})
    ]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "Enter at least one email address."),
        (" \n,\n", "Enter at least one email address."),
        ("email,name\n", "Enter at least one email address."),
        ("email,shoe\na@x.org,42", '"{column}" is not a column. The columns are {known}.'),
        ("name,phone\nAnn,+41790000001", "The first line names no column email."),
        (
            "\n".join(f"p{number}@x.org" for number in range(501)),
            "At most {maximum} people can be invited at once; these are {count}.",
        ),
    ],
)
def test_text_that_names_nobody_is_rejected(text: str, code: str) -> None:
    with pytest.raises(Rejected) as caught:
        invitations.read_lines(text)
    assert caught.value.reason.code == code


def test_preview_creates_nobody_and_confirmation_everybody(company: Company, admin: Client) -> None:
    text = admin.post(PAGE, {"text": CSV, "invite": "on"}).content.decode()
    assert "Carl Clark" in text
    assert "2 invitations" in text
    assert not User.objects.filter(username="carl").exists()
    admin.post(PAGE, {"text": CSV, "invite": "on", "confirm": "1"})
    carl, dora = User.objects.get(username="carl"), User.objects.get(username="dora")
    assert (carl.role, dora.role) == ("observer", "responder")
    assert sorted(carl.memberships.values_list("group__name", flat=True)) == ["Night", "Service Desk"]
    phone = carl.contact_methods.get(channel="sms")
    assert (phone.address, phone.awaits_code) == ("+41790000009", True)
    assert not carl.contact_methods.get(channel="email").awaits_code
    assert SandboxMessage.objects.filter(address__in=["carl@example.org", "dora@example.org"]).count() == 2


def test_every_problem_is_named_by_line_and_column(admin: Client) -> None:
    bad = (
        "email,name,phone,role,groups\n"
        "carl@example.org,Carl,12,,\n"
        "not an address,,,boss,\n"
        "bob@example.org,,,,Nobody\n"
        "CARL@example.org,,,,\n"
        "erna@example.org,,,,,more\n"
    )
    answer = admin.post(PAGE, {"text": bad, "confirm": "1"})
    assert answer.status_code == 422
    errors = answer.context["form"].errors["text"]
    places = [error.partition(":")[0] for error in errors]
    assert places == [
        "Line 2, phone", "Line 3, email", "Line 3, role", "Line 4, groups", "Line 5, email",
        "Line 6, column 6",
    ]  # fmt: skip
    assert not User.objects.filter(email__in=["carl@example.org", "erna@example.org"]).exists()


def test_address_of_an_existing_user_is_a_problem(admin: Client) -> None:
    errors = admin.post(PAGE, {"text": "bob@example.org"}).context["form"].errors["text"]
    assert [error.partition(":")[0] for error in errors] == ["Line 1, username", "Line 1, email"]


def test_same_username_from_two_addresses_is_a_problem(admin: Client) -> None:
    errors = admin.post(PAGE, {"text": "info@one.example.org, info@two.example.org"}).context["form"].errors["text"]
    assert [error.partition(":")[0] for error in errors] == ["Line 1, username"]


def test_editing_returns_to_the_text(admin: Client) -> None:
    answer = admin.post(PAGE, {"text": "carl@example.org", "edit": "1"})
    assert answer.status_code == 200
    assert "<textarea" in answer.content.decode()
    assert not User.objects.filter(username="carl").exists()


def test_only_administrators_invite(company: Company, browser_of: Callable[[User], Client]) -> None:
    assert browser_of(company.manager).post(PAGE, {"text": "carl@example.org"}).status_code == 403


def test_people_join_the_chosen_group_unless_their_line_names_some(company: Company, admin: Client) -> None:
    answer = admin.post(PAGE, {"text": CSV, "group": company.desk.pk, "confirm": "1"})
    assert answer.status_code == 302, answer.content.decode()
    groups = {
        name: {membership.group.name for membership in User.objects.get(username=name).memberships.all()}
        for name in ("carl", "dora")
    }
    assert groups == {"carl": {"Service Desk", "Night"}, "dora": {company.desk.name}}
