"""The installation-wide settings, the version of the configuration, and the last backup. Never writes the audit log."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Annotated, Any, overload
from urllib.parse import urlsplit

from django.core.exceptions import ObjectDoesNotExist
from django.db import connection as django_connection
from django.db import transaction
from django.db.models import Model
from django.utils.crypto import salted_hmac
from psycopg.types.json import Jsonb
from pydantic import AfterValidator, Field, create_model

from tocsin.core.config import crypto, environment
from tocsin.core.config.crypto import ForwardingTarget
from tocsin.core.db import database
from tocsin.core.db.database import CHANNEL, Connection
from tocsin.core.errors import Rejected
from tocsin.core.models import Setting
from tocsin.core.reasons import Text, sentence
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import DURATION_TOO_SHORT, NightHours
from tocsin.core.validation.spec import InvalidValue, Line, OneOf, Spec, TimeZone, list_of_choices, parse_duration

# ---------- config version
# The configuration version, incremented by every configuration change so that all nodes reload.


_BUMP = (
    "INSERT INTO core_configversion (id, version) VALUES (1, 1) "
    "ON CONFLICT (id) DO UPDATE SET version = core_configversion.version + 1"
)


#: Taken by every transaction that changes configuration, so that its validation still holds when it commits.
_CHANGE_LOCK = int.from_bytes(b"config")


def lock() -> None:
    """Waits for other configuration changes, and locks until the caller's Django transaction ends."""
    with django_connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_CHANGE_LOCK,))


@contextmanager
def exclusive(row: Model | None = None) -> Iterator[None]:
    """Opens a transaction that excludes other configuration changes, so that nothing changes between read and save.

    `row`, if given, is refreshed first. Raises `Rejected("not_found")` if it has been deleted.
    """
    with transaction.atomic():
        lock()
        try:
            if row is not None:
                row.refresh_from_db()
        except ObjectDoesNotExist:
            raise Rejected("not_found", sentence("This was deleted in the meantime.")) from None
        yield


def bump() -> None:
    """Increments the version, inside the caller's Django transaction that changed the configuration."""
    with django_connection.cursor() as cursor:
        cursor.execute(_BUMP)
        cursor.execute("SELECT pg_notify(%s, 'config')", (CHANNEL,))


def current_version(connection: Connection) -> int:
    """Returns the configuration version that `connection`'s transaction sees; 0 before the first change."""
    row = connection.execute("SELECT version FROM core_configversion WHERE id = 1").fetchone()
    return row[0] if row else 0


DEFAULT_NIGHT_HOURS = "22:00-07:00"

#: Who may add the address of a chat service at a host of no well-known vendor: administrators; with `managers`, also
#: group managers for their groups' contacts; or everyone.
CHAT_SERVERS = ("managers", "admins", "everybody")

#: What users see: everything, or what belongs to their groups.
VISIBILITIES = ("everyone", "groups")
#: With the second, passwords work for break-glass accounts only.
SSO_ONLY = "sso_only"
SIGN_IN_METHODS = ("all", SSO_ONLY)

#: As in `access.roles`, a higher room.
ROLES = ("observer", "responder", "manager", "admin")

#: Limits of `session_lifetime`.
MIN_SESSION_LIFETIME = timedelta(minutes=5)
MAX_SESSION_LIFETIME = timedelta(days=365)

#: How much of an alert a channel's messages contain, from everything to only its number.
CONTENTS = ("full", "subject", "number")


def _country(text: str) -> str:
    if text and not (len(text) == 2 and text.isascii() and text.isalpha()):
        raise InvalidValue(sentence('"{value}" is not a two-letter country code such as CH.', value=text))
    return text.upper()


def _listen_address(text: str) -> str:
    """Checks host and port, such as 0.0.0.0:2525 or [::]:2525. An empty text disables the listener."""
    host, _, port = text.rpartition(":")
    if text and not (host and port.isdecimal() and 0 <= int(port) <= 65_535):
        raise InvalidValue(sentence('"{value}" is not an address to listen on, such as 0.0.0.0:2525.', value=text))
    return text


def _forwarding_target(text: str) -> str:
    try:
        if text:
            ForwardingTarget.parse(text)
    except ValueError:
        raise InvalidValue(
            sentence(
                '"{value}" is not an address such as syslog+tls://siem.example.org:6514, or an https URL without a '
                "password.",
                value=text,
            )
        ) from None
    return text


