"""Reasons in SQL: the arrays of a bulk statement, and expressions that join stored reasons. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from psycopg.types.json import Jsonb

from tocsin.core.reasons import JOINED, Reason
from tocsin.core.stored_reason import reason_columns


def reason_arrays(reasons: Iterable[Reason]) -> tuple[list[str], list[Jsonb]]:
    """Returns the columns of these reasons, for `unnest(%s::text[], %s::jsonb[])`."""
    columns = [reason_columns(reason) for reason in reasons]
    return [code for code, _ in columns], [Jsonb(data) for _, data in columns]


def reason_part(code: str, data: str) -> str:
    """Returns the expression of one reason; NULL if its code is empty. `code` and `data` are expressions."""
    return f"CASE WHEN {code} <> '' THEN jsonb_build_object('code', {code}, 'data', {data}) END"


def joined_reason(*parts: str) -> str:
    """Returns the assignments of `reason_code` and `reason_data` to the parts that are not NULL, as separate sentences
    in order.
    """
    present = f"array_remove(ARRAY[{', '.join(parts)}]::jsonb[], NULL)"
    return (
        f"reason_code = CASE cardinality({present}) WHEN 0 THEN '' WHEN 1 THEN ({present})[1] ->> 'code' "
        f"ELSE '{JOINED.code}' END, "
        f"reason_data = CASE cardinality({present}) WHEN 0 THEN '{{}}' WHEN 1 THEN ({present})[1] -> 'data' "
        f"ELSE jsonb_build_object('parts', to_jsonb({present}), 'separator', ' ') END"
    )


def append_reason(table: str, code: str, data: str) -> str:
    """Returns the assignments that append a reason to that of `table`. `code` and `data` are expressions."""
    return joined_reason(reason_part(f"{table}.reason_code", f"{table}.reason_data"), reason_part(code, data))
