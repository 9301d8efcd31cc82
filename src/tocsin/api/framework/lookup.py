"""Resolves the object that a URL or body names: by id, or by name ignoring case."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from django.db.models import Model, QuerySet
from django.utils.translation import gettext_noop
from pydantic import AfterValidator, AwareDatetime, BeforeValidator

from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType, Term

NO_SUCH_OBJECT = ReasonType("api.no_such_object", "There is no {label} {name}.")
NOT_A_USERNAME = ReasonType("api.not_a_username", "must be a user's name.")
NO_SUCH_NUMBER = ReasonType("api.no_such_number", "There is no {label} number {name}.")

#: The labels that callers pass, for the catalogue of translations.
LABELS = (
    gettext_noop("alert"), gettext_noop("import"),
    gettext_noop("absence"), gettext_noop("active user"), gettext_noop("answer by mail"),
    gettext_noop("audit entry"), gettext_noop("button"), gettext_noop("calendar feed"), gettext_noop("client table"),
    gettext_noop("contact method"), gettext_noop("delivery"), gettext_noop("device"),
    gettext_noop("escalation policy"), gettext_noop("group"), gettext_noop("heartbeat"),
    gettext_noop("holiday calendar"), gettext_noop("inbound message"), gettext_noop("integration"),
    gettext_noop("maintenance window"), gettext_noop("notification"), gettext_noop("outbound integration"),
    gettext_noop("override"), gettext_noop("provider"), gettext_noop("sandbox message"), gettext_noop("schedule"),
    gettext_noop("set of support hours"), gettext_noop("swap"), gettext_noop("token"), gettext_noop("user"),
    gettext_noop("workflow"),
)  # fmt: skip

_MAX_BIGINT = 2**63 - 1


def find[M: Model](rows: QuerySet[M], text: str, *, label: str, name_column: str = "name") -> M:
    """Return the object whose id or name (column `name_column`) is `text`. Raises Rejected("not_found")."""
    row_id = _number(text)
    lookup = {"pk": row_id} if row_id is not None else {f"{name_column}__iexact": text}
    row = rows.filter(**lookup).first() if row_id is None or row_id <= _MAX_BIGINT else None
    if row is None:
        kind = NO_SUCH_NUMBER if row_id is not None else NO_SUCH_OBJECT
        raise Rejected("not_found", kind(label=Term(label), name=text))
    return row


def find_named[M: Model](rows: QuerySet[M], text: str, *, label: str, field: str, name_column: str = "name") -> M:
    """Resolve like `find`, for a filter or body field: a missing object is an invalid value of `field`."""
    try:
        return find(rows, text, label=label, name_column=name_column)
    except Rejected as error:
        raise Rejected("invalid", error.reason, field) from error


def find_by_uuid[M: Model](rows: QuerySet[M], text: str, *, label: str) -> M:
    """Return the object whose UUID is `text`. Raises Rejected("not_found")."""
    try:
        row = rows.filter(pk=UUID(text)).first()
    except ValueError:
        row = None
    if row is None:
        raise Rejected("not_found", NO_SUCH_OBJECT(label=Term(label), name=text))
    return row


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 100 else None


def _moment(value: object) -> object:
    """Repair `…T03:00:00 01:00`, which results from an unencoded plus sign in a URL.

    A bare number is rejected, because it would be parsed as seconds since 1970.
    """
    if not isinstance(value, str) or "-" not in value:
        raise ValueError("must be a moment, such as 2026-12-25T03:00:00Z")
    return f"{value[:-6]}+{value[-5:]}" if len(value) > 6 and value[-6] == " " else value


#: A date and time with time zone in a query string.
Moment = Annotated[AwareDatetime, BeforeValidator(_moment)]


def _in_range(value: datetime) -> datetime:
    if not 1970 < value.year < 2200:
        raise ValueError("must be a moment between 1970 and 2200")
    return value


#: A moment for schedule queries, limited to years with a day before and after.
ScheduleMoment = Annotated[Moment, AfterValidator(_in_range)]
