"""Changes groups, their members and contacts: validates, writes the audit log, and makes all nodes reload."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db.models import Q
from django.db.models.functions import Lower

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Person, Text, sentence
from tocsin.core.validation.inputs import NO_SUCH_USER, raise_all, rejected_at
from tocsin.people import addresses, permissions
from tocsin.people.changes.users import GroupSpec
from tocsin.people.models import Group, GroupContact, Membership, User
from tocsin.people.permissions import Viewer

_NOT_A_MEMBER = Text("{user} is not a member of {group}.")


def group_spec(group: Group) -> dict[str, Any]:
    """Returns the group in the form of YAML and the API, with its members in the order in which they are paged."""
    spec: dict[str, Any] = {"name": group.name}
    if group.description:
        spec["description"] = group.description
    spec["time_zone"] = group.time_zone
    # Prefetched members are used as they are: one query for all groups instead of one for each.
    is_prefetched = "memberships" in getattr(group, "_prefetched_objects_cache", {})
    memberships = group.memberships.all() if is_prefetched else group.memberships.select_related("user")
    spec["members"] = [
        {"user": m.user.username} | ({"role": m.role} if m.role else {}) | {"roles": list(m.roles)} for m in memberships
    ]
    contacts = [{"label": c.label, "channel": c.channel, "address": c.address} for c in group.contacts.all()]
    spec |= {"contacts": contacts} if contacts else {}
    return spec | ({"announcements": group.announcements} if group.announcements else {})


def save_group(spec: Mapping[str, object], *, existing: Group | None = None, actor: AuditActor, now: datetime) -> Group:
    """Creates a group, or changes `existing` to match the spec. Raises Rejected, naming the field.

    If the actor does not see a new member's addresses, the group does not see them either until `show_addresses`.
    Otherwise managers could unmask any user by adding them.
    """
    with boundary.config_command():
        parsed = GroupSpec.read(spec)
        others = Group.objects.exclude(pk=existing.pk) if existing else Group.objects.all()
        if others.filter(name__iexact=parsed.name).exists():
            raise Rejected("name_taken", sentence('There is already a group "{name}".', name=parsed.name), "name")
        users = _users(parsed)
        # Evaluated before the members are written, which would change the result.
        adder = permissions.viewer_of(actor)
        before = group_spec(existing) if existing else None
        group = existing or Group()
        group.name, group.description = parsed.name, parsed.description
        group.time_zone = parsed.time_zone or settings_store.get(settings_store.TIME_ZONE)
        labels = {contact.label.casefold(): contact.label for contact in parsed.contacts}
        group.announcements = [
            one.model_copy(update={"contacts": tuple(labels[label.casefold()] for label in one.contacts)}).written()
            for one in parsed.announcements
        ]
        group.save()
        _write_members(group, parsed, users, adder)
        _write_contacts(group, parsed, actor)
        after = group_spec(Group.objects.get(pk=group.pk))
        audit.record_config_audit("group", group, before, after, actor=actor, now=now)
    return group


def show_addresses(group: Group, user: User, *, actor: AuditActor, now: datetime) -> None:
    """Shows the addresses of the member `user` to the other members of `group`.

    The caller checks that the actor sees them. Raises `Rejected("not_found")` if the user is not a member.
    """
    with boundary.config_command():
        membership = Membership.objects.filter(group=group, user=user).first()
        if membership is None:
            raise Rejected("not_found", _NOT_A_MEMBER(user=Person(user.username, user.pk), group=group.name))
        if membership.shows_addresses:
            return
        membership.shows_addresses = True
        membership.save(update_fields=["shows_addresses"])
        after = {"user": user.username}
        audit.record(actor, "show_addresses", now=now, after=after, group_id=group.pk, **audit.about("group", group))


def _users(parsed: GroupSpec) -> dict[str, User]:
    """Returns the members' users by lower-case username. Raises Rejected for unknown names."""
    usernames = {member.user.lower() for member in parsed.members}
    # Match on both, because the database may lower-case non-ASCII letters differently.
    is_member = Q(folded__in=usernames) | Q(username__in=[member.user for member in parsed.members])
    with boundary.as_viewer():
        matching = User.objects.annotate(folded=Lower("username")).filter(is_member)
        users: dict[str, User] = {
            user.username.lower(): user for user in matching if user.username.lower() in usernames
        }
    raise_all(
        rejected_at(f"members[{index}].user", NO_SUCH_USER(name=member.user), "not_found")
        for index, member in enumerate(parsed.members)
        if member.user.lower() not in users
    )
    return users


def _write_members(group: Group, parsed: GroupSpec, users: Mapping[str, User], adder: Viewer | None) -> None:
    """Writes any number of members in a few statements. `adder` saves the group; None is the command line."""
    known = {membership.user_id: membership for membership in Membership.objects.filter(group=group)}
    added, changed = [], []
    for position, member in enumerate(parsed.members):
        user, roles = users[member.user.lower()], [str(role) for role in member.roles]
        membership = known.pop(user.pk, None)
        if membership is None:
            is_visible = adder is None or adder.can_view_addresses_of(user.pk)
            role = member.role or ""
            added.append(
                Membership(
                    group=group, user=user, role=role, roles=roles, position=position, shows_addresses=is_visible
                )
            )
            continue
        role = membership.role if member.role is None else member.role
        if (membership.role, membership.roles, membership.position) != (role, roles, position):
            membership.role, membership.roles, membership.position = role, roles, position
            changed.append(membership)
    if known:
        group.memberships.filter(user__in=list(known)).delete()
    Membership.objects.bulk_create(added)
    Membership.objects.bulk_update(changed, ["role", "roles", "position"])


def _write_contacts(group: Group, parsed: GroupSpec, actor: AuditActor) -> None:
    """Writes the contacts. A contact is identified by its label."""
    known = {contact.label.lower(): contact for contact in group.contacts.all()}
    kept_labels = {contact_spec.label.lower() for contact_spec in parsed.contacts}
    for label, contact in known.items():
        if label not in kept_labels:
            contact.delete()
    for position, contact_spec in enumerate(parsed.contacts):
        contact = known.get(contact_spec.label.lower()) or GroupContact(group=group)
        address = addresses.restore_masked(contact_spec.address, contact.address)
        if (contact.channel, contact.address) != (contact_spec.channel, address):
            permissions.require_allowed(contact_spec.channel, address, actor, is_group=True)
        contact.label, contact.channel, contact.address = contact_spec.label, contact_spec.channel, address
        contact.position = position
        contact.save()
