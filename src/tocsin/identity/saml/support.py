"""Whether the packages for SAML are installed, which come with the extra `tocsin[saml]`."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tocsin.core.errors import Rejected
from tocsin.identity import reasons


def is_installed() -> bool:
    """Returns whether SAML can be used."""
    return find_spec("xmlsec") is not None and find_spec("lxml") is not None


def signatures() -> Any:
    """Returns the module `signature`, which needs those packages and loads them at its first use. Raises Rejected."""
    if not is_installed():
        raise Rejected("not_installed", reasons.SAML_NOT_INSTALLED(), "kind")
    return import_module("tocsin.identity.saml.signature")
