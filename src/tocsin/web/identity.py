"""Single sign-on: the identity providers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from allauth.account.decorators import reauthentication_required
from django import forms
from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from tocsin.access.roles import Permission, Role
from tocsin.core.errors import Rejected
from tocsin.core.reasons import local_term
from tocsin.identity import commands, models, saml
from tocsin.identity.models import PRESETS, IdentityProvider, LinkedIdentity, Preset, ProviderProtocol, scim_uri
from tocsin.identity.scim import documents
from tocsin.people.models import Group
from tocsin.resources.registry import IDENTITY_PROVIDERS
from tocsin.web.http.request import SignedInRequest, actor, find_object, find_row, may, render_view, reporting, requires
from tocsin.web.ui.confirm_delete import ObjectPage
from tocsin.web.ui.forms import ROLES, CodeField, SpecForm, field_error_text, problems_of, show_rejection
from tocsin.web.ui.object_list import ObjectList

# ---------- forms
# The form of an identity provider, and a row for each membership that its groups grant.


MAX_ROWS = 300
_PEM_END = "-----END CERTIFICATE-----"


def _roles() -> list[tuple[Role, str]]:
    return [(role, local_term(role)) for role in Role]


def _group_roles() -> list[tuple[str, str]]:
    return [("", _("their own role")), *((role, local_term(role)) for role in (Role.RESPONDER, Role.MANAGER))]


class MappingForm(forms.Form):
    """What one value of the groups claim grants: a role, and one membership."""

    claim = forms.CharField(
        label=gettext_lazy("Group at the provider"),
        max_length=300,
        required=False,
        widget=forms.TextInput(attrs={"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off"}),
    )
    role = forms.ChoiceField(label=gettext_lazy("Role"), choices=_roles, required=False)
    group = forms.ModelChoiceField(
        Group.objects.all(), label=gettext_lazy("Member of"), required=False, empty_label=gettext_lazy("no group")
    )
    group_role = forms.ChoiceField(label=gettext_lazy("Role in the group"), choices=_group_roles, required=False)
    on_call_roles = forms.MultipleChoiceField(
        label=gettext_lazy("On-call roles"), choices=ROLES, required=False, widget=forms.CheckboxSelectMultiple
    )


MappingFormSet = forms.formset_factory(
    MappingForm, extra=1, can_delete=True, max_num=MAX_ROWS, absolute_max=MAX_ROWS + 5
)


class CertificatesField(CodeField):
    """Certificates, one below the other; without PEM's lines it is a single one."""

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(value) if isinstance(value, list | tuple) else value

    def to_python(self, value: Any) -> Any:
        parts = (part.strip() for part in str(value or "").split(_PEM_END))
        return list(dict.fromkeys(filter(None, parts)))


class IdentityProviderForm(SpecForm):
    """The settings of a protocol, and a row for each membership that the groups of the provider grant."""

    certificates = CertificatesField(rows=4)
    layout = ("name", "metadata_url", "metadata", "issuer", "client_id", "client_secret", "allow_private")

    def __init__(self, data: Any, *, preset: Preset, **options: Any) -> None:
        kind = options["current"]["kind"]
        self.is_saml = kind == ProviderProtocol.SAML
        without = commands.OF_OIDC if self.is_saml else commands.OF_SAML
        super().__init__(data, spec_type=commands.IdentityProviderSpec, without=without, **options)
        self.mappings = MappingFormSet(data, initial=_initial_mappings(self.current), prefix="roles")
        for name, claim in preset.claim_names(kind, {}).items():
            self.fields[f"claims.{name}"].widget.attrs["placeholder"] = claim
        issuer, domains = self.fields["issuer"], self.fields["allowed_domains"]
        if self.is_saml:
            issuer.label, issuer.required = _("Issuer (entity ID)"), False
            issuer.help_text = _("Empty: the one in the metadata.")
            self.fields["claims.username"].label = _("Attribute of the username")
            self.fields["claims.email"].label = _("Attribute of the email address")
            self.fields["claims.name"].label = _("Attribute of the name")
            self.fields["claims.groups"].label = _("Attribute of the groups")
        else:
            issuer.help_text = _("Like %(form)s") % {"form": preset.issuer_form}
            self.fields["scopes"].widget.attrs["placeholder"] = " ".join(preset.scopes)
        if self.is_saml or not preset.says_email_verified:
            domains.required = True
            domains.help_text = _(
                "Such as example.org, separated by commas. Required: this provider does not say whether an address is "
                "verified."
            )

    def is_valid(self) -> bool:
        """Return whether the rows are valid too."""
        return all([super().is_valid(), self.mappings.is_valid()])

    def spec(self) -> dict[str, Any]:
        """Return the provider in spec form: rows of one value of the claim together, with the role of the first."""
        roles: dict[str, dict[str, Any]] = {}
        for row in self.mappings.forms:
            data = row.cleaned_data
            if not data.get("claim") or data.get("DELETE"):
                continue
            mapping = roles.setdefault(
                data["claim"].casefold(),
                {"claim": data["claim"], "role": data["role"] or Role.OBSERVER, "groups": []},
            )
            if data["group"]:
                grant = {"group": data["group"].name, "role": data["group_role"]}
                mapping["groups"].append({**grant, "on_call_roles": data["on_call_roles"]})
        return {**super().spec(), "roles": list(roles.values())}

    def show(self, rejected: Rejected) -> None:
        """Show a problem beside its field; one of a mapping names its place."""
        for problem in problems_of(rejected):
            if (problem.field or "").startswith("roles"):
                self.add_error(None, f"{problem.field}: {field_error_text(problem)}")
            else:
                show_rejection(self, problem)


