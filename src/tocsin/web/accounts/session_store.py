"""Stores sessions under a hash of their key, so that a copy of the table cannot be used to sign in."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any

from django.contrib.sessions.backends import db
from django.contrib.sessions.base_session import AbstractBaseSession
from django.contrib.sessions.models import Session
from django.db.models import QuerySet

from tocsin.core.runtime import clock
from tocsin.identity import browser_sessions
from tocsin.identity.models import BrowserSession

#: Key of the moment of the sign-in.
SIGNED_IN_AT = "signed_in_at"

#: The width of the column. A session key has no more entropy than that many hex digits.
_LENGTH = 40


def stored_key(session_key: str) -> str:
    """Return the primary key of the session with the cookie value `session_key`."""
    return hashlib.sha256(session_key.encode()).hexdigest()[:_LENGTH]


class SessionStore(db.SessionStore):
    """Django's database session store. The cookie contains the key; the table contains its hash."""

    def load(self) -> dict[str, Any]:
        return self._decode_row(self._rows().first())

    async def aload(self) -> dict[str, Any]:
        return self._decode_row(await self._rows().afirst())

    def exists(self, session_key: str) -> bool:
        return super().exists(stored_key(session_key))

    async def aexists(self, session_key: str) -> bool:
        return await super().aexists(stored_key(session_key))

    def create_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        return _with_hashed_key(super().create_model_instance(data))

    async def acreate_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        return _with_hashed_key(await super().acreate_model_instance(data))

    def get_expiry_date(self, **kwargs: Any) -> datetime:
        """Return when the session ends: its lifetime counts from the sign-in, not from the last change."""
        signed_in_at = self.get(SIGNED_IN_AT)
        if signed_in_at is None:
            return super().get_expiry_date(**kwargs)
        return datetime.fromisoformat(signed_in_at) + browser_sessions.lifetime()

    def get_expiry_age(self, **kwargs: Any) -> int:
        if self.get(SIGNED_IN_AT) is None:
            return super().get_expiry_age(**kwargs)
        return int((self.get_expiry_date() - clock.now()).total_seconds())

    def cycle_key(self) -> None:
        """Keep what "Signed-in devices" shows of the session under its new key."""
        browser = BrowserSession.objects.filter(pk=stored_key(self.session_key or "")).first()
        super().cycle_key()
        if browser is not None:
            browser.session_key = stored_key(self.session_key or "")
            browser.save(force_insert=True)

    def delete(self, session_key: str | None = None) -> None:
        if key := session_key or self.session_key:
            super().delete(stored_key(key))
            BrowserSession.objects.filter(pk=stored_key(key)).delete()

    async def adelete(self, session_key: str | None = None) -> None:
        if key := session_key or self.session_key:
            await super().adelete(stored_key(key))

    def _rows(self) -> QuerySet[Session]:
        return Session.objects.filter(session_key=stored_key(self.session_key or ""), expire_date__gt=clock.now())

    def _decode_row(self, row: Session | None) -> dict[str, Any]:
        if row is None:
            # As in Django, an unknown key is never adopted (session fixation).
            self._session_key = None
            return {}
        return dict(self.decode(row.session_data))


def _with_hashed_key(row: AbstractBaseSession) -> AbstractBaseSession:
    row.session_key = stored_key(row.session_key)
    return row
