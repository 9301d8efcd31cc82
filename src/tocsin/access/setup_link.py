"""The one-time link that creates the first administrator. Only hashes of its tokens are stored."""

from __future__ import annotations

import secrets

from tocsin.access import boundary
from tocsin.core import ids
from tocsin.core.config import config_version
from tocsin.core.errors import Rejected
from tocsin.core.models import Setting
from tocsin.core.reasons import ReasonType

#: Every start creates a link. This many of the newest stay valid, so that the nodes of one installation do not
#: invalidate each other's.
MAX_LINKS = 10

_NAME = "setup_link"

_USED = ReasonType(
    "setup_link.used", "This setup link has already been used or has expired. Restart Tocsin to get a new one."
)


def make() -> str:
    """Creates a link and returns its token. The caller checks first that there is no administrator."""
    token = ids.token()
    with boundary.command():
        config_version.lock()
        hashes = [*_hashes(), ids.token_hash(token).hex()]
        Setting.objects.update_or_create(name=_NAME, defaults={"value": hashes[-MAX_LINKS:]})
    return token


def is_valid(token: str) -> bool:
    """Returns whether `token` belongs to a valid link."""
    hashed = ids.token_hash(token).hex()
    # Compares with every hash, so that the time taken reveals nothing.
    return sum(secrets.compare_digest(hashed, known) for known in _hashes()) > 0


def consume(token: str) -> None:
    """Invalidates every link, inside the caller's transaction, which holds the configuration lock.

    Raises `Rejected("setup_link_used")` if `token` belongs to no valid link.
    """
    if not is_valid(token):
        raise Rejected("setup_link_used", _USED())
    revoke_all()


def revoke_all() -> None:
    """Invalidates every link, because an administrator exists."""
    Setting.objects.filter(name=_NAME).delete()


def _hashes() -> list[str]:
    row = Setting.objects.filter(name=_NAME).first()
    return list(row.value) if row else []
