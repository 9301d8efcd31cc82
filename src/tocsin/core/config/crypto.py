"""Encrypts secrets at rest, with several keys, newest first, and keeps them from other servers. Never logs a key."""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
import json
import os
import re
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.exceptions import InvalidTag
from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

from tocsin.core.config import environment
from tocsin.core.errors import FILE_UNREADABLE, FILE_UNWRITABLE, Permanent
from tocsin.core.reasons import Text, sentence

ENTER_SECRET_AGAIN = Text("enter the secret again: the address has changed.")
_NOT_A_KEY = Text("{path} does not hold a secret key.")
_RESTORE_FILE = Text("Restore it from a backup.")

KEY_FILE = "secret.key"

RESTORE_KEY_OR_ENTER_SECRET = Text("Add the key that encrypted it to TOCSIN_SECRET_KEY, or enter the secret again.")


def secret_keys() -> tuple[str, ...]:
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
    return tuple(fingerprint(key) for key in secret_keys())


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
            raise Permanent(
                reason, remedy=sentence("Choose another data directory with TOCSIN_DATA_DIR, or set TOCSIN_SECRET_KEY.")
            ) from error
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
        raise Permanent(
            reason,
            remedy=sentence(
                "Give it to the user that runs Tocsin (chown {user} {path}; chmod 600 {path}).",
                user=str(os.geteuid()),
                path=str(path),
            ),
        ) from error
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
    return _fernet(secret_keys()).encrypt(text.encode()).decode()


def decrypt(token: str) -> str:
    """Returns the text of a token that `encrypt` created under any known key. Raises Permanent if no key fits."""
    try:
        return _fernet(secret_keys()).decrypt(token.encode()).decode()
    except InvalidToken:
        raise Permanent(
            sentence("The configured secret keys don't decrypt a stored secret."), RESTORE_KEY_OR_ENTER_SECRET()
        ) from None


def decrypt_or_none(token: str) -> str | None:
    """Returns the text of a token, or None if no known key fits, so that the secret must be entered again."""
    try:
        return decrypt(token)
    except Permanent:
        return None


def is_current(token: str) -> bool:
    """Returns whether the token is encrypted under the newest key."""
    try:
        _fernet(secret_keys()[:1]).decrypt(token.encode())
    except InvalidToken:
        return False
    return True


@cache
def _fernet(secret_keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())) for key in secret_keys])


# ---------- deterministic encryption
# Deterministic encryption (AES-SIV, RFC 5297): equal secrets have equal ciphertexts, so that they can be compared.
#
# Where nothing is compared, use `crypto.encrypt`, which also hides whether two secrets are equal.


def encrypt_deterministically(text: str) -> str:
    """Encrypts `text` under the newest key, as URL-safe Base64. Equal texts give equal results."""
    ciphertext = _cipher(secret_keys()[0]).encrypt(text.encode(), None)
    return base64.urlsafe_b64encode(ciphertext).rstrip(b"=").decode()