def _night_hours(text: str) -> str:
    hours = text.replace(" ", "").replace("–", "-") or DEFAULT_NIGHT_HOURS
    try:
        NightHours.parse(hours)
    except ValueError:
        raise InvalidValue(sentence('"{value}" are not hours such as 22:00-07:00.', value=hours)) from None
    return hours


def _session_lifetime(text: str) -> str:
    """Checks a duration, and returns it in its shortest form."""
    lifetime = parse_duration(text, MAX_SESSION_LIFETIME)
    if lifetime < MIN_SESSION_LIFETIME:
        raise InvalidValue(DURATION_TOO_SHORT(minimum=MIN_SESSION_LIFETIME))
    return inputs.write_duration(lifetime)


_Content = Annotated[str, OneOf(CONTENTS)]

#: Stands for a password that is stored.
MASK = "•••"

_BASE_URL = Text("Enter scheme and host only, such as https://tocsin.example.org.")
_SMTP_URL = Text(
    "Enter a URL such as smtp://user:password@smtp.example.org:587. In names and passwords, write @ as %40, / as %2F "
    "and % as %25."
)
_HEARTBEAT_URL = Text("Enter a URL such as https://hc-ping.com/….")
_EMAIL_FROM = Text("Enter an address such as Tocsin <tocsin@example.org>.")


def _of_variable(setting: str, problem: Text) -> Callable[[str], str]:
    """Returns the check of a setting that has a variable."""

    def check(text: str) -> str:
        try:
            return environment.valid_setting(setting, text)
        except environment.ConfigError:
            raise InvalidValue(problem()) from None

    return check


