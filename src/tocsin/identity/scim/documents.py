"""Requests and answers: who asks by which token, for what, and the documents that describe the server."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from django.db.models import Model, QuerySet

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core import ids
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, sentence
from tocsin.core.validation.inputs import NOT_A_WHOLE_NUMBER
from tocsin.identity.models import IdentityProvider
from tocsin.identity.scim import filters
from tocsin.identity.scim import schema as reasons
from tocsin.identity.scim.filters import Filter
from tocsin.identity.scim.schema import GROUP, SCHEMAS, USER, Attribute, ResourceSchema, values_at

LIST_URN = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
ERROR_URN = "urn:ietf:params:scim:api:messages:2.0:Error"
_SCHEMA_URN = "urn:ietf:params:scim:schemas:core:2.0:Schema"
_RESOURCE_TYPE_URN = "urn:ietf:params:scim:schemas:core:2.0:ResourceType"
_CONFIG_URN = "urn:ietf:params:scim:schemas:core:2.0:ServiceProviderConfig"

#: Of a list; more are answered by several requests.
MAX_RESULTS = 200


def version_of(content: object) -> str:
    """Returns the weak ETag of a resource with that content."""
    digest = hashlib.sha256(msgspec.json.encode(content, order="deterministic")).hexdigest()
    return f'W/"{digest[:24]}"'


def with_version(document: dict[str, Any]) -> dict[str, Any]:
    """Returns the document with its version, which is a hash of everything in it."""
    version = version_of(document)
    return {**document, "meta": {**document["meta"], "version": version}}


def is_current(version: str, header: str | None) -> bool:
    """Returns whether an `If-Match` or `If-None-Match` header names the version. Compares weakly."""
    if header is None:
        return False
    listed = {part.strip().removeprefix("W/") for part in header.split(",")}
    return "*" in listed or version.removeprefix("W/") in listed


def projection(schema: ResourceSchema, attributes: str, excluded: str) -> Projection:
    """Reads the lists of attributes of a request. Raises Rejected if there are both.

    An unknown name selects nothing, because providers ask for attributes of extensions too.
    """
    if attributes.strip() and excluded.strip():
        raise Rejected("invalid_value", reasons.INVALID_VALUE(path="attributes", problem=reasons.BOTH_LISTS()))
    return Projection(schema, _paths(schema, attributes), _paths(schema, excluded), is_limited=bool(attributes.strip()))


class Projection:
    """Which attributes an answer has."""

    def __init__(
        self, schema: ResourceSchema, wanted: set[tuple[str, str]], excluded: set[tuple[str, str]], *, is_limited: bool
    ) -> None:
        self._schema = schema
        self._wanted = wanted
        self._excluded = excluded
        self._is_limited = is_limited

    def has(self, name: str) -> bool:
        """Returns whether the answer has that attribute, or a part of it."""
        if self._is_limited:
            return any(first == name for first, _ in self._wanted)
        return (name, "") not in self._excluded

    def apply(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the part of the document that the answer has."""
        result: dict[str, Any] = {}
        for name, value in document.items():
            attribute = self._schema.find(name)
            if attribute is None or attribute.returned == "always":
                result[name] = value
            elif self.has(name):
                part = self._part(name, value)
                if part not in ({}, []):
                    result[name] = part
        return result

    def _part(self, name: str, value: Any) -> Any:
        subs = {sub for first, sub in (self._wanted if self._is_limited else self._excluded) if first == name and sub}
        is_whole = (name, "") in self._wanted if self._is_limited else not subs
        if is_whole or not subs:
            return value
        if isinstance(value, list):
            return [part for one in value if (part := self._filtered(one, subs))]
        return self._filtered(value, subs)

    def _filtered(self, value: Any, subs: set[str]) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: item for name, item in value.items() if (name in subs) == self._is_limited}


def _paths(schema: ResourceSchema, text: str) -> set[tuple[str, str]]:
    found: set[tuple[str, str]] = set()
    for name in text.split(","):
        target = filters.find_target(name.strip(), schema) if name.strip() else None
        if target is not None and target.attribute is not None:
            found.add((target.attribute.name, target.sub.name if target.sub else ""))
    return found


def list_response(documents: Sequence[Mapping[str, Any]], total: int, start: int) -> dict[str, Any]:
    """Returns a list, or one page of it from number `start` on, the first being 1."""
    return {
        "schemas": [LIST_URN],
        "totalResults": total,
        "startIndex": start,
        "itemsPerPage": len(documents),
        "Resources": list(documents),
    }


def error(status: int, reason: Reason, scim_type: str = "") -> dict[str, Any]:
    """Returns an error in SCIM's form (RFC 7644, section 3.12)."""
    kind = {"scimType": scim_type} if scim_type else {}
    return {"schemas": [ERROR_URN], "status": str(status), **kind, "detail": str(reason)}


