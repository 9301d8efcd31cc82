"""The URLs of external calendars. A URL gives access, so it is stored sealed, and only its host is shown.

Equal URLs are stored as equal texts, until the secret key changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from tocsin.core.config import secret_urls
from tocsin.people import encrypted_addresses

MAX_URL_LENGTH = 2000

#: Shown for a URL that no known key decrypts.
UNREADABLE = f"https://{secret_urls.MASK_SUFFIX}"


def seal(url: str) -> str:
    """Returns the URL as it is stored."""
    return encrypted_addresses.encrypt_address(urlsplit(url).scheme.lower(), url, max_bytes=4 * MAX_URL_LENGTH)


def mask_urls(stored: str) -> str:
    """Returns the masked form of a stored URL, which is all that anybody sees, including the user who entered it."""
    url = encrypted_addresses.decrypt_if_encrypted(stored)
    return UNREADABLE if encrypted_addresses.is_encrypted(url) else secret_urls.mask_url(url)


def in_definition(definition: Mapping[str, Any]) -> dict[str, str]:
    """Returns the URLs in a schedule's stored definition, in clear, by the shift's name."""
    return {
        shift["name"]: encrypted_addresses.decrypt_if_encrypted(shift["calendar"]["url"])
        for shift in definition.get("shifts", ())
        if "calendar" in shift
    }


def restore_masked_urls(spec: Mapping[str, object], definition: Mapping[str, Any]) -> dict[str, object]:
    """Returns the spec with masked URLs replaced by the stored ones: that of the same shift, or for a renamed shift the
    only one with that masked form."""
    stored, shifts = in_definition(definition), spec.get("shifts")
    if not stored or not isinstance(shifts, list | tuple):
        return dict(spec)
    return {**spec, "shifts": [_restore_url(shift, stored) for shift in shifts]}


def _restore_url(shift: object, stored: Mapping[str, str]) -> object:
    calendar = shift.get("calendar") if isinstance(shift, Mapping) else None
    if not isinstance(shift, Mapping) or not isinstance(calendar, Mapping):
        return shift
    urls = set(_matching(calendar.get("url"), str(shift.get("name")), stored))
    return {**shift, "calendar": {**calendar, "url": urls.pop()}} if len(urls) == 1 else shift


def _matching(masked_url: object, name: str, stored: Mapping[str, str]) -> Iterator[str]:
    """Yields the stored URLs that `masked_url` may be the masked form of."""
    matches = {key: url for key, url in stored.items() if masked_url == secret_urls.mask_url(url)}
    yield from [matches[name]] if name in matches else matches.values()
