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
    translatable("Messages a minute"),
    ProviderSettingType.NUMBER,
    help=translatable("At most; what is more goes by the next provider, or waits. Empty: no limit."),
    max_value=100_000,
)
PREFIXES = ProviderSetting(
    "prefixes",
    translatable("Only these countries"),
    help=translatable(
        "Country codes such as +41 +423. Empty: every number. What it does not carry goes by the next provider."
    ),
)
RECEIPT_TIMEOUT = ProviderSetting(
    "receipt_timeout",
    translatable("Seconds until it must have arrived"),
    ProviderSettingType.NUMBER,
    help=translatable("Not delivered by then: the person's next contact method starts at once. Empty: 60."),
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
