"""Settings of an outbound integration that contain secrets: a URL with a token, header values.

They are stored encrypted with the other secrets; the settings hold only a masked form. A masked value submitted by a
form, script or file keeps the stored value.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from tocsin.core.config import secret_urls
from tocsin.outbound.redaction import MASK

#: Headers whose values are not secret.
PLAIN_HEADERS = frozenset({"accept", "accept-language", "content-type", "user-agent"})


def mask_settings(name: str, value: Any) -> Any:
    """The masked form of a hidden setting: a URL, or headers by name."""
    if isinstance(value, Mapping):
        return {key: text if key.lower() in PLAIN_HEADERS else MASK for key, text in value.items()}
    return secret_urls.mask_url(str(value))


def hide(settings: Mapping[str, Any], names: tuple[str, ...]) -> tuple[dict[str, Any], dict[str, str]]:
    """The settings in masked form, and the secrets to store with them."""
    hidden = {name: settings[name] for name in names if name in settings}
    return (
        {**settings, **{name: mask_settings(name, value) for name, value in hidden.items()}},
        {name: json.dumps(value) for name, value in hidden.items()},
    )


def reveal(
    settings: Mapping[str, Any], secrets: Mapping[str, str], names: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, str]]:
    """The complete settings, and the secrets without those that are settings."""
    hidden = {name: json.loads(secrets[name]) for name in names if name in secrets}
    return {**settings, **hidden}, {name: text for name, text in secrets.items() if name not in hidden}


def keep_stored(
    spec: Mapping[str, object], stored: Mapping[str, Any], names: tuple[str, ...]
) -> tuple[dict[str, object], frozenset[str]]:
    """`spec` with masked values replaced by the `stored` ones, and the names of the replaced settings."""
    merged, masked = dict(spec), set[str]()
    for name in names:
        submitted, stored_value = spec.get(name), stored.get(name)
        if (
            isinstance(submitted, str)
            and stored_value
            and submitted != stored_value
            and submitted == mask_settings(name, stored_value)
        ):
            merged[name] = stored_value
            masked.add(name)
        elif isinstance(submitted, Mapping) and isinstance(stored_value, Mapping):
            by_name = {key.lower(): text for key, text in stored_value.items()}
            merged[name] = {
                key: by_name.get(str(key).lower(), text) if text == MASK else text for key, text in submitted.items()
            }
            if MASK in submitted.values():
                masked.add(name)
    return merged, frozenset(masked)