def resource_types(base: str) -> list[dict[str, Any]]:
    """Returns the kinds of resources. `base` is the address of the SCIM API."""
    return [
        {
            "schemas": [_RESOURCE_TYPE_URN],
            "id": schema.name,
            "name": schema.name,
            "description": schema.description,
            "endpoint": schema.endpoint,
            "schema": schema.urn,
            "meta": {"resourceType": "ResourceType", "location": f"{base}/ResourceTypes/{schema.name}"},
        }
        for schema in SCHEMAS
    ]


def schemas(base: str) -> list[dict[str, Any]]:
    """Returns the descriptions of both kinds of resources."""
    return [
        {
            "schemas": [_SCHEMA_URN],
            "id": schema.urn,
            "name": schema.name,
            "description": schema.description,
            "attributes": _attributes(schema.attributes),
            "meta": {"resourceType": "Schema", "location": f"{base}/Schemas/{schema.urn}"},
        }
        for schema in (USER, GROUP)
    ]


def _attributes(attributes: Iterable[Attribute]) -> list[dict[str, Any]]:
    described = []
    for one in attributes:
        entry: dict[str, Any] = {
            "name": one.name,
            "type": one.type,
            "multiValued": one.is_multi,
            "description": one.description,
            "required": one.is_required,
            "caseExact": one.is_case_exact,
            "mutability": one.mutability,
            "returned": one.returned,
            "uniqueness": one.uniqueness,
        }
        if one.canonical_values:
            entry["canonicalValues"] = list(one.canonical_values)
        if one.reference_types:
            entry["referenceTypes"] = list(one.reference_types)
        if one.sub:
            entry["subAttributes"] = _attributes(one.sub)
        described.append(entry)
    return described


def service_provider_config(base: str) -> dict[str, Any]:
    """Returns what this server can do."""
    return {
        "schemas": [_CONFIG_URN],
        "patch": {"supported": True},
        "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
        "filter": {"supported": True, "maxResults": MAX_RESULTS},
        "changePassword": {"supported": False},
        "sort": {"supported": True},
        "etag": {"supported": True},
        "authenticationSchemes": [
            {
                "type": "oauthbearertoken",
                "name": "Bearer token",
                "description": "The SCIM token of the identity provider, which an administrator creates in Tocsin.",
                "primary": True,
            }
        ],
        "meta": {"resourceType": "ServiceProviderConfig", "location": f"{base}/ServiceProviderConfig"},
    }


# ---------- context
# The provider that makes a request, and how lists are asked for.


@dataclass(frozen=True, slots=True)
class ScimRequest:
    """One request of a provider: the provider, the address of the SCIM API, who is recorded, and the time."""

    provider: IdentityProvider
    base: str
    actor: AuditActor
    now: datetime
    #: The header `If-Match`, which a change checks before it writes.
    if_match: str | None = None
    #: Whether the answer has the members of groups: reading them takes long for large groups.
    has_members: bool = True


@dataclass(frozen=True, slots=True)
class ListQuery:
    """What a list is asked for. `start` counts from 1."""

    condition: Filter | None
    sort: filters.Target | None
    is_descending: bool
    start: int
    count: int


def list_query(schema: ResourceSchema, parameters: Mapping[str, Any]) -> ListQuery:
    """Reads the parameters `filter`, `sortBy`, `sortOrder`, `startIndex` and `count`. Raises Rejected."""
    text, sort_by = str(parameters.get("filter") or ""), str(parameters.get("sortBy") or "")
    sort = filters.find_target(sort_by, schema) if sort_by else None
    if sort_by and sort is None:
        raise Rejected("invalid_path", reasons.UNKNOWN_ATTRIBUTE(name=sort_by[:100], resource=schema.name))
    return ListQuery(
        filters.parse(text, schema) if text.strip() else None,
        sort if sort is not None and sort.attribute is not None else None,
        str(parameters.get("sortOrder") or "").lower() == "descending",
        max(1, _number(parameters, "startIndex", 1)),
        min(MAX_RESULTS, max(0, _number(parameters, "count", MAX_RESULTS))),
    )


def _number(parameters: Mapping[str, Any], name: str, default: int) -> int:
    value = parameters.get(name)
    if value is None or value == "":
        return default
    try:
        return max(-(10**9), min(10**9, int(str(value)[:20])))
    except ValueError:
        raise Rejected("invalid_value", reasons.INVALID_VALUE(path=name, problem=NOT_A_WHOLE_NUMBER())) from None


