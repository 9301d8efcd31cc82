"""Addresses in answers: whole for whoever may see them, masked for others. The rules are `people.permissions`'."""

from __future__ import annotations

from tocsin.people.models import GroupContact
from tocsin.people.permissions import Viewer


def address(viewer: Viewer, channel: str, address: str, user_id: int | None, contact: GroupContact | None) -> str:
    """The address of a notification or delivery, to a person or to a group contact."""
    if contact is not None:
        return viewer.group_address(contact.group_id, channel, address)
    return viewer.address(user_id, channel, address)
