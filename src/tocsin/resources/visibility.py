"""What each viewer may see: the boundary of a viewer, and the filter of each bounded model. The only place that knows.

With `visibility: groups`, one sees what belongs to a group in which one has a role, what one was paged about, and what
one owns. An object without a group is the administrators'. A client observer sees the alerts of the own clients.
Queries with SQL of their own limit alerts by `alerts_sql`.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from functools import reduce
from operator import or_
from typing import Any

from django.apps import apps
from django.db import InternalError, OperationalError, ProgrammingError, connection, transaction
from django.db.models import BooleanField, Exists, Func, Model, OuterRef, Q, QuerySet, TextField, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Cast, Concat, Upper
from django.db.models.lookups import In
from django.db.models.signals import post_migrate, pre_migrate
from psycopg.errors import LockNotAvailable
from psycopg.sql import quote

from tocsin.access import audit, boundary
from tocsin.access.boundary import Boundary, Filter
from tocsin.access.models import ApiToken, AuditEntry
from tocsin.access.roles import Role
from tocsin.alerts.models import Acknowledgement, Alert, AlertEvent
from tocsin.alerts.store import join_alert
from tocsin.calls.models import CallLeg, CallRoute, PhoneCall
from tocsin.core import hooks
from tocsin.core.config import settings_store
from tocsin.core.db import base
from tocsin.core.db.base import OWN_PAGES, ROLE_SUFFIX, ViewerSettings
from tocsin.core.db.database import Connection
from tocsin.core.db.queries import any_of
from tocsin.core.ids import first_uuid7
from tocsin.core.runtime import clock
from tocsin.escalation.models import EscalationRun, Policy, PolicyVersion
from tocsin.inbound.models import (
    ClientTable,
    DelayedAlert,
    GroupMember,
    Heartbeat,
    InboundMessage,
    Integration,
    IntegrationVersion,
    MaintenanceWindow,
    PinnedSender,
    RefusedSender,
)
from tocsin.notify.inbound import responder_actions
from tocsin.notify.models import Delivery, MailReply, Notification, PushDevice, SandboxMessage
from tocsin.oncall.models import (
    CalendarFeed,
    CalendarImport,
    HandoverNote,
    HolidayCalendar,
    Override,
    Schedule,
    SupportHours,
    SwapRequest,
)
from tocsin.outbound.models import (
    AgentMatch,
    Call,
    Exchange,
    IntegrationStatus,
    LookUp,
    OutboundIntegration,
    TicketLink,
    Webhook,
)
from tocsin.people import permissions
from tocsin.people.models import ContactMethod, Group, GroupContact, Membership, OutOfOffice, OutOfOfficeCover, User
from tocsin.people.permissions import Viewer
from tocsin.workflows.models import Limit, Workflow, WorkflowRun

NOTHING = Q(pk__in=())

#: A visible alert names these objects, also those of others, and their rows are read for that. They have a filter,
#: which lists and addresses follow, and no policy in the database.
NAMED: frozenset[type[Model]] = frozenset({User, Group, Integration, OutboundIntegration, Workflow})

#: Configured objects refer to these. Such a reference stays readable, though what it names belongs to another group.
_REFERENCED: tuple[type[Model], ...] = (
    User, Group, Integration, OutboundIntegration, Policy, Schedule, SupportHours, HolidayCalendar, ClientTable,
)  # fmt: skip

#: Whether the viewer was paged about an alert. The view has no policies of its own, whose planning would take longer
#: than most queries of a page.
_IS_PAGED = f"EXISTS (SELECT FROM {OWN_PAGES} WHERE alert_id = %(expressions)s)"

#: An alert into which another was merged stays visible for those who were paged about the other this recently.
_MERGED_WITHIN = timedelta(days=30)


_OWNED_AND_MERGED = f"""
SELECT (SELECT array_agg(id) FROM inbound_integration WHERE group_id = ANY(%s)),
       (SELECT array_agg(a.merged_into_id) FROM notify_notification n {join_alert("n.alert_id")}
        WHERE n.user_id = %s AND n.id >= %s AND a.merged_into_id IS NOT NULL),
       -- Names the viewer for OWN_PAGES, until the end of the transaction.
       set_config('tocsin.viewer', %s, true)
