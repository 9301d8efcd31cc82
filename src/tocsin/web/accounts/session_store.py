"""Sessions in the database under a hash of their key, so that a copy of the table signs nobody in."""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib.sessions.backends import db
from django.contrib.sessions.base_session import AbstractBaseSession
from django.contrib.sessions.models import Session
from django.db.models import QuerySet
from django.utils import timezone

#: The column's width; a session key has no more bits than these.
_LENGTH = 40


def stored_key(session_key: str) -> str:
    """The key under which the table holds the session of the cookie `session_key`."""
    return hashlib.sha256(session_key.encode()).hexdigest()[:_LENGTH]


class SessionStore(db.SessionStore):
    """Django's store. The cookie holds the key; the database holds its hash."""

    def load(self) -> dict[str, Any]:
        return self._loaded(self._rows().first())

    async def aload(self) -> dict[str, Any]:
        return self._loaded(await self._rows().afirst())

    def exists(self, session_key: str) -> bool:
        return super().exists(stored_key(session_key))

    async def aexists(self, session_key: str) -> bool:
        return await super().aexists(stored_key(session_key))

    def create_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        return _under_hash(super().create_model_instance(data))

    async def acreate_model_instance(self, data: dict[str, Any]) -> AbstractBaseSession:
        return _under_hash(await super().acreate_model_instance(data))

    def delete(self, session_key: str | None = None) -> None:
        if key := session_key or self.session_key:
            super().delete(stored_key(key))

    async def adelete(self, session_key: str | None = None) -> None:
        if key := session_key or self.session_key:
            await super().adelete(stored_key(key))

    def _rows(self) -> QuerySet[Session]:
        return Session.objects.filter(session_key=stored_key(self.session_key or ""), expire_date__gt=timezone.now())

    def _loaded(self, row: Session | None) -> dict[str, Any]:
        if row is None:
            # As in Django: a key that no session has is never adopted.
            self._session_key = None
            return {}
        return dict(self.decode(row.session_data))


def _under_hash(row: AbstractBaseSession) -> AbstractBaseSession:
    row.session_key = stored_key(row.session_key)
    return row
