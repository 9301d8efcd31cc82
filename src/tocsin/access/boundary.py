"""What the viewer of the current request may see, and the manager that limits every query to it.

A viewer with a boundary sees only some objects. `limited_to` sets the boundary for a request; from then on each query
of a model with a `BoundedManager` is limited, wherever it is made. The filters of the models are registered in one
place, `resources.visibility`. Commands run `unbounded`, because what they change concerns others too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Self

from django.db import models, transaction
from django.db.models import Model, Q, QuerySet


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


#: Returns the condition that a boundary sets for the rows of a model.
type Filter = Callable[[Boundary], Q]

_current: ContextVar[Boundary | None] = ContextVar("boundary", default=None)
_filters: dict[type[Model], Filter] = {}


def current() -> Boundary | None:
    """Returns the boundary in force; None if everything is visible."""
    return _current.get()


@contextmanager
def limited_to(boundary: Boundary | None) -> Iterator[None]:
    """Limits queries to `boundary`; None lifts any limit."""
    token = _current.set(boundary)
    try:
        yield
    finally:
        _current.reset(token)


def enter(boundary: Boundary | None) -> None:
    """Sets the boundary until the end of the surrounding `limited_to`."""
    _current.set(boundary)


@contextmanager
def unbounded() -> Iterator[None]:
    """Lifts the boundary, for commands and for lookups whose result nobody sees."""
    with limited_to(None):
        yield


def limited_by_hand[M: Model](rows: QuerySet[M]) -> QuerySet[M]:
    """Returns `rows`, made `unbounded` and limited by the caller, without the filter of their model."""
    rows._boundary = current()  # type: ignore[attr-defined]
    return rows


@contextmanager
def command() -> Iterator[None]:
    """A transaction of Django's connection for a command, which changes rows regardless of who may see them."""
    with unbounded(), transaction.atomic():
        yield


def register(filters: Mapping[type[Model], Filter]) -> None:
    """Registers the filters of models."""
    _filters.update(filters)


def filters() -> Mapping[type[Model], Filter]:
    """Returns the filter of each bounded model."""
    return _filters


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
        if self.model not in _filters:
            raise LookupError(f"{self.model.__name__} has no filter in resources.visibility.")
        with unbounded():
            condition = _filters[self.model](boundary)
        return self.filter(condition)


class BoundedManager[M: Model](models.Manager.from_queryset(BoundedQuerySet)):  # type: ignore[misc]
    """The manager of a model whose rows belong to groups, clients or users."""

    def get_queryset(self) -> QuerySet[M]:
        rows: Any = super().get_queryset()
        bounded: QuerySet[M] = rows.bounded()
        return bounded
