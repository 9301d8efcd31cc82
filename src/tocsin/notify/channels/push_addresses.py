"""The address of a contact method that reaches all of somebody's devices: `devices:` and a random word. Pure.

It says nothing about the person and cannot be guessed, so that nobody's pages reach another's devices.
"""

from __future__ import annotations

import base64
import re

PREFIX = "devices:"
_ADDRESS = re.compile(r"devices:[a-z2-7]{20}")


def is_devices(address: str) -> bool:
    """Whether it is the address of somebody's devices."""
    return _ADDRESS.fullmatch(address) is not None


def made(random: bytes) -> str:
    """The address made of at least 13 random bytes."""
    return PREFIX + base64.b32encode(random).decode().lower()[:20]
