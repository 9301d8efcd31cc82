"""Masks URLs whose path or query is a secret, such as a webhook's or a private calendar's, as `https://host/…`.

Pure. The caller that stores such a URL must encrypt it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

#: Replaces everything after the host.
MASK_SUFFIX = "/…"


def mask_url(url: str) -> str:
    """Returns the URL without user, password, path and query, or unchanged if it has none of them."""
    if is_masked(url):
        return url
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK_SUFFIX
    if not (parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc):
        return url
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{MASK_SUFFIX}"


def is_masked(text: str) -> bool:
    """Returns whether `text` is a URL masked by `mask_url`, and so not the URL itself."""
    return text.endswith(MASK_SUFFIX)


def secret_parts(url: str) -> tuple[str, ...]:
    """Returns the secret parts of a URL, longest first. A response or an error may repeat any of them."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return (url,)
    return url, f"{parts.path}?{parts.query}", parts.path, parts.query
