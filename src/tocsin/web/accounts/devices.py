"""Known devices: after a sign-in the browser keeps a signed device cookie.

Failed attempts of a known device are counted separately, so that strangers who guess passwords cannot lock its user
out. The cookie does not sign anybody in. See
https://owasp.org/www-community/Slow_Down_Online_Guessing_Attacks_with_Device_Cookies
"""

from __future__ import annotations

import secrets
from datetime import timedelta

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponseBase

from tocsin.people.models import User

COOKIE = "tocsin_device"
MAX_AGE = timedelta(days=365)

#: On a shared workstation, the users who signed in most recently.
MAX_USERS = 10

_SALT = "tocsin.device"


def device_of(request: HttpRequest, user: User | None) -> str | None:
    """Return the device id if `user` has signed in with this browser before, else None."""
    return None if user is None else _read_cookie(request).get(user.pk)


def remember(request: HttpRequest, response: HttpResponseBase, user: User) -> None:
    """Make the browser a known device of `user`, who has just signed in."""
    device_ids = _read_cookie(request)
    device = device_ids.pop(user.pk, None) or secrets.token_urlsafe(12)
    entries = [(user.pk, device), *device_ids.items()][:MAX_USERS]
    response.set_cookie(
        COOKIE,
        signing.dumps(entries, salt=_SALT),
        max_age=MAX_AGE,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )


def _read_cookie(request: HttpRequest) -> dict[int, str]:
    """Return {user id: device id} from the cookie, most recent first."""
    try:
        return dict(signing.loads(request.COOKIES.get(COOKIE, ""), salt=_SALT, max_age=MAX_AGE))
    except (signing.BadSignature, TypeError, ValueError):
        return {}
