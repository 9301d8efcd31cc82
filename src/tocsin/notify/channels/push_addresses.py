"""The address of a contact method that reaches all devices of a user: `devices:` and a random word. Pure.

It cannot be guessed and says nothing about the user, so that no user's pages can reach another user's devices.
"""

from __future__ import annotations

import base64
import re

PREFIX = "devices:"
_ADDRESS = re.compile(r"devices:[a-z2-7]{20}")


def is_devices(address: str) -> bool:
    """Returns whether it is the address of a user's devices."""
    return _ADDRESS.fullmatch(address) is not None


def new_address(random: bytes) -> str:
    """Returns an address made from at least 13 random bytes."""
    return PREFIX + base64.b32encode(random).decode().lower()[:20]
