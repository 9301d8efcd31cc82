"""Groups of a provider's directory. Their members get the roles and memberships that the provider's mapping names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from typing import Any

from django.db.models import Count, QuerySet

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core.errors import Rejected
from tocsin.core.validation.inputs import REQUIRED
from tocsin.identity import grants
from tocsin.identity.models import IdentityProvider, ScimGroup, ScimUser
from tocsin.identity.scim import filters, schema
from tocsin.identity.scim.documents import (
    ListQuery,
    ScimRequest,
    narrowed,
    not_found,
    require_version,
    select_documents,
    version_of,
)
from tocsin.identity.scim.provisioned_users import find_members, later_than, write_moment
from tocsin.identity.scim.schema import GROUP, GROUP_URN, NO_DOCUMENT, invalid, read_resource, require, writable
from tocsin.people.models import User

_MAX_NAME_CHARS = 300


def read_document(body: object, _before: Mapping[str, Any] = NO_DOCUMENT) -> dict[str, Any]:
    """Returns the writable attributes of a POST or PUT. Raises Rejected, naming the place."""
    document = read_resource(GROUP, body)
    require(GROUP, document)
    return document


def create(request: ScimRequest, document: Mapping[str, Any]) -> dict[str, Any]:
    """Creates a group. Raises Rejected: "uniqueness" if the provider has one of that name."""
    with boundary.config_command():
        group = ScimGroup(provider=request.provider, created_at=request.now)
        _write(group, document, request)
        return get(request, str(group.pk))


def get(request: ScimRequest, scim_id: str) -> dict[str, Any]:
    """Returns a group. Raises `Rejected("not_found")`."""
    return _to_document(_find(request, scim_id), request, has_members=request.has_members)


def find_all(request: ScimRequest, query: ListQuery) -> tuple[list[dict[str, Any]], int]:
    """Returns a page of the matching groups, and how many match."""
    groups = _groups(request.provider)
    if query.condition is None and query.sort is None:
        chosen = groups[query.start - 1 : query.start - 1 + query.count]
        documents = [_to_document(group, request, has_members=request.has_members) for group in chosen]
        return documents, groups.count()
    if query.condition is not None:
        groups = narrowed(groups, query.condition, {"displayName": "name__iexact", "externalId": "external_id"})
        for one in filters.equal_values(query.condition, ("id", "id")):
            groups = groups.filter(pk=_number(one))
    return select_documents(query, [_to_document(group, request) for group in groups])


def change(
    request: ScimRequest, scim_id: str, changed: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Changes a group to what `changed` makes of the current document, and what its members are given with it.

    Raises Rejected: "not_found", "changed_meanwhile", "uniqueness", "invalid_value" for an unknown member,
    "last_administrator".
    """
    with boundary.config_command():
        group = _find(request, scim_id)
        before = _to_document(group, request)
        require_version(request, before)
        after = writable(GROUP, changed(before))
        if after != writable(GROUP, before):
            _write(group, after, request)
        return get(request, scim_id)


def delete(request: ScimRequest, scim_id: str) -> None:
    """Deletes a group, and takes back what it gave. Raises Rejected: "not_found", "last_administrator"."""
    with boundary.config_command():
        group = _find(request, scim_id)
        require_version(request, _to_document(group, request, has_members=False))
        members = list(group.members.select_related("user"))
        before = {"name": group.name, "members": [link.user.username for link in members]}
        about = audit.about("scim_group", group)
        audit.record_change(request.actor, now=request.now, before=before, after=None, **about)
        group.delete()
        if _is_mapped(request.provider, group.name):
            apply_directory_groups(members, request.provider, actor=request.actor, now=request.now)


def directory_groups(user: User, provider: IdentityProvider) -> list[str] | None:
    """Returns the names of the directory's groups in which the provider put the user by SCIM.

    None if the provider pushes no groups: then the groups claim of a sign-in decides.
    """
    if not provider.scim_groups.exists():
        return None
    return sorted(provider.scim_groups.filter(members__user=user).values_list("name", flat=True))


