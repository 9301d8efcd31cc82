"""Authentication and authorization of every endpoint: identifies the caller, checks the role and the query parameters.

Authorization by an object's group is up to the endpoint, which calls `require`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Annotated, Any, cast, get_origin

from django.core.exceptions import ValidationError
from django.db.models import Model, QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.http import parse_etags
from django.utils.translation import gettext_noop
from ninja import Router, Schema
from ninja.operation import Operation
from ninja.security.base import AuthBase
from ninja.utils import check_csrf
from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, Field

from tocsin.access import audit, boundary, tokens
from tocsin.access.models import ApiToken
from tocsin.access.roles import (
    MIN_SCOPES,
    Permission,
    PermissionScope,
    Role,
    TokenLimits,
    permission_scope,
    permissions_of,
)
from tocsin.alerts.commands import Actor
from tocsin.alerts.states import ActorKind, CommandChannel
from tocsin.api.errors import Component
from tocsin.core.config.settings_store import make_etag
from tocsin.core.db.queries import QueryUnion, first, narrow
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Person, Reason, Term, Text, joined, sentence
from tocsin.core.runtime import clock
from tocsin.core.validation.inputs import rejected_at
from tocsin.people import permissions
from tocsin.people.models import GroupContact, User
from tocsin.people.permissions import Viewer
from tocsin.resources import registry, visibility
from tocsin.resources.resource import Resource

# ---------- address masking
# Addresses in responses: complete or masked, according to `people.permissions`.


def address(viewer: Viewer, channel: str, address: str, user_id: int | None, contact: GroupContact | None) -> str:
    """Return the address of a notification or delivery to a user or a group contact, as `viewer` may see it."""
    if contact is not None:
        return viewer.group_address(contact.group_id, channel, address)
    return viewer.address(user_id, channel, address)


# ---------- etags
# `ETag` and `If-Match`: optimistic locking, so that a client cannot overwrite a change that it has not read.
#
# The tag is derived from the object's configuration instead of the response bytes. It is therefore the same for every
# caller, whatever parts of the object the caller may see and whatever is shown beside it.


#: For the OpenAPI document: the response header of tagged objects, and the request header of changing operations.
ETAG: Mapping[str, Any] = {
    "ETag": {"description": "Of this state of the object, for `If-Match`.", "schema": {"type": "string"}}
}
IF_MATCH: Mapping[str, Any] = {
    "in": "header",
    "name": "If-Match",
    "required": False,
    "schema": {"type": "string"},
    "description": "The `ETag` that the object was read with: 412 where someone has changed it since.",
}

_ANY = "*"

_CHANGED_BY = Text("The object has changed since this If-Match: {user} changed it last, at {at}.")


def tag(response: HttpResponse, state: Mapping[str, Any]) -> None:
    """Set the ETag of an object's state on the response."""
    response["ETag"] = f'"{make_etag(state)}"'


def check(request: HttpRequest, state: Mapping[str, Any], object_type: str, object_id: object) -> None:
    """Check If-Match against the object's current state. `object_type` and `object_id` identify the object in the audit
    log.

    Call it inside `core.config.settings_store.alone`, before anything is written. Without If-Match every state matches.

    Raises Rejected: `changed_meanwhile`, or `invalid` for a malformed tag.
    """
    header = request.headers.get("If-Match")
    if header is None:
        return
    tags = parse_etags(header)
    if not tags:
        raise rejected_at("If-Match", sentence('must be an ETag in quotation marks, as GET returns it: "…".'))
    # A compressing proxy makes the tag weak; it still denotes the same state.
    if tags != [_ANY] and make_etag(state) not in {candidate.removeprefix("W/").strip('"') for candidate in tags}:
        changed = sentence("The object has changed since this If-Match.")
        if last_change := next(audit.list_changes(object_type, object_id), None):
            changed = _CHANGED_BY(user=last_change.actor_name, at=last_change.at)
        remedy = sentence("Read it again, and change its current state.")
        raise Rejected("changed_meanwhile", joined(changed, remedy, separator=" "))


