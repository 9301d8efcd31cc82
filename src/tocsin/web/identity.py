"""Single sign-on: the identity providers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

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
from tocsin.identity.commands import REFUSE
from tocsin.identity.models import CLAIMS, PRESETS, IdentityProvider, LinkedIdentity, Preset, ProviderProtocol, scim_uri
from tocsin.identity.saml import MAX_CHARS
from tocsin.identity.scim import documents
from tocsin.people.models import Group
from tocsin.resources.registry import IDENTITY_PROVIDERS
from tocsin.web.http.request import SignedInRequest, actor, find_object, find_row, may, render_view, requires
from tocsin.web.ui.confirm_delete import FormSnapshot
from tocsin.web.ui.forms import ROLES, field_error_text, problems_of, show_rejection
from tocsin.web.ui.object_list import ObjectList

# ---------- forms
# The form of an identity provider, and a row for each membership that its groups grant.


MAX_ROWS = 300

INSTALLATION_ROLES = [
    (Role.OBSERVER, gettext_lazy("observer")),
    (Role.RESPONDER, gettext_lazy("responder")),
    (Role.MANAGER, gettext_lazy("manager")),
    (Role.ADMIN, gettext_lazy("admin")),
]
_GROUP_ROLES = [
    ("", gettext_lazy("their own role")),
    (Role.RESPONDER, gettext_lazy("responder")),
    (Role.MANAGER, gettext_lazy("manager")),
]
_URL = {"inputmode": "url", "autocapitalize": "none", "spellcheck": "false"}
_PLAIN = {"autocapitalize": "none", "spellcheck": "false", "autocomplete": "off"}
_PEM_END = "-----END CERTIFICATE-----"


def _text(label: Any, **options: Any) -> forms.CharField:
    attributes = options.pop("attributes", _PLAIN)
    return forms.CharField(label=label, widget=forms.TextInput(attrs=attributes), **options)


def _code(label: Any, **options: Any) -> forms.CharField:
    attributes = {"rows": 4, "class": "form-control code", "spellcheck": "false"}
    return forms.CharField(label=label, required=False, widget=forms.Textarea(attrs=attributes), **options)


class IdentityProviderForm(forms.Form):
    """The settings. Those of the other protocol are left out."""

    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=100, help_text=gettext_lazy("Shown on the sign-in page.")
    )
    issuer = _text(gettext_lazy("Issuer"), max_length=500, attributes=_URL)
    client_id = _text(gettext_lazy("Client ID"), max_length=300)
    client_secret = forms.CharField(
        label=gettext_lazy("Client secret"),
        max_length=4000,
        required=False,
        strip=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
    )
    metadata_url = _text(
        gettext_lazy("Metadata URL"),
        max_length=1000,
        required=False,
        attributes=_URL,
        help_text=gettext_lazy("Loaded every hour, so that new certificates are followed."),
    )
    metadata = _code(
        gettext_lazy("Metadata XML"),
        max_length=MAX_CHARS,
        help_text=gettext_lazy("Instead of the URL. Fills in the address, the issuer and the certificates."),
    )
    sso_url = _text(gettext_lazy("Address for single sign-on"), max_length=1000, required=False, attributes=_URL)
    certificates = _code(
        gettext_lazy("Certificates"),
        max_length=100_000,
        help_text=gettext_lazy("In PEM form. Enter the next one below while the provider changes its own."),
    )
    idp_initiated = forms.BooleanField(
        label=gettext_lazy("Allow sign-in that begins at the provider"),
        required=False,
        help_text=gettext_lazy("From a page of the provider that lists applications. Less safe."),
    )
    allow_private = forms.BooleanField(
        label=gettext_lazy("Provider in a private network"),
        required=False,
        help_text=gettext_lazy("Tocsin may connect to a private address, and by http."),
    )
    sign_up = forms.BooleanField(
        label=gettext_lazy("Create users at their first sign-in"),
        required=False,
        help_text=gettext_lazy("Otherwise only users with the same verified email address can sign in."),
    )
    allowed_domains = _text(
        gettext_lazy("Allowed email domains"),
        max_length=2000,
        required=False,
        help_text=gettext_lazy("Such as example.org, separated by commas. Empty: any."),
    )
    default_role = forms.ChoiceField(
        label=gettext_lazy("Role without a matching group"),
        choices=[(REFUSE, gettext_lazy("refuse the sign-in")), *INSTALLATION_ROLES],
    )
    scopes = _text(gettext_lazy("Scopes"), max_length=1000, required=False)
    claim_username = _text(gettext_lazy("Claim of the username"), max_length=200, required=False)
    claim_email = _text(gettext_lazy("Claim of the email address"), max_length=200, required=False)
    claim_name = _text(gettext_lazy("Claim of the name"), max_length=200, required=False)
    claim_groups = _text(gettext_lazy("Claim of the groups"), max_length=200, required=False)
    enabled = forms.BooleanField(label=gettext_lazy("Enabled"), required=False, initial=True)

    #: Shown apart, because they seldom differ from the preset's.
    advanced = (
        "sso_url",
        "certificates",
        "idp_initiated",
        "scopes",
        "claim_username",
        "claim_email",
        "claim_name",
        "claim_groups",
    )

    _of_kind: ClassVar[Mapping[str, tuple[str, ...]]] = {
        ProviderProtocol.OIDC: ("client_id", "client_secret", "scopes"),
        ProviderProtocol.SAML: ("metadata_url", "metadata", "sso_url", "certificates", "idp_initiated"),
    }

    def __init__(self, *args: Any, preset: Preset, kind: str, has_secret: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.preset, self.kind = preset, kind
        is_saml = kind == ProviderProtocol.SAML
        for name in self._of_kind[ProviderProtocol.OIDC if is_saml else ProviderProtocol.SAML]:
            del self.fields[name]
        for name, claim in preset.claim_names(kind, {}).items():
            self.fields[f"claim_{name}"].widget.attrs["placeholder"] = claim
        if is_saml:
            self.fields["issuer"].label, self.fields["issuer"].required = _("Issuer (entity ID)"), False
            self.fields["issuer"].help_text = _("Empty: the one in the metadata.")
            self.fields["claim_username"].label = _("Attribute of the username")
            self.fields["claim_email"].label = _("Attribute of the email address")
            self.fields["claim_name"].label = _("Attribute of the name")
            self.fields["claim_groups"].label = _("Attribute of the groups")
            self.order_fields(("name", "metadata_url", "metadata", "issuer"))
        else:
            self.fields["issuer"].help_text = _("Like %(form)s") % {"form": preset.issuer_form}
            self.fields["scopes"].widget.attrs["placeholder"] = " ".join(preset.scopes)
        if has_secret:
            self.fields["client_secret"].help_text = _("Saved. Leave empty to keep the current value.")
        if is_saml or not preset.says_email_verified:
            self.fields["allowed_domains"].required = True
            self.fields["allowed_domains"].help_text = _(
                "Such as example.org, separated by commas. Required: this provider does not say whether an address is "
                "verified."
            )

    def main_fields(self) -> list[forms.BoundField]:
        """Return the fields that are always shown."""
        return [field for field in self.visible_fields() if field.name not in self.advanced]

    def advanced_fields(self) -> list[forms.BoundField]:
        """Return the fields that are shown on request."""
        return [field for field in self.visible_fields() if field.name in self.advanced]

    def spec(self, mappings: list[dict[str, Any]]) -> dict[str, Any]:
        """Return the provider in spec form. An empty secret keeps the stored one."""
        data = self.cleaned_data
        plain = ("name", "issuer", "allow_private", "sign_up", "default_role", "enabled")
        values: dict[str, Any] = {name: data[name] for name in plain}
        values |= {"kind": self.kind, "preset": self.preset.name, "roles": mappings}
        values["allowed_domains"] = _words(data["allowed_domains"])
        if self.kind == ProviderProtocol.SAML:
            values |= {name: data[name] for name in ("metadata_url", "metadata", "sso_url", "idp_initiated")}
            values["certificates"] = _certificates(data["certificates"])
        else:
            values |= {"client_id": data["client_id"], "scopes": _words(data["scopes"])}
        values["claims"] = {name: data[f"claim_{name}"] for name in CLAIMS if data[f"claim_{name}"]}
        if data.get("client_secret", "").strip():
            values["client_secret"] = data["client_secret"]
        return values


class MappingForm(forms.Form):
    """What one value of the groups claim grants: a role, and one membership."""

    claim = _text(gettext_lazy("Group at the provider"), max_length=300, required=False)
    role = forms.ChoiceField(label=gettext_lazy("Role"), choices=INSTALLATION_ROLES, required=False)
    group = forms.ModelChoiceField(
        Group.objects.all(), label=gettext_lazy("Member of"), required=False, empty_label=gettext_lazy("no group")
    )
    group_role = forms.ChoiceField(label=gettext_lazy("Role in the group"), choices=_GROUP_ROLES, required=False)
    on_call_roles = forms.MultipleChoiceField(
        label=gettext_lazy("On-call roles"), choices=ROLES, required=False, widget=forms.CheckboxSelectMultiple
    )


MappingFormSet = forms.formset_factory(
    MappingForm, extra=1, can_delete=True, max_num=MAX_ROWS, absolute_max=MAX_ROWS + 5
)


def mappings_of(rows: Any) -> list[dict[str, Any]]:
    """Return the rows in spec form: those of one value of the claim together, with the role of the first."""
    mappings: dict[str, dict[str, Any]] = {}
    for row in rows.forms:
        data = row.cleaned_data
        if not data.get("claim") or data.get("DELETE"):
            continue
        mapping = mappings.setdefault(
            data["claim"].casefold(),
            {"claim": data["claim"], "role": data["role"] or Role.OBSERVER, "groups": []},
        )
        if data["group"]:
            grant = {"group": data["group"].name, "role": data["group_role"], "on_call_roles": data["on_call_roles"]}
            mapping["groups"].append(grant)
    return list(mappings.values())


def initial_mappings(spec: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the initial rows: one for each membership."""
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


