"""Sign-in by identity providers."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from allauth.account.internal.flows.login import perform_login, record_authentication
from allauth.account.models import Login
from allauth.socialaccount.internal import statekit
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.core.cache import cache
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect, JsonResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission
from tocsin.core.errors import Rejected
from tocsin.core.reasons import reason_as_json, reason_from_json
from tocsin.identity import oidc, reasons, saml, sign_in
from tocsin.identity.commands import claim_names
from tocsin.identity.models import IdentityProvider, ProviderProtocol, redirect_uri, saml_entity_id
from tocsin.identity.oidc import PendingSignIn
from tocsin.identity.role_mapping import VerifiedAnswer, read_claims, shown
from tocsin.identity.saml import own_metadata
from tocsin.identity.sign_in import SignInRequest
from tocsin.people import permissions
from tocsin.web.accounts.adapter import AccountAdapter
from tocsin.web.accounts.session_store import SignInSource, remember_source
from tocsin.web.http.request import address_of, local_url, moment_of, render_view

# ---------- single sign on
# Sign-in by an identity provider: begins it, and receives the answer of an OpenID provider (of SAML: `saml`).
#
# The state of a sign-in, PKCE and the stages that follow, such as a second factor, are django-allauth's. Its
# `openid_connect` is not used: it checks neither signature nor nonce of a token that it fetched itself.

#: How long the session of a browser that has not signed in remembers a sign-in; longer than its state is valid.
_PENDING = timedelta(minutes=15)


@login_not_required
@never_cache
@require_safe
def begin(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Send the browser to the provider. With `test`, for administrators, nobody is signed in at the end."""
    pending, challenge = oidc.new_pending()

    def url_of(provider: IdentityProvider, state_id: str) -> str:
        return oidc.authorization_url(
            provider,
            redirect_uri=redirect_uri(provider),
            state=state_id,
            nonce=pending.nonce,
            challenge=challenge,
            now=moment_of(request),
        )

    return begin_sign_in(request, slug, ProviderProtocol.OIDC, asdict(pending), url_of)


