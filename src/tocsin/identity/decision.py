"""Decides what a sign-in by an identity provider becomes: claims, configuration and what exists → sign in, create,
link or refuse, with role and memberships. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from tocsin.access import roles
from tocsin.access.roles import Role
from tocsin.core.reasons import NO_REASON, Person, Reason, Term
from tocsin.identity import reasons
from tocsin.identity.claims import Claims
from tocsin.identity.role_mapping import (
    NO_CHANGES,
    ExistingMembership,
    MappedRoles,
    MembershipChanges,
    RoleMapping,
    map_roles,
    plan_memberships,
)


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
            reasons.IS_CREATED(user=claims.username or claims.email),
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
        return reasons.SERVICE_ACCOUNT(user=person)
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
        return reasons.DOMAIN_NOT_ALLOWED(domain=domain, provider=rules.name)
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
    return reasons.NO_ROLE(provider=rules.name)


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
