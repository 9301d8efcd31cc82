"""Invites several users at once. Every line is checked before any user is created."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from tocsin.access import boundary
from tocsin.access.audit import AuditActor
from tocsin.access.roles import Role
from tocsin.core.errors import Rejected, RejectedAll
from tocsin.core.hooks import Hooks
from tocsin.core.reasons import Reason, Text, sentence
from tocsin.core.validation import inputs
from tocsin.core.validation.inputs import AT_PATH, DUPLICATE, NO_SUCH_GROUP, raise_all, rejected_at
from tocsin.core.validation.spec import InvalidValue, Line, ListOf, OneOf, Spec, SpecErrors
from tocsin.people import addresses
from tocsin.people.changes import groups, users
from tocsin.people.changes.users import Email
from tocsin.people.models import Group, User

COLUMNS = ("email", "name", "phone", "role", "groups", "username")
MAX_INVITATIONS = 500

#: "Ann Example <ann@example.org>", as mail programs copy it.
_NAMED_ADDRESS = re.compile(r"\s*(?P<name>.*?)\s*<(?P<email>[^<>]*)>\s*")

#: Mails the invitation of a user in the name of another. Raises the provider's error.
type SendInvitation = Callable[[User, User], None]

SENDERS: Hooks[SendInvitation] = Hooks()

_TOO_MANY = Text("At most {maximum} people can be invited at once; these are {count}.")


def _phone(text: str) -> str:
    try:
        return addresses.validate_address("sms", text) if text else ""
    except Rejected as rejection:
        raise InvalidValue(rejection.reason, rejection.code) from None


class InvitationSpec(Spec):
    """One invited person."""

    email: Email = Field(description="Email address, to which the invitation is sent.")
    name: Line = Field(default="", max_length=200, description="Full name.")
    phone: Annotated[Line, AfterValidator(_phone)] = Field(
        default="", max_length=50, description="Phone number for texts; the person verifies it with a code."
    )
    role: Annotated[Role, OneOf()] = Field(default=Role.RESPONDER, description="Role, which decides what they may do.")
    groups: ListOf[Line] = Field(default=(), description="Names of the groups of which they become members.")
    username: Line = Field(default="", max_length=100, description="Default: the part of the address before the @.")

    def user_spec(self, time_zone: str) -> dict[str, Any]:
        """Returns the new user in the form of YAML and the API."""
        methods = [{"label": users.FIRST_LABEL, "channel": "email", "address": self.email}]
        if self.phone:
            methods.append({"label": "SMS-Official", "channel": "sms", "address": self.phone})
        return {
            "username": self.username or self.email.partition("@")[0],
            "name": self.name,
            "email": self.email,
            "role": str(self.role),
            "time_zone": time_zone,
            "contact_methods": methods,
        }


@dataclass(frozen=True, slots=True)
class InvitationLine:
    """What one line of a text says, and its number."""

    number: int
    values: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class InvitationProblem:
    """What is wrong with one entry: its index, the field if there is one, and the reason."""

    index: int
    field: str
    rejection: Rejected


def read_lines(text: str) -> list[InvitationLine]:
    """Reads pasted addresses, separated by lines, commas or semicolons; or CSV whose first line names its columns.
    Groups are separated by semicolons or bars.

    Raises Rejected for a text that is neither, without any entry, or with too many.
    """
    rows = [(number, row) for number, row in enumerate(inputs.read_csv(text), 1) if any(row)]
    names = [cell.casefold() for cell in rows[0][1]] if rows else []
    is_csv = bool(names) and not any("@" in name for name in names)
    lines = list(_csv_lines(names, rows[1:]) if is_csv else _pasted_lines(rows))
    if not lines:
        raise Rejected("missing", sentence("Enter at least one email address."))
    if len(lines) > MAX_INVITATIONS:
        raise Rejected("too_many", _TOO_MANY(maximum=MAX_INVITATIONS, count=len(lines)))
    return lines


def find_problems(entries: Sequence[Mapping[str, object]]) -> list[InvitationProblem]:
    """Returns every problem of the entries, in their order."""
    return [
        InvitationProblem(index, (problem.field or "").partition("[")[0], problem)
        for index, problems in enumerate(_check(entries))
        for problem in problems
    ]


def invite(entries: Sequence[Mapping[str, object]], *, time_zone: str, actor: AuditActor, now: datetime) -> list[User]:
    """Creates the users and adds them to their groups, without a password and without sending anything.

    Raises RejectedAll, naming each place from `invitations` on, if any entry has a problem; then nothing is created.
    """
    if len(entries) > MAX_INVITATIONS:
        raise Rejected("too_many", _TOO_MANY(maximum=MAX_INVITATIONS, count=len(entries)))
    with boundary.config_command():
        raise_all(
            rejected_at(f"invitations[{one.index}].{one.field}".rstrip("."), _inner(one.rejection), one.rejection.code)
            for one in find_problems(entries)
        )
        invited = [InvitationSpec.read(entry) for entry in entries]
        created = [
            users.save_user(one.user_spec(time_zone), actor=actor, now=now, contacts_need_code=True) for one in invited
        ]
        for name in dict.fromkeys(group.casefold() for one in invited for group in one.groups):
            members = [
                user
                for one, user in zip(invited, created, strict=True)
                if name in (group.casefold() for group in one.groups)
            ]
            _add_members(Group.objects.get(name__iexact=name), members, actor, now)
    return created


def send(user: User, inviter: User) -> None:
    """Mails the invitation. Raises the provider's error."""
    for send_invitation in SENDERS.of():
        send_invitation(user, inviter)


