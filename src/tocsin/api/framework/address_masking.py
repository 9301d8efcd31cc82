"""Addresses in responses: complete or masked, according to `people.permissions`."""

from __future__ import annotations

from tocsin.people.models import GroupContact
from tocsin.people.permissions import Viewer


def address(viewer: Viewer, channel: str, address: str, user_id: int | None, contact: GroupContact | None) -> str:
    """Return the address of a notification or delivery to a user or a group contact, as `viewer` may see it."""
    if contact is not None:
        return viewer.group_address(contact.group_id, channel, address)
    return viewer.address(user_id, channel, address)
