"""Netdata Cloud asks by a GET with `crc_token` whether a webhook URL belongs to its user.

The answer is an HMAC with the challenge secret that the guide names. It proves only the setup: the URL is the secret.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import Final

import msgspec

from tocsin.catalogue.hooks import Fetch, Headers, Payload, SenderReply

_CHALLENGE_SECRET: Final = b"tocsin"


def handshake(payload: Payload, headers: Headers, fetch: Fetch) -> SenderReply | None:
    """Answers Netdata's challenge."""
    token = payload.get("crc_token")
    if not isinstance(token, str):
        return None
    digest = hmac.new(_CHALLENGE_SECRET, token.encode(), hashlib.sha256).digest()
    return SenderReply(200, msgspec.json.encode({"response_token": "sha256=" + base64.b64encode(digest).decode()}))