# ---------- moments
# Moments in query strings and bodies.


def _moment(value: object) -> object:
    """Repair `…T03:00:00 01:00`, which results from an unencoded plus sign in a URL.

    A bare number is rejected, because it would be parsed as seconds since 1970.
    """
    if not isinstance(value, str) or "-" not in value:
        raise ValueError("must be a moment, such as 2026-12-25T03:00:00Z")
    return f"{value[:-6]}+{value[-5:]}" if len(value) > 6 and value[-6] == " " else value


def _in_utc(value: datetime) -> datetime:
    """PostgreSQL takes no offset of 16 hours or more, and UTC has no year 0."""
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("must be a moment, such as 2026-12-25T03:00:00Z") from error


#: A date and time with time zone in a body.
UtcDatetime = Annotated[AwareDatetime, AfterValidator(_in_utc)]
#: A date and time with time zone in a query string.
Moment = Annotated[UtcDatetime, BeforeValidator(_moment)]


def _in_range(value: datetime) -> datetime:
    if not 1970 < value.year < 2200:
        raise ValueError("must be a moment between 1970 and 2200")
    return value


#: A moment for schedule queries, limited to years with a day before and after.
ScheduleMoment = Annotated[Moment, AfterValidator(_in_range)]


# ---------- pagination
# Keyset pagination: `?limit=&cursor=` → `{"items": […], "next": …|null}`. Never uses OFFSET and never counts.


#: The positive range of PostgreSQL's bigint.
Number = Annotated[int, Field(ge=1, le=2**63 - 1)]


class PaginationQuery(Schema):
    """The parameters of every list. Each resource adds its own filters."""

    limit: int = Field(default=50, ge=1, le=500, description="How many items at most.")
    cursor: str | None = Field(default=None, max_length=200, description="The `next` of the page before.")


class PaginatedList[Item](BaseModel):
    """One page of a list. `next` is the cursor of the following page, or null at the end."""

    items: list[Item]
    next: str | None


#: What query parameters of these names refer to.
_REFERENCES: Mapping[str, Resource[Any]] = {
    "user": registry.USERS,
    "group": registry.GROUPS,
    "schedule": registry.SCHEDULES,
    "integration": registry.INTEGRATIONS,
}


def narrowed[M: Model](rows: QuerySet[M], query: BaseModel, *names: str, **lookups: str) -> QuerySet[M]:
    """Return the rows that query parameters select: `names` by the column of the same name, others by their lookup.

    A parameter that is not given, or an empty list, selects all.
    """
    for name, lookup in {**{name: name for name in names}, **lookups}.items():
        if (value := getattr(query, name)) is not None and value != []:
            value = _REFERENCES[name].resolve(value, name) if name in _REFERENCES else value
            rows = rows.filter(**{lookup: value})
    return rows


def page[M: Model, Item](
    rows: QueryUnion[M],
    query: PaginationQuery,
    show: Callable[[Sequence[M]], list[Item]],
    *,
    newest_first: bool = False,
) -> dict[str, Any]:
    """Return one page of `rows` in primary key order. `show` formats all rows of the page at once.

    Raises Rejected for an invalid cursor.
    """
    matches = first(after_cursor(rows, query, newest_first=newest_first), query.limit + 1, descending=newest_first)
    page_rows = matches[: query.limit]
    return {"items": show(page_rows), "next": cursor_of(page_rows[-1].pk if len(matches) > query.limit else None)}


def after_cursor[M: Model](rows: QueryUnion[M], query: PaginationQuery, *, newest_first: bool) -> QueryUnion[M]:
    """Return the rows from the query's cursor on. Raises Rejected for an invalid one."""
    if query.cursor is None:
        return rows
    key = _key(rows.model if isinstance(rows, QuerySet) else rows[0].model, query.cursor)
    return narrow(rows, lambda part: part.filter(**{"pk__lt" if newest_first else "pk__gt": key}))


