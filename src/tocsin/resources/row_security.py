"""Makes the role and the policies of row-level security: the second belt of boundaries, below `resources.visibility`.

The policies are rendered from the filters. The role reads only what the settings of its transaction allow
(`core.db.row_security`). Without permission to create a role, nothing is made, and the filters alone limit what viewers
see.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from django.apps import apps
from django.db import InternalError, OperationalError, ProgrammingError, connection, transaction
from django.db.models import Model
from django.db.models.expressions import RawSQL
from django.db.models.signals import post_migrate, pre_migrate
from psycopg.errors import LockNotAvailable
from psycopg.sql import quote

from tocsin.access import audit, boundary
from tocsin.access.boundary import Boundary
from tocsin.core.config import settings_store
from tocsin.core.db import row_security
from tocsin.core.db.database import Connection
from tocsin.core.db.row_security import OWN_PAGES, ROLE_SUFFIX, ViewerSettings
from tocsin.resources import visibility

log = logging.getLogger(__name__)


def _setting(sql: str) -> Any:
    # A subquery: PostgreSQL evaluates it once for each statement and not for each row.
    return RawSQL(f"SELECT {sql}", ())  # noqa: S611 - constants


def _ids(name: str) -> Any:
    return _setting(f"string_to_array(current_setting('{name}', true), ',')::bigint[]")


_VIEWER = _setting("nullif(current_setting('tocsin.viewer', true), '')::bigint")
_CLIENTS = "nullif(current_setting('tocsin.clients', true), '')"

#: The boundary of whoever is the viewer of a transaction, in a group or of clients.
_OF_GROUPS = Boundary(
    _VIEWER, _ids("tocsin.groups"), _ids("tocsin.integrations"), _ids("tocsin.alerts"), is_in_database=True,
    referenced=_setting("string_to_array(current_setting('tocsin.referenced', true), ',')"),
)  # fmt: skip
_NAMES = f"jsonb_array_elements_text({_CLIENTS}::jsonb) AS name WHERE name <> ''"
_OF_CLIENTS = replace(_OF_GROUPS, clients=_setting(f"array_agg(upper(name)) FROM {_NAMES}"))

# A view is read as its owner: policies that refer to each other would never end. It stays during migrations, because
# the filters of other nodes use it: one that changes these two columns has to drop it.
_CREATE_OWN_PAGES = f"""
CREATE OR REPLACE VIEW {OWN_PAGES} AS SELECT alert_id FROM notify_notification WHERE user_id = ({_VIEWER.sql})
"""


def policies() -> dict[str, str]:
    """Returns the condition of the policy of each table: what `visibility.FILTERS` says of its model."""
    return {model._meta.db_table: _policy(model) for model in boundary.filters() if model not in visibility.NAMED}


def _policy(model: type[Model]) -> str:
    of_groups, of_clients = _sql(model, _OF_GROUPS), _sql(model, _OF_CLIENTS)
    if of_groups == of_clients:
        return of_groups
    return f"CASE WHEN (SELECT {_CLIENTS}) IS NULL THEN {of_groups} ELSE {of_clients} END"


def _sql(model: type[Model], limit: Boundary) -> str:
    condition, parameters = boundary.render(model, limit)
    condition %= tuple(quote(parameter) for parameter in parameters)
    # PostgreSQL would plan each EXISTS twice, and what is within it four times.
    return condition.replace('EXISTS(SELECT 1 AS "a"', "(SELECT true")


_CREATE_ROLE = f"""
DO $$ BEGIN
  IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = current_user || '{ROLE_SUFFIX}') THEN
    EXECUTE format('CREATE ROLE %I NOLOGIN', current_user || '{ROLE_SUFFIX}');
    EXECUTE format('GRANT %I TO CURRENT_USER', current_user || '{ROLE_SUFFIX}');
  END IF;
EXCEPTION WHEN insufficient_privilege OR duplicate_object OR unique_violation THEN NULL;
END $$
"""

_GRANT = f"""
DO $$ DECLARE viewer text := current_user || '{ROLE_SUFFIX}'; BEGIN
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), viewer);
  EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA %I TO %I', current_schema(), viewer);
  EXECUTE format('GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA %I TO %I', current_schema(), viewer);
