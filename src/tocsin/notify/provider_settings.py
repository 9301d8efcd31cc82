"""The settings that providers have in addition to those of their kind, depending on the channels. Pure."""

from __future__ import annotations

from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType, translatable
from tocsin.notify.interfaces import ProviderKind, ProviderSetting, ProviderSettingType

#: The channels whose addresses are phone numbers.
PHONES = frozenset({"sms", "voice"})

_NOT_A_COUNTRY_CODE = ReasonType("provider.not_a_country_code", '"{value}" is not a country code such as +41.')

RATE = ProviderSetting(
    "rate",
    translatable("Rate limit (messages/min)"),
    ProviderSettingType.NUMBER,
    help=translatable("Above this, messages fail over or queue. Empty: no limit."),
    max_value=100_000,
)
PREFIXES = ProviderSetting(
    "prefixes",
    translatable("Country codes"),
    help=translatable(
        "Only send to these codes, such as +41 +423; other numbers use the next provider. Empty: all countries."
    ),
)
RECEIPT_TIMEOUT = ProviderSetting(
    "receipt_timeout",
    translatable("Delivery timeout (s)"),
    ProviderSettingType.NUMBER,
    help=translatable(
        "If no delivery receipt arrives in time, the next contact method is used immediately. Empty: 60."
    ),
    min_value=5,
    max_value=3600,
)


def settings_of(kind: ProviderKind) -> tuple[ProviderSetting, ...]:
    """Returns all settings of a provider of this kind, the kind's own first."""
    common_settings = [RATE]
    if PHONES & set(kind.channels):
        common_settings.append(PREFIXES)
    if kind.receipt_channels:
        common_settings.append(RECEIPT_TIMEOUT)
    kind_setting_names = {setting.name for setting in kind.settings}
    return (*kind.settings, *(setting for setting in common_settings if setting.name not in kind_setting_names))


def prefixes(text: str) -> tuple[str, ...]:
    """Returns the country codes in `text`, such as ("+41", "+423"). Raises Rejected("invalid")."""
    codes = text.replace(",", " ").split()
    for code in codes:
        if not (code.startswith("+") and code[1:].isascii() and code[1:].isdigit() and len(code) <= 8):
            raise Rejected("invalid", _NOT_A_COUNTRY_CODE(value=code[:20]))
    return tuple(dict.fromkeys(codes))
