"""Named secrets stored as one encrypted token, such as a provider's or outbound integration's credentials."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tocsin.core.config import crypto


def encrypt_bundle(secrets: Mapping[str, str]) -> str:
    """Returns the encrypted token for `secrets`; empty if there are none."""
    return crypto.encrypt(json.dumps(dict(secrets))) if secrets else ""


def decrypt_bundle(token: str) -> dict[str, str]:
    """Returns the secrets by name. Raises Permanent if no known key fits."""
    return dict(json.loads(crypto.decrypt(token))) if token else {}


def decrypt_bundle_or_empty(token: str) -> dict[str, str]:
    """Returns the secrets by name, or none if no known key fits, so that they must be entered again."""
    text = crypto.decrypt_or_none(token) if token else None
    return {} if text is None else dict(json.loads(text))
