"""Users as a provider sees and changes them: those that it created, and those that it found by a filter and linked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from allauth.account.models import EmailAddress
from django.conf import settings
from django.core import signing
from django.db.models import Q, QuerySet

from tocsin.access import audit, boundary
from tocsin.access.roles import Role
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Person, Text, reason_as_json, sentence
from tocsin.core.validation.inputs import REQUIRED, fold_login, is_zone
from tocsin.identity.grants import LEAST_ROLE, granted_roles
from tocsin.identity.models import IdentityProvider, ScimUser
from tocsin.identity.scim import filters, schema
from tocsin.identity.scim.documents import (
    ListQuery,
    ScimRequest,
    narrowed,
    not_found,
    require_version,
    select_documents,
    with_version,
)
from tocsin.identity.scim.schema import NO_DOCUMENT, USER, USER_URN, invalid, read_resource, require, writable
from tocsin.people import addresses
from tocsin.people.changes import users
from tocsin.people.models import User

_PHONE_LABEL = "SMS-Official"
_LOOKUPS = {"userName": "user__username__login", "externalId": "external_id", "id": "scim_id"}
_LANGUAGES = frozenset(code for code, _name in settings.LANGUAGES)


class Refused(Rejected):
    """What a provider may not do with a user."""

    def __init__(self, user: User, problem: Text) -> None:
        super().__init__("mutability", problem(user=_person(user)))
        self.user = user


def read_document(body: object, before: Mapping[str, Any] = NO_DOCUMENT) -> dict[str, Any]:
    """Returns the writable attributes of a POST, or of a PUT on the document `before`. Raises Rejected, naming the
    place.
    """
    document = read_resource(USER, body)
    if "emails" not in document and "@" in document.get("userName", ""):
        # Directories send no address for users without a mailbox; the name for sign-in has the same form.
        document["emails"] = [{"value": document["userName"], "primary": True}]
    # Without it, a PUT must not activate somebody who is deactivated.
    document.setdefault("active", before.get("active", True))
    require(USER, document)
    return document


def create(request: ScimRequest, document: dict[str, Any]) -> dict[str, Any]:
    """Creates a user with the provider's default role. Raises Rejected: "uniqueness" if there is such a user."""
    with boundary.config_command():
        email = _login_email(document)
        _require_allowed_email(request.provider, email)
        username = document["userName"]
        if User.objects.filter(_has_login(username) | _has_login(email)).exists():
            raise Rejected("uniqueness", schema.USER_EXISTS(), "userName")
        role = granted_roles(request.provider, []).role or LEAST_ROLE
        spec = {
            "username": username,
            "name": _full_name(document),
            "email": email,
            "role": str(role),
            "active": document["active"],
            **_preferences(document),
        }
        user = users.save_user(spec, actor=request.actor, now=request.now, contacts_need_code=True)
        User.objects.filter(pk=user.pk).update(role_source=request.provider.slug)
        _add_phone(user, document, request)
        link = ScimUser(provider=request.provider, user=user, scim_id=str(user.pk), is_created=True)
        link.created_at = request.now
        _save_link(link, document, request)
        return to_document(link, request)


def get(request: ScimRequest, scim_id: str) -> dict[str, Any]:
    """Returns a user. Raises `Rejected("not_found")`."""
    return to_document(_find(request, scim_id), request)


def find_all(request: ScimRequest, query: ListQuery) -> tuple[list[dict[str, Any]], int]:
    """Returns a page of the matching users, and how many match.

    A filter by exact userName or e-mail address also finds a user whom no provider provisions yet.
    """
    links = _links(request.provider)
    if query.condition is None and query.sort is None:
        chosen = links[query.start - 1 : query.start - 1 + query.count]
        return [to_document(link, request) for link in chosen], links.count()
    candidates: list[ScimUser] = []
    if query.condition is not None:
        usernames = filters.equal_values(query.condition, ("userName", "userName"))
        emails = filters.equal_values(query.condition, ("emails", "value"))
        links = narrowed(links, query.condition, _LOOKUPS)
        candidates = _candidates(request, usernames, emails)
    return select_documents(query, [to_document(link, request) for link in (*links, *candidates)])


