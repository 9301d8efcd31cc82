"""Verification codes for contact methods: sent to the address and entered by the user. A code has six digits, ten
minutes and five attempts; only its HMAC is stored.
"""

from __future__ import annotations

import hmac
import secrets
from datetime import datetime, timedelta
from uuid import UUID

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core import ids
from tocsin.core.config import crypto, settings_store
from tocsin.core.db import database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Text, reason_as_json, sentence
from tocsin.notify.models import Notification, VerificationCode
from tocsin.notify.pages import NotificationRow, write
from tocsin.notify.providers.pool import address_problem
from tocsin.notify.rules.page_planner import CODE_REQUESTED
from tocsin.notify.states import Purpose
from tocsin.people.models import ContactMethod, User

VALID_FOR = timedelta(minutes=10)
MAX_CODE_TRIES = 5
#: The maximum number of codes within an hour: per contact method, and per user.
MAX_SENDS, MAX_SENDS_PER_USER = 4, 10
#: The maximum number of codes per user within a day.
MAX_CODES_PER_DAY = 20
_WINDOW = timedelta(hours=1)
_MIN_INTERVAL = timedelta(seconds=30)

_TITLE = Text("Your Tocsin code")
#: `{code}` is filled in when the message is rendered.
_TEXT = Text("Your Tocsin code is {code}. It is valid for ten minutes.")
_TOO_MANY = Text(
    "{count} code was sent within {window}. Try again later.",
    "{count} codes were sent within {window}. Try again later.",
)
_EXPIRED = Text("This code has expired. Request a new one.")
_WRONG = Text("Wrong code. Enter the latest code sent to you.")


def send_code(method: ContactMethod, *, now: datetime) -> UUID:
    """Sends a new code to the method's address and invalidates an older one. Returns the notification's id.

    Raises Rejected("invalid_address"), or Rejected("too_many") with the time to wait.
    """
    if problem := address_problem(method.channel, method.address):
        raise Rejected("invalid_address", problem)
    code = f"{secrets.randbelow(1_000_000):06d}"
    with boundary.command():
        # Lock the user's row first, so that concurrent requests are counted one by one.
        User.objects.select_for_update(no_key=True).get(pk=method.user_id)
        ContactMethod.objects.select_for_update(no_key=True).get(pk=method.pk)
        _require_few(method.user_id, now)
        _store(method, code, now)
    row = NotificationRow(
        purpose=Purpose.TEST,
        channel=method.channel,
        address=method.address,
        label=method.label,
        reason=CODE_REQUESTED(),
        due_at=now,
        user_id=method.user_id,
        data={
            "title": reason_as_json(_TITLE()),
            "text": reason_as_json(_TEXT(code="{code}")),
            # Decrypted only when the message is rendered, so that the code is readable neither in the database nor on
            # a page.
            "sealed": crypto.encrypt(code),
        },
    )
    with database.transaction() as connection:
        write(connection, [row], now)
    return row.id


def confirm(method: ContactMethod, text: str, *, actor: AuditActor, now: datetime) -> None:
    """Verifies the code that the user received, and marks the contact method as verified and usable.

    Raises Rejected("no_code"), Rejected("expired_code"), Rejected("too_many") or Rejected("wrong_code").
    """
    with boundary.command():
        settings_store.lock()
        # Reload the row: the address may have changed since, and the current one is verified.
        method = ContactMethod.objects.select_related("user").get(pk=method.pk)
        stored_code = VerificationCode.objects.select_for_update().filter(method=method).first()
        problem = _problem(stored_code, method, text, now)
        if problem is None:
            ContactMethod.objects.filter(pk=method.pk).update(verified_at=now, awaits_code=False)
            VerificationCode.objects.filter(method=method).delete()
            audit.record(
                actor,
                "verify",
                now=now,
                object_type="user",
                object_id=method.user_id,
                object_name=method.user.username,
                after={"contact_method": method.label},
            )
            settings_store.bump()
    # Raise outside the transaction, so that the wrong attempt stays counted.
    if problem is not None:
        raise problem


def is_waiting(method: ContactMethod, now: datetime) -> bool:
    """Returns whether a valid code was sent to the method's current address."""
    return VerificationCode.objects.filter(
        method=method, address=method.address, expires_at__gt=now, tries__lt=MAX_CODE_TRIES
    ).exists()


def _store(method: ContactMethod, code: str, now: datetime) -> None:
    stored_code = VerificationCode.objects.filter(method=method).first() or VerificationCode(method=method, sends=0)
    if stored_code.sends and now - stored_code.counted_from < _WINDOW:
        if now - stored_code.sent_at < _MIN_INTERVAL:
            raise Rejected("too_many", sentence("A code was just sent. Wait 30 seconds before requesting another."))
        if stored_code.sends >= MAX_SENDS:
            raise Rejected("too_many", _TOO_MANY(count=MAX_SENDS, window=_WINDOW))
    else:
        stored_code.sends, stored_code.counted_from = 0, now
    stored_code.sends += 1
    stored_code.address, stored_code.code_hash, stored_code.tries = method.address, _hashes(method, code)[0], 0
    stored_code.sent_at, stored_code.expires_at = now, now + VALID_FOR
    stored_code.save()


def _problem(stored_code: VerificationCode | None, method: ContactMethod, text: str, now: datetime) -> Rejected | None:
    if stored_code is None or stored_code.address != method.address:
        return Rejected("no_code", sentence("Request a code first: none was sent to this address."), "code")
    if now >= stored_code.expires_at:
        return Rejected("expired_code", _EXPIRED(), "code")
    if stored_code.tries >= MAX_CODE_TRIES:
        return Rejected("too_many", sentence("Too many wrong codes. Request a new one."), "code")
    entered = "".join(text.split())
    if not any(hmac.compare_digest(stored_code.code_hash, valid_hash) for valid_hash in _hashes(method, entered)):
        stored_code.tries += 1
        stored_code.save(update_fields=["tries"])
        return Rejected("wrong_code", _WRONG(), "code")
    return None


def _hashes(method: ContactMethod, code: str) -> list[str]:
    """Returns the HMACs of a code with every known key, the current key first."""
    message = f"code:{method.pk}:{method.address}:{code}".encode()
    keys = crypto.secret_keys()
    return [hmac.digest(key.encode(), message, "sha256").hex() for key in keys]


def _require_few(user_id: int, now: datetime) -> None:
    """Raises Rejected("too_many") before anything is written, so that the previous code stays valid."""
    # Ids carry the machine's clock and lead to the newest rows; the rows' own time decides.
    newest = ids.first_uuid7(now - timedelta(days=2))
    sent = Notification.objects.filter(user=user_id, pk__gte=newest, purpose=Purpose.TEST, data__has_key="sealed")
    for limit, window in ((MAX_SENDS_PER_USER, _WINDOW), (MAX_CODES_PER_DAY, timedelta(days=1))):
        if sent.filter(created_at__gt=now - window).count() >= limit:
            raise Rejected("too_many", _TOO_MANY(count=limit, window=window))
