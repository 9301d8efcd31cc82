"""The secret keys in the data directory: adds a new one for a rotation, and removes old ones afterwards."""

from __future__ import annotations

import secrets

from tocsin.core.config import crypto, environment
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.operate.backup import key_encryption

_ONE_KEY = ReasonType(
    "keys.only_one_key",
    "TOCSIN_SECRET_KEY contains only one key. Add a new one in front of it, separated by a comma, "
    "restart Tocsin on every machine, and run this command with the same variable.",
)
_KEYS_IN_VARIABLE = ReasonType(
    "keys.in_variable", "The keys are in TOCSIN_SECRET_KEY. Keep only its first key, and restart Tocsin."
)


def begin_rotation() -> bool:
    """Makes sure that there is a new key to rotate to. Returns True if it created one in the data directory.

    Several keys mean that a rotation is in progress, which then continues. Raises Rejected if `TOCSIN_SECRET_KEY` has
    only one key.
    """
    settings = environment.current()
    if len(crypto.keys()) > 1:
        return False
    if settings.secret_keys:
        raise Rejected(
            "no_new_key",
            _ONE_KEY(),
        )
    key_encryption.write_keys(settings.data_dir, [secrets.token_urlsafe(32), *crypto.keys()])
    return True


def retire() -> int:
    """Removes all keys but the newest from the data directory. Returns the number of removed keys.

    The caller makes sure that nothing needs them. Raises Rejected if the keys come from `TOCSIN_SECRET_KEY`.
    """
    settings = environment.current()
    if settings.secret_keys:
        raise Rejected("keys_elsewhere", _KEYS_IN_VARIABLE())
    newest, *old = crypto.keys()
    if old:
        key_encryption.write_keys(settings.data_dir, [newest])
    return len(old)
