"""Authentication and authorization of every endpoint: identifies the caller, checks the role and the query parameters.

Authorization by an object's group is up to the endpoint, which calls `require`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, cast

from django.http import HttpRequest
from django.utils.translation import gettext_noop
from ninja.operation import Operation
from ninja.security.base import AuthBase
from ninja.utils import check_csrf

from tocsin.access import audit, boundary, refusals, tokens
from tocsin.access.models import ApiToken
from tocsin.access.roles import Permission, Role
from tocsin.access.token_limits import MIN_SCOPES, TokenLimits, permissions_of
from tocsin.alerts.commands import Actor
from tocsin.alerts.states import ActorKind, CommandChannel
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Person, Reason, ReasonType, Term, joined
from tocsin.core.runtime import clock
from tocsin.core.validation.field_errors import AT_PATH
from tocsin.people import permissions
from tocsin.people.models import User
from tocsin.people.permissions import Viewer
from tocsin.resources import visibility

_MANAGER = gettext_noop("a manager or administrator")
_REQUIRED_ROLES = {
    Permission.RESPOND: gettext_noop("a responder, manager or administrator"),
    Permission.MANAGE_TEAMS: _MANAGER,
    Permission.MANAGE_ROUTING: _MANAGER,
    Permission.TEST_INTEGRATIONS: _MANAGER,
    Permission.READ_AUDIT_LOG: _MANAGER,
    Permission.ADMINISTER: gettext_noop("an administrator"),
}
_ROLES = {
    Role.OBSERVER: gettext_noop("an observer"),
    Role.RESPONDER: gettext_noop("a responder"),
    Role.MANAGER: gettext_noop("a manager"),
    Role.ADMIN: gettext_noop("an administrator"),
}
#: What each permission allows, as the end of a sentence.
_ACTIONS = {
    Permission.VIEW_ALERTS: gettext_noop("see alerts, who is on call, and the Inbound Log"),
    Permission.RESPOND: gettext_noop("act on alerts, and create them manually"),
    Permission.VIEW_SELF: gettext_noop("see one's own settings, devices and tokens"),
    Permission.MANAGE_SELF: gettext_noop("change one's own contact methods, absence and shifts"),
    Permission.VIEW_ADDRESSES: gettext_noop("see phone numbers and addresses of others"),
    Permission.MANAGE_TEAMS: gettext_noop("change groups, schedules, overrides and policies"),
    Permission.MANAGE_ROUTING: gettext_noop("change integrations, routes, workflows, outbound and maintenance"),
    Permission.TEST_INTEGRATIONS: gettext_noop("replay, test and send a sample"),
    Permission.READ_AUDIT_LOG: gettext_noop("read the audit log"),
    Permission.ADMINISTER: gettext_noop("change users, providers, security and settings"),
}

_FORBIDDEN = ReasonType("api.forbidden", "{user} is {role}; it takes {required} to {action}.")
_FORBIDDEN_ELSEWHERE = ReasonType(
    "api.forbidden_elsewhere", "{user} is {role}, who may {action} of their own groups only."
)
_SCOPE_TOO_SMALL = ReasonType(
    "api.scope_too_small", "This token has the scope {scope}; it takes {required} to {action}."
)
_LIMITED_TOKEN = ReasonType(
    "api.limited_token", "This token is limited to groups or clients, and may not {action} beyond them."
)
_IF_MATCH_UNKNOWN = ReasonType("api.if_match_unknown", "is not known at this address; send the request without it.")
_NUL_IN_NAME = ReasonType("api.nul_in_name", "No name contains a NUL character.")
_NUL_IN_VALUE = ReasonType("api.nul_in_value", "No value contains a NUL character.")
_UNKNOWN_PARAMETER = ReasonType("api.unknown_parameter", "{name} is not a query parameter of this address.")
_KNOWN_PARAMETERS = ReasonType("api.known_parameters", "Known here: {names}.")
_NO_PARAMETERS = ReasonType("api.no_parameters", "This address has no query parameters.")
_CSRF = ReasonType("api.csrf", "Send the value of the cookie tocsin_csrf as X-CSRFToken, or load the page again.")


_SAFE_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True)
class Principal:
    """The authenticated caller, with the time and client address of the request.

    A token acts as its user, within its limits. Without one, the caller is a browser session.
    """

    user: User
    now: datetime
    token: ApiToken | None
    address: str | None

    @property
    def is_token(self) -> bool:
        """Whether the caller is a token."""
        return self.token is not None

    @property
    def limits(self) -> TokenLimits | None:
        """The limits of the token; None for a browser session."""
        return self.token.limits if self.token is not None else None

    @property
    def role(self) -> Role:
        return self.viewer.role

    @property
    def is_admin(self) -> bool:
        return self.viewer.may(Permission.ADMINISTER)

    @property
    def sees_addresses_of_actors(self) -> bool:
        """Whether the caller sees IP addresses in the audit log, which administrators do, and their tokens that read
        all of it."""
        return self.role is Role.ADMIN and self.viewer.may(Permission.READ_AUDIT_LOG)

    @cached_property
    def viewer(self) -> Viewer:
        """The caller's permissions and visibility, loaded once on first use. A token's are never more than its
        owner's."""
        return permissions.viewer(self.user, self.limits)