"""


def boundary_of_user(user: User, viewer: Viewer | None = None) -> Boundary | None:
    """Returns what `user` may see without a token; None for everything. `viewer` is theirs, which need not be loaded
    yet."""
    # Nothing is loaded for the others, who are most.
    if not user.clients and not _is_limited(Role(user.role)):
        return None
    return _boundary(viewer or permissions.viewer(user, None))


def boundary_of(viewer: Viewer) -> Boundary | None:
    """Returns what the viewer may see; None for everything."""
    is_limited = viewer.clients is not None or viewer.is_limited_to_groups or _is_limited(viewer.role)
    return _boundary(viewer) if is_limited else None


def boundary_on(connection: Connection, viewer: Viewer) -> Boundary | None:
    """Returns what the user may see, as a transaction of the pool sees it; None for everything."""
    is_limited = (
        viewer.role is not Role.ADMIN and settings_store.load(connection)[settings_store.VISIBILITY.name] == "groups"
    )
    if viewer.clients is None and not is_limited:
        return None
    return _boundary(viewer, lambda parameters: connection.execute(_OWNED_AND_MERGED, parameters).fetchone())


def _is_limited(role: Role) -> bool:
    return role is not Role.ADMIN and settings_store.get(settings_store.VISIBILITY) == "groups"


def _load(parameters: tuple[Any, ...]) -> Any:
    with boundary.unbounded(), connection.cursor() as cursor:
        cursor.execute(_OWNED_AND_MERGED, parameters)
        return cursor.fetchone()


def _boundary(viewer: Viewer, load: Callable[[tuple[Any, ...]], Any] = _load) -> Boundary:
    if viewer.clients is not None:
        # Without a client that the owner sees too, a token sees nothing.
        return Boundary(viewer.user_id, clients=tuple(sorted(viewer.clients)) or ("",))
    # A token that is limited to groups sees nothing of its owner's besides.
    user_id = 0 if viewer.is_limited_to_groups else viewer.user_id
    since = first_uuid7(clock.now() - _MERGED_WITHIN)
    owned, merged, _viewer = load((sorted(viewer.groups), user_id, since, str(user_id)))
    return Boundary(user_id, viewer.groups, frozenset(owned or ()), frozenset(merged or ()))


def _one_of(path: str, ids: Any) -> Q:
    if isinstance(ids, frozenset):
        return Q(**{f"{path}__in": ids})
    return any_of(path, ids)


def _alert(limit: Boundary) -> Q:
    names: Any = limit.clients
    if limit.is_in_database and limit.clients:
        return any_of(Upper("client"), names, "text[]") & Q(is_test=False)
    if limit.clients:
        return Q(In(Upper("client"), [Upper(Value(name)) for name in names if name])) & Q(is_test=False)
    groups: Any = sorted(limit.groups) if isinstance(limit.groups, frozenset) else limit.groups
    return (
        _one_of("integration", limit.integrations)
        | Q(group_ids__overlap=groups)
        | Q(owner=limit.user_id)
        | _one_of("pk", limit.alerts)
        | Q(Func("pk", template=_IS_PAGED, output_field=BooleanField()))
    )


def groups_of_alert(alert: Alert) -> frozenset[int]:
    """Returns the ids of the groups to which an alert belongs."""
    owner = alert.integration.group_id if alert.integration is not None else None
    return frozenset(alert.group_ids) | ({owner} if owner is not None else set())


def _of_group(path: str) -> Filter:
    return lambda limit: _one_of(path, limit.groups)


def _of_integration(limit: Boundary) -> Q:
    return _one_of("integration", limit.integrations)


def _of_user(path: str) -> Filter:
    return lambda limit: Q(**{path: limit.user_id})


def _of_member(path: str) -> Filter:
    """The viewer's own, and those of the members of the own groups."""
    members = Membership._base_manager.values("user")
    return lambda limit: _of_user(path)(limit) | Q(**{f"{path}__in": members.filter(_of_group("group")(limit))})


