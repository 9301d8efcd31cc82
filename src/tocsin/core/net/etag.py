"""A stamp of what something was: two states have the same one when nothing that counts differs between them.

It is keyed, so that nobody finds out by trying what a secret or a number in the state was.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from django.utils.crypto import salted_hmac


def stamp(state: Mapping[str, object]) -> str:
    """32 hex digits for a state of JSON's values and moments, in whatever order its keys are."""
    text = json.dumps(state, sort_keys=True, default=str)
    return salted_hmac("tocsin.stamp", text, algorithm="sha256").hexdigest()[:32]
