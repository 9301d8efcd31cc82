"""API tokens: shown once, stored as hashes, valid until revoked."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from tests.support.people import ACTOR, make_user
from tocsin.access import tokens
from tocsin.access.boundary import Boundary
from tocsin.access.models import ApiToken, AuditEntry
from tocsin.access.roles import (
    DEFAULT_LIFETIME,
    MAX_LIFETIME,
    UNLIMITED,
    WARN_BEFORE,
    Permission,
    TokenLimits,
    TokenScope,
)
from tocsin.core.errors import Rejected
from tocsin.core.reasons import each_of
from tocsin.notify import notices
from tocsin.oncall.models import PendingNotice
from tocsin.people import permissions
from tocsin.people.changes import api_tokens
from tocsin.people.changes.api_tokens import save_service_account
from tocsin.people.models import Group, User
from tocsin.resources import visibility

pytestmark = pytest.mark.usefixtures("database")


@pytest.mark.parametrize("secret", ["", "0" * 32, "x" * 10_000, "\0", "Ünïcode", "toc\ud800"])
def test_what_is_no_tokens_secret_is_refused_whatever_it_is(now: datetime, secret: str) -> None:
    tokens.create(make_user("alice", now), "script", limits=UNLIMITED, actor=ACTOR, now=now)
    assert tokens.verify(secret, now=now) is None


@pytest.mark.parametrize("name", ["", "  ", "x" * 101])
def test_a_token_needs_a_name(now: datetime, name: str) -> None:
    with pytest.raises(Rejected) as raised:
        tokens.create(make_user("alice", now), name, limits=UNLIMITED, actor=ACTOR, now=now)
    assert raised.value.field == "name"


def test_active_tokens_of_one_user_have_unique_names(now: datetime) -> None:
    user = make_user("alice", now)
    first = tokens.create(user, "script", limits=UNLIMITED, actor=ACTOR, now=now)
    with pytest.raises(Rejected, match="already"):
        tokens.create(user, "Script", limits=UNLIMITED, actor=ACTOR, now=now)
    tokens.revoke(first.token, actor=ACTOR, now=now)
    tokens.create(user, "script", limits=UNLIMITED, actor=ACTOR, now=now)


def test_token_acts_as_its_user_and_secret_is_never_stored(now: datetime) -> None:
    made = tokens.create(make_user("alice", now), "script", limits=UNLIMITED, actor=ACTOR, now=now)
    api_token = tokens.verify(made.secret, now=now)
    assert api_token is not None
    assert api_token.user.username == "alice"
    row = ApiToken.objects.get()
    assert made.secret not in str(ApiToken.objects.values())
    assert row.prefix == made.secret[:6]
    assert made.secret not in str(AuditEntry.objects.values())
    assert AuditEntry.objects.filter(object_type="token", action="create", object_name="script").exists()


def test_revoked_tokens_and_tokens_of_disabled_users_are_rejected(now: datetime) -> None:
    user = make_user("alice", now)
    one, two = (tokens.create(user, name, limits=UNLIMITED, actor=ACTOR, now=now) for name in ("one", "two"))
    tokens.revoke(one.token, actor=ACTOR, now=now)
    tokens.revoke(one.token, actor=ACTOR, now=now)
    assert tokens.verify(one.secret, now=now) is None
    assert tokens.verify(two.secret, now=now) is not None
    User.objects.update(is_active=False)
    assert tokens.verify(two.secret, now=now) is None
    assert AuditEntry.objects.filter(action="revoke").count() == 1


def test_the_last_use_is_noted_at_most_once_a_minute(now: datetime) -> None:
    made = tokens.create(make_user("alice", now), "script", limits=UNLIMITED, actor=ACTOR, now=now)
    noted = []
    for seconds in (0, 30, 59, 60, 61):
        tokens.verify(made.secret, now=now + timedelta(seconds=seconds))
        noted.append(ApiToken.objects.get().last_used_at)
    assert noted == [now, now, now, now + timedelta(minutes=1), now + timedelta(minutes=1)]


def test_a_token_ends_after_a_year_and_says_when(now: datetime) -> None:
    made = tokens.create(make_user("alice", now), "script", limits=UNLIMITED, actor=ACTOR, now=now)
    assert made.token.expires_at == now + DEFAULT_LIFETIME
    assert tokens.verify(made.secret, now=made.token.expires_at - timedelta(seconds=1)) is not None
    with pytest.raises(Rejected) as raised:
        tokens.verify(made.secret, now=made.token.expires_at)
    assert raised.value.code == "token_expired"
    assert raised.value.reason["day"] == made.token.expires_at.date()
    tokens.create(made.token.user, "script", limits=UNLIMITED, actor=ACTOR, now=made.token.expires_at)


@pytest.mark.parametrize("lifetime", [timedelta(), -timedelta(days=1), MAX_LIFETIME + timedelta(seconds=1)])
def test_an_unusable_expiry_is_rejected(now: datetime, lifetime: timedelta) -> None:
    with pytest.raises(Rejected) as raised:
        tokens.create(
            make_user("alice", now), "script", limits=UNLIMITED, expires_at=now + lifetime, actor=ACTOR, now=now
        )
    assert raised.value.field == "expires_at"


@pytest.mark.parametrize("clients", [{""}, {"x" * 201}, {"a\x00b"}, {str(number) for number in range(101)}])
def test_unusable_clients_are_rejected(now: datetime, clients: set[str]) -> None:
    limits = TokenLimits(TokenScope.READ, clients=frozenset(clients))
    with pytest.raises(Rejected) as raised:
        tokens.create(make_user("alice", now), "script", limits=limits, actor=ACTOR, now=now)
    assert raised.value.field == "clients"


def test_first_use_from_each_address_is_in_audit_log(now: datetime) -> None:
    made = tokens.create(make_user("alice", now), "script", limits=UNLIMITED, actor=ACTOR, now=now)
    for seconds, address in enumerate(["192.0.2.1", "192.0.2.1", "2001:db8::1", "192.0.2.1", None]):
        assert tokens.verify(made.secret, now=now + timedelta(minutes=2 * seconds), address=address) is not None
    uses = AuditEntry.objects.filter(action=tokens.FIRST_USE, object_type="token", object_id=str(made.token.pk))
    assert [entry.address for entry in uses.order_by("pk")] == ["192.0.2.1", "2001:db8::1"]
    made.token.refresh_from_db()
    assert (made.token.last_used_at, made.token.last_used_from) == (now + timedelta(minutes=8), None)


def test_a_token_without_its_only_group_stays_limited(now: datetime) -> None:
    user = make_user("alice", now, role="admin")
    group = Group.objects.create(name="Network")
    limits = TokenLimits(TokenScope.ADMIN, frozenset({group.pk}))
    made = tokens.create(user, "script", limits=limits, actor=ACTOR, now=now)
    group.delete()
    api_token = tokens.verify(made.secret, now=now)
    assert api_token is not None
    viewer = permissions.viewer(user, api_token.limits)
    assert viewer.is_limited_to_groups
    assert not viewer.may_somewhere(Permission.ADMINISTER)


def test_groups_and_clients_together_are_rejected(now: datetime) -> None:
    limits = TokenLimits(TokenScope.READ, frozenset({1}), frozenset({"Acme"}))
    with pytest.raises(Rejected) as raised:
        tokens.create(make_user("alice", now), "script", limits=limits, actor=ACTOR, now=now)
    assert raised.value.reason.code == "A token is limited either to groups or to clients, not to both."


def test_token_is_limited_to_clients_that_its_owner_sees(now: datetime) -> None:
    owner = make_user("alice", now, role="observer", clients=["Acme"])
    clients = ["acme", "Globex"]
    with pytest.raises(Rejected) as raised:
        api_tokens.create_token(owner, "script", scope=TokenScope.READ, clients=clients, actor=ACTOR, now=now)
    assert (raised.value.field, raised.value.reason.code) == (
        "clients[1]",
        '{user} does not see the client "{client}".',
    )


def test_a_limited_token_is_not_its_owner(now: datetime) -> None:
    user = make_user("alice", now)
    clients = permissions.viewer(user, TokenLimits(TokenScope.READ, clients=frozenset({"Acme"})))
    assert visibility.boundary_of(clients) == Boundary(user.pk, clients=("Acme",))
    groups = permissions.viewer(user, TokenLimits(TokenScope.READ, frozenset({1})))
    assert visibility.boundary_of(groups) == Boundary(0)
    assert visibility.boundary_of(permissions.viewer(user, UNLIMITED)) is None


def test_the_owner_is_told_once_before_the_end(now: datetime) -> None:
    admin, user = make_user("alice", now, role="admin"), make_user("bob", now)
    account = save_service_account({"name": "bot"}, actor=ACTOR, now=now)
    used, _unused = [
        tokens.create(owner, name, limits=UNLIMITED, actor=ACTOR, now=now)
        for owner, name in ((user, "script"), (account, "pipeline"))
    ]
    assert tokens.verify(used.secret, now=now + timedelta(minutes=1)) is not None
    short = now + timedelta(days=10)
    tokens.create(user, "short", limits=UNLIMITED, expires_at=short, actor=ACTOR, now=now)
    revoked = tokens.create(user, "revoked", limits=UNLIMITED, actor=ACTOR, now=now)
    tokens.revoke(revoked.token, actor=ACTOR, now=now)
    end = now + DEFAULT_LIFETIME
    for moment in (now, end - WARN_BEFORE - timedelta(seconds=1), end - WARN_BEFORE, end - timedelta(days=1), end):
        assert not notices.warn_owners(moment)
    last_uses = [each_of(notice.text)[1].code for notice in PendingNotice.objects.order_by("pk")]
    assert last_uses == ["It was last used {at}.", "It was never used."]
    told = PendingNotice.objects.order_by("pk").values_list("user_id", "title__data__name", "text__code")
    assert [(row[0], row[1]) for row in told] == [(user.pk, "script"), (admin.pk, "pipeline")]
