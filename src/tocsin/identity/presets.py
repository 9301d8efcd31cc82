"""What is known about the identity providers of well-known vendors: the form of the issuer, the claims. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from tocsin.core.reasons import translatable


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
