"""Back-channel logout: a provider ends the sessions of a user, or one of them."""

from __future__ import annotations

import hashlib
from datetime import datetime

from django.core.cache import cache

from tocsin.access import audit
from tocsin.access.audit import AuditActor
from tocsin.core.errors import Rejected
from tocsin.identity import browser_sessions, reasons
from tocsin.identity.models import BrowserSession, IdentityProvider
from tocsin.identity.oidc.authorization import client_of
from tocsin.identity.oidc.tokens import MAX_LOGOUT_AGE, Expected, verify_logout_token
from tocsin.identity.sign_in import VIA


def receive_logout(provider: IdentityProvider, token: str, *, now: datetime) -> int:
    """Ends the sessions that a logout token names, and returns their number. Raises Rejected for a token that is not
    the provider's, or was used before."""
    expected = Expected(provider.issuer, provider.client_id, now)
    with client_of(provider, now) as client:
        claims = client.verified(lambda keys: verify_logout_token(token, keys, expected))
    digest = hashlib.sha256(f"{provider.pk} {claims['jti']}".encode()).hexdigest()
    if not cache.add(f"logout {digest}", True, 2 * MAX_LOGOUT_AGE.total_seconds()):
        raise Rejected("replayed", reasons.REPLAYED())
    named = {name: claims[claim] for name, claim in (("sid", "sid"), ("subject", "sub")) if claims.get(claim)}
    ended = browser_sessions.end(BrowserSession.objects.filter(provider=provider, **named))
    audit.record(
        AuditActor(None, provider.name, VIA),
        "backchannel_logout",
        now=now,
        object_type="identity_provider",
        object_id=provider.pk,
        object_name=provider.name,
        after={"subject": named.get("subject", ""), "sessions": ended},
    )
    return ended
