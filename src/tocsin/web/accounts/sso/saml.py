"""Sign-in by SAML: Tocsin's metadata, the request, and the provider's response.

A response is a POST from another site, with which browsers send no session cookie (`SameSite=Lax`). So it is checked,
kept for a minute under a random ticket, and the browser is redirected here with the ticket: that request has the
cookie, and with it the request that the response must answer.
"""

from __future__ import annotations

import secrets
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from allauth.socialaccount.internal import statekit
from django.contrib.auth.decorators import login_not_required
from django.core.cache import cache
from django.http import HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_safe

from tocsin.core.errors import Rejected
from tocsin.core.reasons import reason_as_json, reason_from_json
from tocsin.identity import reasons
from tocsin.identity.claims import VerifiedAnswer, read_claims
from tocsin.identity.commands import claim_names
from tocsin.identity.models import IdentityProvider
from tocsin.identity.presets import ProviderProtocol
from tocsin.identity.redirect_uris import redirect_uri, saml_entity_id
from tocsin.identity.saml import exchange
from tocsin.identity.saml.metadata import own_metadata
from tocsin.web.accounts.sso.single_sign_on import begin_sign_in, failed, find_provider, finish
from tocsin.web.http.request import moment_of

_TICKET_LIFETIME = timedelta(minutes=1)


@login_not_required
@require_safe
def metadata(request: HttpRequest, slug: str) -> HttpResponse:
    """Render Tocsin's metadata, for the provider."""
    provider = find_provider(slug, ProviderProtocol.SAML, is_test=True)
    xml = own_metadata(entity_id=saml_entity_id(provider), acs_url=redirect_uri(provider))
    return HttpResponse(xml, content_type="application/samlmetadata+xml")


@login_not_required
@never_cache
@require_safe
def begin(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Send the browser to the provider. With `test`, for administrators, nobody is signed in at the end."""
    request_id = exchange.new_request_id()

    def url_of(provider: IdentityProvider, state_id: str) -> str:
        return exchange.request_url(provider, request_id=request_id, relay_state=state_id, now=moment_of(request))

    return begin_sign_in(request, slug, ProviderProtocol.SAML, {"request_id": request_id}, url_of)


@csrf_exempt
@login_not_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def acs(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Check the provider's response; then, in a request with the session, sign the user in or show what a test
    found."""
    provider = find_provider(slug, ProviderProtocol.SAML, is_test=True)
    if request.method != "POST":
        return _finish(request, provider)
    content: dict[str, Any] = {"provider": provider.pk, "relay_state": request.POST.get("RelayState", "")[:200]}
    try:
        issuer, assertion = exchange.receive(provider, request.POST.get("SAMLResponse", ""), now=moment_of(request))
    except Rejected as rejected:
        content["rejected"] = [rejected.code, reason_as_json(rejected.reason), rejected.field]
    else:
        content |= {
            "issuer": issuer,
            "subject": assertion.subject,
            "attributes": assertion.attributes,
            "sid": assertion.session_index,
            "request_id": assertion.in_response_to,
        }
    ticket = secrets.token_urlsafe(32)
    cache.set(_key(ticket), content, _TICKET_LIFETIME.total_seconds())
    return HttpResponseRedirect(f"{request.path}?{urlencode({'ticket': ticket})}")


def _finish(request: HttpRequest, provider: IdentityProvider) -> HttpResponseBase:
    key = _key(request.GET.get("ticket", ""))
    content = cache.get(key)
    if content is None or content["provider"] != provider.pk or not cache.delete(key):
        return failed(request, provider, Rejected("invalid_answer", reasons.STATE_UNKNOWN()))
    # The state is only a key of the session: it never leads anywhere.
    state = statekit.unstash_state(request, state_id=content["relay_state"], provider_id=provider.slug)
    is_test, next_url = (state["test"], state["next"]) if state else (False, "")
    if "rejected" in content:
        code, reason, field = content["rejected"]
        rejected = Rejected(code, reason_from_json(reason), field)
        return failed(request, provider, rejected, is_test=is_test, next_url=next_url)
    # Without a request, the sign-in began at the provider, which is allowed if the response came this far.
    if content["request_id"] and (state is None or state["request_id"] != content["request_id"]):
        rejected = Rejected("invalid_answer", reasons.STATE_UNKNOWN() if state is None else reasons.WRONG_NONCE())
        return failed(request, provider, rejected, is_test=is_test, next_url=next_url)
    raw = content["attributes"]
    claims = read_claims(raw, claim_names(provider), issuer=content["issuer"], subject=content["subject"])
    answer = VerifiedAnswer(claims, raw, content["sid"])
    return finish(request, provider, answer, is_test=is_test, next_url=next_url)


def _key(ticket: str) -> str:
    return f"saml ticket {ticket}"
