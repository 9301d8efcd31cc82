"""`value = ANY(array)` for Django's queries."""

from __future__ import annotations

from typing import Any

from django.db.models import BooleanField, Func, Q, Value


def any_of(value: Any, array: Any, array_type: str = "bigint[]") -> Q:
    """Returns whether `value`, an expression or a field's name, is in `array`, an expression or a list.

    A list is one parameter. psycopg parses a statement with more than 50 parameters each time it runs.
    """
    if array == []:
        return Q(pk__in=())  # no query at all
    values = Value(array) if isinstance(array, list) else array
    template = f"%(expressions)s::{array_type})"
    return Q(Func(value, values, template=template, arg_joiner=" = ANY(", output_field=BooleanField()))
