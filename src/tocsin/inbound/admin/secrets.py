"""An integration's secrets: the token in its webhook URL, with rotation, and its senders' credentials."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core import ids
from tocsin.core.config import crypto, environment, settings_store
from tocsin.core.config.crypto import ENTER_SECRET_AGAIN, is_different_origin
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.net.imap import ImapAccount, ImapSecurity
from tocsin.core.reasons import Text, sentence
from tocsin.core.validation.inputs import REQUIRED, rejected_at
from tocsin.core.validation.spec import InvalidValue, Secret, Spec, SpecErrors, list_of
from tocsin.inbound.models import Integration, PinnedSender

_MALFORMED_TOKEN = Text("must be 32 to 200 letters, digits, - or _.")
_TOKEN_USED_BEFORE = Text("was used by this integration before; choose another.")

#: How long the previous token still works after a rotation, by default.
DEFAULT_OVERLAP = timedelta(days=1)
MAX_OVERLAP = timedelta(days=30)

_TOKEN = re.compile(r"[-_A-Za-z0-9]{32,200}")
_HEADER = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]{1,100}")


def _header(name: str) -> str:
    if name and not _HEADER.fullmatch(name):
        raise InvalidValue(sentence('"{name}" is not the name of a header.', name=name))
    return name


def _username(text: str) -> str:
    if ":" in text:
        raise InvalidValue(sentence("must not contain a colon (RFC 7617)."))
    return text


#: How a connection to a mailbox is encrypted, by the scheme of its URL. `imap+starttls://` upgrades to TLS after the
#: greeting; `imap://` is for servers on a private network only.
_SECURITY = {"imaps": ImapSecurity.TLS, "imap+starttls": ImapSecurity.STARTTLS, "imap": ImapSecurity.NONE}


def mailbox_account(url: str, password: str) -> ImapAccount:
    """Parses the URL of a mailbox to poll: `imaps://user@host:993/INBOX`. Raises Rejected."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in _SECURITY or not parts.username:
        problem = sentence(
            "must look like {example}, with {escaped} for an @ in the user's name.",
            example="imaps://user@mail.example.org/INBOX",
            escaped="%40",
        )
        raise Rejected("invalid", problem)
    if parts.password:
        raise Rejected("invalid", sentence("must not contain the password; use the password field."))
    folder = unquote(parts.path.strip("/")) or "INBOX"
    return ImapAccount(host, unquote(parts.username), password, folder, port or 0, _SECURITY[parts.scheme])


def _mailbox(url: str) -> str:
    try:
        if url:
            mailbox_account(url, "")
    except Rejected as problem:
        raise InvalidValue(problem.reason) from None
    return url


def _network(text: str) -> str:
    """Returns an address or network in its shortest form."""
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise InvalidValue(
            sentence('"{text}" is not an address or a network such as 192.0.2.0/24.', text=text[:60])
        ) from None


def _token(token: str) -> str:
    if not _TOKEN.fullmatch(token):
        raise InvalidValue(_MALFORMED_TOKEN(), "invalid_token")
    return token


#: The token in a webhook URL.
Token = Annotated[str, Field(max_length=200, json_schema_extra={"writeOnly": True}), AfterValidator(_token)]

_HeaderName = Annotated[str, Field(max_length=100), AfterValidator(_header)]


class BasicCredentialsSpec(Spec):
    """A username and password (HTTP Basic)."""

    username: Annotated[str, Field(max_length=200), AfterValidator(_username)] = Field(
        min_length=1, description="Username."
    )
    password: Secret = Field(default="", description="Password. Required.")


class HeaderCredentialsSpec(Spec):
    """A header with a secret value."""

    name: _HeaderName = Field(min_length=1, description="Name of the header.")
    value: Secret = Field(default="", description="Its value. Required.")


class HmacCredentialsSpec(Spec):
    """A signature of the body (HMAC-SHA256)."""

    header: _HeaderName = Field(default="", description="Header of the signature. Default: that of the kind.")
    secret: Secret = Field(default="", description="Secret that signs. Required.")
    timestamp_header: _HeaderName | None = Field(
        default=None, description="Header of the time that is signed too. Default: that of the kind."
    )


