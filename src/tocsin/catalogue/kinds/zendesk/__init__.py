"""Zendesk signs timestamp and body together: base64 HMAC-SHA256, in two headers of its own."""

from __future__ import annotations

import base64
import hashlib
import hmac
from datetime import datetime

from tocsin.catalogue.hooks import Headers


def is_signed(body: bytes, headers: Headers, secret: str, now: datetime) -> bool:
    """Verifies `X-Zendesk-Webhook-Signature` over the timestamp header followed by the body."""
    signature = headers.get("x-zendesk-webhook-signature", "")
    timestamp = headers.get("x-zendesk-webhook-signature-timestamp", "")
    digest = hmac.new(secret.encode(), timestamp.encode() + body, hashlib.sha256).digest()
    return hmac.compare_digest(base64.b64encode(digest), signature.encode())
