"""An integration's secrets: the token of its URL, rotated with an overlap, and what else its senders must know."""

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
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.validation.object_reader import ObjectReader
from tocsin.core.validation.server_origin import is_elsewhere
from tocsin.inbound.config import imap_url
from tocsin.inbound.models import Integration, PinnedSender

#: How long the token before still works, unless the caller says otherwise.
DEFAULT_OVERLAP = timedelta(days=1)
MAX_OVERLAP = timedelta(days=30)

_TOKEN = re.compile(r"[-_A-Za-z0-9]{32,200}")
_HEADER = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]{1,100}")

#: What each kind of credential consists of: the part that may be shown, and the secret one.
_PARTS = {
    "basic": ("username", "password"),
    "header": ("name", "value"),
    "hmac": ("header", "secret"),
    # Not what a sender shows, but what opens the mailbox that is read for this integration.
    "imap": ("mailbox", "password"),
}
#: Of `hmac`, beside them: the header of the time that the signature covers.
_TIME = "timestamp_header"
#: From where requests may come: nothing secret.
_ADDRESSES = "addresses"
_MAX_ADDRESSES = 100


def token_of(integration: Integration) -> str:
    """The secret of the integration's URL, which must be shown so that it can be copied."""
    return crypto.decrypt(integration.token)


def url_of(integration: Integration) -> str:
    """Where the integration's senders post to."""
    return f"{environment.current().public_url}/in/{token_of(integration)}"


def shown_url(integration: Integration) -> str:
    """The same for a page; empty where no known key opens it. Its senders still get in, by the hash of the token, but
    the URL can only be made anew."""
    token = crypto.readable(integration.token)
    return f"{environment.current().public_url}/in/{token}" if token is not None else ""


def rotate_token(
    integration: Integration,
    *,
    overlap: timedelta = DEFAULT_OVERLAP,
    token: str | None = None,
    actor: AuditActor,
    now: datetime,
) -> str:
    """Gives the integration a new token and returns it; the one before works for `overlap` more.

    A token before that one ends at once. Raises Rejected for an overlap that is too long, or a `token` that cannot
    be used.
    """
    if not timedelta() <= overlap <= MAX_OVERLAP:
        raise Rejected("invalid_duration", f"The overlap is at most {MAX_OVERLAP.days} days.", "overlap")
    with config_version.alone(integration):
        fresh = ids.token() if token is None else checked_token(token, integration)
        put_token(integration, fresh, overlap=overlap, now=now)
        integration.save()
        PinnedSender.objects.filter(integration=integration).delete()
        audit.record(
            actor,
            "rotate_token",
            now=now,
            object_type="integration",
            object_id=integration.pk,
            object_name=integration.name,
            after={"old_token_until": (now + overlap).isoformat()},
        )
        config_version.changed()
    return fresh


def put_token(integration: Integration, token: str, *, overlap: timedelta, now: datetime) -> None:
    """Sets the token on the row, without saving it; the one before becomes the old one."""
    if integration.token_hash:
        integration.old_token_hash, integration.old_token_until = integration.token_hash, now + overlap
        integration.previous_token_requests = 0
    integration.token_hash, integration.token = ids.token_hash(token), crypto.encrypt(token)


def keep_token(integration: Integration, token: object) -> bool:
    """Whether this is the integration's own token. It is sealed anew, without saving it, where it could not be read."""
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        return False
    if ids.token_hash(token) != bytes(integration.token_hash):
        return False
    if crypto.readable(integration.token) is None:
        integration.token = crypto.encrypt(token)
    return True


def checked_token(token: object, integration: Integration | None) -> str:
    """A token that somebody chose. Raises Rejected when its form is wrong, or another integration has or had it."""
    if not isinstance(token, str) or not _TOKEN.fullmatch(token):
        raise Rejected("invalid_token", "token: must be 32 to 200 letters, digits, - or _.", "token")
    hashed = ids.token_hash(token)
    others = Integration.objects.exclude(pk=integration.pk) if integration else Integration.objects.all()
    if (others.filter(token_hash=hashed) | others.filter(old_token_hash=hashed)).exists():
        raise Rejected("invalid_token", "token: is that of another integration, or was a short time ago.", "token")
    if integration and integration.old_token_hash and bytes(integration.old_token_hash) == hashed:
        raise Rejected("invalid_token", "token: was this integration's own before; choose another.", "token")
    return token


