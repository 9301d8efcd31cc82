"""Derives a default name for a push device from the User-Agent. Pure; the user can rename the device."""

from __future__ import annotations

#: Order matters: most browsers also contain the names of others.
_BROWSERS = (
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("FxiOS/", "Firefox"),
    ("Firefox/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Safari/", "Safari"),
)
_PLATFORMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "Chromebook"),
    ("Windows", "Windows"),
    ("Macintosh", "Mac"),
    ("Linux", "Linux"),
)


def device_name(user_agent: str) -> str:
    """Return a name such as "Chrome on Android", or "This device" for an unknown User-Agent."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "")
    platform = next((name for mark, name in _PLATFORMS if mark in user_agent), "")
    if browser and platform:
        return f"{browser} on {platform}"
    return browser or platform or "This device"
