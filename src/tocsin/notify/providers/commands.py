"""Commands that change providers: they validate the settings of the kind, write the audit log and notify every node.

A spec has the shape of YAML and the API: `{name, kind, channels, order, enabled}` plus the settings of the kind.
Secrets are write-only. The caller checks permissions.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from email.utils import parseaddr
from functools import cache
from ipaddress import ip_address
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, Field, create_model

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.access.roles import Role
from tocsin.core import hooks
from tocsin.core.config import crypto, settings_store
from tocsin.core.config.crypto import ENTER_SECRET_AGAIN, has_different_origin
from tocsin.core.delivery.circuit_breaker import AddressRejected
from tocsin.core.errors import Permanent, Rejected, Temporary
from tocsin.core.net import egress
from tocsin.core.reasons import Reason, Term, Text, sentence
from tocsin.core.reasons import translatable as _
from tocsin.core.validation.inputs import NAME_IN_USE, REQUIRED
from tocsin.core.validation.spec import (
    InForm,
    InvalidValue,
    Line,
    Name,
    OneOf,
    Secret,
    Spec,
    SpecErrors,
    list_of_choices,
)
from tocsin.notify import interfaces, pause
from tocsin.notify.channels.phone import check_sender
from tocsin.notify.interfaces import (
    AddressChecker,
    ProviderAccount,
    ProviderKind,
    ProviderSetting,
    ProviderSettingType,
    settings_of,
)
from tocsin.notify.models import Provider, ProviderHealth
from tocsin.notify.providers.pool import (
    BUILT_IN,
    CHANNELS,
    ENVIRONMENT,
    KINDS,
    UNKNOWN_KIND,
    account_of,
    environment_account,
    slug,
)
from tocsin.notify.states import SANDBOX
from tocsin.people import addresses
from tocsin.people.models import User

log = logging.getLogger(__name__)

# ---------- specs
# Providers as YAML, the API and forms write them: a spec for each kind, made from the settings that it declares.


#: One label of a hostname. Letters of any script are allowed; they are IDNA-encoded on connection.
_LABEL = re.compile(r"(?!-)[\w-]{1,63}(?<!-)")


class ProviderSpec(Spec):
    """A provider, which sends notifications. Its other keys depend on `kind`."""

    common_keys: ClassVar[frozenset[str]] = frozenset({"name", "kind", "channels", "order", "enabled"})

    name: Annotated[Name, InForm(_("Name"))] = Field(description="Unique name.")
    kind: Annotated[str, OneOf(tuple(KINDS))] = Field(description="Kind of provider.")
    channels: Annotated[tuple[str, ...], list_of_choices(CHANNELS)] = Field(
        default=(), description="Channels that it carries. Default: all that its settings allow."
    )
    order: Annotated[
        int,
        InForm(_("Order"), _("1 is used first; the next one is used if it fails."), is_last=True, is_required=True),
    ] = Field(default=1, ge=1, le=1000, description="The provider with the lowest number is used first.")
    is_enabled: Annotated[bool, InForm(_("Enabled"), is_last=True)] = Field(
        default=True, alias="enabled", description="Whether it is used."
    )

    def settings(self) -> dict[str, Any]:
        """All settings without the secrets; "" for one that is not set."""
        values = {s.name: getattr(self, s.name) for s in settings_of(KINDS[self.kind]) if not s.is_secret}
        return {name: "" if value is None else value for name, value in values.items()}

    def secrets(self) -> dict[str, str]:
        """The secrets that were given."""
        names = (s.name for s in settings_of(KINDS[self.kind]) if s.is_secret)
        return {name: getattr(self, name) for name in names if name in self.given_keys}

    def carried(self) -> tuple[str, ...]:
        """The channels that were named; by default those for which nothing is missing."""
        kind = KINDS[self.kind]
        lacking = {s.channel for s in kind.settings if s.channel and not getattr(self, s.name)}
        return self.channels or tuple(name for name in kind.channels if name not in lacking)


@cache
def spec_of(kind_name: str) -> type[ProviderSpec]:
    """Returns the spec of the providers of a kind. Raises KeyError for an unknown one."""
    kind = KINDS[kind_name]
    channels: Any = Annotated[tuple[str, ...], list_of_choices(kind.channels)]
    if len(kind.channels) > 1:
        labels = {name: CHANNELS[name].label for name in kind.channels}
        channels = Annotated[channels, InForm(_("Channels"), choices=labels, is_last=True)]
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
    checked, field = _checked_field(setting)
    shown = InForm(
        setting.label,
        setting.help,
        widget=_WIDGETS.get(setting.kind, ""),
        choices={choice: choice for choice in setting.choices},
        is_required=setting.is_required,
    )
    return Annotated[checked, shown], field


_WIDGETS = {ProviderSettingType.URL: "url", ProviderSettingType.TIME: "time", ProviderSettingType.LONG_TEXT: "code"}


def _checked_field(setting: ProviderSetting) -> tuple[Any, Any]:
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
        case _:
            check = _prefixes if setting is interfaces.PREFIXES else _CHECKS[setting.kind]
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
        interfaces.prefixes(text)
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
            raise InvalidValue(
                sentence('"{value}" is not a server name. Enter one like mail.example.org.', value=text[:100])
            ) from None
    return text


def _mailbox(text: str) -> str:
    try:
        if text:
            addresses.email(parseaddr(text)[1])
    except Rejected:
        raise InvalidValue(
            sentence('"{value}" is not an email address. Enter one like Tocsin <tocsin@example.org>.', value=text[:100])
        ) from None
    return text


def _sender(text: str) -> str:
    try:
        check_sender(text, for_calls=False)
    except Rejected as problem:
        raise InvalidValue(problem.reason) from None
    return text


def _time(text: str) -> str:
    if text and not re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", text):
        raise InvalidValue(sentence('"{value}" is not a time of day such as 07:30.', value=text[:20]))
    return text


_CHECKS: Mapping[ProviderSettingType, Callable[[str], str]] = {
    ProviderSettingType.TEXT: lambda text: text,
    ProviderSettingType.HOST: _host,
    ProviderSettingType.MAILBOX: _mailbox,
    ProviderSettingType.SENDER: _sender,
    ProviderSettingType.TIME: _time,
}


#: Secrets that authenticate others to Tocsin. Tocsin never sends them.
_NEVER_SENT = frozenset({"signing_secret", "post_secret"})

#: Of a setting: "is required for the channel …".
_NEEDED_BY = Text("is required for the channel {channel}. Enter it, or leave the channel out.")
_RESERVED_NAME = Text('"{name}" is reserved.')

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
    return spec | crypto.decrypt_bundle(provider.secrets) if with_secrets else spec


def provider_state(provider: Provider) -> dict[str, Any]:
    """Returns the spec with all readable secrets, to compare two states of a provider. Never displayed."""
    return provider_spec(provider) | crypto.decrypt_bundle_or_empty(provider.secrets)


def secrets_set(provider: Provider) -> frozenset[str]:
    """Returns the names of the stored secrets, for a form that shows only whether each is set."""
    return frozenset(crypto.decrypt_bundle_or_empty(provider.secrets))


def save_provider(
    spec: Mapping[str, object], *, existing: Provider | None = None, actor: AuditActor, now: datetime
) -> Provider:
    """Creates a provider, or updates `existing` to match the spec. A secret that the spec omits is kept. An empty
    secret is deleted, or rejected if the kind requires it.

    Raises Rejected with the field of each problem.
    """
    with boundary.command():
        settings_store.lock()
        parsed = read_spec(spec, check=_check(existing))
        before = provider_spec(existing) if existing else None
        is_same_kind = existing is not None and existing.kind == parsed.kind
        stored_secrets = crypto.decrypt_bundle_or_empty(existing.secrets) if existing and is_same_kind else {}
        secrets = {name: text for name, text in {**stored_secrets, **parsed.secrets()}.items() if text}
        provider = existing or Provider()
        provider.name, provider.kind = parsed.name, parsed.kind
        provider.channels = list(parsed.carried())
        provider.order, provider.is_enabled = parsed.order, parsed.is_enabled
        provider.settings = {name: value for name, value in parsed.settings().items() if value != ""}
        changed = sorted(name for name in {*stored_secrets, *secrets} if stored_secrets.get(name) != secrets.get(name))
        if changed or not is_same_kind:
            provider.secrets = crypto.encrypt_bundle(secrets)
        provider.save()
        old_name = "" if before is None else str(before["name"])
        has_changed = audit.record_config_audit(
            "provider", provider, before, provider_spec(provider), actor=actor, now=now, secrets=changed
        )
        if has_changed and old_name:
            # The recorded health belongs to the old configuration. Start afresh, so that the provider is used in its
            # order.
            ProviderHealth.objects.filter(name__in=(old_name, provider.name)).delete()
        if has_changed:
            pause.reschedule_providers(now)
    return provider


def delete_provider(provider: Provider, *, actor: AuditActor, now: datetime) -> None:
    """Deletes a provider. Waiting messages go to the next one, or into the sandbox if there is none. Raises
    Rejected("in_use")."""
    with boundary.command():
        settings_store.lock()
        hooks.reject_if_referenced("provider", provider.pk, provider.name)
        audit.record_config_audit("provider", provider, provider_spec(provider), None, actor=actor, now=now)
        ProviderHealth.objects.filter(name=provider.name).delete()
        provider.delete()
        pause.reschedule_providers(now)


def check_address(channel: str, address: str) -> None:
    """Asks the vendor of the channel's first provider that can tell whether pages can be sent to an address. Holds no
    transaction. What cannot be asked now is accepted: a test says it.

    Raises Rejected("invalid_address").
    """
    for provider in Provider.objects.filter(is_enabled=True, channels__contains=[channel]):
        kind = KINDS.get(provider.kind)
        if kind is None or not kind.accepts(channel, address):
            continue
        try:
            secrets = crypto.decrypt_bundle(provider.secrets)
            sender = kind.open(account_of(provider.name, provider.pk, kind, provider.settings, secrets))
            try:
                if isinstance(sender, AddressChecker):
                    return sender.check_address(address)
            finally:
                sender.close()
        except AddressRejected as refused:
            raise Rejected("invalid_address", refused.full_reason, "address") from None
        except (Temporary, Permanent) as error:
            log.warning("%s could not be asked about an address: %s", provider.name, error.detail)
    return None


def test_provider(provider: Provider) -> Reason:
    """Checks the address and credentials without sending a message. Returns what worked.

    Raises Temporary or Permanent with what failed. Holds no transaction.
    """
    kind = KINDS.get(provider.kind)
    if kind is None:
        raise Permanent(UNKNOWN_KIND(kind=provider.kind))
    secrets = crypto.decrypt_bundle(provider.secrets)
    return _verify(kind, account_of(provider.name, provider.pk, kind, provider.settings, secrets))


def call_hotline(provider: Provider, number: str, hotline: str) -> None:
    """Calls a number, and lets who picks up be a caller of the hotline, of a provider that carries calls.

    Raises Rejected without a public URL, and else as senders do. Holds no transaction.
    """
    kind = KINDS[provider.kind]
    account = account_of(provider.name, provider.pk, kind, provider.settings, crypto.decrypt_bundle(provider.secrets))
    if not account.callback_base_url:
        raise Rejected("invalid", sentence("Set the public URL first: the vendor asks Tocsin what callers hear."))
    carrier = kind.open_calls(account)
    try:
        carrier.call_in(number, hotline)
    finally:
        carrier.close()


def test_environment() -> Reason:
    """Like `test_provider`, for the SMTP server of the environment. Raises Rejected("not_found") if there is none."""
    account = environment_account()
    if account is None:
        raise Rejected("not_found", sentence("There is no SMTP server in Settings."))
    return _verify(KINDS["smtp"], account)


def _verify(kind: ProviderKind, account: ProviderAccount) -> Reason:
    sender = kind.open(account)
    try:
        return sender.verify()
    finally:
        sender.close()


def _check(existing: Provider | None) -> Callable[[ProviderSpec, SpecErrors], None]:
    """Returns the checks of a spec that need the other providers, or the stored secrets."""

    def check(spec: ProviderSpec, errors: SpecErrors) -> None:
        if not errors.has("name"):
            _check_name(spec.name, existing, errors)
        if errors.has("kind"):
            return
        is_same_kind = existing is not None and existing.kind == spec.kind
        stored_secrets = secrets_set(existing) if existing is not None and is_same_kind else frozenset[str]()
        if existing is not None and is_same_kind and has_different_origin(existing.settings, spec.settings()):
            # A secret entered for one server must not be sent to another.
            for secret_name in sorted(stored_secrets - spec.given_keys - _NEVER_SENT):
                errors.add(secret_name, ENTER_SECRET_AGAIN(), "missing")
        for setting in settings_of(KINDS[spec.kind]):
            if setting.is_secret and setting.is_required:
                # The provider cannot send without it.
                given = getattr(spec, setting.name)
                if not given and (setting.name in spec.given_keys or setting.name not in stored_secrets):
                    errors.add(setting.name, REQUIRED(), "missing")
            if setting.channel in spec.channels and not getattr(spec, setting.name):
                errors.add(setting.name, _NEEDED_BY(channel=Term(CHANNELS[setting.channel].label)), "missing")
            if setting.kind is ProviderSettingType.SENDER and not errors.has(setting.name):
                _check_caller(setting.name, spec, errors)
        if interfaces.DAILY_TEST_AT in settings_of(KINDS[spec.kind]):
            _check_daily_test(spec, errors)

    return check


def _check_caller(name: str, spec: ProviderSpec, errors: SpecErrors) -> None:
    if any(CHANNELS[channel].is_call for channel in spec.carried()):
        try:
            check_sender(getattr(spec, name), for_calls=True)
        except Rejected as problem:
            errors.add(name, problem.reason, "invalid")


def _check_daily_test(spec: ProviderSpec, errors: SpecErrors) -> None:
    at, username = (str(spec.settings()[one.name]) for one in (interfaces.DAILY_TEST_AT, interfaces.DAILY_TEST_USER))
    if bool(at) is not bool(username):
        missing = interfaces.DAILY_TEST_USER if at else interfaces.DAILY_TEST_AT
        errors.add(missing.name, REQUIRED(), "missing")
    elif username:
        administrators = User.objects.filter(role=Role.ADMIN, is_active=True, is_service_account=False)
        user = administrators.filter(username__iexact=username).first()
        channels = interfaces.answerable_phones(KINDS[spec.kind]) & set(spec.channels or KINDS[spec.kind].channels)
        if user is None:
            errors.add("daily_test_user", sentence('"{name}" is not an active administrator.', name=username))
        elif not user.contact_methods.filter(channel__in=channels, is_enabled=True, awaits_code=False).exists():
            errors.add(
                "daily_test_user",
                sentence("{name} has no verified phone number on a channel of this provider.", name=username),
            )


def _check_name(name: str, existing: Provider | None, errors: SpecErrors) -> None:
    other_providers = Provider.objects.exclude(pk=existing.pk) if existing else Provider.objects.all()
    if name.lower() in _RESERVED:
        errors.add("name", _RESERVED_NAME(name=name), "name_taken")
    elif other_providers.filter(name__iexact=name).exists():
        errors.add("name", NAME_IN_USE(name=name), "name_taken")
    elif similar_name := next(
        (row.name for row in other_providers if slug(row.name, row.pk) == slug(name, None)), None
    ):
        # The slug is the provider's part of the callback URL, so it must be unique.
        errors.add(
            "name",
            sentence('is too similar to "{name}": both would have the same callback address.', name=similar_name),
            "name_taken",
        )
