"""The registry of all channels and provider kinds. A new one is a class in a module of `channels` or `integrations`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module
from inspect import getmembers, isabstract, isclass
from pkgutil import iter_modules
from typing import Any

from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Text
from tocsin.notify import channels, integrations
from tocsin.notify.interfaces import CHANNELS, Channel, ProviderKind

__all__ = ["BUILT_IN", "CHANNELS", "KINDS", "address_problem", "channel", "quietest_channel"]


def _find(parent: type) -> Iterator[Any]:
    """Yields an object of each class in these two folders that inherits from `parent`."""
    for package in (channels, integrations):
        for entry in iter_modules(package.__path__):
            module = import_module(f"{package.__name__}.{entry.name}")
            for _name, found in getmembers(module, isclass):
                if issubclass(found, parent) and found.__module__ == module.__name__ and not isabstract(found):
                    yield found()


def _quietness(kind: ProviderKind) -> tuple[int, str]:
    return min((CHANNELS[name].quietness for name in kind.channels), default=99), kind.label.lower()


for _channel in sorted(_find(Channel), key=lambda one: (one.quietness, one.name)):
    CHANNELS[_channel.name] = _channel
    settings_store.declare_content(_channel.name, _channel.label)

_ALL_KINDS = sorted(_find(ProviderKind), key=_quietness)

#: Always available.
BUILT_IN: tuple[ProviderKind, ...] = tuple(kind for kind in _ALL_KINDS if kind.is_built_in)

#: By name, those of the quietest channel first.
KINDS: Mapping[str, ProviderKind] = {kind.name: kind for kind in _ALL_KINDS if not kind.is_built_in}


_UNKNOWN_CHANNEL = Text('Unknown channel "{name}". Choose one of: {channels}.')


def channel(name: str) -> Channel:
    """Returns the channel of that name. Raises Rejected("unknown_channel")."""
    try:
        return CHANNELS[name]
    except KeyError:
        reason = _UNKNOWN_CHANNEL(name=name, channels=", ".join(CHANNELS))
        raise Rejected("unknown_channel", reason, "channel") from None


def address_problem(name: str, address: str) -> Reason | None:
    """Returns why `address` is invalid on that channel; None if it is valid."""
    try:
        channel(name).normalize_address(address)
    except Rejected as problem:
        return problem.reason
    return None


def quietest_channel(names: set[str]) -> str:
    """Returns the quietest of the named channels. An unknown channel counts as the loudest."""
    return min(names, key=lambda name: (CHANNELS[name].quietness if name in CHANNELS else 99, name))