class ImapCredentialsSpec(Spec):
    """A mailbox that Tocsin polls for this integration."""

    mailbox: Annotated[str, Field(max_length=200), AfterValidator(_mailbox)] = Field(
        min_length=1, description="URL of the mailbox, such as `imaps://user@mail.example.org/INBOX`."
    )
    password: Secret = Field(default="", description="Password. Required.")


class CredentialsSpec(Spec):
    """What a sender needs besides the URL."""

    basic: BasicCredentialsSpec | None = Field(default=None, description="Username and password.")
    header: HeaderCredentialsSpec | None = Field(default=None, description="Header with a secret.")
    hmac: HmacCredentialsSpec | None = Field(default=None, description="Signature of the body.")
    imap: ImapCredentialsSpec | None = Field(default=None, description="Mailbox, for the kind `email`.")
    addresses: Annotated[tuple[str, ...], list_of(_network, {})] = Field(
        default=(), description="Addresses and networks, such as `192.0.2.0/24`, that requests may come from."
    )


#: The public and the secret part of each kind of credential.
_PARTS = {
    "basic": ("username", "password"),
    "header": ("name", "value"),
    "hmac": ("header", "secret"),
    # Not sent by a sender: Tocsin signs in with it to the mailbox that it polls for this integration.
    "imap": ("mailbox", "password"),
}
#: An optional part of `hmac`: the header with the timestamp that the signature covers.
_TIME = "timestamp_header"
#: Networks that requests may come from; not secret.
_ADDRESSES = "addresses"


def token_of(integration: Integration) -> str:
    """Returns the token of the webhook URL, decrypted. Raises Permanent if no known key decrypts it."""
    return crypto.decrypt(integration.token)


def url_of(integration: Integration) -> str:
    """Returns the webhook URL. Raises Permanent if no known key decrypts the token."""
    return f"{environment.current().public_url}/in/{token_of(integration)}"


def masked_url(integration: Integration) -> str:
    """Returns the webhook URL for display; "" if no known key decrypts the token.

    Senders can still post, because tokens are found by hash, but the URL can only be shown again after a rotation.
    """
    return url_of(integration) if crypto.decrypt_or_none(integration.token) is not None else ""


def rotate_token(
    integration: Integration,
    *,
    overlap: timedelta = DEFAULT_OVERLAP,
    token: str | None = None,
    actor: AuditActor,
    now: datetime,
) -> str:
    """Gives the integration a new token and returns it; the previous token works for another `overlap`.

    An older previous token stops working at once. Raises Rejected("invalid_duration") for an overlap over the limit and
    Rejected("invalid_token") for an unusable `token`.
    """
    if not timedelta() <= overlap <= MAX_OVERLAP:
        raise Rejected(
            "invalid_duration", sentence("The overlap is at most {maximum}.", maximum=MAX_OVERLAP), "overlap"
        )
    with settings_store.exclusive(integration):
        new_token = ids.token() if token is None else validate_token(token, integration)
        if integration.token_hash and bytes(integration.token_hash) == ids.token_hash(new_token):
            raise rejected_at("token", _TOKEN_USED_BEFORE(), "invalid_token")
        put_token(integration, new_token, overlap=overlap, now=now)
        integration.save()
        PinnedSender.objects.filter(integration=integration).delete()
        audit.record(
            actor,
            "rotate_token",
            now=now,
            object_type="integration",
            object_id=integration.pk,
            object_name=integration.name,
            group_id=integration.group_id,
            after={"old_token_until": (now + overlap).isoformat()},
        )
        settings_store.bump()
    return new_token


def put_token(integration: Integration, token: str, *, overlap: timedelta, now: datetime) -> None:
    """Sets the token on the instance without saving; the current token becomes the previous one."""
    if integration.token_hash:
        integration.old_token_hash, integration.old_token_until = integration.token_hash, now + overlap
        integration.previous_token_requests = 0
    integration.token_hash, integration.token = ids.token_hash(token), crypto.encrypt(token)