def _about(path: str, model: type[Model]) -> Filter:
    """What is about a visible row of another model."""

    def condition(limit: Boundary) -> Q:
        rows = model._base_manager.filter(pk=OuterRef(path))
        # The database applies the policy of the other table itself.
        has_policy = limit.is_in_database and model not in NAMED
        return Q(Exists(rows if has_policy else rows.filter(FILTERS[model](limit))))

    return condition


def _either(*conditions: Filter) -> Filter:
    return lambda limit: reduce(or_, (condition(limit) for condition in conditions))


def _referenced_by_visible(model: type[Model]) -> Filter:
    prefix = f"{model._meta.db_table}:"

    def condition(limit: Boundary) -> Q:
        if limit.is_in_database:
            return any_of(Concat(Value(prefix), Cast("pk", TextField())), limit.referenced, "text[]")
        return Q(pk__in=sorted(int(one.removeprefix(prefix)) for one in limit.referenced if one.startswith(prefix)))

    return condition


def _internal(condition: Filter) -> Filter:
    """Client observers see nothing of it."""
    return lambda limit: NOTHING if limit.clients else condition(limit)


_OF_GROUP = _of_group("group")
_ABOUT_ALERT = _about("alert", Alert)
_ABOUT_ALERT_INTERNALLY = _internal(_ABOUT_ALERT)
_OF_OUTBOUND = _about("integration", OutboundIntegration)
_OF_SCHEDULE = _about("schedule", Schedule)

#: What belongs to a group is that of no client observer, who has no groups.
FILTERS: dict[type[Model], Filter] = {
    ApiToken: _of_user("user"),
    # Who may read the entries of the own groups is up to `people.permissions`.
    AuditEntry: _of_group("group_id"),
    Alert: _alert,
    AlertEvent: _ABOUT_ALERT,
    Acknowledgement: _ABOUT_ALERT,
    Policy: _OF_GROUP,
    PolicyVersion: _about("policy", Policy),
    EscalationRun: _ABOUT_ALERT,
    Integration: lambda limit: _one_of("pk", limit.integrations),
    PinnedSender: _of_integration,
    RefusedSender: _of_integration,
    IntegrationVersion: _of_integration,
    InboundMessage: _either(_of_integration, _ABOUT_ALERT_INTERNALLY),
    DelayedAlert: _of_integration,
    GroupMember: _ABOUT_ALERT_INTERNALLY,
    MaintenanceWindow: _OF_GROUP,
    Heartbeat: _of_integration,
    ClientTable: _OF_GROUP,
    # The members of the group whose people are rung see the route too.
    CallRoute: _either(_OF_GROUP, _of_group("recipient_group")),
    PhoneCall: _either(_OF_GROUP, _ABOUT_ALERT_INTERNALLY),
    CallLeg: _about("call", PhoneCall),
    Notification: _either(_of_user("user"), _about("group_contact", GroupContact), _ABOUT_ALERT_INTERNALLY),
    Delivery: _either(_of_user("user"), _about("notification", Notification)),
    SandboxMessage: _either(_of_user("user"), _ABOUT_ALERT_INTERNALLY),
    PushDevice: _of_user("user"),
    MailReply: _either(_of_user("user"), _ABOUT_ALERT_INTERNALLY),
    HolidayCalendar: _OF_GROUP,
    Schedule: _OF_GROUP,
    SupportHours: _OF_GROUP,
    Override: _either(_OF_SCHEDULE, _of_user("user")),
    SwapRequest: _either(_OF_SCHEDULE, _of_user("requester"), _of_user("requested_user")),
    CalendarFeed: _of_user("owner"),
    CalendarImport: _OF_SCHEDULE,
    HandoverNote: _OF_SCHEDULE,
    OutboundIntegration: _OF_GROUP,
    IntegrationStatus: _OF_OUTBOUND,
    Webhook: _OF_OUTBOUND,
    # A call about an alert says what the alert says.
    Call: _either(_ABOUT_ALERT_INTERNALLY, lambda limit: Q(alert=None) & _OF_OUTBOUND(limit)),
    Exchange: _either(_about("call", Call), lambda limit: Q(call=None) & _OF_OUTBOUND(limit)),
    LookUp: _OF_OUTBOUND,
    AgentMatch: _OF_OUTBOUND,
    TicketLink: _ABOUT_ALERT_INTERNALLY,
    User: _of_member("pk"),
    ContactMethod: _of_member("user"),
    Group: _of_group("pk"),
    Membership: _either(_OF_GROUP, _of_user("user")),
    GroupContact: _OF_GROUP,
    OutOfOffice: _of_member("user"),
    OutOfOfficeCover: _OF_GROUP,
    Workflow: _OF_GROUP,
    Limit: _about("workflow", Workflow),
    WorkflowRun: _ABOUT_ALERT_INTERNALLY,
}


