"""Several secrets under names, as one encrypted token: what a provider or an outbound integration must know."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tocsin.core.config import crypto


def sealed(secrets: Mapping[str, str]) -> str:
    """The token that is stored of them; empty for none."""
    return crypto.encrypt(json.dumps(dict(secrets))) if secrets else ""


def opened(token: str) -> dict[str, str]:
    """The secrets by name, from the stored token. Raises Permanent when no known key fits."""
    return dict(json.loads(crypto.decrypt(token))) if token else {}


def readable(token: str) -> dict[str, str]:
    """The same; none of them where no known key fits: they are entered again."""
    text = crypto.readable(token) if token else None
    return {} if text is None else dict(json.loads(text))
