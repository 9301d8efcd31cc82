"""Secrets at rest: Fernet with several keys, new first. Never logs or returns a key."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets
from functools import cache, lru_cache
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from tocsin.core.config import environment
from tocsin.core.errors import Permanent

KEY_FILE = "secret.key"


def keys() -> tuple[str, ...]:
    """The process's secret keys, new first: from `TOCSIN_SECRET_KEY`, else the data directory's own, made once."""
    settings = environment.current()
    return settings.secret_keys or keys_in(stored_key(settings.data_dir))


def keys_in(text: str) -> tuple[str, ...]:
    """The keys in the text of a key file: one a line, new first. A restored backup adds its own in front."""
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def fingerprint(key: str) -> str:
    """By what a key is recognised, and from which it cannot be found."""
    return hashlib.sha256(b"tocsin key " + key.encode()).hexdigest()[:16]


def fingerprints() -> tuple[str, ...]:
    """Those of the process's keys, new first."""
    return tuple(fingerprint(key) for key in keys())


def stored_key(data_dir: Path) -> str:
    """The key kept in `data_dir` with mode 0600; made by the first who asks, whoever else asks at the same time."""
    path = data_dir / KEY_FILE
    try:
        stamp = path.stat()
    except FileNotFoundError:
        _make(path)
        stamp = path.stat()
    # Each link in each message asks for it, and a restore may put another one in its place.
    return _text_of(path, stamp.st_ino, stamp.st_mtime_ns, stamp.st_size)


def _make(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{KEY_FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32))
        file.flush()
        os.fsync(file.fileno())
    try:
        # `link` refuses to replace: of two starters, the second reads the first one's key.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()


@lru_cache(maxsize=4)
def _text_of(path: Path, *_stamp: int) -> str:
    text = path.read_text().strip()
    if len(text) < 32:
        raise Permanent(f"{path} does not hold a secret key.", remedy="Restore it from a backup.")
    return text


def encrypt(text: str) -> str:
    """`text` as a Fernet token under the newest key."""
    return _box(keys()).encrypt(text.encode()).decode()


def decrypt(token: str) -> str:
    """The text of a token made by `encrypt` under any of the known keys. Raises Permanent when none fits."""
    try:
        return _box(keys()).decrypt(token.encode()).decode()
    except InvalidToken:
        raise Permanent(
            "A stored secret cannot be decrypted with the known secret keys.",
            remedy="Add the key it was saved under to TOCSIN_SECRET_KEY, or enter the secret again.",
        ) from None


def readable(token: str) -> str | None:
    """The same; None when none of the known keys fits: what was stored is to be entered again."""
    try:
        return decrypt(token)
    except Permanent:
        return None


def is_current(token: str) -> bool:
    """Whether the token is under the newest key."""
    try:
        _box(keys()[:1]).decrypt(token.encode())
    except InvalidToken:
        return False
    return True


@cache
def _box(secret_keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())) for key in secret_keys])
