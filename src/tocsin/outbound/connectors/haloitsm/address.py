"""Normalizes HaloITSM addresses in every form in which users paste them. Pure."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.core.validation.field_errors import AT_PATH

_INVALID_ADDRESS = ReasonType("halo.invalid_address", "must be your Halo URL, such as https://acme.haloitsm.com")

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?|\[[0-9a-f:.]+\](:\d{1,5})?", re.IGNORECASE)
#: Path parts that come along when the address is copied from the browser or from Halo's API page.
_TAILS = re.compile(
    r"/(api|auth|ticket|tickets|agent|portal|config|home|login|token|swagger|apidoc)(/.*)?$", re.IGNORECASE
)


def clean_address(text: str) -> tuple[str, str]:
    """Returns the base address and the tenant it names, or "".

    `acme.haloitsm.com/api/`, `https://acme.haloitsm.com/auth/token?tenant=acme` and
    `https://acme.haloitsm.com/tickets?…` all become https://acme.haloitsm.com. Raises Rejected("invalid") for an
    invalid address.
    """
    cleaned = text.strip().strip("<>\"'")
    parts = urlsplit(cleaned if "://" in cleaned else f"https://{cleaned}")
    if parts.scheme.lower() not in ("http", "https") or not _HOST.fullmatch(parts.netloc):
        raise Rejected("invalid", AT_PATH(path="base_url", problem=_INVALID_ADDRESS()), "base_url")
    path = _TAILS.sub("", parts.path.rstrip("/")).rstrip("/")
    tenant = parse_qs(parts.query).get("tenant", [""])[0]
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}{path}", tenant