def decrypt_deterministic(token: str) -> str:
    """Decrypts a token that `encrypt` created under any known key. Raises Permanent if no key fits."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    keys = secret_keys()
    for key in keys:
        try:
            return _cipher(key).decrypt(raw, None).decode()
        except (InvalidTag, ValueError):
            continue
    raise Permanent(
        sentence("The configured secret keys don't decrypt a stored address."),
        sentence("Add the key it was saved under to TOCSIN_SECRET_KEY, or enter the address again."),
    )


def _cipher(key: str) -> AESSIV:
    # A derived key, so that a value sealed here is never valid as one encrypted or signed elsewhere.
    return AESSIV(hashlib.sha512(f"seal:{key}".encode()).digest())


# ---------- reencryption
# Re-encrypts the encrypted values inside stored texts under the newest secret key. Reads nothing but the keys.


#: A Fernet token (version 0x80 and a time before the year 2106), or a sealed address with its scheme.
_VALUE = re.compile(
    r"gAAAAA[A-Za-z0-9_-]{60,}={0,2}|(?P<head>sealed:(?P<scheme>[a-z][a-z0-9+.-]{0,30}):)(?P<token>[A-Za-z0-9_-]+)"
)


@dataclass(frozen=True, slots=True)
class Reencrypted:
    """A re-encrypted text, and how many of its values were under an older key, or could not be decrypted."""

    text: str
    old: int = 0
    unreadable: int = 0


def reencrypt(text: str) -> Reencrypted:
    """Returns `text` with every encrypted value under the newest key. A value that no key decrypts stays unchanged."""
    old = unreadable = 0

    def replace(match: re.Match[str]) -> str:
        nonlocal old, unreadable
        try:
            fresh = _fresh(match)
        except Permanent:
            unreadable += 1
            return match[0]
        old += fresh is not None
        return match[0] if fresh is None else fresh

    return Reencrypted(_VALUE.sub(replace, text), old, unreadable)


def mask_encrypted(text: str, mask: str) -> str:
    """Returns `text` with every encrypted value replaced by `mask`, and a sealed address by its scheme and `mask`."""
    return _VALUE.sub(lambda match: f"{match['scheme']}://{mask}" if match["scheme"] else mask, text)


def _fresh(match: re.Match[str]) -> str | None:
    """Returns the value under the newest key, or None if it is already. Raises Permanent if no key decrypts it."""
    if match["head"] is None:
        return None if is_current(match[0]) else encrypt(decrypt(match[0]))
    token = match["token"]
    ciphertext = encrypt_deterministically(decrypt_deterministic(token))
    return None if ciphertext == token else f"{match['head']}{ciphertext}"


# ---------- secret bundle
# Named secrets stored as one encrypted token, such as a provider's or outbound integration's credentials.


def encrypt_bundle(secrets: Mapping[str, str]) -> str:
    """Returns the encrypted token for `secrets`; empty if there are none."""
    return encrypt(json.dumps(dict(secrets))) if secrets else ""


def decrypt_bundle(token: str) -> dict[str, str]:
    """Returns the secrets by name. Raises Permanent if no known key fits."""
    return dict(json.loads(decrypt(token))) if token else {}


def decrypt_bundle_or_empty(token: str) -> dict[str, str]:
    """Returns the secrets by name, or none if no known key fits, so that they must be entered again."""
    text = decrypt_or_none(token) if token else None
    return {} if text is None else dict(json.loads(text))


# ---------- secret urls
# Masks URLs whose path or query is a secret, such as a webhook's or a private calendar's, as `https://host/…`.
#
# Pure. The caller that stores such a URL must encrypt it.


#: Replaces everything after the host.
MASK_SUFFIX = "/…"


def mask_url(url: str) -> str:
    """Returns the URL without user, password, path and query, or unchanged if it has none of them."""
    if is_masked(url):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK_SUFFIX
    if not (parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc):
        return url
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{MASK_SUFFIX}"


def is_masked(text: str) -> bool:
    """Returns whether `text` is a URL masked by `mask_url`, and so not the URL itself."""
    return text.endswith(MASK_SUFFIX)


def secret_parts(url: str) -> tuple[str, ...]:
    """Returns the secret parts of a URL, longest first. A response or an error may repeat any of them."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return (url,)
    return url, f"{parts.path}?{parts.query}", parts.path, parts.query


# ---------- server origin
# Detects whether changed settings lead to another server, so that a stored secret is never sent there. Pure.


_PORTS = {"http": 80, "https": 443, "imap": 143, "imap+starttls": 143, "imaps": 993}

#: Settings that together identify a server, besides URLs.
_PARTS = ("host", "port", "security")


def has_different_origin(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Returns whether a URL setting (`url`, `api_base`, `…_url`) has a new origin, or the server identified by `host`,
    `port` and `security` has changed."""
    keys = [key for key in after if key in ("url", "api_base") or key.endswith("_url")]
    if any(is_different_origin(str(before.get(key, "")), str(after[key])) for key in keys):
        return True
    return any(str(before.get(key, "")).casefold() != str(after.get(key, "")).casefold() for key in _PARTS)


def is_different_origin(before: str, after: str) -> bool:
    """Returns whether two URLs differ in scheme, host or port."""
    return _origin(before) != _origin(after)


def _origin(url: str) -> tuple[str, str, int | None] | str:
    try:
        parts = urlsplit(url)
        return parts.scheme, parts.hostname or "", parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return url


# ---------- forwarding target
# The address to which the audit log is forwarded, such as `syslog+tls://siem.example.org:6514`. Pure.


_DEFAULT_PORTS = {"syslog+tls": 6514, "syslog+tcp": 601, "syslog+udp": 514}


class Transport(StrEnum):
    """How entries are sent: RFC 5424 over TLS, TCP or UDP, or as signed HTTP requests."""

    TLS = "syslog+tls"
    TCP = "syslog+tcp"
    UDP = "syslog+udp"
    WEBHOOK = "webhook"


@dataclass(frozen=True, slots=True)
class ForwardingTarget:
    """A parsed address. A webhook has its URL; syslog a host and a port."""

    transport: Transport
    host: str
    port: int
    url: str

    @classmethod
    def parse(cls, text: str) -> ForwardingTarget:
        """Parses an address. Raises ValueError if it is none, has a password, or is a public one by plain http."""
        if any(character.isspace() for character in text):
            raise ValueError(text)
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
        if not host or parts.username is not None or parts.password is not None:
            raise ValueError(text)
        if parts.scheme in _DEFAULT_PORTS:
            if parts.path not in ("", "/") or parts.query or parts.fragment:
                raise ValueError(text)
            return cls(Transport(parts.scheme), host, port or _DEFAULT_PORTS[parts.scheme], "")
        if parts.scheme != "https" and not (parts.scheme == "http" and _is_private(host)):
            raise ValueError(text)
        return cls(Transport.WEBHOOK, host, port or (443 if parts.scheme == "https" else 80), text)


def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return host == "localhost"
