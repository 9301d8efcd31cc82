"""Recipients of a notice who cannot be notified are named, each with the reason."""

from __future__ import annotations

from datetime import datetime

import pytest

from tests.support.people import ACTOR, make_user
from tocsin.core.db import database
from tocsin.core.reasons import as_reason
from tocsin.notify.notices import Notice, queue_notice
from tocsin.people.changes.api_tokens import save_service_account
from tocsin.people.models import User

pytestmark = pytest.mark.usefixtures("database")


@pytest.mark.parametrize(
    ("account", "code"),
    [
        ({"is_active": False}, "{user} is disabled"),
        ({"email": "no address"}, "{recipient}: {problem}"),
    ],
)
def test_recipient_who_cannot_be_notified_is_named(account: dict[str, object], code: str, now: datetime) -> None:
    alice, bob = make_user("alice", now), make_user("bob", now)
    User.objects.filter(pk=alice.pk).update(**account)
    notice = Notice(as_reason("Title"), as_reason("Text"), "about", as_reason("Because"))
    with database.transaction() as connection:
        result = queue_notice(connection, notice, now, user_ids=[alice.pk, bob.pk])
    assert (result.names, [missed.code for missed in result.missed]) == (("bob",), [code])


def test_service_account_has_no_email_address_for_a_notice(now: datetime) -> None:
    account = save_service_account({"name": "bot"}, actor=ACTOR, now=now)
    notice = Notice(as_reason("Title"), as_reason("Text"), "about", as_reason("Because"))
    with database.transaction() as connection:
        result = queue_notice(connection, notice, now, user_ids=[account.pk])
    assert [missed.code for missed in result.missed] == ["{user} has no email address"]
