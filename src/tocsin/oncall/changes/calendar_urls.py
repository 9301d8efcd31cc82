"""The addresses of calendars elsewhere. Whoever has one reads the calendar, so it is stored sealed, and its host shown.

The same address is always stored as the same text, until the secret key changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

from tocsin.core.config import secret_urls
from tocsin.people import encrypted_addresses

LONGEST = 2000

#: What is shown of an address that no known key opens.
UNREADABLE = f"https://{secret_urls.HIDDEN}"


def seal(url: str) -> str:
    """The address as it is stored."""
    return encrypted_addresses.seal(urlsplit(url).scheme.lower(), url, longest=4 * LONGEST)


def shown(stored: str) -> str:
    """What anybody may see of a stored address, whoever entered it too."""
    url = encrypted_addresses.in_clear(stored)
    return UNREADABLE if encrypted_addresses.is_sealed(url) else secret_urls.shown(url)


def in_definition(definition: Mapping[str, Any]) -> dict[str, str]:
    """The addresses in a schedule's stored definition, in clear, by the shift's name."""
    return {
        shift["name"]: encrypted_addresses.in_clear(shift["calendar"]["url"])
        for shift in definition.get("shifts", ())
        if "calendar" in shift
    }


def kept(spec: Mapping[str, object], definition: Mapping[str, Any]) -> dict[str, object]:
    """The spec of a schedule with the stored addresses in the place of what was shown of them: that of the same shift,
    or, of a shift with another name, the only one that is shown so."""
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
    """The stored addresses for which `given` may stand."""
    fitting = {key: url for key, url in stored.items() if given == secret_urls.shown(url)}
    yield from [fitting[name]] if name in fitting else fitting.values()
