"""Creates, changes and deletes identity providers, and removes their links to users: validates, writes the audit log,
and makes all nodes reload.

A spec has the shape of YAML and the API. The client secret can be written but not read back. The caller checks
permissions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from django.utils.text import slugify

from tocsin.access import audit, boundary, config_audit
from tocsin.access.audit import AuditActor
from tocsin.core import object_hooks
from tocsin.core.config import config_version, crypto
from tocsin.core.config.crypto import ENTER_SECRET_AGAIN
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, ReasonType
from tocsin.core.validation.field_errors import NAME_IN_USE
from tocsin.core.validation.server_origin import is_different_origin
from tocsin.core.validation.spec import InvalidValue, SpecErrors
from tocsin.identity import browser_sessions, reasons
from tocsin.identity.models import BrowserSession, IdentityProvider, LinkedIdentity
from tocsin.identity.presets import PRESETS, ProviderProtocol
from tocsin.identity.saml.metadata import SamlProvider, read_metadata, usable_certificates
from tocsin.identity.scim import tokens
from tocsin.identity.scim.provisioned_groups import apply_directory_groups
from tocsin.identity.specs import REFUSE, IdentityProviderSpec
from tocsin.people.changes import users
from tocsin.people.models import Group, Membership, User
from tocsin.people.name_lookup import find_group
from tocsin.people.reasons import NO_SUCH_GROUP
from tocsin.people.second_factors import list_second_factors
from tocsin.people.sign_in_rules import may_use_password

IDENTITY_PROVIDER = ReasonType("object.identity_provider", "identity provider {name}")


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
    with boundary.command():
        config_version.lock()
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
            tokens.set_enabled(provider, is_on=parsed.scim, actor=actor, now=now)
        changed = ["client_secret"] if secret != old_secret else []
        config_audit.record(
            "identity_provider", provider, before, provider_spec(provider), actor=actor, now=now, secrets=changed
        )
        # Users with a session get what the mapping gives at their next sign-in; those in pushed groups at once.
        if existing and old_mapping != (provider.roles, provider.default_role) and provider.scim_groups.exists():
            apply_directory_groups(provider.scim_users.select_related("user"), provider, actor=actor, now=now)
    return provider


def delete_provider(provider: IdentityProvider, *, actor: AuditActor, now: datetime) -> None:
    """Deletes an identity provider with its links to users. What it granted stays, as if given manually."""
    with boundary.command():
        config_version.lock()
        object_hooks.reject_if_referenced("identity_provider", provider.pk, provider.name)
        User.objects.filter(role_source=provider.slug).update(role_source="")
        Membership.objects.filter(source=provider.slug).update(source="")
        config_audit.record("identity_provider", provider, provider_spec(provider), None, actor=actor, now=now)
        provider.delete()


def approve_link(link: LinkedIdentity, *, actor: AuditActor, now: datetime) -> None:
    """Links the user to the identity that asked for it: the next sign-in by it succeeds. Does nothing if it is linked.

    Raises `Rejected("not_found")` if another identity has asked since.
    """
    with boundary.command():
        config_version.lock()
        found = LinkedIdentity.objects.select_for_update(of=("self",)).filter(pk=link.pk).first()
        if found is None:
            raise Rejected("not_found", reasons.ASKED_AGAIN())
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
    with boundary.command():
        config_version.lock()
        if is_own and not link.awaits_approval and not _has_other_sign_in(user, link):
            raise Rejected("last_sign_in", reasons.LAST_WAY())
        if link.role_by_hand and user.role_source == provider.slug:
            users.change_own(user, {"role": link.role_by_hand}, actor=actor, now=now)
        _record_link(link, "unlink_identity", actor, now)
        link.delete()
        if not link.awaits_approval:
            browser_sessions.end(BrowserSession.objects.filter(user=user, provider=provider))


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


def providers_using_group(group_id: int) -> Iterable[Reason]:
    """The providers that grant a membership of the group: it cannot be deleted while they do."""
    for provider in IdentityProvider.objects.all():
        if any(grant["group"] == group_id for mapping in provider.roles for grant in mapping["groups"]):
            yield IDENTITY_PROVIDER(name=provider.name)


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
            errors.add("kind", reasons.KIND_FIXED())
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
