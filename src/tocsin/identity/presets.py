"""What is known about the identity providers of well-known vendors: the form of the issuer, the claims. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from tocsin.core.reasons import translatable

#: What each claim is used for, and its name where a preset says nothing else.
CLAIMS: Mapping[str, str] = MappingProxyType(
    {"username": "preferred_username", "email": "email", "name": "name", "groups": "groups"}
)


@dataclass(frozen=True, slots=True)
class Preset:
    """A vendor."""

    name: str
    label: str
    #: The issuer, with the parts to replace in capitals.
    issuer_form: str
    #: Claims that differ from `CLAIMS`.
    claims: Mapping[str, str] = field(default_factory=dict)
    scopes: tuple[str, ...] = ("openid", "email", "profile")
    #: False: the vendor sends no `email_verified`; its addresses are trusted for the allowed domains only.
    says_email_verified: bool = True
    #: The page of the documentation, in docs/how-to/sign-in.
    guide: str = ""
    #: Where the vendor's own screens have what a form asks for.
    hint: str = ""

    def claim_names(self, chosen: Mapping[str, str]) -> dict[str, str]:
        """Returns the name of each claim, with those that an administrator chose."""
        return {**CLAIMS, **self.claims, **chosen}


PRESETS: Mapping[str, Preset] = {
    preset.name: preset
    for preset in (
        Preset(
            "entra",
            "Microsoft Entra ID",
            "https://login.microsoftonline.com/TENANT/v2.0",
            says_email_verified=False,
            guide="entra-id",
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
            guide="google",
            hint=translatable("Google sends no groups: roles come from the default role, or are given manually."),
        ),
        Preset(
            "okta",
            "Okta",
            "https://ORGANISATION.okta.com",
            scopes=("openid", "email", "profile", "groups"),
            guide="okta",
            hint=translatable("Groups need a groups claim in the application's sign-on settings."),
        ),
        Preset(
            "keycloak",
            "Keycloak",
            "https://HOST/realms/REALM",
            guide="keycloak",
            hint=translatable("Groups need a client scope with a “Group Membership” mapper named groups."),
        ),
        Preset(
            "authentik",
            "authentik",
            "https://HOST/application/o/APPLICATION/",
            guide="authentik",
            hint=translatable("The issuer is in the provider's overview, with the slash at its end."),
        ),
        Preset("generic", translatable("Other provider"), "https://HOST", guide="README"),
    )
}
