"""Encrypts secrets at rest: Fernet with several keys, newest first. Never logs a key."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from contextlib import suppress
from functools import cache, lru_cache
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from tocsin.core.config import environment
from tocsin.core.errors import FILE_UNREADABLE, FILE_UNWRITABLE, Permanent
from tocsin.core.reasons import ReasonType

ENTER_SECRET_AGAIN = ReasonType("secret.enter_again", "enter the secret again: the address has changed.")
_NOT_A_KEY = ReasonType("secret.not_a_key_file", "{path} does not hold a secret key.")
_RESTORE_FILE = ReasonType("secret.restore_key_file", "Restore it from a backup.")
_GIVE_FILE = ReasonType(
    "secret.give_key_file", "Give it to the user that runs Tocsin (chown {user} {path}; chmod 600 {path})."
)
_MOVE_OR_SET_KEY = ReasonType(
    "secret.move_or_set_key", "Choose another data directory with TOCSIN_DATA_DIR, or set TOCSIN_SECRET_KEY."
)

KEY_FILE = "secret.key"

_SECRET_UNREADABLE = ReasonType("secret.undecryptable", "The configured secret keys don't decrypt a stored secret.")
RESTORE_KEY_OR_ENTER_SECRET = ReasonType(
    "secret.restore_key_or_enter_secret",
    "Add the key that encrypted it to TOCSIN_SECRET_KEY, or enter the secret again.",
)


def keys() -> tuple[str, ...]:
    """Returns the secret keys, newest first: from `TOCSIN_SECRET_KEY`, else from the data directory, generated once."""
    settings = environment.current()
    return settings.secret_keys or keys_in(stored_key(settings.data_dir))


def keys_in(text: str) -> tuple[str, ...]:
    """Parses a key file: one key a line, newest first. Restoring a backup prepends the backup's own key."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def fingerprint(key: str) -> str:
    """Returns a short hash that identifies a key without revealing it."""
    return hashlib.sha256(b"tocsin key " + key.encode()).hexdigest()[:16]


def fingerprints() -> tuple[str, ...]:
    """Returns the fingerprints of this process's keys, newest first."""
    return tuple(fingerprint(key) for key in keys())


def check() -> None:
    """Raises Permanent if the key file exists and cannot be used. Creates nothing."""
    settings = environment.current()
    if not settings.secret_keys:
        with suppress(FileNotFoundError):
            read_key_file(settings.data_dir / KEY_FILE)


def stored_key(data_dir: Path) -> str:
    """Returns the text of the key file in `data_dir` (mode 0600). Creates it if missing, safely under concurrency.

    Raises Permanent, naming the file, if it cannot be read or created."""
    path = data_dir / KEY_FILE
    try:
        return read_key_file(path)
    except FileNotFoundError:
        try:
            _create_key_file(path)
        except OSError as error:
            reason = FILE_UNWRITABLE(file=str(path), error=error.strerror or str(error))
            raise Permanent(reason, remedy=_MOVE_OR_SET_KEY()) from error
        return read_key_file(path)


def read_key_file(path: Path) -> str:
    """Returns the text of a key file. Raises FileNotFoundError, and Permanent if it exists and cannot be used."""
    try:
        status = path.stat()
        # Cached by its stamp: every signed link reads it, and a restore may replace it.
        text = _read_key_file(path, status.st_ino, status.st_mtime_ns, status.st_size)
    except FileNotFoundError:
        raise
    except UnicodeDecodeError as error:
        raise Permanent(_NOT_A_KEY(path=str(path)), remedy=_RESTORE_FILE()) from error
    except OSError as error:
        reason = FILE_UNREADABLE(file=str(path), error=error.strerror or str(error))
        raise Permanent(reason, remedy=_GIVE_FILE(user=str(os.geteuid()), path=str(path))) from error
    if not text or any(len(key) < environment.MIN_KEY_LENGTH for key in keys_in(text)):
        raise Permanent(_NOT_A_KEY(path=str(path)), remedy=_RESTORE_FILE())
    return text


def _create_key_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{KEY_FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        # `link` never replaces: of two processes that create the file, the second reads the first one's key.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


@lru_cache(maxsize=4)
def _read_key_file(path: Path, *_stamp: int) -> str:
    return path.read_text().strip()


def encrypt(text: str) -> str:
    """Returns `text` as a Fernet token under the newest key."""
    return _fernet(keys()).encrypt(text.encode()).decode()


def decrypt(token: str) -> str:
    """Returns the text of a token that `encrypt` created under any known key. Raises Permanent if no key fits."""
    try:
        return _fernet(keys()).decrypt(token.encode()).decode()
    except InvalidToken:
        raise Permanent(_SECRET_UNREADABLE(), RESTORE_KEY_OR_ENTER_SECRET()) from None


def decrypt_or_none(token: str) -> str | None:
    """Returns the text of a token, or None if no known key fits, so that the secret must be entered again."""
    try:
        return decrypt(token)
    except Permanent:
        return None


def is_current(token: str) -> bool:
    """Returns whether the token is encrypted under the newest key."""
    try:
        _fernet(keys()[:1]).decrypt(token.encode())
    except InvalidToken:
        return False
    return True


@cache
def _fernet(secret_keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())) for key in secret_keys])