class SettingsSpec(Spec):
    """The settings of the installation. A setting that is omitted stays unchanged."""

    # `settings_spec` adds those of the channels.

    organisation_name: Annotated[Line, Field(max_length=100)] = Field(
        default="", description="Name shown beside the logo and in emails."
    )
    base_url: Annotated[str, Field(max_length=500), AfterValidator(_of_variable("base_url", _BASE_URL))] = Field(
        default="",
        description="The public URL, such as `https://tocsin.example.org`: webhook URLs and links begin with it. "
        "`TOCSIN_BASE_URL` wins where it is set.",
    )
    smtp_url: Annotated[str, Field(max_length=1000), AfterValidator(_of_variable("smtp_url", _SMTP_URL))] = Field(
        default="",
        description="Mail server, such as `smtp://user:password@smtp.example.org:587`, or `smtps://` for implicit TLS. "
        f"Answers have `{MASK}` in place of the password, which keeps the stored one. `TOCSIN_SMTP_URL` wins where it "
        "is set.",
    )
    email_from: Annotated[str, Field(max_length=300), AfterValidator(_of_variable("email_from", _EMAIL_FROM))] = Field(
        default="",
        description="Sender of emails, such as `Tocsin <tocsin@example.org>`. `TOCSIN_EMAIL_FROM` wins where it is "
        "set.",
    )
    heartbeat_url: Annotated[
        str, Field(max_length=1000), AfterValidator(_of_variable("heartbeat_url", _HEARTBEAT_URL))
    ] = Field(
        default="",
        description="URL of an external dead man's switch, which is called after each self-check without a problem. "
        "Answers have only its host, which keeps the stored one. `TOCSIN_HEARTBEAT_URL` wins where it is set.",
    )
    time_zone: TimeZone = Field(
        default="UTC", description="Time zone of new users and groups, and of times that are shown without a user."
    )
    message_retention_days: int = Field(
        default=90,
        ge=1,
        le=36_500,
        description="Number of days for which inbound messages are kept. From 60 days on they are removed by whole "
        "months, up to 31 days later.",
    )
    message_size_cap_mb: int = Field(
        default=10_240,
        ge=10,
        le=100_000_000,
        description="Maximum size of all inbound messages in MB. The oldest are deleted first.",
    )
    delivery_retention_days: int = Field(
        default=400, ge=1, le=36_500, description="Number of days for which notifications and deliveries are kept."
    )
    audit_retention_days: int = Field(
        default=400, ge=1, le=36_500, description="Number of days for which the audit log is kept."
    )
    audit_forwarding: Annotated[str, Field(max_length=500), AfterValidator(_forwarding_target)] = Field(
        default="",
        description="Where the audit log is forwarded: `syslog+tls://HOST:PORT`, `syslog+tcp://…`, `syslog+udp://…`, "
        "or the URL of a webhook. Empty: nowhere.",
    )
    bundle_pages: bool = Field(
        default=True, description="Whether pages in quick succession are bundled into one message."
    )
    night_hours: Annotated[str, Field(max_length=20), AfterValidator(_night_hours)] = Field(
        default=DEFAULT_NIGHT_HOURS, description="Local hours in which a page counts as one at night."
    )
    weekly_coverage_mail: bool = Field(
        default=False,
        description="Whether the leads of groups get an email about on-call problems on Mondays.",
    )
    mail_listen: Annotated[str, Field(max_length=100), AfterValidator(_listen_address)] = Field(
        default="", description="Address on which the SMTP listener for integrations listens, such as `0.0.0.0:2525`."
    )
    sms_reply_codes: bool = Field(
        default=False, description="Whether a reply by SMS must end with the code of the text message."
    )
    phone_region: Annotated[str, Field(max_length=2), AfterValidator(_country)] = Field(
        default="", description="Country of phone numbers without a country code, such as `CH`."
    )
    sign_in: Annotated[str, OneOf(SIGN_IN_METHODS)] = Field(
        default="all",
        description="How users sign in: `all`, or `sso_only`: by identity providers and passkeys, and with passwords "
        "only to break-glass accounts.",
    )
    require_mfa: Annotated[list[str], list_of_choices(ROLES), AfterValidator(list)] = Field(
        default=[],
        description="Roles whose users must have a second factor when they sign in with a password, such as `[admin]`.",
    )
    session_lifetime: Annotated[str, Field(max_length=20), AfterValidator(_session_lifetime)] = Field(
        default="30d", description="Time after which users must sign in again, such as `12h`: `5m` to `365d`."
    )
    chat_servers_by: Annotated[str, OneOf(CHAT_SERVERS)] = Field(
        default="managers",
        description="Who may add chat addresses at hosts of no well-known service: administrators; with `managers`, "
        "also managers for their groups' contacts; or everyone.",
    )
    visibility: Annotated[str, OneOf(VISIBILITIES)] = Field(
        default="everyone",
        description="Who sees what: everyone sees everything; with `groups`, users other than administrators see only "
        "what belongs to their groups, what they were paged about, and what they own.",
    )
    assistant_writes: bool = Field(
        default=False,
        description="Whether assistants connected by MCP may also change something, such as acknowledge or close an "
        "alert, with a token whose scope allows it.",
    )
    assistant_writes_per_hour: int = Field(
        default=20, ge=1, le=200, description="How many changes an assistant may make within an hour with one token."
    )


# Without slots: before Python 3.12.3 a generic class with frozen slots cannot be called by its parameters.
@dataclass(frozen=True)
class SettingDefinition[T: (str, int, bool, list[str])]:
    """One setting: a field of `settings_spec`."""

    name: str

    @property
    def default(self) -> T:
        default: T = settings_spec().model_fields[self.name].default
        return default


ORGANISATION_NAME = SettingDefinition[str]("organisation_name")
TIME_ZONE = SettingDefinition[str]("time_zone")
MESSAGE_RETENTION_DAYS = SettingDefinition[int]("message_retention_days")
MESSAGE_SIZE_CAP_MB = SettingDefinition[int]("message_size_cap_mb")
DELIVERY_RETENTION_DAYS = SettingDefinition[int]("delivery_retention_days")
AUDIT_RETENTION_DAYS = SettingDefinition[int]("audit_retention_days")
AUDIT_FORWARDING = SettingDefinition[str]("audit_forwarding")
BUNDLE_PAGES = SettingDefinition[bool]("bundle_pages")
NIGHT_HOURS = SettingDefinition[str]("night_hours")
WEEKLY_COVERAGE_MAIL = SettingDefinition[bool]("weekly_coverage_mail")
MAIL_LISTEN = SettingDefinition[str]("mail_listen")
SMS_REPLY_CODES = SettingDefinition[bool]("sms_reply_codes")
PHONE_REGION = SettingDefinition[str]("phone_region")
VISIBILITY = SettingDefinition[str]("visibility")
SIGN_IN = SettingDefinition[str]("sign_in")
REQUIRE_MFA = SettingDefinition[list[str]]("require_mfa")
SESSION_LIFETIME = SettingDefinition[str]("session_lifetime")
CHAT_SERVERS_BY = SettingDefinition[str]("chat_servers_by")
ASSISTANT_WRITES = SettingDefinition[bool]("assistant_writes")
ASSISTANT_WRITES_PER_HOUR = SettingDefinition[int]("assistant_writes_per_hour")


