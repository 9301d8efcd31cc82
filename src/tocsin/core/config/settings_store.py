"""The installation's settings: their names, defaults and limits, and reading and writing them. Never records who did.

| name                      | default | what                                                                    |
|---------------------------|---------|-------------------------------------------------------------------------|
| `organisation_name`       | ""      | shown beside the logo and in mails                                      |
| `time_zone`               | UTC     | of new users and groups, and of times shown to nobody in particular     |
| `message_retention_days`  | 90      | how long inbound messages are kept                                      |
| `message_size_cap_mb`     | 10240   | how much room inbound messages may take before the oldest go earlier    |
| `delivery_retention_days` | 400     | how long notifications and deliveries are kept                          |
| `audit_retention_days`    | 400     | how long the audit log is kept                                          |
| `weekly_coverage_mail`    | false   | whether managers are mailed on Mondays what is wrong with who is on call |
| `bundle_pages`            | true    | whether pages that follow quickly on one another leave as one message   |
| `sms_reply_codes`         | false   | whether an answer by SMS must end with the code of its alert            |
| `mail_listen`             | ""      | where mails to integrations are taken by SMTP, such as 0.0.0.0:2525     |
| `phone_region`            | ""      | the country, such as CH, of phone numbers entered without a code        |
| `chat_servers_by`         | managers | who adds chat addresses at hosts that no well-known service runs       |
| `content_email`, `_push`, `_ntfy`, `_chat`, `_sms`, `_voice` | full | what messages say: full, subject or number   |
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, overload

from tocsin.core.config import config_version
from tocsin.core.db import database
from tocsin.core.db.database import Connection
from tocsin.core.models import Setting
from tocsin.core.validation.object_reader import ObjectReader


@dataclass(frozen=True, slots=True)
class SettingDefinition[T: (str, int, bool)]:
    """One setting. `read` takes it from the object that holds it by name, noting there what is wrong."""

    name: str
    default: T
    read: Callable[[ObjectReader, str], T]


def _days(name: str, default: int) -> SettingDefinition[int]:
    return SettingDefinition(name, default, lambda spec, key: spec.whole(key, default, least=1, most=36_500))


ORGANISATION_NAME = SettingDefinition("organisation_name", "", lambda spec, key: spec.line(key, longest=100))
TIME_ZONE = SettingDefinition("time_zone", "UTC", lambda spec, key: spec.zone(key))
MESSAGE_RETENTION_DAYS = _days("message_retention_days", 90)
MESSAGE_SIZE_CAP_MB = SettingDefinition(
    "message_size_cap_mb", 10_240, lambda spec, key: spec.whole(key, 10_240, least=10, most=100_000_000)
)
DELIVERY_RETENTION_DAYS = _days("delivery_retention_days", 400)
AUDIT_RETENTION_DAYS = _days("audit_retention_days", 400)
BUNDLE_PAGES = SettingDefinition("bundle_pages", True, lambda spec, key: spec.flag(key, True))
WEEKLY_COVERAGE_MAIL = SettingDefinition("weekly_coverage_mail", False, lambda spec, key: spec.flag(key, False))

SMS_REPLY_CODES = SettingDefinition("sms_reply_codes", False, lambda spec, key: spec.flag(key, False))
PHONE_REGION = SettingDefinition("phone_region", "", lambda spec, key: _region(spec, key))

#: Who may add the address of a chat service at a host that no well-known vendor runs: administrators; with `managers`,
#: group managers for their groups' contacts too; or everybody.
CHAT_SERVERS = ("managers", "admins", "everybody")
CHAT_SERVERS_BY = SettingDefinition("chat_servers_by", "managers", lambda spec, key: _one_of(spec, key, CHAT_SERVERS))

#: What a channel's messages may say of an alert, from everything to its number only.
CONTENTS = ("full", "subject", "number")
_CHANNELS = ("email", "push", "ntfy", "chat", "sms", "voice")


def content_name(channel: str) -> str:
    """The setting that says how much of an alert the channel's messages say."""
    return f"content_{channel}"


def _content(channel: str) -> SettingDefinition[str]:
    return SettingDefinition(content_name(channel), "full", lambda spec, key: _one_of(spec, key, CONTENTS))


def _one_of(spec: ObjectReader, key: str, choices: tuple[str, ...]) -> str:
    text = spec.text(key, choices[0])
    if text not in choices:
        spec.refuse(key, f'"{text}" is not one of {", ".join(choices)}.')
    return text


def _region(spec: ObjectReader, key: str) -> str:
    text = spec.text(key, longest=2).upper()
    if text and not (len(text) == 2 and text.isascii() and text.isalpha()):
        spec.refuse(key, f'"{text}" is not the two letters of a country, such as CH.')
    return text


def _listen(spec: ObjectReader, key: str) -> str:
    """Host and port, such as 0.0.0.0:2525 or [::]:2525; empty: nowhere."""
    text = spec.text(key, longest=100)
    host, _, port = text.rpartition(":")
    if text and not (host and port.isdecimal() and 0 <= int(port) <= 65_535):
        spec.refuse(key, f'"{text}" is no address to listen at, such as 0.0.0.0:2525.')
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
    """The setting's value, or its default, over Django's connection. By name, a KeyError for an unknown one."""
    known = SETTINGS[setting] if isinstance(setting, str) else setting
    stored = Setting.objects.filter(name=known.name).first()
    return known.default if stored is None else stored.value


def load(connection: Connection) -> dict[str, Any]:
    """Every setting by name, over one of the pool's connections: for loops."""
    stored = {row["name"]: row["value"] for row in database.rows(connection, "SELECT name, value FROM core_setting")}
    return {name: stored.get(name, setting.default) for name, setting in SETTINGS.items()}


def changed_from_default() -> dict[str, Any]:
    """The settings that have been set to something else than their default, by name."""
    return {name: value for name, setting in SETTINGS.items() if (value := get(setting)) != setting.default}


def set(setting: str | AnySetting, value: object) -> None:
    """Sets one, inside the caller's Django transaction. Raises Rejected that names it, for a bad value too."""
    name = setting if isinstance(setting, str) else setting.name
    write(checked({name: value}))


def checked(values: object) -> dict[str, Any]:
    """`values` by name, each known and within its limits. Raises Rejected that names the setting."""
    spec = ObjectReader(values)
    found = {name: setting.read(spec, name) for name, setting in SETTINGS.items() if spec.has(name)}
    spec.finish()
    return found


def write(values: dict[str, Any]) -> None:
    """Stores values that were `checked`; what equals its default is not kept. Raises the configuration's version."""
    for name, value in values.items():
        if value == SETTINGS[name].default:
            Setting.objects.filter(name=name).delete()
        else:
            Setting.objects.update_or_create(name=name, defaults={"value": value})
    config_version.changed()
