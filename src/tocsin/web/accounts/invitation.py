"""The link by which an invited person chooses a password: signed, for seven days, and used up by choosing one."""

from __future__ import annotations

import hashlib
from datetime import timedelta

from django.core import signing
from django.urls import reverse
from django.utils.translation import gettext as _

from tocsin.core import config
from tocsin.core.errors import Rejected
from tocsin.people.models import User
from tocsin.web.accounts.adapter import AccountAdapter, public_url

WORKS_FOR = timedelta(days=7)

_SALT = "tocsin.invitation"


def link(user: User) -> str:
    """The full address at which `user` chooses a password."""
    token = signing.dumps([user.pk, _stamp(user)], salt=_SALT)
    return public_url(reverse("welcome", kwargs={"token": token}))


def user_of(token: str) -> User:
    """The person a link is for. Raises Rejected when it is too old, used up, or no link of ours."""
    try:
        number, stamp = signing.loads(token, salt=_SALT, max_age=WORKS_FOR)
    except (signing.BadSignature, ValueError, TypeError):
        raise Rejected("invitation_invalid", _("This link is too old, or not whole.")) from None
    user = User.objects.filter(pk=number, is_active=True).first()
    # Who has a password has come in before: this link would pass by a second factor.
    if user is None or user.has_usable_password() or stamp != _stamp(user):
        raise Rejected("invitation_used", _("This link has been used."))
    return user


def send(user: User, inviter: User) -> None:
    """Mails the link. Raises the mail server's error."""
    context = {"user": user, "inviter": inviter, "link": link(user), "public_url": config.current().public_url}
    AccountAdapter().render_mail("account/email/invitation", user.email, context).send()


def _stamp(user: User) -> str:
    """Differs as soon as a password is set."""
    return hashlib.sha256(f"{user.pk} {user.password}".encode()).hexdigest()[:16]
