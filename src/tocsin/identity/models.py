"""Identity providers: what is known of well-known vendors, what administrators configure, and their addresses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from tocsin.core.config import environment
from tocsin.core.reasons import translatable
from tocsin.core.validation.name_validator import validate_name

# ---------- presets
# What is known about the identity providers of well-known vendors: the form of the issuer, the claims. Pure.


class ProviderProtocol(StrEnum):
    """How an identity provider signs users in."""

    OIDC = translatable("oidc")
    SAML = translatable("saml")


#: What each claim is used for, and its name where a preset says nothing else.
CLAIMS: Mapping[str, str] = MappingProxyType(
    {"username": "preferred_username", "email": "email", "name": "name", "groups": "groups"}
)
#: The same by SAML. `NameID` is the subject.
SAML_CLAIMS: Mapping[str, str] = MappingProxyType(
    {"username": "username", "email": "email", "name": "name", "groups": "groups"}
)
_SOAP = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims"


@dataclass(frozen=True, slots=True)
class Preset:
    """A vendor."""

    name: str
    label: str
    #: OIDC: the issuer, with the parts to replace in capitals. Empty: the vendor is only offered by SAML.
    issuer_form: str
    #: Claims that differ from `CLAIMS`.
    claims: Mapping[str, str] = field(default_factory=dict)
    #: Attributes that differ from `SAML_CLAIMS`.
    saml_claims: Mapping[str, str] = field(default_factory=dict)
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    #: False: the vendor sends no `email_verified`; its addresses are trusted for the allowed domains only.
    says_email_verified: bool = True
    #: The page of the documentation, in docs/how-to/sign-in.
    guide: str = ""
    #: Where the vendor's own screens have what a form asks for: by OIDC, and by SAML.
    hint: str = ""
    saml_hint: str = ""

    def claim_names(self, kind: str, chosen: Mapping[str, str]) -> dict[str, str]:
        """Returns the name of each claim or attribute, with those that an administrator chose."""
        defaults = {**CLAIMS, **self.claims} if kind == ProviderProtocol.OIDC else {**SAML_CLAIMS, **self.saml_claims}
        return {**defaults, **chosen}


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "entra",
            "Microsoft Entra ID",
            "https://login.microsoftonline.com/TENANT/v2.0",
            saml_claims={
                "username": f"{_SOAP}/name",
                "email": f"{_SOAP}/emailaddress",
                "name": "http://schemas.microsoft.com/identity/claims/displayname",
                "groups": "http://schemas.microsoft.com/ws/2008/06/identity/claims/groups",
            },
            says_email_verified=False,
            guide="entra-id",
            saml_hint=translatable(
                "The App Federation Metadata URL is on the application's page Single sign-on. Groups need a group "
                "claim there; Entra sends their IDs."
            ),
            hint=translatable(
                "TENANT is the directory (tenant) ID. Entra sends the IDs of groups, not their names, unless the "
                "token configuration says otherwise."
            ),
        ),
        Preset(
            "google",
            "Google",
            "https://accounts.google.com",
            {"username": "email"},
            saml_claims={"username": "NameID", "email": "NameID"},
            guide="google",
            saml_hint=translatable(
                "Download the metadata while adding the custom SAML app. Choose the primary email address as Name ID, "
                "and map its group membership to the attribute groups."
            ),
            hint=translatable("Google sends no groups: roles come from the default role, or are given manually."),
        ),
        Preset(
            "okta",
            "Okta",
            "https://ORGANISATION.okta.com",
            scopes=("openid", "email", "profile", "groups"),
            guide="okta",
            saml_hint=translatable(
                "The Metadata URL is on the application's tab Sign On. Add attribute statements there."
            ),
            hint=translatable("Groups need a groups claim in the application's sign-on settings."),
        ),
        Preset(
            "keycloak",
            "Keycloak",
            "https://HOST/realms/REALM",
            guide="keycloak",
            saml_hint=translatable(
                "The metadata are at https://HOST/realms/REALM/protocol/saml/descriptor. In the client's keys, switch "
                "“Client signature required” off."
            ),
            hint=translatable("Groups need a client scope with a “Group Membership” mapper named groups."),
        ),
        Preset(
            "authentik",
            "authentik",
            "https://HOST/application/o/APPLICATION/",
            guide="authentik",
            hint=translatable("The issuer is in the provider's overview, with the slash at its end."),
        ),
        Preset(
            "adfs",
            "Microsoft ADFS",
            "",
            saml_claims={
                "username": f"{_SOAP}/upn",
                "email": f"{_SOAP}/emailaddress",
                "name": f"{_SOAP}/name",
                "groups": "http://schemas.xmlsoap.org/claims/Group",
            },
            guide="saml",
            saml_hint=translatable(
                "The metadata are at https://HOST/FederationMetadata/2007-06/FederationMetadata.xml."
            ),
        ),
        Preset("generic", translatable("Other provider"), "https://HOST", guide="README"),
    )
}


class IdentityProvider(models.Model):
    """An OpenID Connect or SAML server that signs users in, and may provision them by SCIM."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    #: Part of the redirect URI, which the provider knows: it never changes, even when the name does.
    slug = models.SlugField(max_length=60, unique=True)
    kind = models.CharField(_("kind"), max_length=10, choices=[(kind.value, kind.value) for kind in ProviderProtocol])
    preset = models.CharField(_("preset"), max_length=20, default="generic")
    #: OIDC: the issuer, from which the discovery document follows. SAML: the entity ID; empty: the one in the metadata.
    issuer = models.CharField(_("issuer"), max_length=500, blank=True)
    client_id = models.CharField(_("client ID"), max_length=300, blank=True)
    #: A Fernet token over the client secret. Never displayed.
    client_secret = models.TextField(blank=True, default="", db_default="")
    #: SAML: `sso_url` or `metadata_url`, `certificates` in PEM form, and `idp_initiated`.
    saml = models.JSONField(default=dict, db_default={})
    #: Scopes that are requested. Empty: the preset's.
    scopes = ArrayField(models.CharField(max_length=100), default=list, db_default=[])
    #: Whether it may be at a private address, and be reached by http.
    allow_private = models.BooleanField(_("private address"), default=False, db_default=False)
    #: Names of the claims: `username`, `email`, `name`, `groups`. Those of the preset where a name is missing.
    claims = models.JSONField(default=dict, db_default={})
    #: Whether the first sign-in of someone without an account creates one.
    sign_up = models.BooleanField(_("create users"), default=False, db_default=False)
    #: Domains of e-mail addresses. Empty: any.
    allowed_domains = ArrayField(models.CharField(max_length=253), default=list, db_default=[])
    #: The role where no mapping fits; empty: the sign-in is refused.
    default_role = models.CharField(_("default role"), max_length=12, blank=True, default="", db_default="")
    #: Maps values of the groups claim to roles and memberships, with groups by id: see `identity.role_mapping`.
    roles = models.JSONField(default=list, db_default=[])
    is_enabled = models.BooleanField(_("enabled"), default=True)
    #: SHA-256 of the bearer token with which the provider provisions users by SCIM. Null: SCIM is off.
    scim_token_hash = models.BinaryField(max_length=32, null=True, unique=True)
    #: The first characters of that token, shown to administrators.
    scim_token_prefix = models.CharField(max_length=12, blank=True, default="", db_default="")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ("name",)
        constraints = (
            models.UniqueConstraint(Lower("name"), name="identity_provider_name"),
            models.CheckConstraint(condition=Q(kind__in=list(ProviderProtocol)), name="identity_provider_kind"),
        )

    def __str__(self) -> str:
        return self.name


