"""The process configuration: the `TOCSIN_*` environment variables, read once, typed and validated.

All other settings are configured in the UI, the API or YAML, and are stored in the database. A few can be either: the
variable wins.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from email.utils import parseaddr
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import platformdirs
import psycopg
from psycopg.conninfo import conninfo_to_dict

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8686

#: This file in the data directory holds the password of the demo's users, and marks the directory as the demo's.
DEMO_FILE = "demo-password"

#: Characters of a secret key: as many random ones as nobody can guess. A generated key has 43.
MIN_KEY_LENGTH = 32

type Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConfigError(ValueError):
    """A variable is unknown or its value is invalid. The text names the variable."""


class UnreadableFileError(ConfigError):
    """The file of a variable cannot be read; it may be there later, as on a file system that is not mounted yet."""


class LogFormat(StrEnum):
    CONSOLE = "console"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Variable:
    """One variable, as the reference lists it."""

    name: str
    meaning: str
    default: str = "none"
    #: Its value can instead be read from the file named by `<NAME>_FILE`.
    is_secret: bool = False
    #: While it is not set, the setting of that name applies, which is also that of the field of `Config`; "": it has
    #: none.
    setting: str = ""


VARIABLES = (
    Variable(
        "TOCSIN_DATA_DIR",
        "The data directory: secret key, and the built-in PostgreSQL.",
        "the platform's data folder for `tocsin`; as root `/var/lib/tocsin`",
    ),
    Variable("TOCSIN_DATABASE_URL", "URL of an external PostgreSQL.", "the built-in PostgreSQL", is_secret=True),
    Variable(
        "TOCSIN_BASE_URL",
        "The public URL. Links, cookies, CSRF checks and signed callbacks are built from it.",
        "the setting `base_url`; without one `http://` and the address on which Tocsin listens",
        setting="base_url",
    ),
    Variable(
        "TOCSIN_TRUSTED_PROXIES",
        "Addresses or networks of proxies, separated by commas, whose `X-Forwarded-*` headers are trusted.",
    ),
    Variable(
        "TOCSIN_SECRET_KEY",
        f"Keys that encrypt stored secrets, each of at least {MIN_KEY_LENGTH} characters, separated by commas, the "
        "newest first.",
        "a key in the data directory, generated on the first start",
        is_secret=True,
    ),
    Variable(
        "TOCSIN_SMTP_URL",
        "Mail server: `smtp://` or `smtps://user:password@host:port`.",
        "the setting `smtp_url`",
        is_secret=True,
        setting="smtp_url",
    ),
    Variable("TOCSIN_EMAIL_FROM", "Sender address of emails.", "the setting `email_from`", setting="email_from"),
    Variable(
        "TOCSIN_HEARTBEAT_URL",
        "URL that is called after each self-check without a problem.",
        "the setting `heartbeat_url`",
        is_secret=True,
        setting="heartbeat_url",
    ),
    Variable(
        "TOCSIN_BACKUP_PASSPHRASE", "Passphrase that encrypts the secret key in a `tocsin backup`.", is_secret=True
    ),
    Variable(
        "TOCSIN_UPGRADE_BACKUP",
        "`0`: an upgrade does not write a backup before it changes the database.",
        "`1`",
    ),
    Variable(
        "TOCSIN_ALLOW_TARGETS",
        "Private addresses or networks, separated by commas, that Tocsin may connect to, also for every user's contact "
        "methods.",
    ),
    Variable("TOCSIN_API_TOKEN", "The API token with which `tocsin mcp` reaches another Tocsin.", is_secret=True),
    Variable("TOCSIN_LOG_FORMAT", "Format of the log: `console` or `json`.", "`console`"),
    Variable("TOCSIN_TEST_CLOCK", "For tests only: `1` lets the clock be moved.", "`0`"),
    Variable("TOCSIN_DEBUG", "For developers only: `1` shows settings and code on error pages.", "`0`"),
)

_NAMES = frozenset(variable.name for variable in VARIABLES)
_SECRETS = frozenset(variable.name for variable in VARIABLES if variable.is_secret)

#: The variables that can be settings, by the setting.
SETTING_VARIABLES = {variable.setting: variable for variable in VARIABLES if variable.setting}

#: Variables of the test suite and the benchmarks. Accepted here so that they do not prevent a start.
TEST_ONLY_PREFIX = "TOCSIN_TEST_"


@dataclass(frozen=True, slots=True)
class Config:
    """The configuration of one process. Secrets are excluded from `repr`."""

    data_dir: Path
    base_url: str | None
    database_url: str | None = field(repr=False)
    secret_keys: tuple[str, ...] = field(repr=False)
    smtp_url: str | None = field(repr=False)
    heartbeat_url: str | None = field(repr=False)
    email_from: str | None
    trusted_proxies: tuple[Network, ...]
    allow_targets: tuple[Network, ...]
    log_format: LogFormat
    test_clock: bool
    debug: bool
    #: Encrypts the secret key in backups.
    backup_passphrase: str | None = field(default=None, repr=False)
    #: Of `tocsin mcp` only.
    api_token: str | None = field(default=None, repr=False)
    #: Whether an upgrade writes a backup first.
    upgrade_backup: bool = True
    #: The fields whose value is a setting, because their variable is not set.
    from_settings: frozenset[str] = frozenset()

    @property
    def is_demo(self) -> bool:
        """Whether this is `tocsin demo`."""
        return (self.data_dir / DEMO_FILE).exists()

    def base_url_of(self, host: str) -> str | None:
        """Returns the public URL for a request to `host`, or None if the request's own host counts. A setting counts
        for its own host only: with a wrong one, its form still works at the address where it was saved."""
        if self.base_url and "base_url" in self.from_settings and urlsplit(self.base_url).netloc != host.lower():
            return None
        return self.base_url

    @property
    def public_url(self) -> str:
        """The URL that users and senders use, without a trailing slash."""
        return self.base_url or _listening


_listening = f"http://localhost:{DEFAULT_PORT}"


def listen_address(url: str) -> None:
    """Sets the URL at which this process listens. It is the public URL while `TOCSIN_BASE_URL` is not set."""
    global _listening
    _listening = url


def read(environment: Mapping[str, str]) -> Config:
    """Builds the configuration from environment variables.

    Raises ConfigError, naming the variable, for an unknown `TOCSIN_*` name, a variable set both directly and as
    `_FILE`, an unreadable file, or an invalid value.
    """
    values = _values(environment)
    return Config(
        data_dir=Path(values.get("TOCSIN_DATA_DIR") or default_data_dir()).expanduser().absolute(),
        base_url=_base_url(values.get("TOCSIN_BASE_URL")),
        database_url=_database_url(values.get("TOCSIN_DATABASE_URL")),
        secret_keys=_secret_keys(values.get("TOCSIN_SECRET_KEY")),
        smtp_url=_url("TOCSIN_SMTP_URL", values.get("TOCSIN_SMTP_URL"), ("smtp", "smtps")),
        heartbeat_url=_url("TOCSIN_HEARTBEAT_URL", values.get("TOCSIN_HEARTBEAT_URL"), ("http", "https")),
        email_from=_sender(values.get("TOCSIN_EMAIL_FROM")),
        trusted_proxies=_networks("TOCSIN_TRUSTED_PROXIES", values.get("TOCSIN_TRUSTED_PROXIES")),
        allow_targets=_networks("TOCSIN_ALLOW_TARGETS", values.get("TOCSIN_ALLOW_TARGETS")),
        log_format=_log_format(values.get("TOCSIN_LOG_FORMAT")),
        test_clock=_flag("TOCSIN_TEST_CLOCK", values.get("TOCSIN_TEST_CLOCK")),
        debug=_flag("TOCSIN_DEBUG", values.get("TOCSIN_DEBUG")),
        backup_passphrase=values.get("TOCSIN_BACKUP_PASSPHRASE") or None,
        api_token=values.get("TOCSIN_API_TOKEN") or None,
        upgrade_backup=_flag("TOCSIN_UPGRADE_BACKUP", values.get("TOCSIN_UPGRADE_BACKUP") or "1"),
    )


@cache
def _environment() -> Config:
    return read(os.environ)


_settings: dict[str, str] = {}


@cache
def _merged() -> Config:
    config = _environment()
    used: dict[str, Any] = {name: value for name, value in _settings.items() if value and getattr(config, name) is None}
    return replace(config, **used, from_settings=frozenset(used))


def current() -> Config:
    """Returns this process's configuration, read from its environment once, with the settings of `use_settings`."""
    return _merged()


