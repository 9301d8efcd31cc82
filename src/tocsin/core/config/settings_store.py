"""The installation-wide settings: names, defaults, limits, reading and writing. Never writes to the audit log.

| name                      | default | meaning                                                                 |
|---------------------------|---------|-------------------------------------------------------------------------|
| `organisation_name`       | ""      | shown beside the logo and in e-mails                                    |
| `time_zone`               | UTC     | of new users and groups, and of times shown without a user              |
| `message_retention_days`  | 90      | how long inbound messages are kept                                      |
| `message_size_cap_mb`     | 10240   | total size of inbound messages above which the oldest are deleted early |
| `delivery_retention_days` | 400     | how long notifications and deliveries are kept                          |
| `audit_retention_days`    | 400     | how long the audit log is kept                                          |
| `night_hours`             | 22:00-07:00 | local hours in which a page counts as one at night                  |
| `weekly_coverage_mail`    | false   | whether managers get an e-mail about schedule problems on Mondays       |
| `bundle_pages`            | true    | whether pages in quick succession are bundled into one message          |
| `sms_reply_codes`         | false   | whether an SMS reply must end with the code of its alert                |
| `mail_listen`             | ""      | SMTP listening address for e-mail integrations, such as 0.0.0.0:2525    |
| `phone_region`            | ""      | country, such as CH, of phone numbers entered without a country code    |
| `chat_servers_by`         | managers | who may add chat addresses at hosts of no well-known service           |
| `content_email`, `_push`, `_ntfy`, `_chat`, `_sms`, `_voice` | full | content of messages: full, subject or number |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, overload

from tocsin.core.config import config_version
from tocsin.core.config.night_hours import NightHours
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.models import Setting
from tocsin.core.reasons import ReasonType
from tocsin.core.validation.object_reader import NOT_A_CHOICE, ObjectReader

_NOT_A_COUNTRY = ReasonType("setting.not_a_country", '"{value}" is not a two-letter country code such as CH.')
_NOT_NIGHT_HOURS = ReasonType("setting.not_night_hours", '"{value}" are not hours such as 22:00-07:00.')
_NOT_A_LISTEN_ADDRESS = ReasonType(
    "setting.not_a_listen_address", '"{value}" is not an address to listen on, such as 0.0.0.0:2525.'
)


@dataclass(frozen=True, slots=True)
class SettingDefinition[T: (str, int, bool)]:
    """One setting. `read` reads and validates its value, and records errors in the ObjectReader."""

    name: str
    default: T
    read: Callable[[ObjectReader, str], T]


def _days(name: str, default: int) -> SettingDefinition[int]:
    return SettingDefinition(name, default, lambda spec, key: spec.integer(key, default, minimum=1, maximum=36_500))


ORGANISATION_NAME = SettingDefinition("organisation_name", "", lambda spec, key: spec.line(key, max_length=100))
TIME_ZONE = SettingDefinition("time_zone", "UTC", lambda spec, key: spec.time_zone(key))
MESSAGE_RETENTION_DAYS = _days("message_retention_days", 90)
MESSAGE_SIZE_CAP_MB = SettingDefinition(
    "message_size_cap_mb", 10_240, lambda spec, key: spec.integer(key, 10_240, minimum=10, maximum=100_000_000)
)
DELIVERY_RETENTION_DAYS = _days("delivery_retention_days", 400)
AUDIT_RETENTION_DAYS = _days("audit_retention_days", 400)
BUNDLE_PAGES = SettingDefinition("bundle_pages", True, lambda spec, key: spec.boolean(key, True))
WEEKLY_COVERAGE_MAIL = SettingDefinition("weekly_coverage_mail", False, lambda spec, key: spec.boolean(key, False))

NIGHT_HOURS = SettingDefinition("night_hours", "22:00-07:00", lambda spec, key: _night_hours(spec, key))

SMS_REPLY_CODES = SettingDefinition("sms_reply_codes", False, lambda spec, key: spec.boolean(key, False))
PHONE_REGION = SettingDefinition("phone_region", "", lambda spec, key: _region(spec, key))

#: Who may add the address of a chat service at a host of no well-known vendor: administrators; with `managers`, also
#: group managers for their groups' contacts; or everybody.
CHAT_SERVERS = ("managers", "admins", "everybody")
CHAT_SERVERS_BY = SettingDefinition("chat_servers_by", "managers", lambda spec, key: _one_of(spec, key, CHAT_SERVERS))

#: How much of an alert a channel's messages contain, from everything to only its number.
CONTENTS = ("full", "subject", "number")
_CHANNELS = ("email", "push", "ntfy", "chat", "sms", "voice")


def content_name(channel: str) -> str:
    """Returns the name of the setting for the content of the channel's messages."""
    return f"content_{channel}"


