"""The invitation link with which a new user chooses a password: signed, valid for seven days, and usable once."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from django.core import signing
from django.db import transaction
from django.urls import reverse
from django.utils.translation import gettext as _

from tocsin.access.audit import AuditActor
from tocsin.core.config import config_version, environment
from tocsin.core.errors import Rejected
from tocsin.core.reasons import as_reason
from tocsin.people.changes import users
from tocsin.people.models import User
from tocsin.people.sign_in_rules import may_use_password
from tocsin.web.accounts.adapter import AccountAdapter, public_url

VALIDITY = timedelta(days=7)

#: Rejection code of an expired, used or invalid link.
INVALID_LINK_CODE = "invitation_over"

_SALT = "tocsin.invitation"


def link(user: User) -> str:
    """Return the absolute URL at which `user` chooses a password, or signs in by an identity provider."""
    if not may_use_password(user):
        return public_url(reverse("account_login"))
    token = signing.dumps([user.pk, _stamp(user)], salt=_SALT)
    return public_url(reverse("welcome", kwargs={"token": token}))


def find_user(token: str) -> User:
    """Return the user of a link. Raises Rejected("invitation_over") if it is expired, used or invalid."""
    try:
        user_id, stamp = signing.loads(token, salt=_SALT, max_age=VALIDITY)
    except (signing.BadSignature, ValueError, TypeError):
        raise Rejected(INVALID_LINK_CODE, as_reason(_("This link is invalid or has expired."))) from None
    user = User.objects.filter(pk=user_id, is_active=True).first()
    # A user with a password has signed in before; accepting the link would bypass the second factor.
    if user is None or user.has_usable_password() or stamp != _stamp(user) or not may_use_password(user):
        raise Rejected(INVALID_LINK_CODE, as_reason(_("This link has already been used.")))
    return user


def accept(token: str, *, password: str, time_zone: str, address: str | None, now: datetime) -> User:
    """Use the link: set the password and time zone. Of two concurrent uses the first succeeds.

    Raises Rejected as `user_of` does, or for an invalid password or time zone.
    """
    with transaction.atomic():
        config_version.lock()
        user = find_user(token)
        actor = AuditActor.from_user(user, "web", address, limits=None)
        return users.change_own(user, {"time_zone": time_zone}, actor=actor, now=now, password=password)


def send(user: User, inviter: User) -> None:
    """E-mail the invitation link. Raises the provider's error."""
    context = {
        "user": user,
        "inviter": inviter,
        "link": link(user),
        "has_password": may_use_password(user),
        "public_url": environment.current().public_url,
    }
    AccountAdapter().render_mail("account/email/invitation", user.email, context).send()


def _stamp(user: User) -> str:
    """Return a digest that changes when a password is set, the e-mail address changes, or the sessions are ended."""
    text = f"{user.pk} {user.email.lower()} {user.password} {user.session_stamp}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