class ScimUser(models.Model):
    """A user whom a provider provisions by SCIM: those that it created, and those that it found and linked."""

    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="scim_users")
    user = models.OneToOneField("people.User", on_delete=models.CASCADE, related_name="scim_user")
    #: The id by which the provider knows the user.
    scim_id = models.CharField(max_length=100)
    #: Whether the provider created the user. It may not change the e-mail address of an administrator that it did not.
    is_created = models.BooleanField()
    external_id = models.CharField(max_length=300, blank=True)
    #: What the provider wrote last, by attribute of the SCIM schema: more than a user has, such as both names.
    attributes = models.JSONField(default=dict, db_default={})
    created_at = models.DateTimeField()
    modified_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("provider", "scim_id"), name="identity_scimuser_id"),)


class ScimGroup(models.Model):
    """A group of a provider's directory. Its members get what the provider's mapping names; it is nobody to page."""

    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="scim_groups")
    name = models.CharField(max_length=300)
    external_id = models.CharField(max_length=300, blank=True)
    members = models.ManyToManyField(ScimUser, related_name="scim_groups")
    created_at = models.DateTimeField()
    modified_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint("provider", Lower("name"), name="identity_scimgroup_name"),)


class LinkedIdentity(models.Model):
    """A user's identity at a provider: after the first sign-in, the user is found by it and never by the e-mail."""

    provider = models.ForeignKey(IdentityProvider, on_delete=models.CASCADE, related_name="identities")
    user = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="identities")
    issuer = models.CharField(max_length=500)
    subject = models.CharField(max_length=300)
    #: The user's object ID in Entra, by which Microsoft Teams knows people. The subject is another for each app.
    object_id = models.CharField(max_length=100, blank=True, default="", db_default="")
    #: The role that was given manually before the provider gave a higher one. Empty: none, the provider made the user.
    role_by_hand = models.CharField(max_length=12, blank=True, default="", db_default="")
    created_at = models.DateTimeField()
    signed_in_at = models.DateTimeField()
    #: A sign-in asked for the link, which is none until an administrator approves it.
    awaits_approval = models.BooleanField(default=False, db_default=False)

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("provider", "issuer", "subject"), name="identity_linked_subject"),
            models.UniqueConstraint(fields=("provider", "user"), name="identity_linked_user"),
        )


