"""Providers as YAML, the API and forms write them: a spec for each kind, made from the settings that it declares."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from email.utils import parseaddr
from functools import cache
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, create_model

from tocsin.core.errors import Permanent, Rejected
from tocsin.core.net import egress
from tocsin.core.reasons import ReasonType
from tocsin.core.validation.spec import InvalidValue, Spec, SpecErrors
from tocsin.core.validation.spec_types import Line, Name, OneOf, Secret, list_of_choices
from tocsin.notify import provider_settings
from tocsin.notify.interfaces import ProviderSetting, ProviderSettingType
from tocsin.notify.provider_settings import settings_of
from tocsin.notify.registry import CHANNELS, KINDS
from tocsin.people import addresses

#: One label of a hostname. Letters of any script are allowed; they are IDNA-encoded on connection.
_LABEL = re.compile(r"(?!-)[\w-]{1,63}(?<!-)")

_NOT_A_HOST = ReasonType(
    "provider.setting_not_a_host", '"{value}" is not a server name. Enter one like mail.example.org.'
)
_NOT_A_MAILBOX = ReasonType(
    "provider.setting_not_a_mailbox",
    '"{value}" is not an email address. Enter one like Tocsin <tocsin@example.org>.',
)


class ProviderSpec(Spec):
    """A provider, which sends notifications. Its other keys depend on `kind`."""

    common_keys: ClassVar[frozenset[str]] = frozenset({"name", "kind", "channels", "order", "enabled"})

    name: Name = Field(description="Unique name.")
    kind: Annotated[str, OneOf(tuple(KINDS))] = Field(description="Kind of provider.")
    channels: Annotated[tuple[str, ...], list_of_choices(CHANNELS)] = Field(
        default=(), description="Channels that it carries. Default: all of its kind."
    )
    order: int = Field(default=1, ge=1, le=1000, description="The provider with the lowest number is used first.")
    is_enabled: bool = Field(default=True, alias="enabled", description="Whether it is used.")

    def settings(self) -> dict[str, Any]:
        """All settings without the secrets; "" for one that is not set."""
        values = {s.name: getattr(self, s.name) for s in settings_of(KINDS[self.kind]) if not s.is_secret}
        return {name: "" if value is None else value for name, value in values.items()}

    def secrets(self) -> dict[str, str]:
        """The secrets that were given."""
        names = (s.name for s in settings_of(KINDS[self.kind]) if s.is_secret)
        return {name: getattr(self, name) for name in names if name in self.given_keys}


@cache
def spec_of(kind_name: str) -> type[ProviderSpec]:
    """Returns the spec of the providers of a kind. Raises KeyError for an unknown one."""
    kind = KINDS[kind_name]
    channels = Annotated[tuple[str, ...], list_of_choices(kind.channels)]
    fields: dict[str, Any] = {
        "kind": (Annotated[str, OneOf((kind.name,))], ProviderSpec.model_fields["kind"]),
        "channels": (channels, ProviderSpec.model_fields["channels"]),
        **{setting.name: _field(setting) for setting in settings_of(kind)},
    }
    name = "".join(word.capitalize() for word in kind.name.split("_"))
    return create_model(f"{name}ProviderSpec", __base__=ProviderSpec, __doc__=kind.description, **fields)


def read_spec(spec: Mapping[str, object], *, check: Callable[[ProviderSpec, SpecErrors], None]) -> ProviderSpec:
    """Reads a provider by its kind. Raises Rejected with the field of each problem."""
    kind = str(spec.get("kind", "")).strip()
    if kind not in KINDS:
        # The keys of an unknown kind are not known either.
        return ProviderSpec.read({key: spec[key] for key in ProviderSpec.common_keys if key in spec}, check=check)
    return spec_of(kind).read(spec, check=check)


def _field(setting: ProviderSetting) -> tuple[Any, Any]:
    """The type and field of a setting."""
    description = f"{setting.label}. {setting.help}".strip()
    if setting.is_secret:
        # It may be stored already.
        required = " Required." if setting.is_required else ""
        return Secret, Field(default="", description=f"{description}{required}")
    options: dict[str, Any] = {"min_length": 1} if setting.is_required else {"default": setting.default}
    match setting.kind:
        case ProviderSettingType.NUMBER:
            limits: dict[str, Any] = {"ge": setting.min_value, "le": setting.max_value}
            return int, Field(default=setting.default or None, description=description, **limits)
        case ProviderSettingType.FLAG:
            return bool, Field(default=bool(setting.default), description=description)
        case ProviderSettingType.CHOICE:
            return Annotated[str, OneOf(setting.choices)], Field(default=setting.default, description=description)
        case ProviderSettingType.LONG_TEXT:
            checked: Any = Annotated[str, Field(max_length=20_000)]
        case ProviderSettingType.URL:
            checked = Annotated[str, Field(max_length=2000), AfterValidator(_url)]
        case ProviderSettingType.TEXT | ProviderSettingType.HOST | ProviderSettingType.MAILBOX:
            check = _prefixes if setting is provider_settings.PREFIXES else _CHECKS[setting.kind]
            checked = Annotated[Line, Field(max_length=500), AfterValidator(check)]
    return checked, Field(description=description, **options)


def _url(url: str) -> str:
    try:
        if url:
            egress.check_url(url)
    except Permanent as problem:
        raise InvalidValue(problem.reason) from None
    return url.rstrip("/")


def _prefixes(text: str) -> str:
    try:
        provider_settings.prefixes(text)
    except Rejected as problem:
        raise InvalidValue(problem.reason) from None
    return text


def _host(text: str) -> str:
    """Accepts a hostname, also with letters beyond ASCII, or an IP address."""
    try:
        ip_address(text)
    except ValueError:
        labels = text.removesuffix(".").split(".")
        if text and (len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels)):
            raise InvalidValue(_NOT_A_HOST(value=text[:100])) from None
    return text


def _mailbox(text: str) -> str:
    try:
        if text:
            addresses.email(parseaddr(text)[1])
    except Rejected:
        raise InvalidValue(_NOT_A_MAILBOX(value=text[:100])) from None
    return text


_CHECKS: Mapping[ProviderSettingType, Callable[[str], str]] = {
    ProviderSettingType.TEXT: lambda text: text,
    ProviderSettingType.HOST: _host,
    ProviderSettingType.MAILBOX: _mailbox,
}
