"""Creates, changes and deletes identity providers, and removes their links to users: validates, writes the audit log,
and makes all nodes reload.

A spec has the shape of YAML and the API. The client secret can be written but not read back. The caller checks
permissions.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Annotated, Any
from urllib.parse import urlsplit

from django.contrib.sessions.models import Session
from django.db import connection
from django.db.models import QuerySet
from django.utils.text import slugify
from pydantic import AfterValidator, Field, ValidationInfo

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.access.roles import MemberRole, Role
from tocsin.core import hooks
from tocsin.core.config import crypto, settings_store
from tocsin.core.config.crypto import ENTER_SECRET_AGAIN, is_different_origin
from tocsin.core.errors import Permanent, Rejected
from tocsin.core.hooks import Expiry
from tocsin.core.net import egress
from tocsin.core.reasons import Text, sentence
from tocsin.core.reasons import translatable as _
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import NAME_IN_USE, NO_SUCH_GROUP, REQUIRED
from tocsin.core.validation.spec import (
    InForm,
    InvalidValue,
    Line,
    ListOf,
    Name,
    OneOf,
    Secret,
    Spec,
    SpecErrors,
    list_of,
    list_of_choices,
)
from tocsin.identity import reasons, saml
from tocsin.identity.models import PRESETS, BrowserSession, IdentityProvider, LinkedIdentity, ProviderProtocol
from tocsin.identity.saml import MAX_CHARS, SamlProvider, normalize_certificate, read_metadata, usable_certificates
from tocsin.identity.scim import documents
from tocsin.identity.scim.provisioned_groups import apply_directory_groups
from tocsin.people.changes import users
from tocsin.people.changes.users import GroupRole
from tocsin.people.models import Group, Membership, User, find_group
from tocsin.people.sign_in_rules import list_second_factors, may_use_password

# ---------- browser sessions
# Signed-in browsers: lists them, ends them, and limits them to the setting `session_lifetime`.


_LIMIT = """
UPDATE django_session s SET expire_date = b.created_at + %s * interval '1 second' FROM identity_browsersession b
WHERE b.session_key = s.session_key AND s.expire_date > b.created_at + %s * interval '1 second'
"""


def lifetime() -> timedelta:
    """Returns how long a session lasts from its sign-in on."""
    return inputs.parse_duration(settings_store.get(settings_store.SESSION_LIFETIME))


def apply_lifetime(changed: dict[str, Any]) -> None:
    """Ends sessions earlier after the setting was shortened."""
    if "session_lifetime" in changed:
        with connection.cursor() as cursor:
            seconds = lifetime().total_seconds()
            cursor.execute(_LIMIT, [seconds, seconds])


def active_sessions(user: User | None, now: datetime) -> QuerySet[BrowserSession]:
    """Returns the user's signed-in browsers, the last used first; those of all users without `user`."""
    active = Session.objects.filter(expire_date__gt=now).values("session_key")
    sessions = BrowserSession.objects.filter(session_key__in=active)
    if user is not None:
        sessions = sessions.filter(user=user)
    return sessions.select_related("provider").order_by("-seen_at")


def end(sessions: QuerySet[BrowserSession]) -> int:
    """Ends these sessions at once. Returns their number."""
    keys = list(sessions.values_list("session_key", flat=True))
    Session.objects.filter(session_key__in=keys).delete()
    BrowserSession.objects.filter(session_key__in=keys).delete()
    return len(keys)


def record_end(user: User, count: int, *, actor: AuditActor, now: datetime) -> None:
    """Records that `count` sessions of the user were ended."""
    audit.record(
        actor,
        "end_sessions",
        now=now,
        object_type="user",
        object_id=user.pk,
        object_name=user.username,
        after={"count": count},
    )


# ---------- specs
# Identity providers as YAML, the API and forms write them. The commands resolve names of groups.


#: The value of `default_role` with which no one signs in whom no mapping fits.
REFUSE = "refuse"

_DOMAIN = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)+")
#: A part of a preset's issuer that is to be replaced.
_PLACEHOLDERS = frozenset({"TENANT", "ORGANISATION", "HOST", "REALM", "APPLICATION"})
_SCOPE = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")


def _domain(text: str) -> str:
    domain = text.removeprefix("@").lower()
    if not _DOMAIN.fullmatch(domain):
        raise InvalidValue(sentence('"{value}" is not a domain such as example.org.', value=text[:100]))
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
        raise InvalidValue(sentence('"{value}" is not a scope.', value=text[:100]))
    return text