class ApiAuth(AuthBase):
    """Django Ninja's authentication hook, one instance per operation, with the action that the operation requires."""

    openapi_type = "http"
    openapi_scheme = "bearer"

    def __init__(self, action: Permission, *, accepts_if_match: bool = False, is_public: bool = False) -> None:
        super().__init__()
        #: Whether client observers may call it, who see nothing internal.
        self.is_public = is_public
        self.action = action
        self.accepts_if_match = accepts_if_match
        self._known_parameters: frozenset[str] = frozenset()

    def register_parameters(self, operation: Operation) -> None:
        """Record the query parameters that the operation accepts."""
        self._known_parameters = frozenset(
            name
            for model in operation.models
            if model.__ninja_param_source__ == "query"
            for name in getattr(model, "__ninja_flatten_map__", None) or model.model_fields
        )

    def __call__(self, request: HttpRequest) -> Principal | None:
        """Return the caller, or None without authentication. Raises Rejected: `forbidden`, `csrf`, or for an unknown
        parameter."""
        # A token may come with the session of somebody else.
        with boundary.unbounded():
            caller = _caller(request)
        if caller is None:
            return None
        # Also for a request that is refused below.
        request.principal = caller  # type: ignore[attr-defined]
        boundary.enter(visibility.boundary_of(caller.viewer))
        if not caller.viewer.may_somewhere(self.action) or (caller.viewer.clients is not None and not self.is_public):
            raise forbidden(caller, self.action)
        self._check_parameters(request)
        if "If-Match" in request.headers and request.method not in _SAFE_METHODS and not self.accepts_if_match:
            # A client that sends If-Match relies on the check, so ignoring the header would be wrong.
            raise Rejected("invalid", AT_PATH(path="If-Match", problem=_IF_MATCH_UNKNOWN()), "If-Match")
        return caller

    def _check_parameters(self, request: HttpRequest) -> None:
        if "\x00" in request.path_info:
            raise Rejected("not_found", _NUL_IN_NAME())
        for name, values in request.GET.lists():
            if name not in self._known_parameters:
                known = ", ".join(sorted(self._known_parameters))
                hint = _KNOWN_PARAMETERS(names=known) if known else _NO_PARAMETERS()
                raise Rejected("unknown_parameter", joined(_UNKNOWN_PARAMETER(name=name), hint, separator=" "), name)
            if any("\x00" in value for value in values):
                raise Rejected("invalid", _NUL_IN_VALUE(), name)


def caller(request: HttpRequest) -> Principal:
    """Return the caller of a request that was authenticated."""
    return cast(Principal, cast(Any, request).auth)


def actor_of(caller: Principal) -> Actor:
    """Return the caller as the actor on an alert's timeline."""
    kind = ActorKind.TOKEN if caller.is_token else ActorKind.USER
    return Actor(kind, caller.user.display_name, caller.user.pk)


def via_of(caller: Principal) -> CommandChannel:
    """Return the command channel: API for a token, web for a browser session."""
    return CommandChannel.API if caller.is_token else CommandChannel.WEB


def record_refusal(request: HttpRequest) -> None:
    """Record that an authenticated request is answered with 403."""
    caller: Principal | None = getattr(request, "principal", None)
    if caller is not None:
        name = caller.token.name if caller.token else ""
        text = f"{request.method} {request.path}"
        refusals.record_refusal(audit_actor_of(caller), text, token=name, now=caller.now)


def audit_actor_of(caller: Principal) -> audit.AuditActor:
    """Return the caller as the actor in the audit log."""
    via = "api" if caller.is_token else "web"
    return audit.AuditActor.from_user(caller.user, via, caller.address, limits=caller.limits)


def require(caller: Principal, action: Permission, group: int | None) -> None:
    """Check that the caller may take `action` on an object that `group` owns. Raises Rejected("forbidden")."""
    if not caller.viewer.may(action, group):
        raise forbidden(caller, action, is_own_groups_only=True)


def forbidden(caller: Principal, action: Permission, *, is_own_groups_only: bool = False) -> Rejected:
    """Return the rejection of a caller whose role does not permit `action`, or only on objects of the own groups."""
    if caller.token is not None and (problem := _limit_of(caller.token.limits, action)):
        return Rejected("forbidden", problem)
    user, role, text = Person(caller.user.username, caller.user.pk), Term(_ROLES[caller.role]), Term(_ACTIONS[action])
    if is_own_groups_only:
        return Rejected("forbidden", _FORBIDDEN_ELSEWHERE(user=user, role=role, action=text))
    required = Term(_REQUIRED_ROLES.get(action, _REQUIRED_ROLES[Permission.ADMINISTER]))
    return Rejected("forbidden", _FORBIDDEN(user=user, role=role, required=required, action=text))


def _limit_of(limits: TokenLimits, action: Permission) -> Reason | None:
    """Return why the limits of a token do not permit `action`; None if it is its owner who may not."""
    if action not in permissions_of(limits.scope):
        needed = Term(MIN_SCOPES[action])
        return _SCOPE_TOO_SMALL(scope=Term(limits.scope), required=needed, action=Term(_ACTIONS[action]))
    if limits.groups or limits.clients:
        return _LIMITED_TOKEN(action=Term(_ACTIONS[action]))
    return None


def _caller(request: HttpRequest) -> Principal | None:
    """Authenticate by the Authorization header if present, and then by nothing else; otherwise by session with a CSRF
    check."""
    now = getattr(request, "now", None) or clock.now()
    address = request.META.get("REMOTE_ADDR") or None
    header = request.headers.get("Authorization")
    if header is not None:
        scheme, _, secret = header.partition(" ")
        token = tokens.verify(secret.strip(), now=now, address=address) if scheme.lower() == "bearer" else None
        return Principal(token.user, now, token, address) if token is not None else None
    if not request.user.is_authenticated:
        return None
    if check_csrf(request) is not None:
        raise Rejected("csrf", _CSRF())
    return Principal(request.user, now, None, address)
