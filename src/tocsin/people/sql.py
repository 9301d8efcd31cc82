"""How other rooms read users in SQL: fragments about a user `u`, and lookups on the given connection."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from psycopg.rows import DictRow

from tocsin.core.db import database
from tocsin.core.db.database import Connection

#: Users `u` with their contact methods `m`, also those without any.
USERS_WITH_METHODS = "people_user u LEFT JOIN people_contactmethod m ON m.user_id = u.id"

_IS_PERSON = "is_active AND NOT is_service_account"


def join_user(column: str) -> str:
    """Joins the user `u` whose id is in `column`."""
    return f"JOIN people_user u ON u.id = {column}"


def load_users(connection: Connection, ids: Iterable[int], *columns: str) -> dict[int, DictRow]:
    """Returns `id` and these columns of users, by id; without deleted users."""
    return database.rows_by_id(connection, "people_user", ids, columns)


def display_names(connection: Connection, ids: Iterable[int]) -> dict[int, str]:
    """Returns the users' names, or else usernames, by id."""
    return {key: row["display_name"] for key, row in load_users(connection, ids, "display_name").items()}


def load_people(connection: Connection) -> Sequence[DictRow]:
    """Returns everybody but service accounts, whether active or not: id, username, name, display_name, e-mail address
    and is_active; the newest first."""
    return database.rows(
        connection,
        "SELECT id, username, name, display_name, email, is_active FROM people_user WHERE NOT is_service_account "
        "ORDER BY id DESC",
    )


def load_administrators(connection: Connection) -> list[int]:
    """Returns the ids of the active administrators."""
    query = database.literal(f"SELECT id FROM people_user WHERE role = 'admin' AND {_IS_PERSON} ORDER BY id")
    return [row[0] for row in connection.execute(query).fetchall()]


def load_inactive(connection: Connection) -> frozenset[int]:
    """Returns the ids of the deactivated users."""
    return frozenset(row[0] for row in connection.execute("SELECT id FROM people_user WHERE NOT is_active").fetchall())


# E-mail takes precedence over username, and username over name, as for the agent named in a message.
_BY_NAMES = f"""
SELECT DISTINCT ON (agent) agent, u.id FROM unnest(%s::text[]) AS agent
JOIN people_user u ON {_IS_PERSON} AND lower(agent) IN (lower(u.email), lower(u.username), lower(u.name))
ORDER BY agent, lower(agent) = lower(u.email) DESC, lower(agent) = lower(u.username) DESC, u.id
"""


def find_by_names(connection: Connection, names: Collection[str]) -> dict[str, int]:
    """Returns the ids of active users by e-mail address, username or name, as given."""
    return dict(connection.execute(database.literal(_BY_NAMES), (sorted(names),)).fetchall()) if names else {}


def find_by_id_or_email(connection: Connection, user_id: int | None, email: str | None) -> tuple[int, str] | None:
    """Returns id and name of the first active user with that id or that address, which is in lower case."""
    return connection.execute(
        "SELECT id, display_name FROM people_user "
        "WHERE is_active AND (id = %s OR (email <> '' AND lower(email) = %s)) ORDER BY id LIMIT 1",
        (user_id, email),
    ).fetchone()


_WITH_GROUPS = """
SELECT u.id, u.display_name AS name, u.language, u.role, u.clients,
       (SELECT array_agg(m.group_id) FROM people_membership m WHERE m.user_id = u.id) AS groups,
       (SELECT array_agg(m.role) FROM people_membership m WHERE m.user_id = u.id) AS roles
FROM people_user u WHERE u.id = %s AND u.is_active
"""


def load_with_groups(connection: Connection, user_id: int) -> DictRow | None:
    """Returns an active user's name, language, role, clients, and the groups with the role in each."""
    return database.row(connection, _WITH_GROUPS, (user_id,))


def own_addresses(connection: Connection, user_id: int) -> set[str]:
    """Returns the user's own addresses in lower case: the login address and the verified e-mail contact methods."""
    rows = connection.execute(
        'SELECT lower(email COLLATE "C") FROM people_user WHERE id = %(user)s UNION '
        'SELECT lower(address COLLATE "C") FROM people_contactmethod '
        "WHERE user_id = %(user)s AND channel = 'email' AND NOT awaits_code",
        {"user": user_id},
    ).fetchall()
    return {row[0] for row in rows}


def load_reminders(connection: Connection, user_id: int | None = None) -> dict[int, list[object]]:
    """Returns the shift reminders of the active users who want any, or of this one, by user."""
    rows = connection.execute(
        "SELECT id, reminders FROM people_user WHERE is_active AND reminders <> '[]'::jsonb "
        "AND (%(user)s::bigint IS NULL OR id = %(user)s)",
        {"user": user_id},
    )
    return dict(rows.fetchall())


def load_announcing_groups(connection: Connection) -> Sequence[DictRow]:
    """Returns the groups that announce something: `id`, `name`, `time_zone` and `announcements`."""
    return database.rows(
        connection,
        "SELECT id, name, time_zone, announcements FROM people_group WHERE announcements <> '[]'::jsonb ORDER BY id",
    )


def lock_user(connection: Connection, user_id: int) -> None:
    """Locks the user's row, so that concurrent requests of one user are handled one by one."""
    connection.execute("SELECT 1 FROM people_user WHERE id = %s FOR NO KEY UPDATE", (user_id,))


def end_all_sessions(connection: Connection) -> None:
    """Ends all sessions of a database whose tables may not be migrated yet: sessions of the oldest carry no stamp."""
    has_stamp = connection.execute(
        "SELECT 1 FROM pg_attribute "
        "WHERE attrelid = 'people_user'::regclass AND attname = 'session_stamp' AND NOT attisdropped"
    ).fetchone()
    if has_stamp:
        connection.execute("UPDATE people_user SET session_stamp = left(replace(gen_random_uuid()::text, '-', ''), 16)")
