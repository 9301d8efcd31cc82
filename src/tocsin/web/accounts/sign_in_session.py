"""How a session began: by which provider, until when it lasts, and what "Signed-in devices" shows of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from django.http import HttpRequest

from tocsin.core.config import settings_store
from tocsin.core.validation import durations
from tocsin.identity.models import BrowserSession
from tocsin.people.models import User
from tocsin.web.accounts.session_store import stored_key
from tocsin.web.http.request import address_of, moment_of

_SOURCE = "sign_in_source"


@dataclass(frozen=True, slots=True)
class SignInSource:
    """The identity provider of a sign-in, and the claims that decided."""

    provider_id: int
    subject: str
    sid: str = ""
    claims: dict[str, Any] = field(default_factory=dict)


def remember_source(request: HttpRequest, source: SignInSource) -> None:
    """Store the source in the session, until the stages of the sign-in have passed."""
    request.session[_SOURCE] = asdict(source)


def begin_session(request: HttpRequest, user: User) -> SignInSource | None:
    """Limit the new session of `user` to its lifetime, and list it among the signed-in devices. Return its source; None
    for a password or passkey."""
    now, stored = moment_of(request), request.session.pop(_SOURCE, None)
    source = SignInSource(**stored) if stored else None
    request.session.set_expiry(now + durations.parse(settings_store.get(settings_store.SESSION_LIFETIME)))
    if request.session.session_key is None:
        request.session.create()
    BrowserSession.objects.update_or_create(
        session_key=stored_key(request.session.session_key or ""),
        defaults={
            "user": user,
            "provider_id": source.provider_id if source else None,
            "subject": source.subject if source else "",
            "sid": source.sid if source else "",
            "address": address_of(request),
            "user_agent": request.headers.get("User-Agent", "")[:300],
            "created_at": now,
            "seen_at": now,
        },
    )
    return source
