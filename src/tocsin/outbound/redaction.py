"""Removes secrets from recorded requests, responses and reasons. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tocsin.core.config import crypto
from tocsin.core.reasons import Param, Reason

MASK = "•••"

#: Names of values that are always secret.
_NAMES = (
    r"access_token|refresh_token|id_token|client_secret|client_assertion|password|basic_password|secret|api_key|apikey|"
    r"authorization|token"
)

_JSON = re.compile(rf'("(?:{_NAMES})"\s*:\s*)"(?:[^"\\]|\\.)*"', re.IGNORECASE)
_FORM = re.compile(rf"(?<![\w-])((?:{_NAMES})=)[^&\s\"]+", re.IGNORECASE)
#: The token in an inbound integration's webhook URL.
_WEBHOOK_TOKEN = re.compile(r"(/in/)[A-Za-z0-9_-]{16,}")


def mask_text(text: str) -> str:
    """`text` with the values of secret names and the tokens of webhook URLs masked."""
    text = _JSON.sub(rf'\1"{MASK}"', text)
    return _WEBHOOK_TOKEN.sub(rf"\1{MASK}", _FORM.sub(rf"\1{MASK}", text))


def mask_reason(reason: Reason, mask: Callable[[str], str]) -> Reason:
    """The reason with `mask` applied to every text in it: a text may be the remote system's."""
    return Reason(reason.code, tuple((name, _mask_param(value, mask)) for name, value in reason.params))


def _mask_param(value: Param, mask: Callable[[str], str]) -> Param:
    match value:
        case str():
            return mask(value)
        case Reason():
            return mask_reason(value, mask)
        case tuple():
            return tuple(_mask_param(one, mask) for one in value)
        case _:
            return value


def mask_url(url: str) -> str:
    """A URL without user, password and secret parameters."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return mask_text(urlunsplit((parts.scheme, host, parts.path, parts.query, "")))[:2000]


# ---------- hidden settings
# Settings of an outbound integration that contain secrets: a URL with a token, header values.
#
# They are stored encrypted with the other secrets; the settings hold only a masked form. A masked value submitted by a
# form, script or file keeps the stored value.


#: Headers whose values are not secret.
PLAIN_HEADERS = frozenset({"accept", "accept-language", "content-type", "user-agent"})


def mask_settings(name: str, value: Any) -> Any:
    """The masked form of a hidden setting: a URL, or headers by name."""
    if isinstance(value, Mapping):
        return {key: text if key.lower() in PLAIN_HEADERS else MASK for key, text in value.items()}
    return crypto.mask_url(str(value))


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