def initial_of(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the initial values of a provider's form."""
    claims = {f"claim_{name}": text for name, text in spec.get("claims", {}).items()}
    lists = {
        "allowed_domains": ", ".join(spec.get("allowed_domains", [])),
        "scopes": " ".join(spec.get("scopes", [])),
        "certificates": "\n".join(spec.get("certificates", [])),
    }
    return {"enabled": True, **spec, **claims, **lists}


def initial_new(preset: Preset, kind: str) -> dict[str, Any]:
    """Return the initial values of a new provider's form. A preset's issuer without placeholders is complete."""
    is_complete = kind == ProviderProtocol.OIDC and not any(part.isupper() for part in preset.issuer_form.split("/"))
    label = "" if preset.name == "generic" else local_term(preset.label)
    return {"name": label, "issuer": preset.issuer_form if is_complete else "", "sign_up": True}


def _certificates(text: str) -> list[str]:
    """Return the certificates of a text with one below the other; without PEM's lines it is a single one."""
    parts = (part.strip() for part in text.split(_PEM_END))
    return list(dict.fromkeys(part for part in parts if part))


def _words(text: str) -> list[str]:
    return list(dict.fromkeys(text.replace(",", " ").split()))


# ---------- links
# Removes the link of a user to an identity, and approves one that was asked for.


@require_POST
@requires(Permission.ADMINISTER)
def approve_link(request: SignedInRequest, number: int) -> HttpResponse:
    """Link the user to the identity that asked for it."""
    link = find_row(LinkedIdentity.objects.select_related("user", "provider"), number, "linked identity")
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
    try:
        commands.remove_link(link, is_own=is_own, actor=actor(request), now=request.now)
    except Rejected as rejected:
        messages.error(request, rejected.reason.localized())
    else:
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
        return {"acs_url": models.redirect_uri(row), "entity_id": models.saml_entity_id(row)}
    return {"redirect_uri": models.redirect_uri(row), "logout_uri": models.logout_uri(row)}


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
