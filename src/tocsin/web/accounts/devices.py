"""Known devices: a browser in which somebody has signed in keeps a signed cookie that says so. Failed attempts of a
known device are counted apart, so that strangers who guess passwords never lock its user out of it. The cookie signs
nobody in. See https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies"""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponseBase

from tocsin.people.models import User

COOKIE = "tocsin_device"
MAX_AGE = timedelta(days=365)

#: Of a workstation that a team shares, the users who signed in last.
MAX_USERS = 10

_SALT = "tocsin.device"


def device_of(request: HttpRequest, user: User | None) -> str | None:
    """The id of the browser of `request` where `user` has signed in there before, else None."""
    return None if user is None else _read(request).get(user.pk)


def remember(request: HttpRequest, response: HttpResponseBase, user: User) -> None:
    """Makes the browser a known device of `user`, who has just signed in there."""
    known = _read(request)
    device = known.pop(user.pk, None) or secrets.token_urlsafe(12)
    entries = [(user.pk, device), *known.items()][:MAX_USERS]
    response.set_cookie(
        COOKIE,
        signing.dumps(entries, salt=_SALT),
        max_age=MAX_AGE,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _read(request: HttpRequest) -> dict[int, str]:
    """The users who signed in with this browser, newest first, each with its id."""
    try:
        return dict(signing.loads(request.COOKIES.get(COOKIE, ""), salt=_SALT, max_age=MAX_AGE))
    except (signing.BadSignature, TypeError, ValueError):
        return {}
