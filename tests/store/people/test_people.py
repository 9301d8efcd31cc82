"""Saving users, contact methods and groups: invalid input first, then stored and audited values."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest
from allauth.account.models import EmailAddress
from django.db import connection
from django.test.utils import CaptureQueriesContext

from tests.support.people import ACTOR, make_group, make_user
from tocsin.access import tokens
from tocsin.access.audit import COMMAND_LINE, AuditActor
from tocsin.access.models import AuditEntry
from tocsin.access.roles import Permission
from tocsin.alerts.models import Acknowledgement, Alert
from tocsin.core import hooks
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.models import ConfigVersion
from tocsin.people import permissions
from tocsin.people.changes import groups, users
from tocsin.people.models import ContactMethod, Group, Membership, User
from tocsin.people.sql import display_names
from tocsin.web.accounts.signin import find_account

pytestmark = pytest.mark.usefixtures("database")

PASSWORD = "correct horse battery"


def fields(spec: dict[str, object], now: datetime, existing: User | None = None) -> dict[str, str]:
    with pytest.raises(Rejected) as raised:
        users.save_user(spec, existing=existing, actor=ACTOR, now=now)
    return raised.value.fields


@pytest.mark.parametrize(
    ("change", "place", "part"),
    [
        ({"username": ""}, "username", "required"),
        ({"username": "a/b"}, "username", "slash"),
        ({"username": "42"}, "username", "digits"),
        ({"email": "bob"}, "email", "not an email"),
        ({"role": "boss"}, "role", "not one of"),
        ({"time_zone": "Mars"}, "time_zone", "not a time zone"),
        ({"language": "tlh"}, "language", "not one of"),
        ({"mail": "x"}, "mail", 'did you mean "email"'),
        (
            {"contact_methods": [{"label": "x", "channel": "sms", "address": "12"}]},
            "contact_methods[0].address",
            "country",
        ),
        (
            {"contact_methods": [{"label": "x", "channel": "fax", "address": "12"}]},
            "contact_methods[0].channel",
            "not a channel",
        ),
        (
            {"contact_methods": [{"label": "x", "channel": "email", "address": "a@b.example", "repeat": {"times": 2}}]},
            "contact_methods[0].repeat.every",
            "required",
        ),
        (
            {"contact_methods": [{"label": "x", "channel": "email", "address": "a@b.example", "wait": "soon"}]},
            "contact_methods[0].wait",
            "not a duration",
        ),
        (
            {"contact_methods": [{"label": name, "channel": "email", "address": "a@b.example"} for name in ("X", "x")]},
            "contact_methods[1]",
            "twice",
        ),
    ],
)
def test_a_bad_user_is_refused_with_the_place(now: datetime, change: dict[str, object], place: str, part: str) -> None:
    results = fields({"username": "bob", "email": "bob@example.org", **change}, now)
    assert part in results[place]
    assert not User.objects.exists()
    assert not AuditEntry.objects.exists()


def test_duplicate_username_or_email_is_rejected_ignoring_case(now: datetime) -> None:
    make_user("alice", now)
    assert "username" in fields({"username": "ALICE", "email": "x@example.org"}, now)
    assert "email" in fields({"username": "x", "email": "Alice@Example.org"}, now)
    assert "username" in fields({"username": "alice@example.org", "email": "x@example.org"}, now)


@pytest.mark.parametrize(("login", "lookalike"), [("ida", "\u0131da"), ("sue", "\u017fue"), ("kim", "\u212aim")])
def test_lookalike_login_finds_nobody_and_is_taken(now: datetime, login: str, lookalike: str) -> None:
    make_user(login, now)
    assert find_account(login.upper()) is not None
    assert find_account(lookalike) is find_account(f"{lookalike}@example.org") is None
    with pytest.raises(Rejected, match="already in use"):
        make_user(lookalike, now, email="other@example.org")
    with pytest.raises(Rejected, match="not an email address"):
        make_user("other", now, email=f"{lookalike}@example.org")


def test_a_new_user_is_kept_as_written_and_recorded(now: datetime) -> None:
    spec = {
        "username": "alice",
        "name": "Alice Andersson",
        "email": "alice@example.org",
        "role": "admin",
        "time_zone": "Europe/Zurich",
        "contact_methods": [
            {"label": "SMS-Official", "channel": "sms", "address": "+41790000001"},
            {
                "label": "Phone",
                "channel": "voice",
                "address": "+41790000001",
                "wait": "3m",
                "repeat": {"times": 2, "every": "3m"},
            },
        ],
    }
    user = users.save_user(spec, actor=ACTOR, now=now)
    assert users.user_spec(user) == spec
    entry = AuditEntry.objects.get()
    assert (entry.action, entry.object_type, entry.object_name, entry.actor_name) == ("create", "user", "alice", "Test")
    assert entry.before is None
    assert entry.after == spec


def test_display_name_is_the_name_or_else_the_username(now: datetime) -> None:
    user = make_user("anna", now)
    assert user.display_name == "anna"
    user.name = "Anna A."
    user.save(update_fields=["name"])
    assert user.display_name == "Anna A."
    with database.transaction() as pool:
        assert display_names(pool, [user.pk, 0]) == {user.pk: "Anna A."}


def test_saving_the_same_again_changes_and_records_nothing(now: datetime) -> None:
    user = make_user("alice", now)
    methods = list(user.contact_methods.values())
    version = ConfigVersion.objects.get().version
    users.save_user(users.user_spec(user), existing=user, actor=ACTOR, now=now)
    assert list(ContactMethod.objects.values()) == methods
    assert AuditEntry.objects.count() == 1
    assert ConfigVersion.objects.get().version == version


def test_an_update_records_only_what_differs(now: datetime) -> None:
    user = make_user("alice", now)
    users.save_user({**users.user_spec(user), "name": "Alice A."}, existing=user, actor=ACTOR, now=now)
    entry = AuditEntry.objects.order_by("-id").first()
    assert entry is not None
    assert (entry.action, entry.before, entry.after) == ("update", {}, {"name": "Alice A."})


def test_contact_methods_stay_the_same_rows_while_their_label_does(now: datetime) -> None:
    user = make_user("alice", now)
    mail = user.contact_methods.get()
    spec = {
        "username": "alice",
        "email": "alice@example.org",
        "contact_methods": [
            {"label": "Push", "channel": "ntfy", "address": "alice"},
            {"label": "EMAIL-official", "channel": "email", "address": "new@example.org"},
        ],
    }
    ContactMethod.objects.update(verified_at=now)
    users.save_user(spec, existing=user, actor=ACTOR, now=now)
    methods = list(User.objects.get().contact_methods.all())
    assert [method.label for method in methods] == ["Push", "EMAIL-official"]
    assert methods[1].pk == mail.pk
    assert methods[1].verified_at is None, "another address must be verified again"


def test_omitted_contact_methods_are_kept(now: datetime) -> None:
    user = make_user("alice", now)
    users.save_contact_method(user, {"label": "Push", "channel": "ntfy", "address": "alice"}, actor=ACTOR, now=now)
    users.save_user({"username": "alice", "email": "alice@example.org"}, existing=user, actor=ACTOR, now=now)
    assert [method.label for method in User.objects.get().contact_methods.all()] == ["Email-Official", "Push"]


def test_a_contact_methods_label_is_the_users_only_once(now: datetime) -> None:
    user = make_user("alice", now)
    with pytest.raises(Rejected, match="already") as raised:
        users.save_contact_method(
            user, {"label": "email-OFFICIAL", "channel": "ntfy", "address": "alice"}, actor=ACTOR, now=now
        )
    assert raised.value.field == "label"


def test_the_last_administrator_stays_one(now: datetime) -> None:
    alice = make_user("alice", now, role="admin")
    for change in ({"role": "manager"}, {"active": False}):
        assert "role" in fields({**users.user_spec(alice), **change}, now, existing=User.objects.get())
    with pytest.raises(Rejected, match="last administrator"):
        users.delete_user(User.objects.get(), actor=ACTOR, now=now)
    make_user("bob", now, role="admin")
    users.delete_user(User.objects.get(username="alice"), actor=ACTOR, now=now)
    assert list(User.objects.values_list("username", flat=True)) == ["bob"]


def test_referenced_user_is_not_deleted_and_references_are_named(now: datetime) -> None:
    user = make_user("alice", now)

    def ask(number: int) -> list[str]:
        return ["policy Standard, step 2"] if number == user.pk else []

    with hooks.REFERENCES.restored():
        hooks.REFERENCES.register(ask, "user")
        with pytest.raises(Rejected, match="it is used by policy Standard, step 2") as raised:
            users.delete_user(user, actor=ACTOR, now=now)
    assert raised.value.code == "in_use"
    assert User.objects.exists()


def test_weak_password_is_rejected_and_creates_no_user(now: datetime) -> None:
    with pytest.raises(Rejected) as raised:
        users.save_user({"username": "alice", "email": "alice@example.org"}, actor=ACTOR, now=now, password="password")
    assert raised.value.field == "password"
    assert not User.objects.exists()


def test_user_without_password_cannot_sign_in_with_empty_password(now: datetime) -> None:
    user = make_user("alice", now)
    assert not user.has_usable_password()
    assert not user.check_password("")


def test_users_created_by_command_line_are_verified(now: datetime) -> None:
    users.save_user({"username": "a", "email": "A@example.org"}, actor=COMMAND_LINE, now=now)
    users.save_user({"username": "b", "email": "b@example.org"}, actor=AuditActor(None, "x", "web"), now=now)
    assert dict(EmailAddress.objects.values_list("email", "verified")) == {
        "a@example.org": True,
        "b@example.org": False,
    }


def test_the_set_up_link_makes_the_first_administrator_once(now: datetime) -> None:
    token = tokens.make()
    second = tokens.make()
    spec = {"username": "alice", "email": "alice@example.org", "role": "observer"}
    with pytest.raises(Rejected, match="already been used"):
        users.create_first_administrator("0" * 32, spec, password=PASSWORD, now=now)
    alice = users.create_first_administrator(token, spec, password=PASSWORD, now=now, address="192.0.2.1")
    assert alice.role == "admin"
    assert alice.check_password(PASSWORD)
    assert not tokens.is_valid(token)
    assert not tokens.is_valid(second)
    with pytest.raises(Rejected, match="already an administrator"):
        users.create_first_administrator(second, {**spec, "username": "eve"}, password=PASSWORD, now=now)
    assert User.objects.count() == 1


def test_rejected_setup_form_keeps_its_link_valid(now: datetime) -> None:
    token = tokens.make()
    with pytest.raises(Rejected):
        users.create_first_administrator(token, {"username": "alice", "email": "nonsense"}, password=PASSWORD, now=now)
    assert tokens.is_valid(token)


def test_administrator_created_by_command_line_ends_setup_link(now: datetime) -> None:
    token = tokens.make()
    make_user("alice", now, role="admin")
    assert not tokens.is_valid(token)


@pytest.mark.parametrize(
    ("change", "place", "part"),
    [
        ({"name": "a/b"}, "name", "slash"),
        ({"members": [{"user": "nobody"}]}, "members[0].user", 'no user named "nobody"'),
        ({"members": [{"user": "alice", "roles": ["boss"]}]}, "members[0].roles[0]", "not one of"),
        ({"members": [{"user": "alice"}, {"user": "ALICE"}]}, "members[1]", "twice"),
        ({"members": "alice"}, "members", "must be a list"),
        ({"contacts": [{"label": "L", "channel": "email", "address": "x"}]}, "contacts[0].address", "not an email"),
        ({"colour": "red"}, "colour", "unknown key"),
    ],
)
def test_a_bad_group_is_refused_with_the_place(now: datetime, change: dict[str, object], place: str, part: str) -> None:
    make_user("alice", now)
    with pytest.raises(Rejected) as raised:
        groups.save_group({"name": "Desk", **change}, actor=ACTOR, now=now)
    assert part in raised.value.fields[place]
    assert not Group.objects.exists()


def test_a_groups_members_keep_the_order_they_were_written_in(now: datetime) -> None:
    for name in ("alice", "bob", "carol"):
        make_user(name, now)
    spec = {
        "name": "Desk",
        "time_zone": "Europe/Zurich",
        "members": [
            {"user": "carol", "roles": ["primary"]},
            {"user": "alice", "roles": ["primary", "lead"]},
            {"user": "bob", "roles": []},
        ],
        "contacts": [{"label": "List", "channel": "email", "address": "desk@example.org"}],
    }
    group = groups.save_group(spec, actor=ACTOR, now=now)
    assert groups.group_spec(group) == spec
    turned = {**spec, "members": spec["members"][::-1]}  # type: ignore[index]
    groups.save_group(turned, existing=group, actor=ACTOR, now=now)
    assert groups.group_spec(Group.objects.get()) == turned


def test_a_group_name_is_unique_ignoring_case(now: datetime) -> None:
    make_group("Desk", now)
    with pytest.raises(Rejected, match="already"):
        make_group("DESK", now)


def test_permissions_follow_the_groups_of_a_user(now: datetime) -> None:
    alice, bob, eve = (
        make_user(name, now, role=role)
        for name, role in (("alice", "manager"), ("bob", "responder"), ("eve", "observer"))
    )
    mine, other = make_group("Mine", now, members=("alice", "bob")), make_group("Other", now, members=("eve",))
    assert permissions.own_groups(alice) == {mine.pk}
    assert permissions.viewer(alice, None).may(Permission.MANAGE_TEAMS, mine)
    assert not permissions.viewer(alice, None).may(Permission.MANAGE_TEAMS, other)
    assert not permissions.viewer(alice, None).may(Permission.MANAGE_TEAMS)
    assert not permissions.viewer(bob, None).may(Permission.MANAGE_TEAMS, mine)
    assert permissions.viewer(bob, None).may(Permission.RESPOND)
    viewer = permissions.viewer(bob, None)
    assert viewer.address(alice.pk, "sms", "+41790000001") == "+41790000001"
    assert viewer.address(eve.pk, "sms", "+41790000001") == "+41 79 ••• 01"
    assert viewer.address(None, "email", "x@example.org") == "x•••@example.org"
    assert viewer.group_address(mine, "email", "x@example.org") == "x@example.org"
    assert viewer.group_address(other, "email", "x@example.org") == "x•••@example.org"
    watcher = permissions.viewer(eve, None)
    assert watcher.can_view_addresses_of(eve.pk)
    assert not watcher.can_view_addresses_of(alice.pk)


def test_disabled_user_has_no_permissions(now: datetime) -> None:
    user = make_user("alice", now, role="manager", active=False)
    assert not any(permissions.viewer(user, None).may(action) for action in Permission)
    assert not permissions.viewer(user, None).can_view_addresses_of(user.pk)


def test_user_with_active_alert_is_deleted_only_after_reassignment(now: datetime) -> None:
    owner, other = make_user("alice", now), make_user("bob", now)
    opened = {"subject": "x", "opened_at": now, "last_message_at": now}
    owned = Alert.objects.create(**opened, status="assigned", owner=owner)
    answered = Alert.objects.create(**opened)
    Acknowledgement.objects.create(alert=answered, user=other)
    for user, alert in ((owner, owned), (other, answered)):
        with pytest.raises(Rejected, match=rf"it is used by alert #{alert.pk}"):
            users.delete_user(user, actor=ACTOR, now=now)
    Alert.objects.update(status="closed")
    users.delete_user(owner, actor=ACTOR, now=now)
    users.delete_user(other, actor=ACTOR, now=now)
    assert Alert.objects.count() == 2


def test_loading_group_members_uses_constant_statements(now: datetime) -> None:
    names = [f"user{number}" for number in range(30)]
    for name in names:
        users.save_user({"username": name, "email": f"{name}@example.org"}, actor=ACTOR, now=now)

    def save(of: list[str], existing: Group | None = None, roles: Sequence[str] = ("primary",)) -> tuple[Group, int]:
        spec = {"name": f"G{len(of)}", "members": [{"user": name.upper(), "roles": list(roles)} for name in of]}
        with CaptureQueriesContext(connection) as queries:
            group = groups.save_group(spec, existing=existing, actor=ACTOR, now=now)
        memberships = Membership.objects.filter(group=group).values_list("user__username", "roles", "position")
        assert list(memberships) == [(name, list(roles), position) for position, name in enumerate(of)]
        return group, len(queries)

    few, many = save(names[:3]), save(names)
    assert few[1] == many[1]
    stored = dict(Membership.objects.filter(group=many[0]).values_list("user__username", "pk"))
    few, many = save(names[2::-1], few[0]), save(names[::-1], many[0])
    assert few[1] == many[1]
    assert dict(Membership.objects.filter(group=many[0]).values_list("user__username", "pk")) == stored
    few, many = save(names[:3], few[0], ("secondary", "lead")), save(names[:29], many[0], ("lead",))
    assert Membership.objects.filter(group=many[0]).count() == 29


def test_saving_own_profile_never_restores_a_revoked_role(now: datetime) -> None:
    """Their request began before, and waited for the lock."""
    boss = make_user("boss", now, role="manager")
    user = User.objects.get(pk=boss.pk)
    spec = {**users.user_spec(boss), "role": "observer", "active": False}
    users.save_user(spec, existing=User.objects.get(pk=boss.pk), actor=ACTOR, now=now, password=PASSWORD)
    users.save_notification_rules(
        user, {"most_per_hour": 20}, actor=AuditActor.from_user(user, "web", limits=None), now=now
    )
    after = User.objects.get(pk=boss.pk)
    assert (after.role, after.is_active, after.check_password(PASSWORD)) == ("observer", False, True)
    assert after.notification_rules == {"most_per_hour": 20}


def test_deleted_user_cannot_change_their_own_values(now: datetime) -> None:
    user = make_user("alice", now)
    User.objects.filter(pk=user.pk).delete()
    with pytest.raises(Rejected) as raised:
        users.change_own(user, {"name": "Alice"}, actor=ACTOR, now=now)
    assert (raised.value.code, raised.value.reason.code) == ("not_found", "This user was deleted.")
