"""Reads the claims of a token, or the attributes of an assertion, by the names that the provider uses. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.core.validation.text_sanitizing import fold_login, sanitize
from tocsin.identity import reasons

#: A claim is shown and recorded with at most this many of its values.
MAX_SHOWN = 50
_MAX_CHARS = 300
#: What Entra ID sends by SAML instead of more than 150 groups.
_GROUPS_LINK = "http://schemas.microsoft.com/claims/groups.link"


@dataclass(frozen=True, slots=True)
class Claims:
    """What a provider says about a user."""

    issuer: str
    subject: str
    email: str = ""
    #: None: the provider does not say.
    is_email_verified: bool | None = None
    username: str = ""
    name: str = ""
    #: None: the claim is missing.
    groups: tuple[str, ...] | None = None
    #: Whether the provider sent a link instead of the groups, because there are too many (Entra's overage).
    has_groups_overage: bool = False


@dataclass(frozen=True, slots=True)
class VerifiedAnswer:
    """The claims of an answer that was checked."""

    claims: Claims
    #: All claims, for a test.
    raw: Mapping[str, Any]
    #: The provider's session, which a back-channel logout may name; empty: unknown.
    sid: str


def read_claims(raw: Mapping[str, Any], names: Mapping[str, str], *, issuer: str, subject: str) -> Claims:
    """Returns the claims that decide about a sign-in; `names` has the name of each. Raises Rejected."""
    email, username, name = (_text(_find(raw, names[key]), names[key]) for key in ("email", "username", "name"))
    groups = _find(raw, names["groups"])
    return Claims(
        issuer=issuer,
        subject=subject,
        email=fold_login(email),
        is_email_verified=_boolean(raw.get("email_verified")),
        username=username,
        name=name,
        groups=None if groups is None else _texts(groups, names["groups"]),
        has_groups_overage=_has_overage(raw, names["groups"]),
    )


def shown(raw: Mapping[str, Any]) -> dict[str, str]:
    """Returns each claim as a short text, for administrators who test a provider."""
    texts = {}
    for name, value in sorted(raw.items()):
        text = ", ".join(map(_shown, value[:MAX_SHOWN])) if isinstance(value, list) else _shown(value)
        texts[str(name)[:200]] = text if len(text) <= _MAX_CHARS else f"{text[:_MAX_CHARS]}…"
    return texts


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _find(raw: Mapping[str, Any], name: str) -> Any:
    """Returns a claim by its name, or by a path such as `realm_access.roles`."""
    if name in raw:
        return raw[name]
    found: Any = raw
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


def storable(value: Any, claim: str) -> str:
    """Returns a text that the database takes, such as a subject. Raises Rejected("invalid_token") for anything else."""
    if not isinstance(value, str) or sanitize(value) != value:
        raise Rejected("invalid_token", reasons.INVALID_CLAIM(claim=claim))
    return value.strip()


def _text(value: Any, claim: str) -> str:
    texts = _texts(value, claim) if value is not None else ()
    return texts[0] if texts else ""


def _texts(value: Any, claim: str) -> tuple[str, ...]:
    values = value if isinstance(value, list) else [value]
    return tuple(dict.fromkeys(text for one in values if (text := storable(one, claim))))


def _boolean(value: Any) -> bool | None:
    """Some providers write the boolean as a text, and SAML has lists of them. Anything else than true is not true."""
    return None if value is None else value is True or value in ("true", ["true"])


def _has_overage(raw: Mapping[str, Any], groups: str) -> bool:
    names = raw.get("_claim_names")
    is_link = isinstance(names, Mapping) and groups in names
    return is_link or raw.get("hasgroups") in (True, "true") or _GROUPS_LINK in raw