def _initial_mappings(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    groups = dict(Group.objects.values_list("name", "pk"))
    return [
        {
            "claim": mapping["claim"],
            "role": mapping["role"],
            "group": groups.get(grant.get("group", "")),
            "group_role": grant.get("role", ""),
            "on_call_roles": grant.get("on_call_roles", []),
        }
        for mapping in spec.get("roles", [])
        for grant in mapping.get("groups") or [{}]
    ]


# ---------- links
# Removes the link of a user to an identity, and approves one that was asked for.


@require_POST
@requires(Permission.ADMINISTER)
def approve_link(request: SignedInRequest, number: int) -> HttpResponse:
    """Link the user to the identity that asked for it."""
    link = find_row(LinkedIdentity.objects.select_related("user", "provider"), number, "linked identity")
    with reporting(request):
        commands.approve_link(link, actor=actor(request), now=request.now)
        messages.success(request, _("Link to %(provider)s approved.") % {"provider": link.provider.name})
    return redirect("user", link.user_id)


@require_POST
def remove_link(request: SignedInRequest, number: int) -> HttpResponse:
    """Remove the link, and end the sessions that began by it."""
    rows = LinkedIdentity.objects.select_related("user", "provider")
    if not may(request, Permission.ADMINISTER):
        rows = rows.filter(user=request.user)
    link = find_row(rows, number, "linked identity")
    is_own = link.user_id == request.user.pk
    with reporting(request):
        commands.remove_link(link, is_own=is_own, actor=actor(request), now=request.now)
        messages.success(request, _("Link to %(provider)s removed.") % {"provider": link.provider.name})
    return redirect("me") if is_own else redirect("user", link.user_id)


# ---------- provisioning
# Provisioning by SCIM: the address and the token to enter at an identity provider. For administrators.


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
            documents.turn_off(provider, actor=actor(request), now=request.now)
            messages.success(request, _("%(name)s no longer provisions users.") % {"name": provider.name})
            return redirect("provisioning", provider.pk)
        secret = documents.rotate_token(provider, actor=actor(request), now=request.now)
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


# ---------- views
# Single sign-on: the identity providers, and the form of each. For administrators.


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
        saml_presets=PRESETS.values() if saml.is_installed() else (),
    )


class IdentityProviderPage(ObjectPage[IdentityProvider]):
    """The form, and the addresses to enter at the provider."""

    template = "identity/edit.html"
    saved = gettext_lazy("%(name)s saved. Test it now.")
    shows_saved = True

    def form(
        self, request: SignedInRequest, row: IdentityProvider | None, named: Mapping[str, str]
    ) -> IdentityProviderForm:
        vendor = PRESETS.get(row.preset if row else named["preset"])
        if vendor is None:
            raise Http404(_("Unknown provider type."))
        return IdentityProviderForm(
            request.POST or None,
            preset=vendor,
            current=commands.provider_spec(row) if row else _new(vendor, named.get("kind", ProviderProtocol.OIDC)),
            stored_secrets=("client_secret",) if row and row.client_secret else (),
        )

    def title(self, named: Mapping[str, str]) -> str:
        return _("Add %(kind)s") % {"kind": local_term(PRESETS[named["preset"]].label)}

    def context(
        self, request: SignedInRequest, row: IdentityProvider | None, form: IdentityProviderForm
    ) -> dict[str, Any]:
        preset = PRESETS[form.current["preset"]]
        context = {"mappings": form.mappings, "hint": preset.saml_hint if form.is_saml else preset.hint}
        if row is None:
            return context
        names = {
            ProviderProtocol.SAML: [
                (_("Entity ID and metadata"), models.saml_entity_id),
                (_("Assertion consumer service (reply URL)"), models.redirect_uri),
            ],
            ProviderProtocol.OIDC: [
                (_("Redirect URI"), models.redirect_uri),
                (_("Back-channel logout URL"), models.logout_uri),
            ],
        }
        return {**context, "addresses": [(label, address(row)) for label, address in names[ProviderProtocol(row.kind)]]}


edit = IdentityProviderPage(_LIST)


def _new(preset: Preset, kind: str) -> dict[str, Any]:
    """Return what a new provider begins with. A preset's issuer without placeholders is complete."""
    is_complete = kind == ProviderProtocol.OIDC and not any(part.isupper() for part in preset.issuer_form.split("/"))
    return {
        "kind": kind,
        "preset": preset.name,
        "name": "" if preset.name == "generic" else local_term(preset.label),
        "issuer": preset.issuer_form if is_complete else "",
        "sign_up": True,
    }
