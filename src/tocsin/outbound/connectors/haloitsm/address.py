"""HaloITSM's address in any form in which people paste it. Pure."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from tocsin.core.errors import Rejected

_HOST = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?|\[[0-9a-f:.]+\](:\d{1,5})?", re.IGNORECASE)
#: What stands behind the host when somebody copies from the browser's bar or from Halo's own API page.
_TAILS = re.compile(
    r"/(api|auth|ticket|tickets|agent|portal|config|home|login|token|swagger|apidoc)(/.*)?$", re.IGNORECASE
)


def clean_address(text: str) -> tuple[str, str]:
    """The address without what does not belong to it, and the tenant that it names, if it names one.

    `acme.haloitsm.com/api/`, `https://acme.haloitsm.com/auth/token?tenant=acme` and `https://acme.haloitsm.com/tickets?…`
    are all https://acme.haloitsm.com. Raises Rejected for what is no address.
    """
    given = text.strip().strip("<>\"'")
    parts = urlsplit(given if "://" in given else f"https://{given}")
    if parts.scheme.lower() not in ("http", "https") or not _HOST.fullmatch(parts.netloc):
        raise Rejected("invalid", "base_url: must be Halo's address, such as https://acme.haloitsm.com", "base_url")
    path = _TAILS.sub("", parts.path.rstrip("/")).rstrip("/")
    tenant = parse_qs(parts.query).get("tenant", [""])[0]
    return f"{parts.scheme.lower()}://{parts.netloc.lower()}{path}", tenant