def use_settings(values: Mapping[str, str]) -> None:
    """Sets the stored settings by name. They apply where their variable is not set."""
    global _settings
    _settings = dict(values)
    _merged.cache_clear()


def variable_in_use(setting: str) -> str:
    """Returns the name of the variable that is set and so wins over the setting, or ""."""
    variable = SETTING_VARIABLES.get(setting)
    return variable.name if variable is not None and getattr(_environment(), setting) is not None else ""


def read_again() -> None:
    """Forgets what was read: the environment has changed."""
    _environment.cache_clear()
    _merged.cache_clear()


def default_data_dir() -> Path:
    """Returns `/var/lib/tocsin` for root, else the platform's user data directory for `tocsin`."""
    if os.geteuid() == 0:
        return Path("/var/lib/tocsin")
    return Path(platformdirs.user_data_dir("tocsin"))


def valid_setting(setting: str, text: str) -> str:
    """Returns the text as a value of the setting's variable. Raises ConfigError, which names the variable."""
    match setting:
        case "base_url":
            return _base_url(text) or ""
        case "smtp_url":
            return _url("TOCSIN_SMTP_URL", text, ("smtp", "smtps")) or ""
        case "heartbeat_url":
            return _url("TOCSIN_HEARTBEAT_URL", text, ("http", "https")) or ""
        case _:
            return _sender(text) or ""