def content_name(channel: str) -> str:
    """Returns the name of the setting for the content of the channel's messages."""
    return f"content_{channel}"


type AnySetting = (
    SettingDefinition[str] | SettingDefinition[int] | SettingDefinition[bool] | SettingDefinition[list[str]]
)

SETTINGS: dict[str, AnySetting] = {name: SettingDefinition(name) for name in SettingsSpec.model_fields}

_contents: dict[str, Any] = {}


def declare_content(channel: str, label: str) -> None:
    """Adds the setting for the content of a channel's messages: a higher room knows the channels."""
    name = content_name(channel)
    description = f"Content of messages by {label}: everything, client and subject, or only the number of the ticket."
    _contents[name] = (_Content, Field(default="full", description=description))
    SETTINGS[name] = SettingDefinition[str](name)
    settings_spec.cache_clear()


@cache
def settings_spec() -> type[SettingsSpec]:
    """Returns the spec with every setting, those of the channels included."""
    return create_model("SettingsSpec", __base__=SettingsSpec, __doc__=SettingsSpec.__doc__, **_contents)


@overload
def get[T: (str, int, bool, list[str])](setting: SettingDefinition[T]) -> T: ...
@overload
def get(setting: str) -> Any: ...
def get(setting: Any) -> Any:
    """Returns the setting's value or its default, over Django's connection; a password in it is masked. Raises KeyError
    for an unknown name."""
    name = setting if isinstance(setting, str) else setting.name
    return _shown(name, stored(name))


def stored(name: str) -> Any:
    """Returns the setting as it is stored, or its default, over Django's connection: a secret is encrypted."""
    row = Setting.objects.filter(name=name).first()
    return SETTINGS[name].default if row is None else row.value


def all_settings() -> dict[str, Any]:
    """Returns every setting by name, as `get` does."""
    values = dict(Setting.objects.values_list("name", "value"))
    return {name: _shown(name, values.get(name, setting.default)) for name, setting in SETTINGS.items()}


def _shown(name: str, value: Any) -> Any:
    return shown_secret(name, _decrypted(value)) if name in SECRETS else value


def shown_secret(name: str, value: str) -> str:
    """Returns a setting without what is secret in it, if anything is."""
    return SECRETS[name](value) if value and name in SECRETS else value


def _decrypted(value: str) -> str:
    return (crypto.decrypt_or_none(value) or "") if value else ""


def without_password(url: str) -> str:
    """Returns the URL without its password."""
    password = urlsplit(url).password
    return url.replace(f":{password}@", f":{MASK}@", 1) if password else url


#: Settings with a URL that contains a secret, which are stored encrypted, and what is shown of them.
SECRETS: Mapping[str, Callable[[str], str]] = {"smtp_url": without_password, "heartbeat_url": crypto.mask_url}


def _encrypted(name: str, url: str) -> str:
    """Returns what is stored for a secret URL: the same as before, if it is the same URL or what is shown of it. Raises
    Rejected if another server would get the stored secret."""
    before = stored(name)
    known = _decrypted(before)
    if known and url in (known, SECRETS[name](known)):
        return str(before)
    if urlsplit(url).password == MASK or crypto.is_masked(url):
        raise Rejected("invalid", crypto.ENTER_SECRET_AGAIN(), name)
    return crypto.encrypt(url)


def night_hours() -> NightHours:
    """Returns the hours in which a page counts as one at night, over Django's connection."""
    return NightHours.parse(get(NIGHT_HOURS))


def load(connection: Connection) -> dict[str, Any]:
    """Returns every setting by name, over a pool connection. Used by periodic tasks."""
    stored = {row["name"]: row["value"] for row in database.rows(connection, "SELECT name, value FROM core_setting")}
    return {name: stored.get(name, setting.default) for name, setting in SETTINGS.items()}


