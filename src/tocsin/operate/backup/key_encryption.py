"""Encrypts the secret keys in a backup with a passphrase (scrypt, RFC 7914, and Fernet), and restores them.

Stored secrets cannot be read without these keys. No key is ever displayed.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from tocsin.core.config import crypto
from tocsin.core.config.environment import Config
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.operate.backup.archive import ArchiveKeys

_PASSPHRASE_NEEDED = ReasonType(
    "backup.passphrase_needed",
    "The secret key in this backup is encrypted with a passphrase. Pass it with --passphrase-file, or "
    "restore with --without-key and re-enter every secret.",
)
_KEY_DAMAGED = ReasonType("backup.key_damaged", "The backup is damaged: its secret key cannot be read.")
_WRONG_PASSPHRASE = ReasonType("backup.wrong_passphrase", "That is not the passphrase of this backup.")
_OTHER_KEY = ReasonType(
    "backup.other_key",
    "TOCSIN_SECRET_KEY is not the key of this backup. Unset the variable, so that the backup's key is "
    "written to the data directory. Or add that key to the variable. Or restore with --without-key and "
    "re-enter every secret.",
)

#: scrypt's N, with r = 8 and p = 1: 64 MiB of memory and some tenths of a second per guess.
COST = 1 << 16
_MAX_COST = 1 << 20


def seal(keys: Sequence[str], passphrase: str | None, *, cost: int = COST) -> ArchiveKeys:
    """The keys for a backup; in plain text only without a passphrase."""
    fingerprints = [crypto.fingerprint(key) for key in keys]
    if passphrase is None:
        return ArchiveKeys(fingerprints, plain=list(keys))
    salt = secrets.token_bytes(16)
    encrypted = _derive_fernet(passphrase, salt, cost).encrypt(json.dumps(list(keys)).encode())
    return ArchiveKeys(fingerprints, encrypted.decode(), base64.b64encode(salt).decode(), cost)


def unseal(keys: ArchiveKeys, passphrase: str | None) -> tuple[str, ...]:
    """The keys of a backup. Raises Rejected without the right passphrase."""
    if not keys.sealed:
        return tuple(keys.plain)
    if passphrase is None:
        raise Rejected(
            "passphrase_missing",
            _PASSPHRASE_NEEDED(),
        )
    if not 2 <= keys.cost <= _MAX_COST:
        raise Rejected("damaged", _KEY_DAMAGED())
    try:
        decrypted = _derive_fernet(passphrase, base64.b64decode(keys.salt), keys.cost).decrypt(keys.sealed.encode())
    except (InvalidToken, ValueError):
        raise Rejected("passphrase_wrong", _WRONG_PASSPHRASE()) from None
    return tuple(str(key) for key in json.loads(decrypted))


def missing(keys: ArchiveKeys, known_keys: Sequence[str]) -> bool:
    """Whether a secret in the backup may need a key that is not among `known_keys`."""
    return not set(keys.fingerprints) <= {crypto.fingerprint(key) for key in known_keys}


def choose_keys(keys: ArchiveKeys, settings: Config, passphrase: str | None, *, without_key: bool) -> tuple[str, ...]:
    """The keys to write to the data directory, newest first; empty if nothing changes.

    Raises Rejected if secrets in the backup would become unreadable, unless `without_key` accepts that.
    """
    known_keys = settings.secret_keys or load_keys(settings.data_dir)
    if without_key or not missing(keys, known_keys):
        return ()
    decrypted = unseal(keys, passphrase)
    if settings.secret_keys:
        raise Rejected(
            "key_differs",
            _OTHER_KEY(),
        )
    return decrypted


def load_keys(data_dir: Path) -> tuple[str, ...]:
    """The keys in the data directory, newest first; never creates one. Raises Permanent if its file is unreadable."""
    try:
        return crypto.keys_in(crypto.read_key_file(data_dir / crypto.KEY_FILE))
    except FileNotFoundError:
        return ()


def write_keys(data_dir: Path, keys: Sequence[str]) -> None:
    """Atomically replaces the keys of the data directory, newest first."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / crypto.KEY_FILE
    temporary_path = path.with_name(f".{crypto.KEY_FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("".join(f"{key}\n" for key in keys))
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        # Root may run the command, while the server with its own account must be able to read the key.
        with contextlib.suppress(PermissionError):
            os.chown(temporary_path, path.stat().st_uid, path.stat().st_gid)
    temporary_path.replace(path)


def _derive_fernet(passphrase: str, salt: bytes, cost: int) -> Fernet:
    derived = Scrypt(salt=salt, length=32, n=cost, r=8, p=1).derive(passphrase.encode())
    return Fernet(base64.urlsafe_b64encode(derived))