def cursor_of(key: object) -> str | None:
    """Return the cursor of the page after the row with this primary key; None at the end of the list."""
    return None if key is None else base64.urlsafe_b64encode(str(key).encode()).decode().rstrip("=")


def _key(model: type[Model], cursor: str) -> object:
    rejection = Rejected(
        "invalid", sentence("Invalid cursor. Pass the previous page's `next` value unchanged."), "cursor"
    )
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        key: object = model._meta.pk.to_python(text)
    except (binascii.Error, UnicodeError, ValueError, ValidationError) as error:
        raise rejection from error
    if isinstance(key, int) and not 0 <= key < 2**63:
        raise rejection
    return key


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
        # A tool of an assistant calls operations in this process, for the caller of its own request.
        caller: Principal | None = getattr(request, "principal", None)
        if caller is None:
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
            raise rejected_at("If-Match", sentence("is not known at this address; send the request without it."))
        return caller

    def _check_parameters(self, request: HttpRequest) -> None:
        if "\x00" in request.path_info:
            raise Rejected("not_found", sentence("No name contains a NUL character."))
        for name, values in request.GET.lists():
            if name not in self._known_parameters:
                known = ", ".join(sorted(self._known_parameters))
                hint = sentence("This address has no query parameters.")
                if known:
                    hint = sentence("Known here: {names}.", names=known)
                unknown = sentence("{name} is not a query parameter of this address.", name=name)
                raise Rejected("unknown_parameter", joined(unknown, hint, separator=" "), name)
            if any("\x00" in value for value in values):
                raise Rejected("invalid", sentence("No value contains a NUL character."), name)


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
        audit.record_refusal(audit_actor_of(caller), text, token=name, now=caller.now)


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
        return Rejected(
            "forbidden",
            sentence("{user} is {role}, who may {action} of their own groups only.", user=user, role=role, action=text),
        )
    required = Term(_REQUIRED_ROLES.get(action, _REQUIRED_ROLES[Permission.ADMINISTER]))
    return Rejected(
        "forbidden",
        sentence(
            "{user} is {role}; it takes {required} to {action}.", user=user, role=role, required=required, action=text
        ),
    )


def _limit_of(limits: TokenLimits, action: Permission) -> Reason | None:
    """Return why the limits of a token do not permit `action`; None if it is its owner who may not."""
    if action not in permissions_of(limits.scope):
        needed = Term(MIN_SCOPES[action])
        return sentence(
            "This token has the scope {scope}; it takes {required} to {action}.",
            scope=Term(limits.scope),
            required=needed,
            action=Term(_ACTIONS[action]),
        )
    if limits.groups or limits.clients:
        return sentence(
            "This token is limited to groups or clients, and may not {action} beyond them.",
            action=Term(_ACTIONS[action]),
        )
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
        raise Rejected(
            "csrf", sentence("Send the value of the cookie tocsin_csrf as X-CSRFToken, or load the page again.")
        )
    return Principal(request.user, now, None, address)


# ---------- authorized router
# A wrapper around Django Ninja's router on which every operation must declare the permission that it requires.


#: Methods that change an existing object, and therefore accept If-Match.
_CHANGING = frozenset({"PUT", "PATCH", "DELETE"})
#: The path of the list, to which new objects are posted; they have no state to match yet.
_NEW = ""
#: The operations on one object.
_OPERATIONS = {"GET": "get", "PUT": "replace", "PATCH": "change", "DELETE": "delete"}

_ERROR = {
    "description": "What went wrong.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
}


