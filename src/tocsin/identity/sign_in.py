"""Carries out a sign-in by an identity provider: loads what `decision` needs, and applies what it decides.

Each change is in the audit log, with the claim that caused it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db.models import Q, QuerySet

from tocsin.access import audit, boundary, roles, tokens
from tocsin.access.audit import AuditActor
from tocsin.access.roles import Role
from tocsin.core import hooks
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import NO_REASON, Person, Reason, Term, reason_as_json, sentence
from tocsin.identity import reasons
from tocsin.identity.commands import claim_names
from tocsin.identity.grants import existing_memberships, write_memberships
from tocsin.identity.models import PRESETS, IdentityProvider, LinkedIdentity, ProviderProtocol
from tocsin.identity.role_mapping import (
    MAX_SHOWN,
    NO_CHANGES,
    Claims,
    ExistingMembership,
    MappedRoles,
    MembershipChanges,
    RoleMapping,
    map_roles,
    plan_memberships,
    read_mappings,
)
from tocsin.identity.scim.provisioned_groups import directory_groups
from tocsin.people import sign_in_rules
from tocsin.people.changes import users
from tocsin.people.models import Group, User

# ---------- decision
# Decides what a sign-in by an identity provider becomes: claims, configuration and what exists → sign in, create,
# link or refuse, with role and memberships. Pure.


class SignInAction(StrEnum):
    """What a sign-in becomes."""

    SIGN_IN = "sign_in"
    CREATE = "create"
    LINK = "link"
    #: The account is linked only after an administrator has approved it.
    ASK = "ask"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class ProviderRules:
    """The part of a provider's configuration that decides."""

    name: str
    slug: str
    #: Names of the claims, for reasons.
    claim_names: dict[str, str]
    sign_up: bool
    allowed_domains: Collection[str]
    #: None: whom no mapping fits is refused.
    default_role: Role | None
    mappings: tuple[RoleMapping, ...]
    #: False: the provider never says that an address is verified, so those of `allowed_domains` are.
    says_email_verified: bool


@dataclass(frozen=True, slots=True)
class CandidateUser:
    """A user who may be meant."""

    user_id: int
    username: str
    role: Role
    #: Slug of the provider that set the role; empty: given manually.
    role_source: str
    #: The manual role that a provider's higher role replaced, if any.
    role_by_hand: Role | None
    is_active: bool
    is_service_account: bool
    is_last_administrator: bool
    #: Whether the user is linked to an identity at this provider.
    is_linked: bool
    memberships: tuple[ExistingMembership, ...] = ()
    #: Whether the user is an administrator or a break-glass account that the provider did not create.
    asks_administrator: bool = False


@dataclass(frozen=True, slots=True)
class SignInDecision:
    """What a sign-in becomes, and what it changes."""

    action: SignInAction
    reason: Reason
    #: None: refused, or to be created.
    user_id: int | None = None
    role: Role = Role.OBSERVER
    #: Whether the provider gives the role, rather than a person.
    is_role_mapped: bool = False
    #: The manual role to which the user returns when the provider no longer gives a higher one.
    role_by_hand: Role | None = None
    #: The value of the groups claim that caused the role; empty: none.
    role_claim: str = ""
    role_reason: Reason = NO_REASON
    memberships: MembershipChanges = NO_CHANGES
    #: What the provider may not do, although the sign-in goes on.
    warning: Reason = NO_REASON


def decide(
    claims: Claims, rules: ProviderRules, *, linked: CandidateUser | None, with_email: CandidateUser | None
) -> SignInDecision:
    """Returns what a sign-in becomes.

    `linked` is the user of this issuer and subject; `with_email` the one with the same address.
    """
    user = linked or with_email
    refusal = _refuse_identity(claims, rules, linked, with_email)
    mapped = map_roles(claims.groups or (), rules.mappings, rules.default_role)
    if not refusal:
        refusal = _refuse_role(claims, rules, mapped, user)
    if refusal:
        return SignInDecision(SignInAction.REFUSE, refusal)
    if user is None:
        assert mapped.role is not None
        return SignInDecision(
            SignInAction.CREATE,
            sentence("The user {user} is created and signs in.", user=claims.username or claims.email),
            role=mapped.role,
            is_role_mapped=True,
            role_claim=mapped.claim,
            role_reason=_role_reason(mapped),
            memberships=plan_memberships((), mapped.grants, rules.slug),
        )
    person = Person(user.username, user.user_id)
    is_known = linked is not None
    if not is_known and (user.asks_administrator or not claims.email.isascii()):
        return SignInDecision(SignInAction.ASK, reasons.ASKS_ADMINISTRATOR(user=person), user.user_id)
    reason = reasons.SIGNS_IN(user=person) if is_known else reasons.IS_LINKED(user=person, email=claims.email)
    return _with_role(SignInAction.SIGN_IN if is_known else SignInAction.LINK, reason, user, mapped, rules)


