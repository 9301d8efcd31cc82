"""Every kind of provider with a server behind it, for the conformance test: a module named after the kind, with the
function `KIND_server`; with `SIGNING` if the vendor calls back, `sms_double` if it takes answers to texts, and
`hotline_double` if it carries calls to a hotline.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from tests.support.provider_servers.interface import HotlineDouble, ProviderServer, Signing, SmsDouble


def _found(name: str) -> dict[str, Any]:
    """What the modules have under a name, by the kind of provider."""
    modules = {entry.name: import_module(f"{__name__}.{entry.name}") for entry in iter_modules(__path__)}
    named = {kind: getattr(module, name.format(kind=kind), None) for kind, module in modules.items()}
    return {kind: found for kind, found in named.items() if found is not None}


PROVIDER_SERVERS: dict[str, Callable[[], AbstractContextManager[ProviderServer]]] = _found("{kind}_server")
SIGNINGS: dict[str, Signing] = _found("SIGNING")
SMS_DOUBLES: dict[str, Callable[[], AbstractContextManager[SmsDouble]]] = _found("sms_double")
HOTLINE_DOUBLES: dict[str, Callable[[], AbstractContextManager[HotlineDouble]]] = _found("hotline_double")