#: The keys that only one kind of provider has.
OF_OIDC = frozenset({"client_id", "client_secret", "scopes"})
OF_SAML = frozenset({"metadata_url", "metadata", "sso_url", "certificates", "idp_initiated"})

_ClaimName = Annotated[Line, Field(max_length=200)]


class ClaimsSpec(Spec):
    """Names of the claims. An empty one is the preset's. A dot leads into an object."""

    username: Annotated[_ClaimName, InForm(_("Claim of the username"), widget="plain", section="advanced")] = Field(
        default="", description="Claim with the username of a new user."
    )
    email: Annotated[_ClaimName, InForm(_("Claim of the email address"), widget="plain", section="advanced")] = Field(
        default="", description="Claim with the email address."
    )
    name: Annotated[_ClaimName, InForm(_("Claim of the name"), widget="plain", section="advanced")] = Field(
        default="", description="Claim with the full name of a new user."
    )
    groups: Annotated[_ClaimName, InForm(_("Claim of the groups"), widget="plain", section="advanced")] = Field(
        default="", description="Claim with the groups, which `roles` maps."
    )


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

    name: Annotated[Name, InForm(_("Name"), _("Shown on the sign-in page."))] = Field(
        description="Unique name, shown on the sign-in page. The redirect URI follows from the first."
    )
    kind: Annotated[str, OneOf(tuple(ProviderProtocol))] = Field(
        default=str(ProviderProtocol.OIDC), description="Protocol: OpenID Connect, or SAML 2.0."
    )
    preset: Annotated[str, OneOf(tuple(PRESETS))] = Field(
        default="generic", description="Vendor, whose claims and scopes are the defaults."
    )
    allow_private: Annotated[
        bool,
        InForm(_("Provider in a private network"), _("Tocsin may connect to a private address, and by http.")),
    ] = Field(default=False, description="Whether the provider may be at a private address, and be reached by http.")
    issuer: Annotated[
        Line, Field(max_length=500), AfterValidator(_issuer), InForm(_("Issuer"), widget="url", is_required=True)
    ] = Field(
        default="",
        description="Issuer, exactly as the provider names it. SAML: its entity ID, by default that of the metadata.",
    )
    client_id: Annotated[Line, Field(max_length=300), InForm(_("Client ID"), widget="plain", is_required=True)] = Field(
        default="", description="OIDC: client ID."
    )
    client_secret: Annotated[Secret, InForm(_("Client secret"))] = Field(
        default="", description="OIDC: client secret. Without one, Tocsin is a public client with PKCE."
    )
    scopes: Annotated[
        tuple[str, ...], list_of(_scope, {}), InForm(_("Scopes"), widget="spaced words", section="advanced")
    ] = Field(default=(), description="OIDC: scopes that are requested. Default: the preset's.")
    metadata_url: Annotated[
        Line,
        Field(max_length=1000),
        AfterValidator(_url),
        InForm(_("Metadata URL"), _("Loaded every hour, so that new certificates are followed."), widget="url"),
    ] = Field(default="", description="SAML: URL of the provider's metadata, which are loaded again every hour.")
    metadata: Annotated[
        str,
        Field(max_length=MAX_CHARS, json_schema_extra={"writeOnly": True}),
        InForm(
            _("Metadata XML"),
            _("Instead of the URL. Fills in the address, the issuer and the certificates."),
            widget="code",
        ),
    ] = Field(
        default="", description="SAML: the provider's metadata, which replace issuer, `sso_url` and `certificates`."
    )
    sso_url: Annotated[
        Line,
        Field(max_length=1000),
        AfterValidator(_url),
        InForm(_("Address for single sign-on"), widget="url", section="advanced"),
    ] = Field(
        default="", description="SAML: the provider's address for single sign-on, with the HTTP-Redirect binding."
    )
    certificates: Annotated[
        tuple[str, ...],
        list_of(normalize_certificate, {}, max_length=20_000),
        InForm(
            _("Certificates"),
            _("In PEM form. Enter the next one below while the provider changes its own."),
            section="advanced",
        ),
    ] = Field(
        default=(), description="SAML: certificates that sign, in PEM form. Two while the provider changes its own."
    )
    idp_initiated: Annotated[
        bool,
        InForm(
            _("Allow sign-in that begins at the provider"),
            _("From a page of the provider that lists applications. Less safe."),
            section="advanced",
        ),
    ] = Field(default=False, description="SAML: whether a sign-in may begin at the provider.")
    claims: ClaimsSpec = Field(default=ClaimsSpec(), description="Names of the claims. Default: the preset's.")
    sign_up: Annotated[
        bool,
        InForm(
            _("Create users at their first sign-in"),
            _("Otherwise only users with the same verified email address can sign in."),
        ),
    ] = Field(default=False, description="Whether the first sign-in of someone without an account creates one.")
    allowed_domains: Annotated[
        tuple[str, ...],
        list_of(_domain, {}, max_length=254),
        InForm(_("Allowed email domains"), _("Such as example.org, separated by commas. Empty: any."), widget="words"),
    ] = Field(default=(), description="Domains of email addresses that may sign up or be linked. Default: any.")
    default_role: Annotated[
        str,
        OneOf((REFUSE, *Role)),
        InForm(_("Role without a matching group"), choices={REFUSE: _("refuse the sign-in")}),
    ] = Field(default=REFUSE, description="Role where no mapping fits. Default: the sign-in is refused.")
    roles: ListOf[RoleMappingSpec] = Field(default=(), description="What the values of the groups claim grant.")
    scim: bool | None = Field(
        default=None,
        description="Whether it provisions users by SCIM, with a token from `tocsin scim`, its page or the API. "
        "Default: unchanged.",
    )
    is_enabled: Annotated[bool, InForm(_("Enabled"), is_last=True)] = Field(
        default=True, alias="enabled", description="Whether users can sign in by it."
    )

    def check(self, errors: SpecErrors) -> None:
        errors.add_duplicates("roles", (mapping.claim for mapping in self.roles), "claim")
        is_saml = self.kind == ProviderProtocol.SAML
        if (is_saml or not PRESETS[self.preset].says_email_verified) and not self.allowed_domains:
            errors.add("allowed_domains", reasons.DOMAINS_NEEDED(), "missing")
        all_keys = {field.alias or name for name, field in type(self).model_fields.items()}
        self.reject_other_keys(all_keys - (OF_OIDC if is_saml else OF_SAML), errors)
        if is_saml and not saml.is_installed():
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
                    errors.add(key, sentence("is not needed: the metadata at metadata_url have it."))


