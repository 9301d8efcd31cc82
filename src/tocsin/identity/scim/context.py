"""The provider that makes a request, and how lists are asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from tocsin.access.audit import AuditActor
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason
from tocsin.core.validation.field_errors import NOT_A_WHOLE_NUMBER
from tocsin.identity.models import IdentityProvider
from tocsin.identity.scim import filters, reasons
from tocsin.identity.scim.documents import MAX_RESULTS, is_current
from tocsin.identity.scim.filters import Filter
from tocsin.identity.scim.schema import ResourceSchema, values_at


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
    reason: Reason = reasons.NOT_FOUND(resource=schema.name, id=scim_id[:100])
    return Rejected("not_found", reason)