def _refuse_identity(
    claims: Claims, rules: ProviderRules, linked: CandidateUser | None, with_email: CandidateUser | None
) -> Reason:
    """Returns why the claims are no identity of a user, or may not become one."""
    user = linked or with_email
    if linked is None and (refusal := _refuse_email(claims, rules)):
        return refusal
    if user is None:
        return NO_REASON if rules.sign_up else reasons.NO_ACCOUNT(email=claims.email, provider=rules.name)
    person = Person(user.username, user.user_id)
    if user.is_service_account:
        return sentence("{user} is a service account, which never signs in.", user=person)
    if not user.is_active:
        return reasons.USER_DISABLED()
    if linked is None and user.is_linked:
        return reasons.OTHER_SUBJECT(user=person, provider=rules.name)
    return NO_REASON


def _refuse_email(claims: Claims, rules: ProviderRules) -> Reason:
    if not claims.email or "@" not in claims.email:
        return reasons.CLAIM_MISSING(claim=rules.claim_names["email"])
    domain = claims.email.rpartition("@")[2]
    is_trusted_domain = domain in rules.allowed_domains
    is_verified = claims.is_email_verified
    if is_verified is None and not rules.says_email_verified:
        # The configuration requires the domains: no one else's address is believed.
        is_verified = is_trusted_domain
    if not is_verified:
        return reasons.EMAIL_UNVERIFIED(email=claims.email)
    if rules.allowed_domains and not is_trusted_domain:
        return sentence("Addresses of {domain} may not sign in by {provider}.", domain=domain, provider=rules.name)
    return NO_REASON


def _refuse_role(claims: Claims, rules: ProviderRules, mapped: MappedRoles, user: CandidateUser | None) -> Reason:
    """Returns why the groups give no access. Unknown groups never do: the user may have lost the one that did."""
    if rules.mappings and claims.has_groups_overage:
        return reasons.GROUPS_OVERAGE(provider=rules.name)
    if mapped.role is not None:
        return NO_REASON
    if user is not None and not rules.mappings and _by_hand(user, rules) is not None:
        return NO_REASON
    if rules.mappings and claims.groups is None:
        return reasons.GROUPS_MISSING(claim=rules.claim_names["groups"])
    return sentence("None of your groups at {provider} gives access. Ask an administrator.", provider=rules.name)


def _with_role(
    action: SignInAction, reason: Reason, user: CandidateUser, mapped: MappedRoles, rules: ProviderRules
) -> SignInDecision:
    """The manual role stays the least that a user has; the provider's follows its groups."""
    by_hand = _by_hand(user, rules)
    role = mapped.role if by_hand is None else by_hand if mapped.role is None else roles.higher(by_hand, mapped.role)
    assert role is not None
    is_mapped = role != by_hand
    warning = NO_REASON
    if user.is_last_administrator and role is not Role.ADMIN:
        warning = reasons.LAST_ADMINISTRATOR(user=Person(user.username, user.user_id))
        role, is_mapped = Role.ADMIN, by_hand is not Role.ADMIN
    return SignInDecision(
        action,
        reason,
        user.user_id,
        role=role,
        is_role_mapped=is_mapped,
        role_by_hand=by_hand,
        role_claim=mapped.claim if is_mapped else "",
        role_reason=_role_reason(mapped) if is_mapped and not warning else reasons.ROLE_BY_HAND(role=Term(role)),
        memberships=plan_memberships(user.memberships, mapped.grants, rules.slug),
        warning=warning,
    )


def _by_hand(user: CandidateUser, rules: ProviderRules) -> Role | None:
    """Returns the role that a person, or another provider, gave."""
    return user.role_by_hand if user.role_source == rules.slug else user.role


def _role_reason(mapped: MappedRoles) -> Reason:
    assert mapped.role is not None
    role = Term(mapped.role)
    return reasons.ROLE_GRANTED(role=role, claim=mapped.claim) if mapped.claim else reasons.ROLE_DEFAULT(role=role)


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
    with boundary.config_command():
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
    if rejected.code == "refused" or not audit.is_recordable(f"sign-in {provider.pk} {address}"):
        return
    _record_refusal(provider, AuditActor(None, provider.name, VIA, address), rejected.reason, now, {})


def _record_refusal(
    provider: IdentityProvider, actor: AuditActor, reason: Reason, now: datetime, claims: dict[str, Any]
) -> None:
    after, about = {"reason": reason_as_json(reason), **claims}, audit.about("identity_provider", provider)
    audit.record(actor, "sign_in_refused", now=now, after=after, **about)


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
        sentence('member of {group}, by "{claim}"', group=names.get(grant.group_id, ""), claim=grant.claim)
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
        defaults={"role_by_hand": role_by_hand, "signed_in_at": now, "object_id": claims.object_id},
        create_defaults={
            "issuer": claims.issuer,
            "subject": claims.subject,
            "object_id": claims.object_id,
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
            tokens.revoke_all()
        _record(request, "grant", user, before=before, after=_granted(request, decision))
        settings_store.bump()
        hooks.run_change_hooks("user", user.pk, request.now)


def _granted(request: SignInRequest, decision: SignInDecision) -> dict[str, Any]:
    return {"role": str(decision.role), "claim": decision.role_claim, "provider": request.provider.name}


def _record(request: SignInRequest, action: str, user: User, **states: Any) -> None:
    audit.record(request.actor, action, now=request.now, **states, **audit.about("user", user))