def _csv_lines(names: Sequence[str], rows: Sequence[tuple[int, list[str]]]) -> Iterator[InvitationLine]:
    unknown = next((name for name in names if name not in COLUMNS), None)
    if unknown is not None:
        raise Rejected(
            "unknown_column",
            sentence('"{column}" is not a column. The columns are {known}.', column=unknown, known=COLUMNS),
        )
    if "email" not in names:
        raise Rejected("missing", sentence("The first line names no column email."))
    for number, row in rows:
        values: dict[str, object] = {name: cell for name, cell in zip(names, row, strict=False) if cell}
        if isinstance(role := values.get("role"), str):
            values["role"] = role.casefold()
        if isinstance(groups_text := values.get("groups"), str):
            separator = ";" if ";" in groups_text else "|" if "|" in groups_text else ","
            values["groups"] = [name.strip() for name in groups_text.split(separator) if name.strip()]
        # More values than columns are an error of the line, not of the text.
        extra = {f"column {index}": cell for index, cell in enumerate(row[len(names) :], len(names) + 1) if cell}
        yield InvitationLine(number, values | extra)


def _pasted_lines(rows: Sequence[tuple[int, list[str]]]) -> Iterator[InvitationLine]:
    for number, row in rows:
        for cell in filter(None, row):
            named = _NAMED_ADDRESS.fullmatch(cell)
            yield InvitationLine(number, named.groupdict() if named else {"email": cell})


def _check(entries: Sequence[Mapping[str, object]]) -> Iterator[list[Rejected]]:
    """Yields the problems of each entry."""
    emails: set[str] = set()
    usernames: set[str] = set()
    known_groups = {name.casefold() for name in Group.objects.values_list("name", flat=True)}
    for entry in entries:
        email = str(entry.get("email", "")).strip().casefold()
        problems = [rejected_at("email", DUPLICATE(value=email), "name_taken")] if email in emails else []
        emails |= {email} - {""}
        try:
            spec = InvitationSpec.read(entry, check=lambda spec, errors: _check_groups(spec, known_groups, errors))
            user = spec.user_spec("UTC")
            if not problems and user["username"].casefold() in usernames:
                problems.append(rejected_at("username", DUPLICATE(value=user["username"]), "name_taken"))
            usernames.add(user["username"].casefold())
            users.validate_user(user)
        except Rejected as rejected:
            problems += rejected.problems if isinstance(rejected, RejectedAll) else [rejected]
        yield problems


def _check_groups(spec: InvitationSpec, known: set[str], errors: SpecErrors) -> None:
    for index, name in enumerate(spec.groups):
        if name.casefold() not in known:
            errors.add(f"groups[{index}]", NO_SUCH_GROUP(name=name), "not_found")


def _inner(rejection: Rejected) -> Reason:
    """Returns the reason without the path that it begins with."""
    reason = rejection.reason
    return inner if reason.code == AT_PATH.code and isinstance(inner := reason["problem"], Reason) else reason


def _add_members(group: Group, members: Sequence[User], actor: AuditActor, now: datetime) -> None:
    spec = groups.group_spec(group)
    spec["members"] += [{"user": user.username} for user in members]
    groups.save_group(spec, existing=group, actor=actor, now=now)
