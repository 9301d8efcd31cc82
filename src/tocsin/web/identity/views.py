"""Single sign-on: the identity providers, and the form of each. For administrators."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_safe

from tocsin.access.roles import Permission
from tocsin.core.errors import Rejected
from tocsin.identity import commands, redirect_uris
from tocsin.identity.models import IdentityProvider
from tocsin.identity.presets import PRESETS, ProviderProtocol
from tocsin.identity.saml import support
from tocsin.resources.registry import IDENTITY_PROVIDERS
from tocsin.web.http.authorization import actor, requires
from tocsin.web.http.objects import find_object
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.identity.forms import (
    IdentityProviderForm,
    MappingFormSet,
    initial_mappings,
    initial_new,
    initial_of,
    mappings_of,
)
from tocsin.web.ui.edit_conflicts import FormSnapshot
from tocsin.web.ui.forms import field_error_text, problems_of, show_rejection
from tocsin.web.ui.object_list import ObjectList

_LIST = ObjectList(
    IDENTITY_PROVIDERS,
    rows_template="identity/rows.html",
    empty_title=gettext_lazy("No identity providers yet"),
    empty_text=gettext_lazy("Users then sign in with the account of your organisation. Add one below."),
    icon="login",
    title=gettext_lazy("Single sign-on"),
    template="identity/list.html",
)


@require_safe
@requires(Permission.ADMINISTER)
def provider_list(request: SignedInRequest) -> HttpResponse:
    """Render every identity provider, and the vendors that can be added."""
    return _LIST.render(
        request,
        _LIST.matching(request),
        lambda page: [(row, PRESETS[row.preset]) for row in page],
        oidc_presets=[preset for preset in PRESETS.values() if preset.issuer_form],
        saml_presets=PRESETS.values() if support.is_installed() else (),
    )


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Permission.ADMINISTER)
def edit(
    request: SignedInRequest, number: int | None = None, preset: str = "", kind: str = ProviderProtocol.OIDC
) -> HttpResponse:
    """Create or edit an identity provider."""
    row = find_object(IDENTITY_PROVIDERS, number) if number is not None else None
    kind = row.kind if row else kind
    vendor = PRESETS.get(row.preset if row else preset)
    if vendor is None:
        raise Http404(_("Unknown provider type."))
    stored_spec = commands.provider_spec(row) if row else {}
    form = IdentityProviderForm(
        request.POST or None,
        preset=vendor,
        kind=kind,
        has_secret=bool(row and row.client_secret),
        initial=initial_of(stored_spec) if row else initial_new(vendor, kind),
    )
    mappings = MappingFormSet(request.POST or None, initial=initial_mappings(stored_spec), prefix="roles")
    snapshot = FormSnapshot.of(request, IDENTITY_PROVIDERS, row)
    if request.method == "POST" and all([form.is_valid(), mappings.is_valid()]):
        spec = form.spec(mappings_of(mappings))
        try:
            with snapshot.unchanged():
                saved = commands.save_provider(spec, existing=row, actor=actor(request), now=request.now)
        except Rejected as rejected:
            _show_errors(form, rejected)
        else:
            messages.success(request, _("%(name)s saved. Test it now.") % {"name": saved.name})
            return redirect("identity_provider", saved.pk)
    failed = form.errors or any(one.errors for one in mappings.forms)
    context = {
        "form": form,
        "mappings": mappings,
        "preset": vendor,
        "provider": row,
        "is_saml": kind == ProviderProtocol.SAML,
        "snapshot": snapshot,
        **(_addresses(row) if row else {}),
    }
    return render_view(request, "identity/edit.html", context, status=422 if failed else 200)


def _addresses(row: IdentityProvider) -> dict[str, Any]:
    """Return the addresses to enter at the provider."""
    if row.kind == ProviderProtocol.SAML:
        return {"acs_url": redirect_uris.redirect_uri(row), "entity_id": redirect_uris.saml_entity_id(row)}
    return {"redirect_uri": redirect_uris.redirect_uri(row), "logout_uri": redirect_uris.logout_uri(row)}


def _show_errors(form: IdentityProviderForm, rejected: Rejected) -> None:
    """Show a problem beside its field; one of a mapping names its place."""
    claims = {f"claims.{name}": f"claim_{name}" for name in ("username", "email", "name", "groups")}
    for problem in problems_of(rejected):
        path = problem.field or ""
        if path.startswith("roles"):
            form.add_error(None, f"{path}: {field_error_text(problem)}")
        elif path.startswith("certificates"):
            form.add_error("certificates", field_error_text(problem))
        else:
            show_rejection(form, problem, claims)
