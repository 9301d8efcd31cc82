"""The secret keys in the data directory: a new one in front for a rotation, the old ones taken out after it."""

from __future__ import annotations

import secrets

from tocsin.core.config import crypto, environment
from tocsin.core.errors import Rejected
from tocsin.operate.backup import key_encryption


def begin_rotation() -> bool:
    """Makes sure that a new key is there to rotate to. True where it made one, in the data directory.

    Where there are several keys a rotation has begun, and goes on. Raises Rejected where `TOCSIN_SECRET_KEY` holds one
    key only.
    """
    settings = environment.current()
    if len(crypto.keys()) > 1:
        return False
    if settings.secret_keys:
        raise Rejected(
            "no_new_key",
            "TOCSIN_SECRET_KEY holds one key only. Put a new one in front of it, separated by a comma, start Tocsin "
            "again on every machine, and run this with the same variable.",
        )
    key_encryption.keep(settings.data_dir, [secrets.token_urlsafe(32), *crypto.keys()])
    return True


def retire() -> int:
    """Takes every key but the newest out of the data directory; returns how many. The caller has made sure that nothing
    needs them. Raises Rejected where the keys are those of `TOCSIN_SECRET_KEY`."""
    settings = environment.current()
    if settings.secret_keys:
        raise Rejected(
            "keys_elsewhere", "The keys are in TOCSIN_SECRET_KEY: leave its first one there, and start Tocsin again."
        )
    newest, *old = crypto.keys()
    if old:
        key_encryption.keep(settings.data_dir, [newest])
    return len(old)