class BrowserSession(models.Model):
    """A signed-in browser: what "Signed-in devices" shows of a session, and by what its provider ends it."""

    #: Of `django_session`, in which the key is a hash.
    session_key = models.CharField(max_length=40, primary_key=True)
    user = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="browser_sessions")
    provider = models.ForeignKey(
        IdentityProvider, null=True, on_delete=models.SET_NULL, related_name="browser_sessions"
    )
    #: The provider's subject and session id, which a back-channel logout names.
    subject = models.CharField(max_length=300, blank=True)
    sid = models.CharField(max_length=300, blank=True)
    address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=300, blank=True)
    created_at = models.DateTimeField()
    seen_at = models.DateTimeField()


# ---------- redirect uris
# The addresses that are entered at an identity provider. They never change: the slug stays when the name does.


def redirect_uri(provider: IdentityProvider) -> str:
    """Returns the address to which the provider sends its answers."""
    return f"{_base(provider)}{'login/callback/' if provider.kind == ProviderProtocol.OIDC else 'acs/'}"


def saml_entity_id(provider: IdentityProvider) -> str:
    """Returns the name by which a SAML provider knows Tocsin, which is also the address of Tocsin's metadata."""
    return f"{_base(provider)}metadata/"


def logout_uri(provider: IdentityProvider) -> str:
    """Returns the address to which the provider sends back-channel logouts."""
    return f"{_base(provider)}backchannel-logout/"


def scim_uri() -> str:
    """Returns the address of the SCIM API, the same for every provider: the token says which one it is."""
    return f"{environment.current().public_url}/scim/v2"


def _base(provider: IdentityProvider) -> str:
    return f"{environment.current().public_url}/accounts/{provider.kind}/{provider.slug}/"
