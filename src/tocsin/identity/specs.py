"""Identity providers as YAML, the API and forms write them. The commands resolve names of groups."""

from __future__ import annotations

import re
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, ValidationInfo

from tocsin.access.roles import Role
from tocsin.core.errors import Permanent
from tocsin.core.net import egress
from tocsin.core.validation.field_errors import REQUIRED
from tocsin.core.validation.spec import InvalidValue, Spec, SpecErrors
from tocsin.core.validation.spec_types import Line, ListOf, Name, OneOf, Secret, list_of, list_of_choices
from tocsin.identity import reasons
from tocsin.identity.presets import PRESETS, ProviderProtocol
from tocsin.identity.saml import support
from tocsin.identity.saml.metadata import MAX_CHARS, normalize_certificate
from tocsin.people.changes.specs import GroupRole
from tocsin.people.member_roles import MemberRole

#: The value of `default_role` with which no one signs in whom no mapping fits.
REFUSE = "refuse"

_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
#: A part of a preset's issuer that is to be replaced.
_PLACEHOLDERS = frozenset({"TENANT", "ORGANISATION", "HOST", "REALM", "APPLICATION"})
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


def _domain(text: str) -> str:
    domain = text.removeprefix("@").lower()
    if not _DOMAIN.fullmatch(domain):
        raise InvalidValue(reasons.NOT_A_DOMAIN(value=text[:100]))
    return domain


def _url(url: str, info: ValidationInfo) -> str:
    if not url:
        return url
    try:
        egress.check_url(url)
    except Permanent as problem:
        raise InvalidValue(problem.reason) from None
    if not url.startswith("https://") and not info.data.get("allow_private"):
        raise InvalidValue(reasons.NOT_HTTPS())
    return url


def _issuer(text: str, info: ValidationInfo) -> str:
    if info.data.get("kind") == ProviderProtocol.SAML:
        return text
    preset = PRESETS.get(info.data.get("preset") or "")
    parts = set(re.split(r"[/.]", urlsplit(text).netloc + urlsplit(text).path)) if "://" in text else set()
    if preset and parts & _PLACEHOLDERS:
        raise InvalidValue(reasons.PRESET_ISSUER(form=preset.issuer_form))
    return _url(text, info)


def _scope(text: str) -> str:
    if not _SCOPE.fullmatch(text):
        raise InvalidValue(reasons.NOT_A_SCOPE(value=text[:100]))
    return text


#: The keys that only one kind of provider has.
_OF_OIDC = frozenset({"client_id", "client_secret", "scopes"})
_OF_SAML = frozenset({"metadata_url", "metadata", "sso_url", "certificates", "idp_initiated"})

_ClaimName = Annotated[Line, Field(max_length=200)]


class ClaimsSpec(Spec):
    """Names of the claims. An empty one is the preset's. A dot leads into an object."""

    username: _ClaimName = Field(default="", description="Claim with the username of a new user.")
    email: _ClaimName = Field(default="", description="Claim with the email address.")
    name: _ClaimName = Field(default="", description="Claim with the full name of a new user.")
    groups: _ClaimName = Field(default="", description="Claim with the groups, which `roles` maps.")


class GrantSpec(Spec):
    """A membership that a value of the groups claim grants."""

    group: Line = Field(min_length=1, max_length=200, description="Name of the group.")
    role: GroupRole = Field(default="", description="Role for this group's objects, if higher than the user's own.")
    on_call_roles: Annotated[tuple[MemberRole, ...], list_of_choices(MemberRole)] = Field(
        default=(), description="On-call roles of the member, where no schedule applies."
    )


class RoleMappingSpec(Spec):
    """What one value of the groups claim grants."""

    claim: Line = Field(min_length=1, max_length=300, description="Value of the groups claim. Case is ignored.")
    role: Annotated[Role, OneOf()] = Field(description="Role of the user. The highest one that fits applies.")
    groups: ListOf[GrantSpec] = Field(default=(), description="Groups of which the user becomes a member.")

    def check(self, errors: SpecErrors) -> None:
        errors.add_duplicates("groups", (grant.group for grant in self.groups), "group")


