"""Tables of the whole installation: configuration version, settings, clock state and mailbox errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.db import models
from django.db.migrations.operations import AlterField, RemoveField, RenameField, RunSQL, SeparateDatabaseAndState
from django.db.migrations.operations.base import Operation

from tocsin.core.reasons import NO_REASON, Reason, reason_as_json, reason_from_json


class ReasonField(models.JSONField):
    """A `Reason`: `{"code": …, "data": …}` in the database, `{}` for `NO_REASON`, which is the default."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "default": lambda: NO_REASON, "db_default": {}})

    def deconstruct(self) -> tuple[str, str, Sequence[Any], dict[str, Any]]:
        name, path, args, options = super().deconstruct()
        del options["default"], options["db_default"]
        return name, path, args, options

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        found = super().from_db_value(value, expression, connection)
        return reason_from_json(found) if isinstance(found, dict) else found  # a look-up, such as `reason__code`

    def get_prep_value(self, value: Any) -> Any:
        return super().get_prep_value(reason_as_json(value) if isinstance(value, Reason) else value)


# PostgreSQL 18 names these constraints; earlier versions have none.
_RENAME_NOT_NULL = """DO $$ BEGIN
  IF EXISTS (SELECT FROM pg_constraint WHERE conrelid = '{table}'::regclass
             AND conname = '{table}_{name}_data_not_null') THEN
    ALTER TABLE {table} RENAME CONSTRAINT {table}_{name}_data_not_null TO {table}_{name}_not_null;
  END IF;
END $$"""


def merge_reason_columns(model: str, table: str, *names: str) -> SeparateDatabaseAndState:
    """Returns an operation of a migration that makes one column `NAME` of `NAME_code` and `NAME_data`, for all reasons
    of a table and its partitions in one pass."""
    merged = [
        f"ALTER COLUMN {name}_data TYPE jsonb USING CASE WHEN {name}_code = '' THEN '{{}}' "
        f"ELSE jsonb_build_object('code', {name}_code, 'data', {name}_data) END, "
        f"ALTER COLUMN {name}_data SET DEFAULT '{{}}'"
        for name in names
    ]
    statements = [
        f"ALTER TABLE {table} {', '.join(merged)}",
        *(f"ALTER TABLE {table} RENAME COLUMN {name}_data TO {name}" for name in names),
        f"ALTER TABLE {table} {', '.join(f'DROP COLUMN {name}_code' for name in names)}",
        *(_RENAME_NOT_NULL.format(table=table, name=name) for name in names),
    ]
    state: list[Operation] = []
    for name in names:
        state += [
            RemoveField(model, f"{name}_code"), RenameField(model, f"{name}_data", name),
            AlterField(model, name, ReasonField()),
        ]  # fmt: skip
    return SeparateDatabaseAndState([RunSQL(";\n".join(statements))], state)


class ConfigVersion(models.Model):
    """A single row. `version` rises with every configuration change, so that nodes know when to reload."""

    version = models.BigIntegerField(default=0)


class Setting(models.Model):
    """An installation-wide setting. A setting without a row has its default: see `core.config.settings_store`."""

    name = models.CharField(max_length=100, primary_key=True)
    value = models.JSONField()


class ClockOffset(models.Model):
    """A single row: the seconds by which the test clock has jumped. Used only with `TOCSIN_TEST_CLOCK=1`."""

    seconds = models.FloatField(default=0)


class ClockSeen(models.Model):
    """A single row: the database clock at the last check, by which a clock jump is detected. See
    `core.runtime.clock`."""

    seen_at = models.DateTimeField()
    #: When the clock last jumped, by the clock after the jump, and by how much: negative for a clock rollback.
    jumped_at = models.DateTimeField(null=True)
    jumped_by = models.DurationField(null=True)


class MailboxTrouble(models.Model):
    """A mailbox that could not be read at the last poll, and why. See `core.net.imap`."""

    pk = models.CompositePrimaryKey("reads", "number")
    reads = models.TextField()
    number = models.BigIntegerField()
    since = models.DateTimeField()
    reason = ReasonField()