IDENTITY_PROVIDER = Text("identity provider {name}")


def group_names() -> dict[int, str]:
    """Returns the name of each group by its id, for `provider_spec`."""
    return dict(Group.objects.values_list("pk", "name"))


def provider_spec(
    provider: IdentityProvider, names: Mapping[int, str] | None = None, *, with_secrets: bool = False
) -> dict[str, Any]:
    """Returns the provider as written in YAML and the API, without defaults. Includes the secret only on request."""
    names = group_names() if names is None else names
    spec: dict[str, Any] = {
        "name": provider.name,
        "kind": provider.kind,
        "preset": provider.preset,
        "allow_private": provider.allow_private,
        "issuer": provider.issuer,
        "client_id": provider.client_id,
        "scopes": list(provider.scopes),
        **provider.saml,
        "claims": provider.claims,
        "sign_up": provider.sign_up,
        "allowed_domains": list(provider.allowed_domains),
        "default_role": provider.default_role or REFUSE,
        "roles": [_mapping_spec(mapping, names) for mapping in provider.roles],
    }
    spec = {key: value for key, value in spec.items() if value}
    if provider.scim_token_hash is not None:
        spec["scim"] = True
    if not provider.is_enabled:
        spec["enabled"] = False
    if with_secrets and provider.client_secret:
        spec["client_secret"] = crypto.decrypt(provider.client_secret)
    return spec


def provider_state(provider: IdentityProvider) -> dict[str, Any]:
    """Returns the spec with the readable secret, to compare two states of a provider. Never displayed."""
    return provider_spec(provider) | {"client_secret": stored_secret(provider)}


def stored_secret(provider: IdentityProvider) -> str:
    """Returns the client secret; empty if there is none, or no known key decrypts it."""
    return crypto.decrypt_or_none(provider.client_secret) or "" if provider.client_secret else ""


