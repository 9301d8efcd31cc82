"""What the viewer of the current request may see, and the manager that limits every query to it.

A viewer with a boundary sees only some objects. `limited_to` sets the boundary for a request; from then on each query
of a model with a `BoundedManager` is limited, wherever it is made. The filters of the models are registered in one
place, `resources.visibility`. Commands run `unbounded`, because what they change concerns others too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Self

from django.core.exceptions import EmptyResultSet, FullResultSet
from django.db import models, transaction
from django.db.models import Expression, F, Model, Q, QuerySet

from tocsin.core.config import settings_store


@dataclass(frozen=True, slots=True)
class Boundary:
    """What one viewer sees: what belongs to these groups, what they were paged about, and what they own."""

    user_id: int
    #: The groups in which the viewer has a role.
    groups: frozenset[int] = frozenset()
    #: The inbound integrations that these groups own.
    integrations: frozenset[int] = frozenset()
    #: Alerts that the viewer sees besides, because one about which they were paged was merged into it.
    alerts: frozenset[int] = frozenset()
    #: A client observer sees the alerts of these clients, and nothing else.
    clients: tuple[str, ...] = ()
    #: What the objects of this request refer to, also that of other groups, as table:id. See `refer_to`.
    referenced: frozenset[str] = frozenset()
    #: Whether the values are expressions that PostgreSQL evaluates for its viewer: see `resources.row_security`.
    is_in_database: bool = False


#: Returns the condition that a boundary sets for the rows of a model.
type Filter = Callable[[Boundary], Q]

_current: ContextVar[Boundary | None] = ContextVar("boundary", default=None)
#: The boundary of the viewer for whom a command runs, which is not in force then.
_viewer: ContextVar[Boundary | None] = ContextVar("viewer", default=None)
_filters: dict[type[Model], Filter] = {}


def current() -> Boundary | None:
    """Returns the boundary in force; None if everything is visible."""
    return _current.get()


@contextmanager
def limited_to(boundary: Boundary | None) -> Iterator[None]:
    """Limits queries to `boundary`; None lifts any limit."""
    token, viewer_token = _current.set(boundary), _viewer.set(boundary)
    try:
        yield
    finally:
        _current.reset(token)
        _viewer.reset(viewer_token)


def enter(boundary: Boundary | None) -> None:
    """Sets the boundary until the end of the surrounding `limited_to`."""
    _current.set(boundary)
    _viewer.set(boundary)


def refer_to(references: Mapping[type[Model], Iterable[int | None]]) -> None:
    """Lets the viewer read, and keep, what a visible object refers to, until the end of the surrounding `limited_to`:
    ids by model. Otherwise a form would lack it, and saving the form would drop it.
    """
    limit = current()
    if limit is None:
        return
    referenced = {f"{model._meta.db_table}:{number}" for model, ids in references.items() for number in ids if number}
    if not referenced <= limit.referenced:
        enter(replace(limit, referenced=limit.referenced | referenced))


@contextmanager
def unbounded() -> Iterator[None]:
    """Lifts the boundary, for commands and for lookups whose result nobody sees."""
    token = _current.set(None)
    try:
        yield
    finally:
        _current.reset(token)


def as_viewer() -> AbstractContextManager[None]:
    """Puts the boundary of the viewer in force again, within a command that says what the viewer may know."""
    return limited_to(_viewer.get())


def limited_by_hand[M: Model](rows: QuerySet[M]) -> QuerySet[M]:
    """Returns `rows`, made `unbounded` and limited by the caller, without the filter of their model."""
    rows._boundary = current()  # type: ignore[attr-defined]
    return rows


@contextmanager
def command() -> Iterator[None]:
    """A transaction of Django's connection for a command, which changes rows regardless of who may see them."""
    with unbounded(), transaction.atomic():
        yield


@contextmanager
def config_command() -> Iterator[None]:
    """A `command` that changes configuration: it excludes all others, so that what it validates still holds when it
    commits."""
    with command():
        settings_store.lock()
        yield


def register(filters: Mapping[type[Model], Filter]) -> None:
    _filters.update(filters)


def filters() -> Mapping[type[Model], Filter]:
    return _filters


#: Names that Django gives to the tables of subqueries: U0, V1, …
_SUBQUERY_ALIAS = re.compile(r"\b([U-Z]\d+)\b")


@lru_cache(maxsize=1000)
def render(model: type[Model], limit: Boundary) -> tuple[str, tuple[Any, ...]]:
    """Returns the condition of a model's filter as SQL, with its parameters for `%s`. Columns stand behind the quoted
    name of the table. Raises LookupError for a model without a filter."""
    if model not in _filters:
        raise LookupError(f"{model.__name__} has no filter in resources.visibility.")
    with unbounded():
        query = model._base_manager.filter(_filters[model](limit)).query
    try:
        sql, parameters = query.get_compiler(using="default").compile(query.where)
    except EmptyResultSet:
        return "false", ()
    except FullResultSet:
        return "true", ()
    # The condition may stand in a subquery, whose tables have such names too.
    return f"({_SUBQUERY_ALIAS.sub(r'B\1', sql)})", tuple(parameters)


class _Within(Expression):
    """Whether a row is within a boundary."""

    conditional = True
    output_field = models.BooleanField()

    def __init__(self, model: type[Model], limit: Boundary) -> None:
        super().__init__()
        self._model, self._limit, self._key = model, limit, F("pk")

    def get_source_expressions(self) -> list[Any]:
        return [self._key]

    def set_source_expressions(self, exprs: Any) -> None:
        (self._key,) = exprs

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, tuple[Any, ...]]:
        sql, parameters = render(self._model, self._limit)
        table, alias = self._model._meta.db_table, compiler.quote_name(self._key.alias)  # type: ignore[attr-defined]
        return sql.replace(f'"{table}".', f"{alias}."), parameters


class BoundedQuerySet[M: Model](QuerySet[M]):
    """A queryset that shows only what the boundary in force allows.

    The condition is added when the queryset is derived from another too, because a form's queryset is made when its
    module is imported.
    """

    _boundary: Boundary | None = None

    def _chain(self) -> Self:
        rows: Self = super()._chain()  # type: ignore[misc]
        rows._boundary = self._boundary
        return rows.bounded()

    def bounded(self) -> Self:
        """Returns the rows within the boundary in force. Raises LookupError for a model without a filter."""
        boundary = current()
        # A query that is sliced, or a union, was already limited when it was made.
        if boundary is None or self._boundary is boundary or self.query.is_sliced or self.query.combinator:
            return self
        self._boundary = boundary
        return self.filter(_Within(self.model, boundary))


class BoundedManager[M: Model](models.Manager.from_queryset(BoundedQuerySet)):  # type: ignore[misc]
    """The manager of a model whose rows belong to groups, clients or users."""

    def get_queryset(self) -> QuerySet[M]:
        rows: Any = super().get_queryset()
        bounded: QuerySet[M] = rows.bounded()
        return bounded