def narrowed[M: Model](rows: QuerySet[M], condition: Filter, lookups: Mapping[str, str]) -> QuerySet[M]:
    """Returns the rows that can match, for the filters that providers send all the time: by attribute, the look-up of
    its column."""
    for attribute, lookup in lookups.items():
        for value in filters.equal_values(condition, (attribute, attribute)):
            rows = rows.filter(**{lookup: value})
    return rows


def select_documents(query: ListQuery, documents: Sequence[dict[str, Any]]) -> tuple[list[dict[str, Any]], int]:
    """Returns the requested page of the documents that match, and how many match."""
    found = [one for one in documents if query.condition is None or filters.matches(query.condition, one)]
    if query.sort is not None:
        found = _sorted(found, query.sort, is_descending=query.is_descending)
    return found[query.start - 1 : query.start - 1 + query.count], len(found)


def _sorted(documents: list[dict[str, Any]], sort: filters.Target, *, is_descending: bool) -> list[dict[str, Any]]:
    """Sorts by the first value; documents without one come last in ascending order (RFC 7644, section 3.4.2.3)."""

    def key(document: dict[str, Any]) -> tuple[bool, str]:
        assert sort.attribute is not None
        value = next(values_at(document, sort.attribute, sort.sub), None)
        return value is None, str(value).lower()

    return sorted(documents, key=key, reverse=is_descending)


def require_version(request: ScimRequest, document: Mapping[str, Any]) -> None:
    """Raises `Rejected("changed_meanwhile")` if the request is about another version than that of the document."""
    version = document["meta"]["version"]
    if request.if_match is not None and not is_current(version, request.if_match):
        raise Rejected("changed_meanwhile", reasons.CHANGED(version=version))


def not_found(schema: ResourceSchema, scim_id: str) -> Rejected:
    """Returns the rejection of an id that the provider does not have."""
    reason: Reason = sentence("This provider has no {resource} {id}.", resource=schema.name, id=scim_id[:100])
    return Rejected("not_found", reason)


# ---------- tokens
# The bearer token with which a provider provisions users: made, rotated and turned off by administrators.


#: Number of characters of the secret stored in clear, shown to administrators.
PREFIX_CHARS = 6
_MAX_SECRET_CHARS = 200


def rotate_token(provider: IdentityProvider, *, actor: AuditActor, now: datetime) -> str:
    """Creates the provider's SCIM token, which replaces an earlier one at once. Returns it: it is never shown again."""
    secret = ids.token()
    with boundary.command():
        locked = IdentityProvider.objects.select_for_update().get(pk=provider.pk)
        action = "create_scim_token" if locked.scim_token_hash is None else "rotate_scim_token"
        provider.scim_token_hash, provider.scim_token_prefix = ids.token_hash(secret), secret[:PREFIX_CHARS]
        provider.save(update_fields=["scim_token_hash", "scim_token_prefix"])
        _record(provider, action, actor, now, after={"prefix": provider.scim_token_prefix})
    return secret


def set_enabled(provider: IdentityProvider, *, is_on: bool, actor: AuditActor, now: datetime) -> None:
    """Turns provisioning on, with a token that nobody knows until it is created anew, or off. An existing token stays
    while it is on."""
    if not is_on:
        turn_off(provider, actor=actor, now=now)
    elif provider.scim_token_hash is None:
        provider.scim_token_hash = ids.token_hash(ids.token())
        provider.save(update_fields=["scim_token_hash"])


def turn_off(provider: IdentityProvider, *, actor: AuditActor, now: datetime) -> bool:
    """Ends provisioning by the provider. Users and what they were given stay. Returns False if there was no token."""
    with boundary.command():
        rows = IdentityProvider.objects.filter(pk=provider.pk, scim_token_hash__isnull=False)
        if not rows.update(scim_token_hash=None, scim_token_prefix=""):  # nosec B106 # none
            return False
        provider.scim_token_hash, provider.scim_token_prefix = None, ""
        _record(provider, "revoke_scim_token", actor, now, after=None)
    return True


def verify_token(secret: str) -> IdentityProvider | None:
    """Returns the enabled provider with this token; None if there is none."""
    if not secret or len(secret) > _MAX_SECRET_CHARS or not secret.isascii():
        return None
    hashed = ids.token_hash(secret)
    provider = IdentityProvider.objects.filter(scim_token_hash=hashed, is_enabled=True).first()
    # The index matched the row by its hash. This comparison takes the same time for every result.
    if provider is None or not secrets.compare_digest(bytes(provider.scim_token_hash or b""), hashed):
        return None
    return provider


def _record(
    provider: IdentityProvider, action: str, actor: AuditActor, now: datetime, after: dict[str, object] | None
) -> None:
    audit.record(actor, action, now=now, after=after, **audit.about("identity_provider", provider))