def _content(channel: str) -> SettingDefinition[str]:
    return SettingDefinition(content_name(channel), "full", lambda spec, key: _one_of(spec, key, CONTENTS))


def _one_of(spec: ObjectReader, key: str, choices: tuple[str, ...]) -> str:
    text = spec.text(key, choices[0])
    if text not in choices:
        spec.add_error(key, NOT_A_CHOICE(value=text, choices=choices))
    return text


def _region(spec: ObjectReader, key: str) -> str:
    text = spec.text(key, max_length=2).upper()
    if text and not (len(text) == 2 and text.isascii() and text.isalpha()):
        spec.add_error(key, _NOT_A_COUNTRY(value=text))
    return text


def _night_hours(spec: ObjectReader, key: str) -> str:
    text = spec.text(key, max_length=20).replace(" ", "").replace("–", "-") or NIGHT_HOURS.default
    try:
        NightHours.parse(text)
    except ValueError:
        spec.add_error(key, _NOT_NIGHT_HOURS(value=text))
    return text


def _listen(spec: ObjectReader, key: str) -> str:
    """Reads host and port, such as 0.0.0.0:2525 or [::]:2525. An empty text disables the listener."""
    text = spec.text(key, max_length=100)
    host, _, port = text.rpartition(":")
    if text and not (host and port.isdecimal() and 0 <= int(port) <= 65_535):
        spec.add_error(key, _NOT_A_LISTEN_ADDRESS(value=text))
    return text


MAIL_LISTEN = SettingDefinition("mail_listen", "", _listen)

type AnySetting = SettingDefinition[str] | SettingDefinition[int] | SettingDefinition[bool]

_ALL: tuple[AnySetting, ...] = (
    ORGANISATION_NAME,
    TIME_ZONE,
    MESSAGE_RETENTION_DAYS,
    MESSAGE_SIZE_CAP_MB,
    DELIVERY_RETENTION_DAYS,
    AUDIT_RETENTION_DAYS,
    BUNDLE_PAGES,
    NIGHT_HOURS,
    WEEKLY_COVERAGE_MAIL,
    MAIL_LISTEN,
    SMS_REPLY_CODES,
    PHONE_REGION,
    CHAT_SERVERS_BY,
    *(_content(channel) for channel in _CHANNELS),
)

SETTINGS: dict[str, AnySetting] = {setting.name: setting for setting in _ALL}


@overload
def get[T: (str, int, bool)](setting: SettingDefinition[T]) -> T: ...
@overload
def get(setting: str) -> Any: ...
def get(setting: Any) -> Any:
    """Returns the setting's value or its default, over Django's connection. Raises KeyError for an unknown name."""
    definition = SETTINGS[setting] if isinstance(setting, str) else setting
    row = Setting.objects.filter(name=definition.name).first()
    return definition.default if row is None else row.value


def night_hours() -> NightHours:
    """Returns the hours in which a page counts as one at night, over Django's connection."""
    return NightHours.parse(get(NIGHT_HOURS))


def load(connection: Connection) -> dict[str, Any]:
    """Returns every setting by name, over a pool connection. Used by periodic tasks."""
    stored = {row["name"]: row["value"] for row in database.rows(connection, "SELECT name, value FROM core_setting")}
    return {name: stored.get(name, setting.default) for name, setting in SETTINGS.items()}


def non_default_settings() -> dict[str, Any]:
    """Returns the settings whose value differs from the default, by name."""
    return {name: value for name, setting in SETTINGS.items() if (value := get(setting)) != setting.default}


def set(setting: str | AnySetting, value: object) -> None:
    """Validates and stores one setting, inside the caller's Django transaction. Raises Rejected, naming the setting, if
    the name is unknown or the value invalid."""
    name = setting if isinstance(setting, str) else setting.name
    write(validated({name: value}))


def validated(values: object) -> dict[str, Any]:
    """Validates `values` by name. Raises Rejected, naming the setting, for an unknown name or an invalid value."""
    spec = ObjectReader(values)
    result = {name: setting.read(spec, name) for name, setting in SETTINGS.items() if spec.has(name)}
    spec.finish()
    return result


def write(values: dict[str, Any]) -> None:
    """Stores values returned by `validated`, deletes those equal to their default, and increments the version."""
    for name, value in values.items():
        if value == SETTINGS[name].default:
            Setting.objects.filter(name=name).delete()
        else:
            Setting.objects.update_or_create(name=name, defaults={"value": value})
    config_version.bump()
