"""The name that a device begins with, from what its browser says of itself. Pure; its person changes it."""

from __future__ import annotations

#: In this order: most browsers claim to be others as well.
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
_PLACES = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "Chromebook"),
    ("Windows", "Windows"),
    ("Macintosh", "Mac"),
    ("Linux", "Linux"),
)


def device_name(user_agent: str) -> str:
    """Such as "Chrome on Android"; "This device" where it says nothing that is known."""
    browser = next((name for mark, name in _BROWSERS if mark in user_agent), "")
    place = next((name for mark, name in _PLACES if mark in user_agent), "")
    if browser and place:
        return f"{browser} on {place}"
    return browser or place or "This device"