def credentials_of(integration: Integration) -> dict[str, Any]:
    """What senders must know beside the URL, secrets and all; `addresses` is a list, each other one has two parts."""
    if not integration.credentials:
        return {}
    stored: dict[str, Any] = json.loads(crypto.decrypt(integration.credentials))
    return stored


def known_credentials(integration: Integration) -> dict[str, Any]:
    """The same; nothing where no known key opens them. Nobody gets in then, until they are entered again."""
    try:
        return credentials_of(integration)
    except Permanent:
        return {}


def shown_credentials(credentials: Mapping[str, Any]) -> dict[str, Any]:
    """The same without the secret parts."""
    return {
        kind: parts if kind == _ADDRESSES else {name: parts[name] for name in (_PARTS[kind][0], _TIME) if name in parts}
        for kind, parts in credentials.items()
    }


def read_credentials(
    value: object, known: Mapping[str, Any], signature_header: str = "", timestamp_header: str = ""
) -> dict[str, Any]:
    """Credentials from a spec: `basic`, `header`, `hmac`, `addresses` (networks such as 10.1.0.0/16), `imap`.

    A secret part that is left out stays as it is `known`, and an empty one is refused; a signature stands in the
    `signature_header` of the kind where no other is named, and its time in the `timestamp_header`, unless the spec has
    an empty one. Raises Rejected, or RejectedAll, naming each place.
    """
    spec = ObjectReader(value, "credentials")
    found: dict[str, Any] = {}
    for kind, (shown, secret) in _PARTS.items():
        part = spec.spec(kind)
        if part is None:
            continue
        before = known.get(kind, {}).get(secret, "")
        usual = signature_header if kind == "hmac" else ""
        entry = {
            shown: part.text(shown, usual, required=not usual, longest=200),
            # One that is given empty is no secret: anybody could sign with it, or sign in.
            secret: part.text(secret, before, required=not before or part.has(secret), longest=1000),
        }
        if kind == "hmac":
            usual_time = timestamp_header if entry[shown].casefold() == signature_header.casefold() else ""
            time = part.text(_TIME, usual_time, longest=200)
            if time and not _HEADER.fullmatch(time):
                part.refuse(_TIME, f'"{time}" is not the name of a header.')
            if time or usual_time:
                entry[_TIME] = time
        if kind == "imap" and before and not part.has(secret) and is_elsewhere(known[kind][shown], entry[shown]):
            # Whoever may change the mailbox must not learn by it the password of another server.
            part.refuse(secret, "enter the secret again: the address has changed.", "missing")
        if kind in ("header", "hmac") and entry[shown] and not _HEADER.fullmatch(entry[shown]):
            part.refuse(shown, f'"{entry[shown]}" is not the name of a header.')
        if kind == "basic" and ":" in entry[shown]:
            part.refuse(shown, "has no colon in it (RFC 7617).")
        if kind == "imap" and entry[shown] and (problem := imap_url.problem_with(entry[shown])):
            part.refuse(shown, problem)
        part.done()
        found[kind] = entry
    if networks := _networks(spec):
        found[_ADDRESSES] = networks
    spec.finish()
    return found


def _networks(spec: ObjectReader) -> list[str]:
    """Addresses and networks as people write them, in the shortest form."""
    found: list[str] = []
    for number, text in enumerate(spec.texts(_ADDRESSES)[:_MAX_ADDRESSES]):
        try:
            found.append(str(ipaddress.ip_network(text, strict=False)))
        except ValueError:
            spec.refuse(f"{_ADDRESSES}[{number}]", f'"{text[:60]}" is no address and no network such as 192.0.2.0/24.')
    return list(dict.fromkeys(found))


def put_credentials(integration: Integration, credentials: Mapping[str, Any]) -> None:
    """Sets the credentials on the row, without saving it."""
    integration.credentials = crypto.encrypt(json.dumps(credentials)) if credentials else ""
