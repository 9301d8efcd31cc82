"""Addresses whose path or query is a secret, such as a webhook's or a private calendar's: shown as `https://host/…`.

Pure: what stores one encrypts it, and what shows one shows this.
"""

from __future__ import annotations

from urllib.parse import urlsplit

#: What stands in the place of all that comes after the host.
HIDDEN = "/…"


def shown(url: str) -> str:
    """The address without user, password, path and query; as it is where it has none of them."""
    if is_shown(url):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return HIDDEN
    if not (parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc):
        return url
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{HIDDEN}"


def is_shown(text: str) -> bool:
    """Whether it is what `shown` made of some address, so not the address itself."""
    return text.endswith(HIDDEN)


def secret_parts(url: str) -> tuple[str, ...]:
    """What of an address is secret, longest first: an answer or an error may repeat any of it."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return (url,)
    return url, f"{parts.path}?{parts.query}", parts.path, parts.query
