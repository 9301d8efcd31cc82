"""Whether the packages of the extra `tocsin[saml]` are installed."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec


@cache
def is_installed() -> bool:
    """Returns whether SAML can be used on this node."""
    return find_spec("onelogin") is not None and find_spec("xmlsec") is not None