def _values(environment: Mapping[str, str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, value in environment.items():
        if not name.startswith("TOCSIN_") or (name.startswith(TEST_ONLY_PREFIX) and name not in _NAMES):
            continue
        plain = name.removesuffix("_FILE")
        if name in _NAMES:
            target, text = name, value
        elif plain in _SECRETS:
            target, text = plain, _read_file(name, value)
        else:
            raise ConfigError(f"{name} is not a variable that Tocsin knows. Known: {', '.join(sorted(_NAMES))}.")
        if target in values:
            raise ConfigError(f"{target} and {target}_FILE are both set: choose one.")
        values[target] = text.strip()
    return values


def _read_file(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFileError(f"{name}: cannot read {path}: {error}") from error


def _list(text: str | None) -> list[str]:
    return [part.strip() for part in (text or "").replace("\n", ",").split(",") if part.strip()]


def _secret_keys(text: str | None) -> tuple[str, ...]:
    keys = tuple(_list(text))
    if any(len(key) < MIN_KEY_LENGTH for key in keys):
        raise ConfigError(
            f"TOCSIN_SECRET_KEY: a key needs at least {MIN_KEY_LENGTH} characters; `openssl rand -base64 32` makes one."
        )
    return keys


def _flag(name: str, text: str | None) -> bool:
    match (text or "").lower():
        case "" | "0" | "false" | "no" | "off":
            return False
        case "1" | "true" | "yes" | "on":
            return True
        case _:
            raise ConfigError(f"{name}: {text!r} is neither 1 nor 0.")


def _log_format(text: str | None) -> LogFormat:
    try:
        return LogFormat(text or "console")
    except ValueError:
        raise ConfigError(f"TOCSIN_LOG_FORMAT: {text!r} is neither console nor json.") from None


def _networks(name: str, text: str | None) -> tuple[Network, ...]:
    networks: list[Network] = []
    for part in _list(text):
        try:
            networks.append(ipaddress.ip_network(part))
        except ValueError as error:
            raise ConfigError(f"{name}: {error}.") from error
    return tuple(networks)


#: Used for URLs that contain a password. The unparsable part is not repeated, because it may be the password.
_UNREADABLE = (
    "cannot be read. In a name or password, what means something in a URL is percent-encoded: "
    "@ is %40, / is %2F, % is %25, [ is %5B."
)


def _url(name: str, text: str | None, schemes: tuple[str, ...]) -> str | None:
    if not text:
        return None
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ConfigError(f"{name} {_UNREADABLE}") from None
    if parts.scheme not in schemes or not parts.hostname:
        raise ConfigError(f"{name} must look like {schemes[0]}://host.")
    return text


def _sender(text: str | None) -> str | None:
    """Validates the sender, because mail servers reject mail from an invalid address."""
    if not text:
        return None
    name, _, domain = parseaddr(text)[1].rpartition("@")
    if not (name and domain):
        raise ConfigError(f"TOCSIN_EMAIL_FROM: {text!r} is not an e-mail address; write Tocsin <tocsin@example.org>.")
    return text


def _base_url(text: str | None) -> str | None:
    url = _url("TOCSIN_BASE_URL", text, ("http", "https"))
    if url is None:
        return None
    parts = urlsplit(url)
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username:
        raise ConfigError("TOCSIN_BASE_URL must be scheme and host only, such as https://tocsin.example.org.")
    return f"{parts.scheme}://{parts.netloc}"


def _database_url(text: str | None) -> str | None:
    if text and not text.startswith(("postgresql://", "postgres://")):
        raise ConfigError("TOCSIN_DATABASE_URL must look like postgresql://user:password@host:5432/tocsin.")
    if not text:
        return None
    try:
        parts = conninfo_to_dict(text)
    except psycopg.ProgrammingError as error:
        # libpq names an unknown parameter. Its other messages repeat the unparsable text.
        unknown = str(error).strip()
        detail = f": {unknown}." if "query parameter" in unknown else f" {_UNREADABLE}"
        raise ConfigError(f"TOCSIN_DATABASE_URL{detail}") from None
    ports = [port for port in str(parts.get("port", "")).split(",") if port]
    if not all(port.isdecimal() for port in ports) or "@" in f"{parts.get('host', '')}{parts.get('dbname', '')}":
        raise ConfigError(f"TOCSIN_DATABASE_URL {_UNREADABLE}")
    return text
