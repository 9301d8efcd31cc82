"""Carries out a sign-in by an identity provider: loads what `decision` needs, and applies what it decides.

Each change is in the audit log, with the claim that caused it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from django.db.models import Q, QuerySet

from tocsin.access import audit, boundary, refusals, setup_link
from tocsin.access.audit import AuditActor
from tocsin.access.roles import Role
from tocsin.core import object_hooks
from tocsin.core.config import config_version
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, reason_as_json
from tocsin.identity import reasons
from tocsin.identity.claims import MAX_SHOWN, Claims
from tocsin.identity.commands import claim_names
from tocsin.identity.decision import CandidateUser, ProviderRules, SignInAction, SignInDecision, decide
from tocsin.identity.grants import existing_memberships, write_memberships
from tocsin.identity.models import IdentityProvider, LinkedIdentity
from tocsin.identity.presets import PRESETS, ProviderProtocol
from tocsin.identity.role_mapping import MembershipChanges, read_mappings
from tocsin.identity.scim.provisioned_groups import directory_groups
from tocsin.people import sign_in_rules
from tocsin.people.changes import users
from tocsin.people.models import Group, User

#: The interface in the audit log.
VIA = "sso"

_MAX_SAME_NAMES = 50


@dataclass(frozen=True, slots=True)
class SignInRequest:
    """A provider's answer, whose signature and addressee are already checked."""

    provider: IdentityProvider
    claims: Claims
    now: datetime
    #: The client's IP address.
    address: str | None = None

    @property
    def actor(self) -> AuditActor:
        """The provider, which makes the changes."""
        return AuditActor(None, self.provider.name, VIA, self.address)


def preview(provider: IdentityProvider, claims: Claims) -> SignInDecision:
    """Returns what the claims would become, and changes nothing."""
    return _decide(provider, claims)[0]


def complete(request: SignInRequest) -> User:
    """Creates, links or updates the user as decided, and returns them. Raises Rejected("refused")."""
    with boundary.command():
        config_version.lock()
        decision, user = _decide(request.provider, request.claims)
        if decision.action is SignInAction.ASK:
            assert user is not None
            _ask(request, user)
        elif decision.action is not SignInAction.REFUSE:
            try:
                with boundary.command():
                    return _apply(request, decision, user)
            except Rejected as rejected:
                # A claim is no valid username or e-mail address, or another user has it.
                decision = SignInDecision(SignInAction.REFUSE, reasons.INVALID_USER(problem=rejected.reason))
        _record_refusal(request.provider, request.actor, decision.reason, request.now, deciding_claims(request.claims))
    raise Rejected("refused", decision.reason)


def record_failure(provider: IdentityProvider, rejected: Rejected, *, address: str | None, now: datetime) -> None:
    """Records that an answer was refused before its claims were read: forged, expired, or of another sign-in.

    Refusals by `complete` are in the audit log already. The number an hour from one address is limited, because anyone
    can send answers.
    """
    if rejected.code == "refused" or not refusals.is_recordable(f"sign-in {provider.pk} {address}"):
        return
    _record_refusal(provider, AuditActor(None, provider.name, VIA, address), rejected.reason, now, {})


def _record_refusal(
    provider: IdentityProvider, actor: AuditActor, reason: Reason, now: datetime, claims: dict[str, Any]
) -> None:
    audit.record(
        actor,
        "sign_in_refused",
        now=now,
        object_type="identity_provider",
        object_id=provider.pk,
        object_name=provider.name,
        after={"reason": reason_as_json(reason), **claims},
    )


def deciding_claims(claims: Claims) -> dict[str, Any]:
    """Returns the claims that decide, for the audit log."""
    return {
        "issuer": claims.issuer,
        "subject": claims.subject,
        "email": claims.email,
        "groups": list(claims.groups[:MAX_SHOWN]) if claims.groups is not None else None,
    }


def describe_memberships(changes: MembershipChanges) -> list[Reason]:
    """Returns what the changes do to the user's memberships, for administrators who test a provider."""
    ids = [*(grant.group_id for grant in (*changes.added, *changes.changed)), *changes.removed]
    names = {group.pk: group.name for group in Group.objects.filter(pk__in=ids)}
    granted = [
        reasons.JOINS_GROUP(group=names.get(grant.group_id, ""), claim=grant.claim)
        for grant in (*changes.added, *changes.changed)
    ]
    return [*granted, *(reasons.LEAVES_GROUP(group=names.get(group_id, "")) for group_id in changes.removed)]


def rules_of(provider: IdentityProvider) -> ProviderRules:
    """Returns what the provider's configuration decides by."""
    return ProviderRules(
        name=provider.name,
        slug=provider.slug,
        claim_names=claim_names(provider),
        sign_up=provider.sign_up,
        allowed_domains=frozenset(provider.allowed_domains),
        default_role=Role(provider.default_role) if provider.default_role else None,
        mappings=read_mappings(provider.roles),
        says_email_verified=PRESETS[provider.preset].says_email_verified and provider.kind == ProviderProtocol.OIDC,
    )


def _decide(provider: IdentityProvider, claims: Claims) -> tuple[SignInDecision, User | None]:
    identities = LinkedIdentity.objects.filter(provider=provider).select_related("user")
    link = identities.filter(issuer=claims.issuer, subject=claims.subject, awaits_approval=False).first()
    linked = link.user if link else None
    with_email = None if linked or not claims.email else User.objects.filter(email__login=claims.email).first()
    if (user := linked or with_email) and (names := directory_groups(user, provider)) is not None:
        claims = replace(claims, groups=tuple(names), has_groups_overage=False)
    decision = decide(
        claims,
        rules_of(provider),
        linked=_existing(linked, provider) if linked else None,
        with_email=_existing(with_email, provider) if with_email else None,
    )
    return decision, user


