"""Provisioning by SCIM: the address and the token to enter at an identity provider. For administrators."""

from __future__ import annotations

from allauth.account.decorators import reauthentication_required
from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from tocsin.access.roles import Permission
from tocsin.identity.redirect_uris import scim_uri
from tocsin.identity.scim import tokens
from tocsin.resources.registry import IDENTITY_PROVIDERS
from tocsin.web.http.authorization import actor, requires
from tocsin.web.http.objects import find_object
from tocsin.web.http.request import SignedInRequest, render_view

#: Linked users that the page shows.
MAX_LINKS = 100


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ADMINISTER)
@reauthentication_required
def provisioning(request: SignedInRequest, number: int) -> HttpResponse:
    """Render what the provider provisions; create its token, shown once, or revoke it.

    Asks for the password or a second factor again, because a token outlives the session.
    """
    provider = find_object(IDENTITY_PROVIDERS, number)
    secret = ""  # nosec B105 # none yet
    if request.method == "POST":
        if "revoke" in request.POST:
            tokens.turn_off(provider, actor=actor(request), now=request.now)
            messages.success(request, _("%(name)s no longer provisions users.") % {"name": provider.name})
            return redirect("provisioning", provider.pk)
        secret = tokens.rotate(provider, actor=actor(request), now=request.now)
    linked = provider.identities.filter(awaits_approval=False)
    context = {
        "provider": provider,
        "address": scim_uri(),
        "secret": secret,
        "user_count": provider.scim_users.count(),
        "group_count": provider.scim_groups.count(),
        "links": linked.select_related("user").order_by("-signed_in_at")[:MAX_LINKS],
        "link_count": linked.count(),
    }
    return render_view(request, "identity/provisioning.html", context)