class AuthorizedRouter:
    """The endpoints of one resource.

    Each of the five methods declares an operation: its path, permission, success `status` (200), `answers` (the
    response type, or the component of a configured object; None for no body), the component of its `body` if that is
    one, an `example` of the body, whether the object is `tagged` (see `api.framework.auth`), whether it is `public`
    (for client observers too), and further Ninja options.
    """

    def __init__(self, resource_name: str) -> None:
        self.resource_name = resource_name
        self.router = Router(tags=[resource_name])

    def get[View: Callable[..., Any]](self, path: str, action: Permission, **options: Any) -> Callable[[View], View]:
        return self._add("GET", path, action, **options)

    def post[View: Callable[..., Any]](self, path: str, action: Permission, **options: Any) -> Callable[[View], View]:
        return self._add("POST", path, action, **options)

    def put[View: Callable[..., Any]](self, path: str, action: Permission, **options: Any) -> Callable[[View], View]:
        return self._add("PUT", path, action, **options)

    def patch[View: Callable[..., Any]](self, path: str, action: Permission, **options: Any) -> Callable[[View], View]:
        return self._add("PATCH", path, action, **options)

    def delete[View: Callable[..., Any]](self, path: str, action: Permission, **options: Any) -> Callable[[View], View]:
        return self._add("DELETE", path, action, **options)

    def _add[View: Callable[..., Any]](
        self,
        method: str,
        path: str,
        action: Permission,
        *,
        answers: Any,
        status: int = 200,
        body: Component | None = None,
        tagged: bool = False,
        public: bool = False,
        extra: dict[str, Any] | None = None,
        example: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> Callable[[View], View]:
        if example is not None:
            extra = {"requestBody": {"content": {"application/json": {"example": dict(example)}}}}

        def add(view: View) -> View:
            accepts_if_match = tagged and (method in _CHANGING or (method == "POST" and path != _NEW))
            auth = ApiAuth(action, accepts_if_match=accepts_if_match, is_public=public)
            success = dict((extra or {}).get("responses", {}).get(status, {}))
            if tagged and answers is not None:
                success["headers"] = dict(ETAG)
            if isinstance(answers, Component):
                success |= _content(answers)
            responses: dict[int | str, Any] = {"default": _ERROR, status: success}
            if accepts_if_match:
                responses[412] = {**_ERROR, "description": "Someone has changed it since."}
            operation = _operation(method, path, answers) or view.__name__
            options.setdefault("operation_id", f"{self.resource_name.replace('-', '_')}_{operation}")
            self.router.api_operation(
                [method],
                path,
                auth=auth,
                response={status: dict[str, Any] if isinstance(answers, Component) else answers},
                openapi_extra={
                    **_with_body(extra or {}, body),
                    "x-needs": _required_roles(action),
                    "responses": responses,
                    **({"parameters": [dict(IF_MATCH)]} if accepts_if_match else {}),
                },
                **options,
            )(view)
            auth.register_parameters(self.router.path_operations[path].operations[-1])
            return view

        return add


def _operation(method: str, path: str, answers: Any) -> str | None:
    """Returns what an operation on the list, or on an object itself, is called for every resource."""
    if path == _NEW and method == "POST":
        return "create"
    if path == _NEW and method == "GET" and _is_list(answers):
        return "list"
    return _OPERATIONS.get(method) if path in (_NEW, "/{id}", "/{int:id}") else None


def _is_list(answers: Any) -> bool:
    if isinstance(answers, Component):
        return answers.is_list
    return get_origin(answers) is list or (isinstance(answers, type) and issubclass(answers, PaginatedList))


def _content(component: Component) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": component.mark}}}


def _with_body(extra: dict[str, Any], body: Component | None) -> dict[str, Any]:
    """Returns further keys of an operation, such as an example of its body, with the schema of its body."""
    if body is None:
        return extra
    content = extra.get("requestBody", {}).get("content", {}).get("application/json", {})
    return {**extra, "requestBody": {"content": {"application/json": {**content, "schema": body.mark}}}}


def _required_roles(action: Permission) -> str:
    """Return the roles that may call an operation, for the documentation: "manager (of own groups), admin"."""
    scopes = {role: permission_scope(role, action) for role in Role}
    return ", ".join(
        f"{role} (of own groups)" if scope is PermissionScope.OWN_GROUPS else str(role)
        for role, scope in scopes.items()
        if scope is not PermissionScope.NONE
    )
