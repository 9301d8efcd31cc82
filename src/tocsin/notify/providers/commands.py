"""Commands that change providers: they validate the settings of the kind, write the audit log and notify every node.

A spec has the shape of YAML and the API: `{name, kind, channels, order, enabled}` plus the settings of the kind.
Secrets are write-only. The caller checks permissions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import parseaddr
from ipaddress import ip_address
from typing import Any

from django.db import transaction

from tocsin.access import config_audit
from tocsin.access.audit import AuditActor
from tocsin.core.config import config_version, secret_bundle
from tocsin.core.config.crypto import ENTER_SECRET_AGAIN
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.net import egress
from tocsin.core.reasons import Reason, ReasonType, Term
from tocsin.core.validation.object_reader import NOT_A_CHOICE, REQUIRED, ObjectReader
from tocsin.core.validation.server_origin import has_different_origin
from tocsin.notify import provider_settings, reschedule
from tocsin.notify.interfaces import ProviderKind, ProviderSetting, ProviderSettingType
from tocsin.notify.models import Provider, ProviderHealth
from tocsin.notify.provider_settings import settings_of
from tocsin.notify.providers.pool import ENVIRONMENT, SANDBOX, UNKNOWN_KIND, account_of, environment_account, slug
from tocsin.notify.registry import BUILT_IN, KINDS
from tocsin.people import addresses

#: Secrets that authenticate others to Tocsin. Tocsin never sends them.
_NEVER_SENT = frozenset({"signing_secret", "post_secret"})

#: One label of a hostname. Letters of any script are allowed; they are IDNA-encoded on connection.
_LABEL = re.compile(r"(?!-)[\w-]{1,63}(?<!-)")

_NO_ENVIRONMENT = ReasonType("provider.no_environment_server", "TOCSIN_SMTP_URL is not set.")
_KINDS = ReasonType("provider.kind_invalid", "choose one of these kinds: {kinds}.")
_RESERVED_NAME = ReasonType("provider.name_reserved", '"{name}" is reserved.')
_NAME_TAKEN = ReasonType("provider.name_taken", 'a provider "{name}" already exists.')
_NAME_TOO_SIMILAR = ReasonType(
    "provider.name_too_similar", 'is too similar to "{name}": both would have the same callback address.'
)
_CHANNEL = ReasonType("provider.kind_lacks_channel", '{kind} does not carry "{channel}". It carries {channels}.')
_CONTROL_CHARACTER = ReasonType("provider.setting_control_character", "contains a line break or control character.")
_NOT_A_HOST = ReasonType(
    "provider.setting_not_a_host", '"{value}" is not a server name. Enter one like mail.example.org.'
)
_NOT_A_MAILBOX = ReasonType(
    "provider.setting_not_a_mailbox",
    '"{value}" is not an email address. Enter one like Tocsin <tocsin@example.org>.',
)

_RESERVED = {ENVIRONMENT.lower(), SANDBOX, *(kind.label.lower() for kind in BUILT_IN)}


def provider_spec(provider: Provider, *, with_secrets: bool = False) -> dict[str, Any]:
    """Returns the provider as written in YAML and the API. Includes secrets only if `with_secrets` is set."""
    spec: dict[str, Any] = {
        "name": provider.name,
        "kind": provider.kind,
        "channels": list(provider.channels),
        "order": provider.order,
    }
    if not provider.is_enabled:
        spec["enabled"] = False
    spec |= {name: value for name, value in provider.settings.items() if value != ""}
    return spec | secret_bundle.decrypt_bundle(provider.secrets) if with_secrets else spec


def provider_state(provider: Provider) -> dict[str, Any]:
    """Returns the spec with all readable secrets, to compare two states of a provider. Never displayed."""
    return provider_spec(provider) | secret_bundle.decrypt_bundle_or_empty(provider.secrets)


def secrets_set(provider: Provider) -> frozenset[str]:
    """Returns the names of the stored secrets, for a form that shows only whether each is set."""
    return frozenset(secret_bundle.decrypt_bundle_or_empty(provider.secrets))


def save_provider(
    spec: Mapping[str, object], *, existing: Provider | None = None, actor: AuditActor, now: datetime
) -> Provider:
    """Creates a provider, or updates `existing` to match the spec. A secret that the spec omits is kept. An empty
    secret is deleted, or rejected if the kind requires it.

    Raises Rejected with the field of each problem.
    """
    with transaction.atomic():
        config_version.lock()
        parsed = _parse_spec(ObjectReader(spec), existing)
        before = provider_spec(existing) if existing else None
        is_same_kind = existing is not None and existing.kind == parsed.kind.name
        stored_secrets = (
            secret_bundle.decrypt_bundle_or_empty(existing.secrets) if existing is not None and is_same_kind else {}
        )
        secrets = {name: text for name, text in {**stored_secrets, **parsed.secrets}.items() if text}
        provider = existing or Provider()
        provider.name, provider.kind, provider.channels = parsed.name, parsed.kind.name, list(parsed.channels)
        provider.order, provider.is_enabled, provider.settings = parsed.order, parsed.is_enabled, dict(parsed.settings)
        changed = sorted(name for name in {*stored_secrets, *secrets} if stored_secrets.get(name) != secrets.get(name))
        if changed or not is_same_kind:
            provider.secrets = secret_bundle.encrypt_bundle(secrets)
        provider.save()
        old_name = "" if before is None else str(before["name"])
        has_changed = config_audit.record(
            "provider", provider, before, provider_spec(provider), actor=actor, now=now, secrets=changed
        )
        if has_changed and old_name:
            # The recorded health belongs to the old configuration. Start afresh, so that the provider is used in its
            # order.
            ProviderHealth.objects.filter(name__in=(old_name, provider.name)).delete()
        if has_changed:
            reschedule.reschedule_providers(now)
    return provider


def delete_provider(provider: Provider, *, actor: AuditActor, now: datetime) -> None:
    """Deletes a provider. Waiting messages go to the next one, or into the sandbox if there is none."""
    with transaction.atomic():
        config_version.lock()
        config_audit.record("provider", provider, provider_spec(provider), None, actor=actor, now=now)
        ProviderHealth.objects.filter(name=provider.name).delete()
        provider.delete()
        reschedule.reschedule_providers(now)


def test_provider(provider: Provider) -> Reason:
    """Checks the address and credentials without sending a message. Returns what worked.

    Raises Temporary or Permanent with what failed. Holds no transaction.
    """
    kind = KINDS.get(provider.kind)
    if kind is None:
        raise Permanent(UNKNOWN_KIND(kind=provider.kind))
    secrets = secret_bundle.decrypt_bundle(provider.secrets)
    sender = kind.open(account_of(provider.name, provider.pk, kind, provider.settings, secrets))
    try:
        return sender.verify()
    finally:
        sender.close()


def test_environment() -> Reason:
    """Like `test_provider`, for the SMTP server of the environment. Raises Rejected("not_found") if there is none."""
    account = environment_account()
    if account is None:
        raise Rejected("not_found", _NO_ENVIRONMENT())
    sender = KINDS["smtp"].open(account)
    try:
        return sender.verify()
    finally:
        sender.close()


@dataclass(frozen=True, slots=True)
class _ProviderSpec:
    """A validated spec."""

    name: str
    kind: ProviderKind
    channels: tuple[str, ...]
    order: int
    is_enabled: bool
    settings: Mapping[str, Any]
    secrets: Mapping[str, str]


def _parse_spec(spec: ObjectReader, existing: Provider | None) -> _ProviderSpec:
    name = _name(spec, existing)
    kind = KINDS.get(spec.text("kind", required=True))
    if kind is None:
        if spec.has("kind"):
            spec.add_error("kind", _KINDS(kinds=tuple(KINDS)))
        spec.raise_errors()
        raise AssertionError("an unknown kind is refused")
    channels = _channels(spec, kind)
    order = spec.integer("order", 1, minimum=1, maximum=1000)
    is_enabled = spec.boolean("enabled", True)
    secrets = {
        s.name: spec.text(s.name, max_length=4000) for s in settings_of(kind) if s.is_secret and spec.has(s.name)
    }
    settings = {s.name: _setting(spec, s) for s in settings_of(kind) if not s.is_secret}
    if existing and existing.kind == kind.name and has_different_origin(existing.settings, settings):
        # A secret entered for one server must not be sent to another.
        for secret_name in sorted(secrets_set(existing) - secrets.keys() - _NEVER_SENT):
            spec.add_error(secret_name, ENTER_SECRET_AGAIN(), "missing")
    stored = secrets_set(existing) if existing and existing.kind == kind.name else frozenset()
    for setting in settings_of(kind):
        if setting.is_secret and setting.is_required and not secrets.get(setting.name, setting.name in stored):
            # The provider cannot send without it.
            _require_setting(spec, setting)
    spec.finish()
    return _ProviderSpec(
        name, kind, channels, order, is_enabled, {k: v for k, v in settings.items() if v != ""}, secrets
    )


def _name(spec: ObjectReader, existing: Provider | None) -> str:
    name = spec.name()
    other_providers = Provider.objects.exclude(pk=existing.pk) if existing else Provider.objects.all()
    if name.lower() in _RESERVED:
        spec.add_error("name", _RESERVED_NAME(name=name), "name_taken")
    elif name and other_providers.filter(name__iexact=name).exists():
        spec.add_error("name", _NAME_TAKEN(name=name), "name_taken")
    elif name and (
        similar_name := next((row.name for row in other_providers if slug(row.name, row.pk) == slug(name, None)), None)
    ):
        # The slug is the provider's part of the callback URL, so it must be unique.
        spec.add_error("name", _NAME_TOO_SIMILAR(name=similar_name), "name_taken")
    return name


def _channels(spec: ObjectReader, kind: ProviderKind) -> tuple[str, ...]:
    """Returns the channels in the spec, or all channels of the kind if it names none."""
    channels = spec.texts("channels") or kind.channels
    for number, channel in enumerate(channels):
        if channel not in kind.channels:
            reason = _CHANNEL(kind=Term(kind.label), channel=channel, channels=kind.channels)
            spec.add_error(f"channels[{number}]", reason)
    return tuple(channels)


def _setting(spec: ObjectReader, setting: ProviderSetting) -> str | int | bool:
    match setting.kind:
        case ProviderSettingType.NUMBER:
            if not spec.has(setting.name):
                _require_setting(spec, setting)
                return setting.default
            return spec.integer(setting.name, setting.min_value, minimum=setting.min_value, maximum=setting.max_value)
        case ProviderSettingType.FLAG:
            return spec.boolean(setting.name, bool(setting.default))
        case ProviderSettingType.CHOICE:
            chosen = spec.text(setting.name, str(setting.default))
            if chosen not in setting.choices:
                spec.add_error(setting.name, NOT_A_CHOICE(value=chosen, choices=setting.choices))
            return chosen
        case ProviderSettingType.URL:
            url = spec.text(setting.name, str(setting.default), required=setting.is_required, max_length=2000)
            _check_url(spec, setting.name, url)
            return url.rstrip("/")
        case ProviderSettingType.TEXT | ProviderSettingType.HOST | ProviderSettingType.MAILBOX:
            text = spec.text(setting.name, str(setting.default), required=setting.is_required, max_length=500)
            if not text.isprintable():
                spec.add_error(setting.name, _CONTROL_CHARACTER())
            elif text:
                _check_text(spec, setting, text)
            return text
        case ProviderSettingType.LONG_TEXT:
            return spec.text(setting.name, str(setting.default), required=setting.is_required, max_length=20_000)


def _require_setting(spec: ObjectReader, setting: ProviderSetting) -> None:
    if setting.is_required:
        spec.add_error(setting.name, REQUIRED(), "missing")


def _check_text(spec: ObjectReader, setting: ProviderSetting, text: str) -> None:
    if setting is provider_settings.PREFIXES:
        _check_prefixes(spec, setting.name, text)
    elif setting.kind is ProviderSettingType.HOST and not _is_host(text):
        spec.add_error(setting.name, _NOT_A_HOST(value=text[:100]))
    elif setting.kind is ProviderSettingType.MAILBOX:
        try:
            addresses.email(parseaddr(text)[1])
        except Rejected:
            spec.add_error(setting.name, _NOT_A_MAILBOX(value=text[:100]))


def _is_host(text: str) -> bool:
    """Returns whether `text` is a hostname, also with letters beyond ASCII, or an IP address."""
    try:
        ip_address(text)
    except ValueError:
        labels = text.removesuffix(".").split(".")
        return len(text) <= 253 and all(_LABEL.fullmatch(label) for label in labels)
    return True


def _check_prefixes(spec: ObjectReader, name: str, text: str) -> None:
    try:
        provider_settings.prefixes(text)
    except Rejected as problem:
        spec.add_error(name, problem.reason)


def _check_url(spec: ObjectReader, name: str, url: str) -> None:
    if not url:
        return
    try:
        egress.check_url(url)
    except Permanent as problem:
        spec.add_error(name, problem.reason)