def save_provider(
    spec: Mapping[str, object], *, existing: IdentityProvider | None = None, actor: AuditActor, now: datetime
) -> IdentityProvider:
    """Creates an identity provider, or updates `existing` to match the spec. An omitted secret is kept, an empty one
    deleted.

    Raises Rejected with the field of each problem; "last_administrator" if none would be left among the users in groups
    that the provider pushes.
    """
    with boundary.config_command():
        parsed = IdentityProviderSpec.read(spec, check=_check(existing, now))
        saml = _saml_provider(parsed, now)
        before = provider_spec(existing) if existing else None
        old_mapping = (existing.roles, existing.default_role) if existing else None
        provider = existing or IdentityProvider(slug=slug_of(parsed.name), created_at=now)
        old_secret = stored_secret(provider)
        secret = parsed.client_secret if "client_secret" in parsed.given_keys else old_secret
        if secret != old_secret or not secret:
            provider.client_secret = crypto.encrypt(secret) if secret else ""
        provider.name, provider.kind, provider.preset = parsed.name, parsed.kind, parsed.preset
        provider.issuer, provider.allow_private = saml.entity_id, parsed.allow_private
        provider.saml = {
            name: value
            for name, value in (
                ("metadata_url", parsed.metadata_url),
                ("sso_url", saml.sso_url),
                ("certificates", list(saml.certificates)),
                ("idp_initiated", parsed.idp_initiated),
            )
            if value
        }
        provider.client_id, provider.scopes = parsed.client_id, list(parsed.scopes)
        provider.claims = parsed.claims.written()
        provider.sign_up, provider.allowed_domains = parsed.sign_up, list(parsed.allowed_domains)
        provider.default_role = "" if parsed.default_role == REFUSE else parsed.default_role
        provider.roles = [_stored_mapping(mapping.written()) for mapping in parsed.roles]
        provider.is_enabled = parsed.is_enabled
        provider.save()
        if parsed.scim is not None:
            documents.set_enabled(provider, is_on=parsed.scim, actor=actor, now=now)
        changed = ["client_secret"] if secret != old_secret else []
        audit.record_config_audit(
            "identity_provider", provider, before, provider_spec(provider), actor=actor, now=now, secrets=changed
        )
        # Users with a session get what the mapping gives at their next sign-in; those in pushed groups at once.
        if existing and old_mapping != (provider.roles, provider.default_role) and provider.scim_groups.exists():
            apply_directory_groups(provider.scim_users.select_related("user"), provider, actor=actor, now=now)
    return provider


def delete_provider(provider: IdentityProvider, *, actor: AuditActor, now: datetime) -> None:
    """Deletes an identity provider with its links to users. What it granted stays, as if given manually."""
    with boundary.config_command():
        hooks.reject_if_referenced("identity_provider", provider.pk, provider.name)
        User.objects.filter(role_source=provider.slug).update(role_source="")
        Membership.objects.filter(source=provider.slug).update(source="")
        audit.record_config_audit("identity_provider", provider, provider_spec(provider), None, actor=actor, now=now)
        provider.delete()


def approve_link(link: LinkedIdentity, *, actor: AuditActor, now: datetime) -> None:
    """Links the user to the identity that asked for it: the next sign-in by it succeeds. Does nothing if it is linked.

    Raises `Rejected("not_found")` if another identity has asked since.
    """
    with boundary.config_command():
        found = LinkedIdentity.objects.select_for_update(of=("self",)).filter(pk=link.pk).first()
        if found is None:
            raise Rejected("not_found", sentence("Another identity has asked for this link since. Look at it first."))
        if not found.awaits_approval:
            return
        found.awaits_approval, found.created_at = False, now
        found.save(update_fields=["awaits_approval", "created_at"])
        _record_link(link, "approve_identity", actor, now)


def remove_link(link: LinkedIdentity, *, is_own: bool, actor: AuditActor, now: datetime) -> None:
    """Removes the link of a user to an identity, with the sessions that began by it. A manual role returns, if the
    provider had raised it; the next sign-in with the verified address links anew.

    Raises `Rejected("last_sign_in")` if users remove their own last way to sign in, or "last_administrator".
    """
    user, provider = link.user, link.provider
    with boundary.config_command():
        if is_own and not link.awaits_approval and not _has_other_sign_in(user, link):
            raise Rejected("last_sign_in", reasons.LAST_WAY())
        if link.role_by_hand and user.role_source == provider.slug:
            users.change_own(user, {"role": link.role_by_hand}, actor=actor, now=now)
        _record_link(link, "unlink_identity", actor, now)
        link.delete()
        if not link.awaits_approval:
            end(BrowserSession.objects.filter(user=user, provider=provider))


def _record_link(link: LinkedIdentity, action: str, actor: AuditActor, now: datetime) -> None:
    values = {"provider": link.provider.name, "issuer": link.issuer, "subject": link.subject}
    is_removed = action == "unlink_identity"
    audit.record(
        actor,
        action,
        now=now,
        object_type="user",
        object_id=link.user.pk,
        object_name=link.user.username,
        before=values if is_removed else None,
        after=None if is_removed else values,
    )