def apply_directory_groups(
    links: Iterable[ScimUser], provider: IdentityProvider, *, actor: AuditActor, now: datetime
) -> None:
    """Gives each user what the groups of the directory give them now. Raises `Rejected("last_administrator")`."""
    for link in links:
        granted = grants.granted_roles(provider, list(link.scim_groups.values_list("name", flat=True)))
        grants.apply_grants(link.user, provider, granted, actor=actor, now=now)


def _write(group: ScimGroup, document: Mapping[str, Any], request: ScimRequest) -> None:
    """Writes name and members. Users who came, left or stayed in a renamed group get what they are given now."""
    name = _name(group, document, request)
    old_name, is_new = group.name, group.pk is None
    known = {} if is_new else {link.pk: link for link in group.members.select_related("user")}
    before = None if is_new else {"name": old_name, "members": sorted(one.user.username for one in known.values())}
    group.name, group.external_id = name, document.get("externalId", "")[:_MAX_NAME_CHARS]
    group.modified_at = later_than(group.modified_at, request.now)
    group.save()
    scim_ids = list(dict.fromkeys(str(one.get("value", "")) for one in document.get("members", ())))
    members = {link.pk: link for link in find_members(request, scim_ids)}
    group.members.remove(*(link for number, link in known.items() if number not in members))
    group.members.add(*(link for number, link in members.items() if number not in known))
    after = {"name": name, "members": sorted(one.user.username for one in members.values())}
    about = audit.about("scim_group", group)
    audit.record_change(request.actor, now=request.now, before=before, after=after, **about)
    affected = {**known, **members}
    if not is_new and old_name == name:
        affected = {number: link for number, link in affected.items() if (number in known) != (number in members)}
    if _is_mapped(request.provider, name) or (not is_new and _is_mapped(request.provider, old_name)):
        apply_directory_groups(affected.values(), request.provider, actor=request.actor, now=request.now)


def _name(group: ScimGroup, document: Mapping[str, Any], request: ScimRequest) -> str:
    name = str(document["displayName"]).strip()
    if not name:
        raise invalid("displayName", REQUIRED())
    if len(name) > _MAX_NAME_CHARS:
        raise invalid("displayName", schema.TOO_LONG(maximum=_MAX_NAME_CHARS))
    if request.provider.scim_groups.exclude(pk=group.pk).filter(name__iexact=name).exists():
        raise Rejected("uniqueness", schema.GROUP_EXISTS(name=name), "displayName")
    return name


def _is_mapped(provider: IdentityProvider, name: str) -> bool:
    return any(entry["claim"].casefold() == name.casefold() for entry in provider.roles)


def _groups(provider: IdentityProvider) -> QuerySet[ScimGroup]:
    return provider.scim_groups.annotate(member_count=Count("members")).order_by("pk")


def _number(scim_id: str) -> int:
    """Returns the number that an id is; -1 if it is none."""
    return int(scim_id) if scim_id.isascii() and scim_id.isdecimal() and len(scim_id) < 18 else -1


def _find(request: ScimRequest, scim_id: str) -> Any:
    group = _groups(request.provider).filter(pk=_number(scim_id)).first()
    if group is None or str(group.pk) != scim_id:
        raise not_found(GROUP, scim_id)
    return group


def _to_document(group: Any, request: ScimRequest, *, has_members: bool = True) -> dict[str, Any]:
    document: dict[str, Any] = {"schemas": [GROUP_URN], "id": str(group.pk)}
    if group.external_id:
        document["externalId"] = group.external_id
    document["displayName"] = group.name
    if has_members and group.member_count:
        document["members"] = [
            {"value": scim_id, "$ref": f"{request.base}/Users/{scim_id}", "type": "User"}
            for scim_id in group.members.order_by("pk").values_list("scim_id", flat=True)
        ]
    modified = write_moment(group.modified_at)
    # Not of the members themselves: without them in the answer, they need not be read.
    version = version_of([group.pk, modified, group.member_count])
    return document | {
        "meta": {
            "resourceType": "Group",
            "created": write_moment(group.created_at),
            "lastModified": modified,
            "location": f"{request.base}/Groups/{group.pk}",
            "version": version,
        }
    }
