"""The description of one kind of configurable object.

`configure`, `api` and `web` build the YAML, the endpoints, the delete confirmations, the search and the links of every
kind from it, and hold no list of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import reduce
from operator import attrgetter, or_
from typing import Any, Protocol
from uuid import UUID

from django.db.models import Model, Q, QuerySet
from django.utils.translation import gettext_noop

from tocsin.access import audit, boundary
from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.core import hooks
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import Reason, Term, Text
from tocsin.core.validation.spec import Spec

# ---------- lookup
# Finds the object that a URL or a field names: by id, or by name ignoring case.


NO_SUCH_OBJECT = Text("No {label} named {name}.")
NOT_A_USERNAME = Text("must be a user's name.")
NO_SUCH_NUMBER = Text("No {label} with ID {name}.")

#: The labels of what is no resource, for the catalogue of translations.
LABELS = (
    gettext_noop("absence"), gettext_noop("active user"), gettext_noop("alert"), gettext_noop("answer by email"),
    gettext_noop("audit entry"), gettext_noop("button"), gettext_noop("calendar feed"), gettext_noop("contact"),
    gettext_noop("contact method"), gettext_noop("delivery"), gettext_noop("device"), gettext_noop("heartbeat"),
    gettext_noop("import"), gettext_noop("inbound message"), gettext_noop("linked identity"),
    gettext_noop("notification"), gettext_noop("outbound call"),
    gettext_noop("phone call"), gettext_noop("sandbox message"), gettext_noop("swap"),
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


type ResourceSpec = Mapping[str, object]

#: Ids by model.
type References = Mapping[type[Model], Iterable[int | None]]

#: Means that every key may contain secrets.
EVERY_KEY = "*"


class SaveResource[M](Protocol):
    """Creates an object, or updates `existing` to the spec. Raises Rejected with the path of each problem."""

    def __call__(self, spec: ResourceSpec, *, existing: M | None = None, actor: AuditActor, now: datetime) -> M: ...


class DeleteResource[M](Protocol):
    """Deletes an object, and what depends on it. Raises Rejected if it is in use."""

    def __call__(self, row: M, /, *, actor: AuditActor, now: datetime) -> None: ...


class SaveDeferredField[M](Protocol):
    """Sets one key of an object. Returns False if nothing changed."""

    def __call__(self, row: M, value: object, /, *, actor: AuditActor, now: datetime) -> bool: ...


@dataclass(frozen=True, slots=True)
class DeferredField[M]:
    """A key of the YAML that refers to later objects. It is saved once all objects exist; omitted, it stays."""

    #: Its value; an empty one is left out of the spec.
    load: Callable[[M], object]
    save: SaveDeferredField[M]
    #: The type of each entry of its list.
    entry_type: type[Spec]
    description: str


@dataclass(frozen=True, slots=True)
class ResourceViews:
    """The URL names of the pages of a kind."""

    list: str
    detail: str
    edit: str


# Without slots: before Python 3.12.3 a generic class with frozen slots cannot be called by its parameters.
@dataclass(frozen=True)
class Resource[M: Model]:
    """One kind of configurable object."""

    #: The top-level key of the YAML, and with dashes the resource of the API.
    key: str
    #: The singular for messages; with underscores the object type of the audit log and of references.
    label: str
    #: The heading of a list.
    plural: str
    #: The objects, with every relation that `spec` reads.
    rows: Callable[[], QuerySet[M]]
    #: An object as a spec, without secrets. Takes the result of `load_names` as second argument, if there is one.
    spec: Callable[..., dict[str, Any]]
    #: The type of a spec, for the OpenAPI document and the YAML reference.
    spec_type: type[Spec]
    save: SaveResource[M]
    #: Permission required to change an object.
    change_permission: Permission
    #: A spec, for the documentation.
    example: ResourceSpec
    views: ResourceViews
    #: Deletes an object of which more than its row goes.
    delete_command: DeleteResource[M] | None = None
    #: The path to the id of the owning group; "" if only administrators may change an object.
    owner: str = "group_id"
    #: The types of specs by kind, if the keys depend on `kind`.
    kind_specs: tuple[type[Spec], ...] = ()
    name_column: str = "name"
    #: Further columns that a search looks into.
    search_columns: tuple[str, ...] = ()
    #: Permission required to see an object.
    see_permission: Permission = Permission.VIEW_ALERTS
    #: Loads what the specs of several objects need, in a fixed number of queries.
    load_names: Callable[[Sequence[M]], Any] | None = None
    #: The spec with all readable secrets, to compare two states; never shown. If omitted, the spec.
    state: Callable[[M], dict[str, Any]] | None = None
    #: The spec with secrets, for an export. Raises Permanent if one cannot be decrypted.
    spec_with_secrets: Callable[[M], dict[str, Any]] | None = None
    #: The keys below which `{env: NAME}` and `{file: PATH}` are allowed.
    secret_keys: frozenset[str] = frozenset()
    deferred_fields: Mapping[str, DeferredField[M]] = field(default_factory=dict)
    #: The names of objects of the same kind that a spec refers to; those are saved first.
    depends_on: Callable[[Mapping[str, Any]], Iterable[str]] = lambda spec: ()
    #: The ids of what an object needs, by model: those objects cannot be deleted while it refers to them.
    references: Callable[[M], References] | None = None
    #: The ids of what it names besides, which may be deleted.
    mentions: Callable[[M], References] | None = None
    #: Why this version cannot read an object, which a newer one has written; None for every other. Its spec is then for
    #: the audit log only.
    unreadable: Callable[[M], Reason | None] = lambda row: None
    #: The kind of reference by which other objects name an object of this kind.
    reference: Text | None = None

    @property
    def path(self) -> str:
        """The resource in URLs of the API."""
        return self.key.replace("_", "-")

    @property
    def object_type(self) -> str:
        """The object type in the audit log and in `core.hooks`."""
        return self.label.replace(" ", "_")

    def name(self, row: M) -> str:
        """An object's name."""
        return str(getattr(row, self.name_column))

    def owner_group_id(self, row: M) -> int | None:
        """The id of the group that owns an object; None if only administrators may change it."""
        return attrgetter(self.owner)(row) if self.owner else None

    @property
    def group_lookup(self) -> str | None:
        """The lookup that finds the objects of a group; None if they are not owned by one."""
        return self.owner.replace(".", "__") if self.owner not in ("", "pk") else None

    def find_named(self, name: str) -> M | None:
        """The object with that name, case-insensitively."""
        return self.rows().filter(**{f"{self.name_column}__iexact": name}).first()

    def find(self, text: str) -> M:
        """The object with that id or name. Raises Rejected("not_found")."""
        return self.with_references([find(self.rows(), text, label=self.label, name_column=self.name_column)])[0]

    def with_references(self, rows: Sequence[M]) -> Sequence[M]:
        """Lets the viewer of the objects read what they refer to, and returns them with that."""
        if boundary.current() is None:
            return rows
        for find_ids in filter(None, (self.references, self.mentions)):
            for row in rows:
                boundary.refer_to(find_ids(row))
        # The database left out what the viewer could not read.
        complete = {row.pk: row for row in self.rows().filter(pk__in=[row.pk for row in rows])}
        return [complete.get(row.pk, row) for row in rows]

    def search(self, text: str) -> Q:
        """The condition that the name, or another searched column, contains `text`."""
        return reduce(or_, (Q(**{f"{name}__icontains": text}) for name in (self.name_column, *self.search_columns)))

    def resolve(self, text: str, field: str) -> M:
        """Like `find`, for a filter or body field: a missing object is an invalid value. Raises Rejected("invalid")."""
        rows = self.rows().model.objects.all()  # type: ignore[attr-defined]
        found: M = find_named(rows, text, label=self.label, field=field, name_column=self.name_column)
        return found

    def list_all(self) -> QuerySet[M]:
        """All objects, sorted by name."""
        return self.rows().order_by(self.name_column)

    def delete(self, row: M, *, actor: AuditActor, now: datetime) -> None:
        """Deletes an object, with an entry in the audit log. Raises Rejected("in_use"), naming what refers to it."""
        if self.delete_command is not None:
            self.delete_command(row, actor=actor, now=now)
            return
        with boundary.command():
            settings_store.lock()
            hooks.reject_if_referenced(self.object_type, row.pk, self.name(row))
            named: Any = row
            audit.record_config_audit(self.object_type, named, self.spec(row), None, actor=actor, now=now)
            row.delete()

    def specs(self, rows: Sequence[M]) -> list[dict[str, Any]]:
        """The specs of several objects, without secrets."""
        if self.load_names is None:
            return [self.spec(row) for row in rows]
        names = self.load_names(rows)
        return [self.spec(row, names) for row in rows]

    def state_of(self, row: M) -> dict[str, Any]:
        """Everything that a change may overwrite, for comparing states. Never shown."""
        return (self.state or self.spec)(row)

    def yaml_spec(self, row: M, *, with_secrets: bool) -> dict[str, Any]:
        """The object as in YAML, with its deferred fields."""
        spec = self.spec_with_secrets(row) if with_secrets and self.spec_with_secrets else self.spec(row)
        deferred = {key: deferred_field.load(row) for key, deferred_field in self.deferred_fields.items()}
        return spec | {key: value for key, value in deferred.items() if value}
