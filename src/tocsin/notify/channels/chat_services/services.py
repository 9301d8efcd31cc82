"""Which addresses name a chat or push service that Tocsin speaks to through apprise, and which of those it refuses.

An address is apprise's URL (`gotify://host/token`) or what the service itself gives (`https://hooks.slack.com/…`). Only
services over HTTP are taken: what starts programs, opens sockets of its own or reads files here is refused.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from tocsin.core.errors import Rejected

if TYPE_CHECKING:
    import apprise

#: Refused although part of what they do is HTTP: they read key files here, or open sockets of their own.
_DENIED = frozenset({"fcm", "nostr", "vapid"})

#: What a URL could ask to be read from this machine's disk, or fetched and sent along.
_FILES = ("template", "keyfile", "subfile", "keystore", "attach", "include", "path", "cert")

_NOT_KNOWN = "is not the address of a chat or push service that is known here; see the documentation for examples."


@dataclass(frozen=True, slots=True)
class Service:
    """A service that an address leads to."""

    scheme: str
    label: str


def service(url: str) -> Service:
    """The service that `url` leads to. Raises Rejected("invalid_address") without repeating the URL, a secret."""
    return _named(opened(url))


def opened(url: str) -> Any:
    """apprise's own object for `url`, ready to send. Raises Rejected as `service` does."""
    parts = _parts(url)
    if parts.scheme in _DENIED:
        raise _refused(f"{parts.scheme}:// cannot be used here: it needs more than HTTP, or files of this machine.")
    for key, _value in parse_qsl(parts.query, keep_blank_values=True):
        if key.lower().startswith(_FILES):
            raise _refused(f'An address with "{key[:30]}" cannot be used here: it would read files of this machine.')
    plugin = _instance(url)
    if plugin is None:
        raise _refused(f"This {_NOT_KNOWN}")
    if not _is_over_http(plugin):
        raise _refused(f"{parts.scheme}:// cannot be used here: it needs more than HTTP.")
    return plugin


def _named(plugin: Any) -> Service:
    own = sorted(plugin.schemas(), key=lambda name: (len(name), name))
    return Service(own[0], str(plugin.service_name).strip() or own[0])


def _parts(url: str) -> Any:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise _refused(f"This {_NOT_KNOWN}") from None
    if not parts.scheme or not url.isprintable() or " " in url:
        raise _refused(f"This {_NOT_KNOWN}")
    return parts


def _instance(url: str) -> Any:
    # Loaded where somebody uses it: 20 MB and a second that most installations never need.
    import apprise

    try:
        return apprise.Apprise.instantiate(url, asset=_asset(), suppress_exceptions=True)
    except (ValueError, TypeError, AttributeError, KeyError, IndexError):
        # A plug-in that trips over what it was given; the address is no good either way.
        return None


@cache
def _asset() -> apprise.AppriseAsset:
    import logging

    import apprise

    # apprise writes to its own log what servers answer; what matters comes back as an error here.
    logging.getLogger("apprise").setLevel(logging.CRITICAL)
    return apprise.AppriseAsset(
        app_id="Tocsin",
        app_desc="Tocsin",
        app_url="",
        # No pictures from elsewhere, no redirect, nothing on disk, and no plug-ins but its own.
        image_url_mask="",
        image_url_logo="",
        http_redirects=False,
        storage_mode="memory",
        secure_logging=True,
    )


def _is_over_http(plugin: Any) -> bool:
    """Whether every request it makes is the `requests` library's, which `carriage` takes over."""
    import requests

    modules = [sys.modules[kind.__module__] for kind in type(plugin).__mro__ if kind.__module__ in sys.modules]
    return any(getattr(module, "requests", None) is requests for module in modules)


def _refused(sentence: str) -> Rejected:
    return Rejected("invalid_address", sentence)
