"""Finds the object that a URL or a field names: by id, or by name ignoring case."""

from __future__ import annotations

from uuid import UUID

from django.db.models import Model, QuerySet
from django.utils.translation import gettext_noop

from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType, Term

NO_SUCH_OBJECT = ReasonType("api.no_such_object", "No {label} named {name}.")
NOT_A_USERNAME = ReasonType("api.not_a_username", "must be a user's name.")
NO_SUCH_NUMBER = ReasonType("api.no_such_number", "No {label} with ID {name}.")

#: The labels of what is no resource, for the catalogue of translations.
LABELS = (
    gettext_noop("absence"), gettext_noop("active user"), gettext_noop("alert"), gettext_noop("answer by email"),
    gettext_noop("audit entry"), gettext_noop("button"), gettext_noop("calendar feed"), gettext_noop("contact"),
    gettext_noop("contact method"), gettext_noop("delivery"), gettext_noop("device"), gettext_noop("heartbeat"),
    gettext_noop("import"), gettext_noop("inbound message"), gettext_noop("linked identity"),
    gettext_noop("notification"), gettext_noop("outbound call"), gettext_noop("sandbox message"), gettext_noop("swap"),
    gettext_noop("token"), gettext_noop("workflow run"), gettext_noop("handover note"),
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
