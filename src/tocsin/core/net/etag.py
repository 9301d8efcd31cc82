"""A fingerprint of an object's state: two states have the same stamp if no relevant value differs.

It is keyed, so that a secret or a number in the state cannot be found by trial.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from django.utils.crypto import salted_hmac


def make_etag(state: Mapping[str, object]) -> str:
    """Returns 32 hex digits for a state of JSON values and datetimes. The order of its keys does not matter."""
    text = json.dumps(state, sort_keys=True, default=str)
    return salted_hmac("tocsin.stamp", text, algorithm="sha256").hexdigest()[:32]
