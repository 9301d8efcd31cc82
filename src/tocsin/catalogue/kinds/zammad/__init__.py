"""Zammad signs the body with HMAC-SHA1, in hex."""

from __future__ import annotations

import hashlib
import hmac
from datetime import datetime

from tocsin.catalogue.hooks import Headers


def is_signed(body: bytes, headers: Headers, secret: str, now: datetime) -> bool:
    """Verifies `X-Hub-Signature`: "sha1=" followed by the hex HMAC-SHA1 of the body."""
    signature = headers.get("x-hub-signature", "").removeprefix("sha1=").lower()
    return hmac.compare_digest(hmac.new(secret.encode(), body, hashlib.sha1).hexdigest().encode(), signature.encode())
