"""Verification codes of contact methods: requirements and rejected codes."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

import pytest

from tests.support.outbox_harness import OutboxHarness, outbox_harness
from tests.support.people import ACTOR, make_user
from tocsin.access.audit import AuditActor
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.notify import notices
from tocsin.notify.inbound import verification
from tocsin.notify.models import Notification, SandboxMessage, VerificationCode
from tocsin.people.changes import users
from tocsin.people.models import ContactMethod, User

pytestmark = pytest.mark.usefixtures("database")

PHONE = {"label": "SMS", "channel": "sms", "address": "+41790000001"}


def own(user: User) -> AuditActor:
    return AuditActor.from_user(user, "web", limits=None)


def enter(user: User, now: datetime, **changes: str) -> ContactMethod:
    return users.save_contact_method(user, {**PHONE, **changes}, actor=own(user), now=now)


def code_in_sandbox() -> str:
    match = re.search(r"\d{6}", str(SandboxMessage.objects.latest("pk").content["text"]))
    assert match
    return match[0]


def test_new_address_waits_for_its_users_code(now: datetime) -> None:
    user = make_user("alice", now, role="responder")
    assert enter(user, now).awaits_code
    assert enter(user, now, label="Voice", channel="voice", address="+41790000002").awaits_code
    by_admin = users.save_contact_method(
        user, {**PHONE, "label": "Given", "address": "+41790000003"}, actor=ACTOR, now=now
    )
    assert not by_admin.awaits_code
    assert not enter(user, now, label="Sign-in", channel="email", address=user.email.upper()).awaits_code
    # The same phone by another channel is known already.
    assert not enter(user, now, label="Given, called", channel="voice", address="+41790000003").awaits_code
    admin = make_user("root", now, role="admin")
    assert not enter(admin, now, address="+41790000009").awaits_code
    for_alice = users.save_contact_method(
        user, {**PHONE, "label": "Added", "address": "+41790000004"}, actor=own(admin), now=now
    )
    assert for_alice.awaits_code, "an administrator's entry for another user waits too"
    changed = users.save_contact_method(
        user, {**PHONE, "label": "Renamed", "address": "+41790000004"}, existing=for_alice, actor=own(admin), now=now
    )
    assert changed.awaits_code, "saving it again verifies nothing"


def test_a_chat_that_answers_waits_for_a_code_too(now: datetime) -> None:
    """Who enters a colleague's would be answered for by that colleague: a button counts for whoever was paged there."""
    user = make_user("alice", now, role="responder")
    slack = enter(user, now, label="Slack", channel="chat", address="slack:U012AB3CD")
    telegram = enter(user, now, label="Telegram", channel="chat", address="telegram:123456789")
    assert (slack.awaits_code, slack.can_confirm) == (True, True)
    assert (telegram.awaits_code, telegram.can_confirm) == (True, True)
    # Nobody answers by a service's own address, which is a secret.
    service = enter(user, now, label="Service", channel="chat", address="tgram://123456789:abcdefg_hijklmnop/12315544/")
    assert (service.awaits_code, service.can_confirm) == (False, False)


def test_contact_method_is_used_only_after_verification(now: datetime) -> None:
    with outbox_harness(now) as post:
        user = post.user("alice", role="responder")
        method = enter(user, now)
        post.page(post.alert(), "alice")
        post.go()
        assert {state[0] for state in post.states()} == {"Email-Official"}
        sent = verification.send_code(method, now=post.now)
        assert "sealed" in Notification.objects.get(pk=sent).data
        post.go()
        code = code_in_sandbox()
        assert code not in str(Notification.objects.get(pk=sent).data)
        assert code not in VerificationCode.objects.get().code_hash
        wrong = f"{(int(code) + 1) % 1_000_000:06d}"
        with pytest.raises(Rejected, match="Wrong code"):
            verification.confirm(method, wrong, actor=own(user), now=post.now)
        verification.confirm(method, f" {code[:3]} {code[3:]} ", actor=own(user), now=post.now)
        method.refresh_from_db()
        assert (method.verified_at, method.awaits_code) == (post.now, False)
        post.page(post.alert(), "alice")
        post.go(20)
        assert "SMS" in {state[0] for state in post.states()}
        _changed_again(post, user, method)


def test_code_confirms_only_the_address_it_was_sent_to(now: datetime) -> None:
    """Whoever confirms their own number in one request, and enters another's in a second that is quicker."""
    with outbox_harness(now) as post:
        user = make_user("alice", now, role="responder")
        method = enter(user, now)
        verification.send_code(method, now=post.now)
        post.go()
        users.save_contact_method(
            user,
            {**PHONE, "address": "+41790000009"},
            existing=ContactMethod.objects.get(pk=method.pk),
            actor=own(user),
            now=post.now,
        )
        with pytest.raises(Rejected, match="none was sent"):
            verification.confirm(method, code_in_sandbox(), actor=own(user), now=post.now)
        assert ContactMethod.objects.get(pk=method.pk).awaits_code


def _changed_again(post: OutboxHarness, user: User, method: ContactMethod) -> None:
    """Another address is another matter."""
    spec = {**PHONE, "address": "+41790000077"}
    changed = users.save_contact_method(user, spec, existing=method, actor=own(user), now=post.now)
    assert (changed.verified_at, changed.awaits_code) == (None, True)


def test_guesses_and_codes_are_limited_and_codes_expire(now: datetime) -> None:
    user = make_user("alice", now, role="responder")
    method = enter(user, now)
    with pytest.raises(Rejected, match="Request a code first"):
        verification.confirm(method, "123456", actor=own(user), now=now)
    verification.send_code(method, now=now)
    with pytest.raises(Rejected, match="Wait 30 seconds"):
        verification.send_code(method, now=now)
    for _ in range(verification.MAX_CODE_TRIES):
        with pytest.raises(Rejected) as caught:
            verification.confirm(method, "no", actor=own(user), now=now)
        assert caught.value.code == "wrong_code"
    with pytest.raises(Rejected, match="Too many wrong codes"):
        verification.confirm(method, "no", actor=own(user), now=now)
    for minute in range(1, verification.MAX_SENDS):
        verification.send_code(method, now=now + timedelta(minutes=minute))
    with pytest.raises(Rejected, match="within 1 hour"):
        verification.send_code(method, now=now + timedelta(minutes=30))
    with pytest.raises(Rejected, match="code has expired"):
        verification.confirm(method, "123456", actor=own(user), now=now + timedelta(minutes=30))


def test_verification_codes_have_a_daily_limit_that_keeps_earlier_codes(now: datetime) -> None:
    with outbox_harness(now) as post:
        user = post.user("alice", role="responder")
        for number in range(verification.MAX_CODES_PER_DAY):
            post.seconds = number * 600
            method = enter(user, post.now, label=f"SMS {number}", address=f"+417900001{number:02d}")
            verification.send_code(method, now=post.now)
            post.go()
        code = code_in_sandbox()
        with pytest.raises(Rejected, match="20 codes were sent within 1 day"):
            verification.send_code(method, now=post.at(post.seconds + 60))
        verification.confirm(method, code, actor=own(user), now=post.at(post.seconds + 61))


def test_unverified_contact_method_accepts_no_test(now: datetime) -> None:
    user = make_user("alice", now, role="responder")
    method = enter(user, now)
    with database.transaction() as connection, pytest.raises(Rejected) as caught:
        notices.queue_test(connection, method, now)
    assert caught.value.code == "not_confirmed"