END $$
"""

_POLICY = "tocsin_boundary"

#: How long to wait for one table, and how often.
_LOCK_TIMEOUT = "500ms"
_LOCK_ATTEMPTS = 20


def enable(**_signal: Any) -> bool:
    """Makes the role, its permissions and the policies, or brings them up to date. Returns whether there is a role."""
    try:
        with connection.cursor() as cursor:
            cursor.execute(_CREATE_OWN_PAGES)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(_CREATE_ROLE)
            if not _role_of(cursor):
                return False
            cursor.execute(_GRANT)
        for table, condition in policies().items():
            _change(
                f"DROP POLICY IF EXISTS {_POLICY} ON {table}",
                # Writing is up to the commands, which run as the owner.
                f"CREATE POLICY {_POLICY} ON {table} USING ({condition}) WITH CHECK (true)",
                f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            )
    except (ProgrammingError, InternalError, OperationalError) as error:
        log.warning("Row-level security is not enabled: %s", error)
        return False
    return True


def disable(**_signal: Any) -> None:
    """Removes the policies: no migration can change a column on which one depends. The filters remain, and the view
    that they use."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT tablename FROM pg_policies WHERE policyname = %s AND schemaname = current_schema()", (_POLICY,)
        )
        tables = [table for (table,) in cursor.fetchall()]
    for table in tables:
        _change(f'DROP POLICY {_POLICY} ON "{table}"', f'ALTER TABLE "{table}" DISABLE ROW LEVEL SECURITY')


def _change(*statements: str) -> None:
    """Executes statements about one table, which lock it. One table at a time, so that no deadlock with other nodes at
    work is possible, and waiting only briefly, because what comes later waits behind. Raises OperationalError if the
    table is never free."""
    for attempt in range(1, _LOCK_ATTEMPTS + 1):
        try:
            with transaction.atomic(), connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                for statement in statements:
                    cursor.execute(statement)
        except OperationalError as error:
            if attempt == _LOCK_ATTEMPTS or not isinstance(error.__cause__, LockNotAvailable):
                raise
        else:
            return


def _role_of(cursor: Any) -> bool:
    cursor.execute(
        "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = current_user || %s "
        "AND pg_has_role(current_user, oid, 'MEMBER'))",
        (ROLE_SUFFIX,),
    )
    return bool(cursor.fetchone()[0])


def is_enabled(pool_connection: Connection) -> bool:
    """Returns whether the database enforces boundaries itself."""
    row = pool_connection.execute(
        "SELECT count(*) = %s FROM pg_policies WHERE policyname = %s AND schemaname = current_schema()",
        (len(policies()), _POLICY),
    ).fetchone()
    return bool(row and row[0])


def viewer_settings() -> ViewerSettings | None:
    """Returns the settings of the current viewer's transactions; None without a boundary."""
    limit = boundary.current()
    if limit is None:
        return None
    return (
        ("tocsin.viewer", str(limit.user_id)),
        ("tocsin.groups", _numbers(limit.groups)),
        ("tocsin.integrations", _numbers(limit.integrations)),
        ("tocsin.alerts", _numbers(limit.alerts)),
        ("tocsin.referenced", ",".join(sorted(limit.referenced))),
        ("tocsin.clients", json.dumps(limit.clients) if limit.clients else ""),
    )


def _numbers(ids: frozenset[int]) -> str:
    return ",".join(map(str, sorted(ids)))


def _follow_settings(values: Mapping[str, object]) -> None:
    """Tries again when boundaries are switched on: somebody may have created the role."""
    if values.get(settings_store.VISIBILITY.name) == "groups":
        transaction.on_commit(enable)


def install() -> None:
    """Has the connections of this process name their viewers, and the policies follow the tables that a migration
    changes."""
    operate = apps.get_app_config("operate")
    pre_migrate.connect(disable, sender=operate)
    post_migrate.connect(enable, sender=operate)
    row_security.register(viewer_settings)
    audit.REACTIONS.register(_follow_settings)