def keep_token(integration: Integration, token: str) -> bool:
    """Returns whether `token` is the integration's current token. Re-encrypts it, unsaved, if it was unreadable."""
    if ids.token_hash(token) != bytes(integration.token_hash):
        return False
    if crypto.decrypt_or_none(integration.token) is None:
        integration.token = crypto.encrypt(token)
    return True


def validate_token(token: str, integration: Integration | None) -> str:
    """Validates a user-chosen token. Raises Rejected("invalid_token") if it is malformed, belongs or belonged to
    another integration, or was this one's previous token."""
    if not _TOKEN.fullmatch(token):
        raise rejected_at("token", _MALFORMED_TOKEN(), "invalid_token")
    hashed = ids.token_hash(token)
    others = Integration.objects.exclude(pk=integration.pk) if integration else Integration.objects.all()
    if (others.filter(token_hash=hashed) | others.filter(old_token_hash=hashed)).exists():
        raise rejected_at(
            "token", sentence("is in use by another integration, or was until recently."), "invalid_token"
        )
    if integration and integration.old_token_hash and bytes(integration.old_token_hash) == hashed:
        raise rejected_at("token", _TOKEN_USED_BEFORE(), "invalid_token")
    return token


def credentials_of(integration: Integration) -> dict[str, Any]:
    """Returns the senders' credentials with secrets. `addresses` is a list, each other one a mapping of its parts.

    Raises Permanent if no known key decrypts them.
    """
    if not integration.credentials:
        return {}
    stored: dict[str, Any] = json.loads(crypto.decrypt(integration.credentials))
    return stored


def readable_credentials(integration: Integration) -> dict[str, Any]:
    """Returns the same, or nothing if no known key decrypts them. Requests are refused until they are entered again."""
    try:
        return credentials_of(integration)
    except Permanent:
        return {}


def masked_credentials(credentials: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the credentials without their secret parts."""
    return {
        kind: parts if kind == _ADDRESSES else {name: parts[name] for name in (_PARTS[kind][0], _TIME) if name in parts}
        for kind, parts in credentials.items()
    }


def complete_credentials(
    spec: CredentialsSpec, stored: Mapping[str, Any], signature_header: str = "", timestamp_header: str = ""
) -> dict[str, Any]:
    """Returns the credentials of a spec as stored.

    An omitted secret keeps its value from `stored`; an empty one is refused. The signature header and its timestamp
    header default to the kind's, except that an empty timestamp header in the spec is kept. Raises Rejected or
    RejectedAll with the field of each problem.
    """
    credentials: dict[str, Any] = {}
    errors = SpecErrors()
    for kind, (public_part, secret_part) in _PARTS.items():
        part = getattr(spec, kind)
        if part is None:
            continue
        is_kept = secret_part not in part.given_keys
        entry = {
            public_part: getattr(part, public_part) or (signature_header if kind == "hmac" else ""),
            secret_part: stored.get(kind, {}).get(secret_part, "") if is_kept else getattr(part, secret_part),
        }
        for name, value in entry.items():
            if not value:
                # An empty secret would let anybody sign requests, or sign in.
                errors.add(f"{kind}.{name}", REQUIRED(), "missing")
        credentials[kind] = entry
        if isinstance(part, HmacCredentialsSpec):
            is_kinds_header = entry[public_part].casefold() == signature_header.casefold()
            default_header = timestamp_header if is_kinds_header else ""
            time_header = default_header if part.timestamp_header is None else part.timestamp_header
            if time_header or default_header:
                entry[_TIME] = time_header
        is_stored_mailbox = kind == "imap" and kind in stored and is_kept
        if is_stored_mailbox and is_different_origin(stored[kind][public_part], entry[public_part]):
            # Otherwise a user who may edit the mailbox could send another server's password to a server of their
            # choice.
            errors.add(f"{kind}.{secret_part}", ENTER_SECRET_AGAIN(), "missing")
    errors.raise_all("credentials")
    return credentials | ({_ADDRESSES: list(dict.fromkeys(spec.addresses))} if spec.addresses else {})


def put_credentials(integration: Integration, credentials: Mapping[str, Any]) -> None:
    """Sets the encrypted credentials on the instance without saving."""
    integration.credentials = crypto.encrypt(json.dumps(credentials)) if credentials else ""
