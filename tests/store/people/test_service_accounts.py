"""Service accounts own tokens, and are nobody: they never sign in, and are never found or paged as a person."""

from __future__ import annotations

from datetime import datetime

import pytest
from django.contrib.auth import authenticate, get_user_model
from django.db import IntegrityError, transaction

from tests.support.people import ACTOR, make_user
from tocsin.access import tokens
from tocsin.access.models import ApiToken, AuditEntry
from tocsin.access.roles import UNLIMITED, Permission
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.inbound.config.registry import load_directory
from tocsin.people import permissions
from tocsin.people.changes import groups, users
from tocsin.people.changes.api_tokens import delete_service_account, save_service_account, service_account_spec
from tocsin.people.models import Group, Membership, ServiceAccount, User
from tocsin.people.sql import load_administrators

pytestmark = pytest.mark.usefixtures("database")


def make(now: datetime, **spec: object) -> ServiceAccount:
    return save_service_account({"name": "deploy-bot", **spec}, actor=ACTOR, now=now)


def test_it_is_no_person_anywhere(now: datetime) -> None:
    admin = make_user("alice", now, role="admin")
    account = make(now, role="admin")
    assert list(User.objects.all()) == [admin]
    assert set(User.accounts.all()) == {admin, User.accounts.get(pk=account.pk)}
    assert list(ServiceAccount.objects.all()) == [account]
    with database.transaction() as connection:
        assert load_administrators(connection) == [admin.pk]
        assert "deploy-bot" not in load_directory(connection).users
    account.set_password("correct horse battery staple")
    account.save()
    assert authenticate(username="deploy-bot", password="correct horse battery staple") is None
    assert not get_user_model()._default_manager.filter(pk=account.pk).exists()


def test_it_does_not_count_as_the_last_administrator(now: datetime) -> None:
    make(now, role="admin")
    assert not users.has_administrator()
    admin = make_user("alice", now, role="admin")
    with pytest.raises(Rejected) as raised:
        users.delete_user(admin, actor=ACTOR, now=now)
    assert raised.value.code == "last_administrator"


def test_it_acts_for_its_groups_without_being_a_member(now: datetime) -> None:
    group, other = Group.objects.create(name="Platform"), Group.objects.create(name="Network")
    account = make(now, role="manager", groups=["platform"])
    assert service_account_spec(account) == {"name": "deploy-bot", "role": "manager", "groups": ["Platform"]}
    viewer = permissions.viewer(account, None)
    assert viewer.may(Permission.MANAGE_ROUTING, group)
    assert not viewer.may(Permission.MANAGE_ROUTING, other)
    assert not Membership.objects.exists()
    group.delete()
    assert not permissions.viewer(account, None).may_somewhere(Permission.MANAGE_ROUTING)


def test_it_cannot_be_made_a_member_of_a_group(now: datetime) -> None:
    make(now)
    with pytest.raises(Rejected) as raised:
        groups.save_group({"name": "Desk", "members": [{"user": "deploy-bot"}]}, actor=ACTOR, now=now)
    assert raised.value.field == "members[0].user"


def test_a_change_is_recorded_and_an_equal_one_is_not(now: datetime) -> None:
    account = make(now)
    save_service_account({"name": "deploy-bot", "active": False}, existing=account, actor=ACTOR, now=now)
    save_service_account({"name": "deploy-bot", "active": False}, existing=account, actor=ACTOR, now=now)
    entries = AuditEntry.objects.filter(object_type="service_account").order_by("pk")
    assert [entry.action for entry in entries] == ["create", "update"]


def test_its_tokens_end_when_it_is_deactivated_or_deleted(now: datetime) -> None:
    account = make(now)
    made = tokens.create(account, "ci", limits=UNLIMITED, actor=ACTOR, now=now)
    assert tokens.verify(made.secret, now=now) is not None
    save_service_account({"name": "deploy-bot", "active": False}, existing=account, actor=ACTOR, now=now)
    assert tokens.verify(made.secret, now=now) is None
    delete_service_account(account, actor=ACTOR, now=now)
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "Alice"}, "name"),
        ({"name": "alice@example.org"}, "name"),
        ({"name": "bot", "role": "root"}, "role"),
        ({"name": "bot", "groups": ["Nowhere"]}, "groups[0]"),
        ({"name": "bot", "email": "bot@example.org"}, "email"),
        ({"name": "bot", "contact_methods": []}, "contact_methods"),
    ],
)
def test_a_bad_spec_names_the_field(now: datetime, spec: dict[str, object], field: str) -> None:
    make_user("alice", now, email="alice@example.org")
    with pytest.raises(Rejected) as raised:
        save_service_account(spec, actor=ACTOR, now=now)
    assert raised.value.field == field


def test_users_and_service_accounts_share_one_name_space(now: datetime) -> None:
    make(now)
    with pytest.raises(Rejected) as raised:
        users.save_user({"username": "Deploy-Bot", "email": "bot@example.org"}, actor=ACTOR, now=now)
    assert raised.value.field == "username"


def test_a_person_has_an_email_address(now: datetime) -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        User.objects.create(username="nobody", email="")