def _has_other_sign_in(user: User, link: LinkedIdentity) -> bool:
    others = user.identities.filter(provider__is_enabled=True, awaits_approval=False).exclude(pk=link.pk)
    has_password = user.has_usable_password() and may_use_password(user)
    return has_password or "webauthn" in list_second_factors(user) or others.exists()


def slug_of(name: str) -> str:
    """Returns the part of the redirect URI that follows from a name."""
    return slugify(name)[:60] or "sso"


def _saml_provider(parsed: IdentityProviderSpec, now: datetime) -> SamlProvider:
    """Returns what the given metadata say, with the given certificates; else what is given beside them. Raises
    InvalidValue."""
    if not parsed.metadata:
        return SamlProvider(parsed.issuer, parsed.sso_url, parsed.certificates)
    found = read_metadata(parsed.metadata, parsed.issuer, now)
    return replace(found, certificates=tuple(dict.fromkeys((*found.certificates, *parsed.certificates))))


def _check(existing: IdentityProvider | None, now: datetime) -> Any:
    def check(parsed: IdentityProviderSpec, errors: SpecErrors) -> None:
        if parsed.kind == ProviderProtocol.SAML:
            _check_saml(parsed, errors, now)
        others = IdentityProvider.objects.exclude(pk=existing.pk) if existing else IdentityProvider.objects.all()
        if not errors.has("name"):
            if others.filter(name__iexact=parsed.name).exists():
                errors.add("name", NAME_IN_USE(name=parsed.name), "name_taken")
            elif existing is None and (similar := others.filter(slug=slug_of(parsed.name)).first()):
                errors.add("name", reasons.SIMILAR_NAME(name=similar.name), "name_taken")
        if existing and existing.kind != parsed.kind:
            errors.add("kind", sentence("never changes. Add another provider instead."))
        # A stored secret is never sent to another server.
        if (
            existing
            and existing.client_secret
            and "client_secret" not in parsed.given_keys
            and is_different_origin(existing.issuer, parsed.issuer)
        ):
            errors.add("client_secret", ENTER_SECRET_AGAIN(), "missing")
        for index, mapping in enumerate(parsed.roles):
            for place, grant in enumerate(mapping.groups):
                if grant.group and find_group(grant.group) is None:
                    path = f"roles[{index}].groups[{place}].group"
                    errors.add(path, NO_SUCH_GROUP(name=grant.group), "not_found")

    return check


def _check_saml(parsed: IdentityProviderSpec, errors: SpecErrors, now: datetime) -> None:
    try:
        saml = _saml_provider(parsed, now)
    except InvalidValue as problem:
        errors.extend(problem.errors, "metadata")
        return
    place = "metadata" if parsed.metadata else "certificates"
    if parsed.metadata and not saml.sso_url.startswith(("https://", "http://") if parsed.allow_private else "https://"):
        errors.add(place, reasons.NOT_HTTPS())
    usable, reason = usable_certificates(saml.certificates, now)
    if not usable and saml.certificates:
        errors.add(place, reason)


def _stored_mapping(written: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a mapping as it is stored, with groups by their id, so that it survives their renaming."""
    grants = []
    for grant in written.get("groups", ()):
        group = find_group(grant["group"])
        assert group is not None, "an unknown group is rejected"
        grants.append(
            {"group": group.pk, "role": grant.get("role", ""), "on_call_roles": list(grant.get("on_call_roles", ()))}
        )
    return {"claim": written["claim"], "role": str(written["role"]), "groups": grants}


def _mapping_spec(mapping: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    grants = [
        {key: value for key, value in {**grant, "group": names.get(grant["group"], "")}.items() if value}
        for grant in mapping["groups"]
    ]
    return {"claim": mapping["claim"], "role": mapping["role"]} | ({"groups": grants} if grants else {})


def claim_names(provider: IdentityProvider) -> dict[str, str]:
    """Returns the name of each claim of the provider."""
    return PRESETS[provider.preset].claim_names(provider.kind, provider.claims)


# ---------- retention


_EXPIRED_SESSIONS = """
WITH old AS (
  SELECT session_key FROM django_session WHERE expire_date < %(before)s LIMIT %(chunk)s
), browsers AS (
  DELETE FROM identity_browsersession b USING old WHERE b.session_key = old.session_key
)
DELETE FROM django_session s USING old WHERE s.session_key = old.session_key
"""

EXPIRIES = (Expiry(_EXPIRED_SESSIONS, timedelta()),)