def change(
    request: ScimRequest, scim_id: str, changed: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """Changes a user to what `changed` makes of the current document, and links the user if that has not been done.

    Raises Rejected: "not_found", "changed_meanwhile", "mutability" for what a provider may not change, "uniqueness",
    "last_administrator".
    """
    with _recorded(request), boundary.config_command():
        link = _find(request, scim_id)
        before = to_document(link, request)
        require_version(request, before)
        document = changed(before)
        after = writable(USER, document)
        adopt([link], request)
        _apply(link, after, request)
        if after != writable(USER, before):
            _save_link(link, after, request)
        return to_document(_links(request.provider).get(pk=link.pk), request)


def delete(request: ScimRequest, scim_id: str) -> None:
    """Deletes a user as the web interface does.

    A user whom the configuration still references is deactivated instead, and the rejection "in_use" says so. Raises
    Rejected: "not_found", "changed_meanwhile", "mutability", "last_administrator".
    """
    refused: Rejected | None = None
    with _recorded(request), boundary.config_command():
        link = _links(request.provider).filter(scim_id=scim_id).first()
        if link is None:
            raise not_found(USER, scim_id)
        require_version(request, to_document(link, request))
        user = link.user
        _require_changeable(user)
        if user.role == Role.ADMIN and not link.is_created:
            raise Refused(user, schema.NOT_PROVISIONED)
        try:
            with boundary.command():
                users.delete_user(user, actor=request.actor, now=request.now)
        except Rejected as rejected:
            if rejected.code != "in_use":
                raise
            # Somebody who left must not keep access because a schedule still names them.
            users.change_own(link.user, {"active": False}, actor=request.actor, now=request.now)
            refused = rejected
    if refused is not None:
        raise Rejected(refused.code, schema.DEACTIVATED_INSTEAD(problem=refused.reason))


def find_members(request: ScimRequest, scim_ids: Sequence[str]) -> list[ScimUser]:
    """Returns the users with these ids, linked. Raises Rejected, naming the place, for an id that is none."""
    known = {link.scim_id: link for link in _links(request.provider).filter(scim_id__in=scim_ids)}
    found = []
    for number, scim_id in enumerate(scim_ids):
        try:
            found.append(known.get(scim_id) or _find(request, scim_id))
        except Rejected:
            raise invalid(f"members[{number}].value", schema.NO_SUCH_MEMBER(id=scim_id[:100])) from None
    adopt(found, request)
    return found


def adopt(links: Iterable[ScimUser], request: ScimRequest) -> None:
    """Stores those links that are not stored yet, and records each."""
    for link in links:
        if link._state.adding:
            link.attributes = {}
            link.save()
            after = {"identity_provider": request.provider.name}
            audit.record(request.actor, "link_scim", now=request.now, after=after, **audit.about("user", link.user))


def to_document(link: ScimUser, request: ScimRequest) -> dict[str, Any]:
    """Returns the user in SCIM's form: what the provider wrote, with the values that the user has now."""
    document: dict[str, Any] = {"schemas": [USER_URN], "id": link.scim_id}
    if link.external_id:
        document["externalId"] = link.external_id
    document |= _current_attributes(link)
    groups = [] if link._state.adding else sorted(link.scim_groups.all(), key=lambda group: group.pk)
    if groups:
        document["groups"] = [
            {"value": str(group.pk), "$ref": f"{request.base}/Groups/{group.pk}", "display": group.name}
            for group in groups
        ]
    document["meta"] = {
        "resourceType": "User",
        "created": write_moment(link.created_at),
        "lastModified": write_moment(link.modified_at),
        "location": f"{request.base}/Users/{link.scim_id}",
    }
    return with_version(document)


def write_moment(at: datetime) -> str:
    """Returns the moment as SCIM writes it."""
    return at.isoformat().replace("+00:00", "Z")


def _current_attributes(link: ScimUser) -> dict[str, Any]:
    user, attributes = link.user, dict(link.attributes)
    if not link._state.adding:
        attributes["userName"] = user.username
    attributes.setdefault("userName", user.username)
    if _full_name(attributes) != user.name:
        attributes.pop("name", None)
        attributes.pop("displayName", None)
        if user.name:
            attributes["displayName"] = user.name
    attributes["active"] = user.is_active
    emails = [dict(one) for one in attributes.get("emails", ())]
    login = _login_entry(emails)
    if login is None:
        emails = [{"value": user.email, "type": "work", "primary": True}]
    elif fold_login(login["value"]) != user.email:
        login["value"] = user.email
    return {**attributes, "emails": emails}


def _links(provider: IdentityProvider) -> QuerySet[ScimUser]:
    return provider.scim_users.select_related("user").prefetch_related("scim_groups").order_by("pk")


def _find(request: ScimRequest, scim_id: str) -> ScimUser:
    """Returns the link of a user, which is not stored yet for a user that only a filter has found."""
    link = _links(request.provider).filter(scim_id=scim_id).first()
    if link is not None:
        return link
    try:
        number = int(_signer(request.provider).unsign(scim_id))
    except (signing.BadSignature, ValueError):
        raise not_found(USER, scim_id) from None
    user = _linkable().filter(pk=number).first()
    if user is None:
        raise not_found(USER, scim_id)
    return _candidate(user, request)


def _candidates(request: ScimRequest, usernames: Sequence[str], emails: Sequence[str]) -> list[ScimUser]:
    """Returns the users whom no provider provisions, with that username or verified e-mail address."""
    found: dict[int, ScimUser] = {}
    for username in usernames:
        for user in _linkable().filter(username__login=username):
            found[user.pk] = _candidate(user, request)
    for email in (*usernames, *emails):
        verified = EmailAddress.objects.filter(email__login=email, verified=True).values("user")
        for user in _linkable().filter(pk__in=verified, email__login=email):
            link = found.setdefault(user.pk, _candidate(user, request))
            if email in usernames and fold_login(user.username) != fold_login(email):
                # The directory's name for the user, who has another one here until the provider writes it.
                link.attributes = {"userName": email}
    return list(found.values())


def _linkable() -> QuerySet[User]:
    return User.objects.filter(scim_user=None, is_break_glass=False)


def _candidate(user: User, request: ScimRequest) -> ScimUser:
    # The id is signed, so that a provider can only name a user whom a filter has found.
    return ScimUser(
        provider=request.provider,
        user=user,
        scim_id=_signer(request.provider).sign(str(user.pk)),
        is_created=False,
        created_at=user.created_at,
        modified_at=user.created_at,
    )


def _signer(provider: IdentityProvider) -> signing.Signer:
    return signing.Signer(sep=".", salt=f"scim.{provider.pk}")


def _save_link(link: ScimUser, document: Mapping[str, Any], request: ScimRequest) -> None:
    link.external_id = document.get("externalId", "")
    link.attributes = {name: value for name, value in document.items() if name != "externalId"}
    link.modified_at = later_than(link.modified_at, request.now)
    link.save()


def later_than(before: datetime | None, now: datetime) -> datetime:
    """Returns `now`, or a moment after `before` if a clock went back: a version must change."""
    return now if before is None or now > before else before + timedelta(microseconds=1)


def _apply(link: ScimUser, document: Mapping[str, Any], request: ScimRequest) -> None:
    """Changes the user to match the document. The user's own choice of language and zone stays until it changes."""
    user = link.user
    email = _login_email(document)
    values = {
        "username": document["userName"],
        "name": _full_name(document),
        "email": fold_login(email),
        "active": document["active"],
    }
    current = {"username": user.username, "name": user.name, "email": user.email, "active": user.is_active}
    changes: dict[str, Any] = {name: value for name, value in values.items() if value != current[name]}
    before, after = _preferences(link.attributes), _preferences(document)
    changes |= {name: value for name, value in after.items() if value != before.get(name)}
    if changes:
        _require_changeable(user)
    _require_own(link, changes, request.provider)
    if "email" in changes:
        _require_allowed_email(request.provider, email)
    old_email = user.email
    if changes:
        users.change_own(user, changes, actor=request.actor, now=request.now)
        link.user = user = User.objects.get(pk=user.pk)
    if "email" in changes:
        _move_contact_methods(user, old_email, request)
    if document.get("phoneNumbers") != link.attributes.get("phoneNumbers"):
        _add_phone(user, document, request)


def _require_own(link: ScimUser, changes: Mapping[str, Any], provider: IdentityProvider) -> None:
    """Refuses what would hand over a user whom the provider did not create: anybody may have that username.

    The provider is believed about a verified address of its domains, with which it could sign the user in as well.
    """
    user = link.user
    if link.is_created:
        return
    if user.role == Role.ADMIN and changes.keys() & {"username", "email"}:
        raise Refused(user, schema.ADMINISTRATOR_EMAIL)
    is_believed = (
        user.email.rpartition("@")[2] in provider.allowed_domains
        and EmailAddress.objects.filter(user=user, email__login=user.email, verified=True).exists()
    )
    if "email" in changes and not is_believed:
        raise Refused(user, schema.LOCAL_EMAIL)
    if changes.get("active") is False and user.role == Role.ADMIN and not is_believed:
        raise Refused(user, schema.ADMINISTRATOR_ACTIVE)


@contextmanager
def _recorded(request: ScimRequest) -> Iterator[None]:
    """Records what a provider may not do, outside of the transaction that the refusal ends."""
    try:
        yield
    except Refused as refused:
        if audit.is_recordable(f"scim {request.provider.pk}"):
            after, user = {"reason": reason_as_json(refused.reason)}, audit.about("user", refused.user)
            audit.record(request.actor, "provisioning_refused", now=request.now, after=after, **user)
        raise


def _require_changeable(user: User) -> None:
    if user.is_break_glass:
        raise Refused(user, schema.BREAK_GLASS)


def _require_allowed_email(provider: IdentityProvider, email: str) -> None:
    domain = fold_login(email.rpartition("@")[2])
    if provider.allowed_domains and domain not in provider.allowed_domains:
        raise invalid("emails", sentence("the domain is not among the allowed domains of the provider."))


def _has_login(login: str) -> Q:
    return Q(username__iexact=login) | Q(email__iexact=login)


def _person(user: User) -> Person:
    return Person(user.username, user.pk)


def _login_entry(emails: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Returns the address for sign-in: the primary one, else the one for work, else the first."""
    valued = [one for one in emails if one.get("value")]
    primary = [one for one in valued if one.get("primary")]
    work = [one for one in valued if one.get("type", "").lower() == "work"]
    return next(iter((*primary, *work, *valued)), None)


def _login_email(document: Mapping[str, Any]) -> str:
    login = _login_entry(document.get("emails", ()))
    if login is None:
        raise invalid("emails", REQUIRED())
    return str(login["value"])


def _full_name(document: Mapping[str, Any]) -> str:
    parts = document.get("name") or {}
    both = f"{parts.get('givenName', '')} {parts.get('familyName', '')}"
    return str(document.get("displayName") or parts.get("formatted") or both).strip()


def _preferences(document: Mapping[str, Any]) -> dict[str, str]:
    """Returns language and time zone as far as Tocsin knows them; directories have names of their own for both."""
    tag = str(document.get("preferredLanguage") or document.get("locale") or "")
    language = tag.replace("_", "-").split("-")[0].lower()
    zone = document.get("timezone", "")
    found = {"language": language} if language in _LANGUAGES else {}
    return found | ({"time_zone": zone} if zone and is_zone(zone) else {})


def _move_contact_methods(user: User, old_email: str, request: ScimRequest) -> None:
    """Contact methods with the earlier address for sign-in follow it: nobody reads the mailbox any more."""
    for method in user.contact_methods.filter(channel="email", address__iexact=old_email):
        spec = {**users.contact_method_spec(method), "address": user.email}
        users.save_contact_method(user, spec, existing=method, actor=request.actor, now=request.now)


def _add_phone(user: User, document: Mapping[str, Any], request: ScimRequest) -> None:
    """Gives a user without a phone that of the directory. The user verifies it with a code before it is used."""
    methods = list(user.contact_methods.all())
    is_taken = any(method.channel in addresses.phone_channels() or method.label == _PHONE_LABEL for method in methods)
    number = None if is_taken else _phone(document.get("phoneNumbers", ()))
    if number is not None:
        spec = {"label": _PHONE_LABEL, "channel": "sms", "address": number}
        users.save_contact_method(user, spec, actor=request.actor, now=request.now)


def _phone(numbers: Sequence[Mapping[str, Any]]) -> str | None:
    """Returns the first usable number, mobile ones first. Directories have extensions and notes among them."""
    ordered = sorted(numbers, key=lambda one: (one.get("type") != "mobile", not one.get("primary")))
    for one in ordered:
        try:
            return addresses.validate_address("sms", str(one.get("value", "")).removeprefix("tel:"))
        except Rejected:
            continue
    return None