def non_default_settings(*, with_secrets: bool = False) -> dict[str, Any]:
    """Returns the settings whose value differs from the default, by name."""
    values = {name: value for name, value in all_settings().items() if value != SETTINGS[name].default}
    if with_secrets:
        values |= {name: crypto.decrypt(stored(name)) for name in SECRETS if name in values}
    return values


def set(setting: str | AnySetting, value: object) -> None:
    """Validates and stores one setting, inside the caller's Django transaction. Raises Rejected, naming the setting, if
    the name is unknown or the value invalid."""
    name = setting if isinstance(setting, str) else setting.name
    write(validated({name: value}))


def validated(values: object) -> dict[str, Any]:
    """Validates `values` by name, and returns them as they are stored. Raises Rejected, naming the setting, for an
    unknown name or an invalid value."""
    settings = settings_spec().read(values)
    valid = {name: getattr(settings, name) for name in SETTINGS if name in settings.model_fields_set}
    return valid | {name: _encrypted(name, valid[name]) for name in SECRETS if valid.get(name)}


def write(values: dict[str, Any]) -> None:
    """Stores values returned by `validated`, deletes those equal to their default, and increments the version."""
    for name, value in values.items():
        if value == SETTINGS[name].default:
            Setting.objects.filter(name=name).delete()
        else:
            Setting.objects.update_or_create(name=name, defaults={"value": value})
    bump()
    if environment.SETTING_VARIABLES.keys() & values.keys():
        # What this process answers next already follows them; every other process follows within a second.
        transaction.on_commit(_follow_now)


_followed: tuple[str, int] | None = None


def follow(connection: Connection) -> None:
    """Makes the settings that have a variable this process's own (`environment.use_settings`), if the configuration has
    changed since the last call."""
    global _followed
    version = (database.url(), current_version(connection))
    if version == _followed:
        return
    values = load(connection)
    values |= {name: _decrypted(values[name]) for name in SECRETS}
    environment.use_settings({name: values[name] for name in environment.SETTING_VARIABLES})
    _followed = version


def _follow_now() -> None:
    with database.connection() as connection:
        follow(connection)


# ---------- last backup
# When the last backup was made, its size and place. `tocsin backup` records it; other ways report it to the API.


#: Without a backup for so long, System and doctor warn.
MAX_BACKUP_AGE = timedelta(days=7)

_SAVE_BACKUP = (
    "INSERT INTO core_setting (name, value) VALUES ('last_backup', %s) "
    "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
)
_LOAD_BACKUP = """
SELECT (SELECT value FROM core_setting WHERE name = 'last_backup') AS value,
       (SELECT min(applied) FROM django_migrations) AS installed_at
"""


@dataclass(frozen=True, slots=True)
class LastBackup:
    """One backup. `location` is as its maker names it, such as "host:/backup/tocsin-2026-11-25"."""

    at: datetime
    location: str
    #: None: not reported.
    size_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class BackupStatus:
    """The last backup, if any, and how long the installation has been without one."""

    last: LastBackup | None
    unsaved_for: timedelta

    @property
    def is_overdue(self) -> bool:
        return self.unsaved_for > MAX_BACKUP_AGE


def record_backup(connection: Connection, backup: LastBackup) -> None:
    """Stores the backup as the last one."""
    value = {"at": backup.at.isoformat(), "location": backup.location, "size_bytes": backup.size_bytes}
    connection.execute(_SAVE_BACKUP, (Jsonb(value),))


def load_backup_status(connection: Connection, now: datetime) -> BackupStatus:
    """Returns the status at `now`. Without a backup, the installation's age counts."""
    row = database.row(connection, _LOAD_BACKUP)
    assert row is not None
    stored = row["value"]
    if stored is None:
        return BackupStatus(None, now - row["installed_at"])
    last = LastBackup(datetime.fromisoformat(stored["at"]), stored["location"], stored["size_bytes"])
    return BackupStatus(last, now - last.at)


# ---------- etag
# A fingerprint of an object's state: two states have the same stamp if no relevant value differs.
#
# It is keyed, so that a secret or a number in the state cannot be found by trial.


def make_etag(state: Mapping[str, object]) -> str:
    """Returns 32 hex digits for a state of JSON values and datetimes. The order of its keys does not matter."""
    text = json.dumps(state, sort_keys=True, default=str)
    return salted_hmac("tocsin.stamp", text, algorithm="sha256").hexdigest()[:32]