class IdentityProviderSpec(Spec):
    """An identity provider, by which users sign in."""

    name: Name = Field(description="Unique name, shown on the sign-in page. The redirect URI follows from the first.")
    kind: Annotated[str, OneOf(tuple(ProviderProtocol))] = Field(
        default=str(ProviderProtocol.OIDC), description="Protocol: OpenID Connect, or SAML 2.0."
    )
    preset: Annotated[str, OneOf(tuple(PRESETS))] = Field(
        default="generic", description="Vendor, whose claims and scopes are the defaults."
    )
    allow_private: bool = Field(
        default=False, description="Whether the provider may be at a private address, and be reached by http."
    )
    issuer: Annotated[Line, Field(max_length=500), AfterValidator(_issuer)] = Field(
        default="",
        description="Issuer, exactly as the provider names it. SAML: its entity ID, by default that of the metadata.",
    )
    client_id: Annotated[Line, Field(max_length=300)] = Field(default="", description="OIDC: client ID.")
    client_secret: Secret = Field(
        default="", description="OIDC: client secret. Without one, Tocsin is a public client with PKCE."
    )
    scopes: Annotated[tuple[str, ...], list_of(_scope, {})] = Field(
        default=(), description="OIDC: scopes that are requested. Default: the preset's."
    )
    metadata_url: Annotated[Line, Field(max_length=1000), AfterValidator(_url)] = Field(
        default="", description="SAML: URL of the provider's metadata, which are loaded again every hour."
    )
    metadata: Annotated[str, Field(max_length=MAX_CHARS, json_schema_extra={"writeOnly": True})] = Field(
        default="", description="SAML: the provider's metadata, which replace issuer, `sso_url` and `certificates`."
    )
    sso_url: Annotated[Line, Field(max_length=1000), AfterValidator(_url)] = Field(
        default="", description="SAML: the provider's address for single sign-on, with the HTTP-Redirect binding."
    )
    certificates: Annotated[tuple[str, ...], list_of(normalize_certificate, {}, max_length=20_000)] = Field(
        default=(), description="SAML: certificates that sign, in PEM form. Two while the provider changes its own."
    )
    idp_initiated: bool = Field(default=False, description="SAML: whether a sign-in may begin at the provider.")
    claims: ClaimsSpec = Field(default=ClaimsSpec(), description="Names of the claims. Default: the preset's.")
    sign_up: bool = Field(
        default=False, description="Whether the first sign-in of someone without an account creates one."
    )
    allowed_domains: Annotated[tuple[str, ...], list_of(_domain, {}, max_length=254)] = Field(
        default=(), description="Domains of email addresses that may sign up or be linked. Default: any."
    )
    default_role: Annotated[str, OneOf((REFUSE, *Role))] = Field(
        default=REFUSE, description="Role where no mapping fits. Default: the sign-in is refused."
    )
    roles: ListOf[RoleMappingSpec] = Field(default=(), description="What the values of the groups claim grant.")
    scim: bool | None = Field(
        default=None,
        description="Whether it provisions users by SCIM, with a token from `tocsin scim`, its page or the API. "
        "Default: unchanged.",
    )
    is_enabled: bool = Field(default=True, alias="enabled", description="Whether users can sign in by it.")

    def check(self, errors: SpecErrors) -> None:
        errors.add_duplicates("roles", (mapping.claim for mapping in self.roles), "claim")
        is_saml = self.kind == ProviderProtocol.SAML
        if (is_saml or not PRESETS[self.preset].says_email_verified) and not self.allowed_domains:
            errors.add("allowed_domains", reasons.DOMAINS_NEEDED(), "missing")
        all_keys = {field.alias or name for name, field in type(self).model_fields.items()}
        self.reject_other_keys(all_keys - (_OF_OIDC if is_saml else _OF_SAML), errors)
        if is_saml and not support.is_installed():
            errors.add("kind", reasons.SAML_NOT_INSTALLED(), "not_installed")
        required: tuple[str, ...] = ("issuer", "client_id")
        if is_saml:
            has_metadata = self.metadata_url or self.metadata or errors.has("metadata_url", "metadata")
            required = () if has_metadata else ("issuer", "sso_url", "certificates")
        for key in required:
            if not getattr(self, key):
                errors.add(key, REQUIRED(), "missing")
        if self.metadata_url:
            for key in ("sso_url", "metadata"):
                if getattr(self, key):
                    errors.add(key, reasons.METADATA_OR_URL())