@login_not_required
@never_cache
@require_safe
def callback(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Check the provider's answer, and sign the user in; or show what the answer of a test would become."""
    provider = find_provider(slug, ProviderProtocol.OIDC, is_test=True)
    state = statekit.unstash_state(request, state_id=request.GET.get("state", ""), provider_id=provider.slug)
    if state is None:
        return failed(request, provider, Rejected("invalid_answer", reasons.STATE_UNKNOWN()))
    pending = PendingSignIn(state["nonce"], state["code_verifier"])
    try:
        answer = oidc.receive(
            provider, request.GET.dict(), pending, redirect_uri=redirect_uri(provider), now=moment_of(request)
        )
    except Rejected as rejected:
        return failed(request, provider, rejected, is_test=state["test"], next_url=state["next"])
    return finish(request, provider, answer, is_test=state["test"], next_url=state["next"])


@csrf_exempt
@login_not_required
@never_cache
@require_POST
def backchannel_logout(request: HttpRequest, slug: str) -> HttpResponse:
    """End the sessions that the provider's logout token names (OpenID Connect Back-Channel Logout 1.0)."""
    provider = find_provider(slug, ProviderProtocol.OIDC, is_test=False)
    try:
        ended = oidc.receive_logout(provider, request.POST.get("logout_token", ""), now=moment_of(request))
    except Rejected as rejected:
        description = {"error": "invalid_request", "error_description": rejected.detail}
        return JsonResponse(description, status=503 if rejected.code == "unreachable" else 400)
    return HttpResponse(status=200, content=str(ended), content_type="text/plain")


def begin_sign_in(
    request: HttpRequest,
    slug: str,
    kind: ProviderProtocol,
    pending: dict[str, Any],
    url_of: Callable[[IdentityProvider, str], str],
) -> HttpResponseBase:
    """Remember in the session what has begun, and send the browser to the URL at the provider for that state."""
    is_test = "test" in request.GET
    provider = find_provider(slug, kind, is_test=is_test)
    if is_test:
        _require_administrator(request)
    next_url = local_url(request.GET.get("next", ""), "")
    if not request.user.is_authenticated:
        request.session.set_expiry(int(_PENDING.total_seconds()))
    state = {**pending, "next": next_url, "test": is_test}
    state_id = statekit.stash_state(request, provider_id=provider.slug, state=state)
    try:
        url = url_of(provider, state_id)
    except Rejected as rejected:
        return failed(request, provider, rejected, is_test=is_test, next_url=next_url)
    return HttpResponseRedirect(url)


def finish(
    request: HttpRequest, provider: IdentityProvider, answer: VerifiedAnswer, *, is_test: bool, next_url: str
) -> HttpResponseBase:
    """Sign the user of a checked answer in, or show what it would become."""
    if is_test:
        return _show_test(request, provider, answer)
    if not provider.is_enabled:
        raise Http404
    attempt = SignInRequest(provider, answer.claims, moment_of(request), address_of(request))
    try:
        user = sign_in.complete(attempt)
    except Rejected as rejected:
        return failed(request, provider, rejected, next_url=next_url)
    if request.user.is_authenticated:
        AccountAdapter(request).logout(request)
    claims = sign_in.deciding_claims(answer.claims)
    remember_source(request, SignInSource(provider.pk, answer.claims.subject, answer.sid, claims))
    record_authentication(request, user, "socialaccount", provider=provider.slug, uid=answer.claims.subject)
    response: HttpResponse = perform_login(request, Login(user=user, redirect_url=next_url or None))
    return response


def failed(
    request: HttpRequest, provider: IdentityProvider, rejected: Rejected, *, is_test: bool = False, next_url: str = ""
) -> HttpResponseBase:
    """Show why a sign-in failed: on the sign-in page, where the other providers are, or to the tester."""
    if is_test:
        _require_administrator(request)
        context = {"provider": provider, "problem": rejected.reason.localized(), "field": rejected.field}
        return render_view(request, "identity/test.html", context)
    sign_in.record_failure(provider, rejected, address=address_of(request), now=moment_of(request))
    messages.error(request, rejected.reason.localized())
    query = f"?{urlencode({'next': next_url})}" if next_url else ""
    return redirect(f"{reverse('account_login')}{query}")


def _show_test(request: HttpRequest, provider: IdentityProvider, answer: VerifiedAnswer) -> HttpResponse:
    _require_administrator(request)
    decision = sign_in.preview(provider, answer.claims)
    context: dict[str, Any] = {
        "provider": provider,
        "claims": shown(answer.raw),
        "decision": decision,
        "outcome": decision.reason.localized(),
        "consequences": [
            reason.localized()
            for reason in (decision.role_reason, *sign_in.describe_memberships(decision.memberships), decision.warning)
            if reason
        ],
    }
    return render_view(request, "identity/test.html", context)


def find_provider(slug: str, kind: ProviderProtocol, *, is_test: bool) -> IdentityProvider:
    """Return the provider. A disabled one can only be tested."""
    provider = IdentityProvider.objects.filter(slug=slug, kind=kind).first()
    if provider is None or not (provider.is_enabled or is_test):
        raise Http404
    return provider


def _require_administrator(request: HttpRequest) -> None:
    user = request.user
    if not user.is_authenticated or not permissions.viewer(user, None).may(Permission.ADMINISTER):
        raise PermissionDenied


# ---------- saml
# Sign-in by SAML: Tocsin's metadata, the request, and the provider's response.
#
# A response is a POST from another site, with which browsers send no session cookie (`SameSite=Lax`). So it is
# checked, kept for a minute under a random ticket, and the browser is redirected here with the ticket: that request
# has the cookie, and with it the request that the response must answer.

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
def begin_saml(request: HttpRequest, slug: str) -> HttpResponseBase:
    """Send the browser to the provider. With `test`, for administrators, nobody is signed in at the end."""
    request_id = saml.new_request_id()

    def url_of(provider: IdentityProvider, state_id: str) -> str:
        return saml.request_url(provider, request_id=request_id, relay_state=state_id, now=moment_of(request))

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
        issuer, assertion = saml.receive(provider, request.POST.get("SAMLResponse", ""), now=moment_of(request))
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
