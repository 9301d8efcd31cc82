"""Makes the role and the policies of row-level security: the second belt of boundaries, below `resources.visibility`.

The policies say the same as the filters, for the tables that say something about alerts or configuration. The role
reads only what the settings of its transaction allow (`core.db.row_security`). Without permission to create a role,
nothing is made, and the filters alone limit what viewers see.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from django.apps import apps
from django.db import InternalError, OperationalError, ProgrammingError, connection, transaction
from django.db.models.signals import post_migrate

from tocsin.access import boundary, settings_commands
from tocsin.core.config import settings_store
from tocsin.core.db import row_security
from tocsin.core.db.database import Connection
from tocsin.core.db.row_security import ROLE_SUFFIX, ViewerSettings

log = logging.getLogger(__name__)

# Subqueries, because PostgreSQL then evaluates them once for each statement and not for each row.
_VIEWER = "(SELECT nullif(current_setting('tocsin.viewer', true), '')::bigint)"
_GROUPS = "ANY ((SELECT string_to_array(current_setting('tocsin.groups', true), ',')::bigint[])::bigint[])"
_INTEGRATIONS = "ANY ((SELECT string_to_array(current_setting('tocsin.integrations', true), ',')::bigint[])::bigint[])"
_ALERTS = "ANY ((SELECT string_to_array(current_setting('tocsin.alerts', true), ',')::bigint[])::bigint[])"
_CLIENTS = """ANY ((SELECT array_agg(upper(name)) FROM jsonb_array_elements_text(
  nullif(current_setting('tocsin.clients', true), '')::jsonb) AS name)::text[])"""

_ALERT = f"""integration_id = {_INTEGRATIONS}
  OR group_ids && (SELECT string_to_array(current_setting('tocsin.groups', true), ',')::bigint[])
  OR owner_id = {_VIEWER} OR id = {_ALERTS} OR upper(client) = {_CLIENTS}
  OR EXISTS (SELECT FROM notify_notification v WHERE v.alert_id = alerts_alert.id AND v.user_id = {_VIEWER})"""

# The policy of alerts applies within, too.
_ABOUT_ALERT = "EXISTS (SELECT FROM alerts_alert a WHERE a.id = alert_id)"
_OF_GROUP = f"group_id = {_GROUPS}"

#: The condition of each table's policy.
POLICIES: dict[str, str] = {
    "alerts_alert": _ALERT,
    "alerts_alertevent": _ABOUT_ALERT,
    "inbound_inboundmessage": f"integration_id = {_INTEGRATIONS} OR {_ABOUT_ALERT}",
    "notify_delivery": f"user_id = {_VIEWER} OR alert_id IS NULL OR {_ABOUT_ALERT}",
    "notify_sandboxmessage": f"user_id = {_VIEWER} OR alert_id IS NULL OR {_ABOUT_ALERT}",
    "outbound_call": f"alert_id IS NULL OR {_ABOUT_ALERT}",
    "workflows_run": _ABOUT_ALERT,
    "inbound_maintenancewindow": _OF_GROUP,
    "inbound_clienttable": _OF_GROUP,
    "oncall_supporthours": _OF_GROUP,
    "outbound_outboundintegration": _OF_GROUP,
}

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


def enable(**_signal: Any) -> bool:
    """Makes the role, its permissions and the policies, or brings them up to date. Returns whether there is a role."""
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            # Nothing waits behind a transaction that holds a table.
            cursor.execute("SET LOCAL lock_timeout = '3s'")
            cursor.execute(_CREATE_ROLE)
            if not _role_of(cursor):
                return False
            cursor.execute(_GRANT)
            for table, condition in POLICIES.items():
                cursor.execute(f"DROP POLICY IF EXISTS {_POLICY} ON {table}")
                # Writing is up to the commands, which run as the owner.
                cursor.execute(f"CREATE POLICY {_POLICY} ON {table} USING ({condition}) WITH CHECK (true)")
                cursor.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
    except (ProgrammingError, InternalError, OperationalError) as error:
        log.warning("Row-level security is not enabled: %s", error)
        return False
    return True


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
        (len(POLICIES), _POLICY),
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
    post_migrate.connect(enable, sender=apps.get_app_config("operate"))
    row_security.register(viewer_settings)
    settings_commands.REACTIONS.register(_follow_settings)