def _existing(user: User, provider: IdentityProvider) -> CandidateUser:
    link = LinkedIdentity.objects.filter(provider=provider, user=user, awaits_approval=False).first()
    # Who makes an account, and keeps it, needs nobody's leave to sign it in.
    is_provisioned = provider.scim_users.filter(user=user, is_created=True).exists()
    is_administrator = user.role == Role.ADMIN and user.is_active
    return CandidateUser(
        user_id=user.pk,
        username=user.username,
        role=Role(user.role),
        role_source=user.role_source,
        role_by_hand=Role(link.role_by_hand) if link and link.role_by_hand else None,
        is_active=user.is_active,
        is_service_account=user.is_service_account,
        is_last_administrator=is_administrator
        and (not users.has_administrator(except_for=user) or sign_in_rules.is_last_break_glass(user)),
        asks_administrator=user.is_break_glass or (user.role == Role.ADMIN and not is_provisioned),
        is_linked=link is not None,
        memberships=existing_memberships(user),
    )


def _apply(request: SignInRequest, decision: SignInDecision, user: User | None) -> User:
    provider, claims, now = request.provider, request.claims, request.now
    if user is None:
        user = _create(request, decision)
    else:
        _write_role(request, decision, user)
    _awaiting(provider, user, claims).delete()
    role_by_hand = str(decision.role_by_hand or "") if decision.is_role_mapped else ""
    link, is_new = LinkedIdentity.objects.update_or_create(
        provider=provider,
        user=user,
        defaults={"role_by_hand": role_by_hand, "signed_in_at": now},
        create_defaults={
            "issuer": claims.issuer,
            "subject": claims.subject,
            "role_by_hand": role_by_hand,
            "created_at": now,
            "signed_in_at": now,
        },
    )
    if is_new:
        _record(request, "link_identity", user, after={"provider": provider.name, **deciding_claims(claims)})
    write_memberships(user, provider, decision.memberships, actor=request.actor, now=now)
    if decision.warning:
        _record(request, "grant_refused", user, after={"reason": reason_as_json(decision.warning)})
    return link.user


def _awaiting(provider: IdentityProvider, user: User, claims: Claims) -> QuerySet[LinkedIdentity]:
    same = Q(user=user) | Q(issuer=claims.issuer, subject=claims.subject)
    return LinkedIdentity.objects.filter(same, provider=provider, awaits_approval=True)


def _ask(request: SignInRequest, user: User) -> None:
    """Stores the link for an administrator to approve. One that was asked for before is replaced: what is approved is
    what was shown."""
    provider, claims, now = request.provider, request.claims, request.now
    awaiting = _awaiting(provider, user, claims)
    if awaiting.filter(user=user, issuer=claims.issuer, subject=claims.subject).exists():
        return
    awaiting.delete()
    LinkedIdentity.objects.create(
        provider=provider,
        user=user,
        issuer=claims.issuer,
        subject=claims.subject,
        created_at=now,
        signed_in_at=now,
        awaits_approval=True,
    )
    _record(request, "ask_identity", user, after={"provider": provider.name, **deciding_claims(claims)})


def _create(request: SignInRequest, decision: SignInDecision) -> User:
    claims = request.claims
    spec = {
        "username": _free_username(claims),
        "name": claims.name[:200],
        "email": claims.email,
        "role": str(decision.role),
    }
    user = users.save_user(spec, actor=request.actor, now=request.now)
    user.role_source = request.provider.slug
    user.save(update_fields=["role_source"])
    _record(request, "grant", user, after=_granted(request, decision))
    return user


def _free_username(claims: Claims) -> str:
    """Returns the username of the claim, or else the part of the address before the @; with a number if it is taken."""
    base = (claims.username or claims.email.partition("@")[0])[:90]
    taken = {
        login.casefold()
        for pair in User.objects.filter(Q(username__istartswith=base) | Q(email__istartswith=base)).values_list(
            "username", "email"
        )
        for login in pair
        # The own address is no other user's: that one would have been linked.
        if login.casefold() != claims.email
    }
    candidates = (base, *(f"{base}-{number}" for number in range(2, _MAX_SAME_NAMES)))
    return next((name for name in candidates if name.casefold() not in taken), base)


def _write_role(request: SignInRequest, decision: SignInDecision, user: User) -> None:
    before = {"role": user.role}
    source = request.provider.slug if decision.is_role_mapped else ""
    if not decision.is_role_mapped and user.role_source not in ("", request.provider.slug):
        source = user.role_source
    if (user.role, user.role_source) == (str(decision.role), source):
        return
    user.role, user.role_source = decision.role, source
    user.save(update_fields=["role", "role_source"])
    if before["role"] != user.role:
        if decision.role is Role.ADMIN:
            setup_link.revoke_all()
        _record(request, "grant", user, before=before, after=_granted(request, decision))
        config_version.bump()
        object_hooks.run_change_hooks("user", user.pk, request.now)


def _granted(request: SignInRequest, decision: SignInDecision) -> dict[str, Any]:
    return {"role": str(decision.role), "claim": decision.role_claim, "provider": request.provider.name}


def _record(
    request: SignInRequest,
    action: str,
    user: User,
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> None:
    audit.record(
        request.actor,
        action,
        now=request.now,
        object_type="user",
        object_id=user.pk,
        object_name=user.username,
        before=before,
        after=after,
    )
