"""Settings of an outbound integration that are secrets themselves: an address with a token, the values of headers.

They are stored encrypted beside its other secrets; the settings hold what may be shown of them. A shown value that
comes back from a form, a script or a file stands for what is stored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tocsin.core.config import secret_urls
from tocsin.outbound.redaction import MASK

#: Headers whose values are no secrets.
PLAIN_HEADERS = frozenset({"accept", "accept-language", "content-type", "user-agent"})


def shown(name: str, value: Any) -> Any:
    """What may be shown of a hidden setting: an address, or headers by name."""
    if isinstance(value, Mapping):
        return {key: text if key.lower() in PLAIN_HEADERS else MASK for key, text in value.items()}
    return secret_urls.shown(str(value))


def hide(settings: Mapping[str, Any], names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings as they may be shown, and the secrets to store beside them."""
    hidden = {name: settings[name] for name in names if name in settings}
    return (
        {**settings, **{name: shown(name, value) for name, value in hidden.items()}},
        {name: json.dumps(value) for name, value in hidden.items()},
    )


def reveal(
    settings: Mapping[str, Any], secrets: Mapping[str, str], names: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings as they are, and the secrets without those that are settings."""
    hidden = {name: json.loads(secrets[name]) for name in names if name in secrets}
    return {**settings, **hidden}, {name: text for name, text in secrets.items() if name not in hidden}


def kept(
    spec: Mapping[str, object], stored: Mapping[str, Any], names: tuple[str, ...]
) -> tuple[dict[str, object], frozenset[str]]:
    """`spec` with the `stored` settings in the place of what was shown of them, and the names of those that came so."""
    found, as_shown = dict(spec), set[str]()
    for name in names:
        given, known = spec.get(name), stored.get(name)
        if isinstance(given, str) and known and given != known and given == shown(name, known):
            found[name] = known
            as_shown.add(name)
        elif isinstance(given, Mapping) and isinstance(known, Mapping):
            by_name = {key.lower(): text for key, text in known.items()}
            found[name] = {
                key: by_name.get(str(key).lower(), text) if text == MASK else text for key, text in given.items()
            }
            if MASK in given.values():
                as_shown.add(name)
    return found, frozenset(as_shown)
