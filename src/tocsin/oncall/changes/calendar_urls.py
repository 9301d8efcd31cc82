"""The URLs of external calendars. A URL gives access, so it is stored sealed, and only its host is shown.

Equal URLs are stored as equal texts, until the secret key changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from tocsin.core.config import secret_urls
from tocsin.people import encrypted_addresses

LONGEST = 2000

#: Shown for a URL that no known key decrypts.
UNREADABLE = f"https://{secret_urls.HIDDEN}"


def seal(url: str) -> str:
    """Returns the URL as it is stored."""
    return encrypted_addresses.seal(urlsplit(url).scheme.lower(), url, longest=4 * LONGEST)


def mask_urls(stored: str) -> str:
    """Returns the masked form of a stored URL, which is all that anybody sees, including the user who entered it."""
    url = encrypted_addresses.in_clear(stored)
    return UNREADABLE if encrypted_addresses.is_sealed(url) else secret_urls.mask_url(url)


def in_definition(definition: Mapping[str, Any]) -> dict[str, str]:
    """Returns the URLs in a schedule's stored definition, in clear, by the shift's name."""
    return {
        shift["name"]: encrypted_addresses.in_clear(shift["calendar"]["url"])
        for shift in definition.get("shifts", ())
        if "calendar" in shift
    }


def keep_stored_urls(spec: Mapping[str, object], definition: Mapping[str, Any]) -> dict[str, object]:
    """Returns the spec with masked URLs replaced by the stored ones: that of the same shift, or for a renamed shift the
    only one with that masked form."""
    stored, shifts = in_definition(definition), spec.get("shifts")
    if not stored or not isinstance(shifts, list | tuple):
        return dict(spec)
    return {**spec, "shifts": [_kept(shift, stored) for shift in shifts]}


def _kept(shift: object, stored: Mapping[str, str]) -> object:
    calendar = shift.get("calendar") if isinstance(shift, Mapping) else None
    if not isinstance(shift, Mapping) or not isinstance(calendar, Mapping):
        return shift
    found = set(_matching(calendar.get("url"), str(shift.get("name")), stored))
    return {**shift, "calendar": {**calendar, "url": found.pop()}} if len(found) == 1 else shift


def _matching(given: object, name: str, stored: Mapping[str, str]) -> Iterator[str]:
    """Yields the stored URLs that `given` may be the masked form of."""
    fitting = {key: url for key, url in stored.items() if given == secret_urls.mask_url(url)}
    yield from [fitting[name]] if name in fitting else fitting.values()