def visible(model: type[Model]) -> QuerySet[Any]:
    """Returns the rows of a bounded model that the viewer sees."""
    rows: QuerySet[Any] = model.objects.all()  # type: ignore[attr-defined]
    return rows


def about_visible_alerts(model: type[Model], alert_ids: list[int]) -> QuerySet[Any]:
    """Returns the rows of a model that are about alerts which the viewer was shown, without looking these up again.

    PostgreSQL applies its policies. Raises LookupError for a model that does not follow its alert alone."""
    if FILTERS.get(model) is not _ABOUT_ALERT:
        raise LookupError(f"{model.__name__} is not visible to everyone who sees the alert.")
    with boundary.unbounded():
        rows: QuerySet[Any] = model.objects.filter(any_of("alert", alert_ids))  # type: ignore[attr-defined]
    return boundary.limited_by_hand(rows)


def alerts_sql() -> str:
    """Returns " AND …" for an alert `a` of a statement of its own, with the parameters of `alerts_parameters`; "" if
    everything is visible."""
    limit = boundary.current()
    if limit is None:
        return ""
    sql, parameters = boundary.render(Alert, limit)
    return " AND " + sql.replace(f'"{Alert._meta.db_table}".', "a.") % tuple(
        f"%(visible_{n})s" for n in range(len(parameters))
    )


def alerts_parameters() -> dict[str, Any]:
    """Returns the parameters of `alerts_sql`."""
    limit = boundary.current()
    parameters = () if limit is None else boundary.render(Alert, limit)[1]
    return {f"visible_{n}": value for n, value in enumerate(parameters)}


def install() -> None:
    """Registers the filters of all bounded models."""
    responder_actions.BOUNDARIES.register(boundary_on)
    boundary.register(FILTERS)
    # What is about an object is not readable with it: `_about` looks into `FILTERS`.
    boundary.register({model: _either(FILTERS[model], _referenced_by_visible(model)) for model in _REFERENCED})
    hooks.VIEWERS.register(boundary.as_viewer)


# ---------- row security
# Makes the role and the policies of row-level security: the second belt of boundaries, below the filters.
#
# The policies are rendered from the filters. The role reads only what the settings of its transaction allow
# (`core.db.base`). Without permission to create a role, nothing is made, and the filters alone limit what
# viewers see.


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
    return {model._meta.db_table: _policy(model) for model in boundary.filters() if model not in NAMED}


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


def install_row_security() -> None:
    """Has the connections of this process name their viewers, and the policies follow the tables that a migration
    changes."""
    operate = apps.get_app_config("operate")
    pre_migrate.connect(disable, sender=operate)
    post_migrate.connect(enable, sender=operate)
    base.register(viewer_settings)
    audit.REACTIONS.register(_follow_settings)
