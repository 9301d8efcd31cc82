"""The one-time link through which the first administrator comes in, while there is none. Only hashes are kept."""

from __future__ import annotations

import secrets

from django.db import transaction

from tocsin.core import ids
from tocsin.core.config import config_version
from tocsin.core.errors import Rejected
from tocsin.core.models import Setting

#: Each start makes one; so many of the newest work, so that the nodes of one installation do not undo each other's.
MAX_LINKS = 10

_NAME = "setup_link"


def make() -> str:
    """A new link's token. The caller makes sure that there is no administrator yet."""
    token = ids.token()
    with transaction.atomic():
        config_version.lock()
        hashes = [*_hashes(), ids.token_hash(token).hex()]
        Setting.objects.update_or_create(name=_NAME, defaults={"value": hashes[-MAX_LINKS:]})
    return token


def fits(token: str) -> bool:
    """Whether `token` is that of a link which still works."""
    hashed = ids.token_hash(token).hex()
    # Every one is compared, so that the time taken says nothing.
    return sum(secrets.compare_digest(hashed, known) for known in _hashes()) > 0


def use_up(token: str) -> None:
    """Ends every link, inside the caller's transaction, which holds the configuration's lock.

    Raises Rejected when `token` is that of none.
    """
    if not fits(token):
        raise Rejected(
            "setup_link_used", "This set-up link has been used, or is too old. Start Tocsin again for a new one."
        )
    revoke_all()


def revoke_all() -> None:
    """Ends every link: an administrator came in another way."""
    Setting.objects.filter(name=_NAME).delete()


def _hashes() -> list[str]:
    row = Setting.objects.filter(name=_NAME).first()
    return list(row.value) if row else []
