"""An integration's secrets: the token in its webhook URL, with rotation, and its senders' credentials."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core import ids
from tocsin.core.config import config_version, crypto, environment
from tocsin.core.config.crypto import ENTER_SECRET_AGAIN
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.reasons import Reason, ReasonType, as_reason
from tocsin.core.validation.object_reader import AT_PATH, ObjectReader
from tocsin.core.validation.server_origin import is_different_origin
from tocsin.inbound.config import imap_url
from tocsin.inbound.models import Integration, PinnedSender

_OVERLAP_TOO_LONG = ReasonType("integration.overlap_too_long", "The overlap is at most {maximum}.")
_MALFORMED_TOKEN = ReasonType("integration.malformed_token", "must be 32 to 200 letters, digits, - or _.")
_TOKEN_TAKEN = ReasonType("integration.token_taken", "is in use by another integration, or was until recently.")
_TOKEN_USED_BEFORE = ReasonType("integration.token_used_before", "was used by this integration before; choose another.")
_INVALID_HEADER_NAME = ReasonType("integration.invalid_header_name", '"{name}" is not the name of a header.')
_COLON_IN_USERNAME = ReasonType("integration.colon_in_username", "must not contain a colon (RFC 7617).")
_INVALID_NETWORK = ReasonType(
    "integration.invalid_network", '"{text}" is not an address or a network such as 192.0.2.0/24.'
)

#: How long the previous token still works after a rotation, by default.
DEFAULT_OVERLAP = timedelta(days=1)
MAX_OVERLAP = timedelta(days=30)

_TOKEN = re.compile(r"[-_A-Za-z0-9]{32,200}")
_HEADER = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]{1,100}")

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
_MAX_ADDRESSES = 100


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
    token = crypto.decrypt_or_none(integration.token)
    return f"{environment.current().public_url}/in/{token}" if token is not None else ""


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
        raise Rejected("invalid_duration", _OVERLAP_TOO_LONG(maximum=MAX_OVERLAP), "overlap")
    with config_version.exclusive(integration):
        new_token = ids.token() if token is None else validate_token(token, integration)
        if integration.token_hash and bytes(integration.token_hash) == ids.token_hash(new_token):
            raise _token_rejection(_TOKEN_USED_BEFORE())
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
        config_version.bump()
    return new_token


def put_token(integration: Integration, token: str, *, overlap: timedelta, now: datetime) -> None:
    """Sets the token on the instance without saving; the current token becomes the previous one."""
    if integration.token_hash:
        integration.old_token_hash, integration.old_token_until = integration.token_hash, now + overlap
        integration.previous_token_requests = 0
    integration.token_hash, integration.token = ids.token_hash(token), crypto.encrypt(token)


def keep_token(integration: Integration, token: object) -> bool:
    """Returns whether `token` is the integration's current token. Re-encrypts it, unsaved, if it was unreadable."""
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        return False
    if ids.token_hash(token) != bytes(integration.token_hash):
        return False
    if crypto.decrypt_or_none(integration.token) is None:
        integration.token = crypto.encrypt(token)
    return True


def validate_token(token: object, integration: Integration | None) -> str:
    """Validates a user-chosen token. Raises Rejected("invalid_token") if it is malformed, belongs or belonged to
    another integration, or was this one's previous token."""
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise _token_rejection(_MALFORMED_TOKEN())
    hashed = ids.token_hash(token)
    others = Integration.objects.exclude(pk=integration.pk) if integration else Integration.objects.all()
    if (others.filter(token_hash=hashed) | others.filter(old_token_hash=hashed)).exists():
        raise _token_rejection(_TOKEN_TAKEN())
    if integration and integration.old_token_hash and bytes(integration.old_token_hash) == hashed:
        raise _token_rejection(_TOKEN_USED_BEFORE())
    return token


def _token_rejection(problem: Reason) -> Rejected:
    return Rejected("invalid_token", AT_PATH(path="token", problem=problem), "token")


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


def read_credentials(
    value: object, stored_credentials: Mapping[str, Any], signature_header: str = "", timestamp_header: str = ""
) -> dict[str, Any]:
    """Reads credentials from a spec: `basic`, `header`, `hmac`, `addresses` (networks such as 10.1.0.0/16), `imap`.

    An omitted secret keeps its value from `stored_credentials`; an empty one is refused. The signature header and its
    timestamp header default to the kind's, except that an empty timestamp header in the spec is kept. Raises Rejected
    or RejectedAll with the field of each problem.
    """
    spec = ObjectReader(value, "credentials")
    credentials: dict[str, Any] = {}
    for kind, (public_part, secret_part) in _PARTS.items():
        part = spec.nested(kind)
        if part is None:
            continue
        stored_secret = stored_credentials.get(kind, {}).get(secret_part, "")
        default = signature_header if kind == "hmac" else ""
        entry = {
            public_part: part.text(public_part, default, required=not default, max_length=200),
            # An empty secret would let anybody sign requests, or sign in.
            secret_part: part.text(
                secret_part, stored_secret, required=not stored_secret or part.has(secret_part), max_length=1000
            ),
        }
        if kind == "hmac":
            default_time_header = (
                timestamp_header if entry[public_part].casefold() == signature_header.casefold() else ""
            )
            time_header = part.text(_TIME, default_time_header, max_length=200)
            if time_header and not _HEADER.fullmatch(time_header):
                part.add_error(_TIME, _INVALID_HEADER_NAME(name=time_header))
            if time_header or default_time_header:
                entry[_TIME] = time_header
        if (
            kind == "imap"
            and stored_secret
            and not part.has(secret_part)
            and is_different_origin(stored_credentials[kind][public_part], entry[public_part])
        ):
            # Otherwise a user who may edit the mailbox could send another server's password to a server of their
            # choice.
            part.add_error(secret_part, ENTER_SECRET_AGAIN(), "missing")
        if kind in ("header", "hmac") and entry[public_part] and not _HEADER.fullmatch(entry[public_part]):
            part.add_error(public_part, _INVALID_HEADER_NAME(name=entry[public_part]))
        if kind == "basic" and ":" in entry[public_part]:
            part.add_error(public_part, _COLON_IN_USERNAME())
        if kind == "imap" and entry[public_part] and (problem := imap_url.url_problem(entry[public_part])):
            part.add_error(public_part, as_reason(problem))
        part.reject_unknown_keys()
        credentials[kind] = entry
    if networks := _networks(spec):
        credentials[_ADDRESSES] = networks
    spec.finish()
    return credentials


def _networks(spec: ObjectReader) -> list[str]:
    """Reads addresses and networks and returns them without duplicates in their shortest form."""
    networks: list[str] = []
    for index, text in enumerate(spec.texts(_ADDRESSES)[:_MAX_ADDRESSES]):
        try:
            networks.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            spec.add_error(f"{_ADDRESSES}[{index}]", _INVALID_NETWORK(text=text[:60]))
    return list(dict.fromkeys(networks))


def put_credentials(integration: Integration, credentials: Mapping[str, Any]) -> None:
    """Sets the encrypted credentials on the instance without saving."""
    integration.credentials = crypto.encrypt(json.dumps(credentials)) if credentials else ""
