"""The settings of the embedded PostgreSQL, as the text of its configuration files. Pure: touches no file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

OWN_SETTINGS = "postgresql.local.conf"

#: Only the directory's owner and root can reach the socket, so no password is required.
HBA = (
    "# Written by Tocsin at each start. There is no TCP; the socket's folder is closed to everybody else.\n"
    "local all all trust\n"
)

#: Initial content of the file for the administrator's own settings.
OWN_SETTINGS_TEXT = "# Your own settings for the embedded PostgreSQL. Tocsin never changes this file.\n"


def settings(memory_bytes: int) -> dict[str, str]:
    """Returns PostgreSQL's settings by name for a machine with this much memory. Never trades durability for speed."""
    return {
        "max_connections": "100",
        "superuser_reserved_connections": "3",
        # A batch takes up to 1,000 advisory locks, which share this table: 256 × (100 connections + …).
        "max_locks_per_transaction": "256",
        "shared_buffers": "256MB" if memory_bytes >= 2 * 1024**3 else "128MB",
        "work_mem": "8MB",
        "maintenance_work_mem": "64MB",
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        # Full-page images are mostly index pages of hashes, which pglz shrinks by 2 %. With a full log, compression
        # took two fifths of the database's time for a message.
        "wal_compression": "off",
        "wal_buffers": "16MB",
        "min_wal_size": "128MB",
        "max_wal_size": "1GB",
        "checkpoint_timeout": "10min",
        "checkpoint_completion_target": "0.9",
        "commit_delay": "0",
        "jit": "off",
        # The machine is small and the queries are short. A report must not occupy both cores.
        "max_parallel_workers_per_gather": "0",
        "random_page_cost": "1.1",
        # Files, not /dev/shm: systemd removes an ordinary user's shared memory at logout, and containers have only 64
        # MB.
        "dynamic_shared_memory_type": "mmap",
        "min_dynamic_shared_memory": "16MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "datestyle": "ISO, YMD",
        "lc_messages": "C",
        "default_text_search_config": "pg_catalog.simple",
        "logging_collector": "on",
        "log_directory": "log",
        "log_filename": "postgresql-%a.log",
        "log_truncate_on_rotation": "on",
        "log_rotation_age": "1d",
        "log_rotation_size": "0",
        "log_file_mode": "0600",
        "log_line_prefix": "%m [%p] %a ",
        "log_checkpoints": "off",
        # Statements and the values of a violated key may contain ticket texts, which must never be logged.
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
    }


def configuration_text(values: Mapping[str, str]) -> str:
    """Returns `postgresql.conf` with these settings. It includes a second file, which Tocsin never overwrites."""
    lines = [
        "# Written by Tocsin at each start: changes here are lost.",
        f"# Your own settings belong into {OWN_SETTINGS} in this folder.",
        *(f"{name} = {_quoted(value)}" for name, value in values.items()),
        f"include = '{OWN_SETTINGS}'",
    ]
    return "\n".join(lines) + "\n"


def command_line(data: Path, run: Path) -> list[str]:
    """Returns the server's arguments. They override every file, and so ensure the socket and the absence of TCP."""
    return [
        "-D", str(data),
        "-c", "listen_addresses=",
        "-c", f"unix_socket_directories={_directory(run)}",
        "-c", "unix_socket_permissions=0700",
        "-c", "port=5432",
    ]  # fmt: skip


def locale_arguments(major: int) -> list[str]:
    """Returns initdb's arguments for UTF-8 sorted by code point, the same on every machine and after every upgrade."""
    if major >= 17:
        return ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    # PostgreSQL before 17 has no built-in provider. The C library's C.UTF-8 is the closest.
    return ["--encoding=UTF8", "--locale=C.UTF-8"]


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _directory(path: Path) -> str:
    """Quotes a path for a list setting, where an unquoted comma or space would separate names."""
    return '"' + str(path).replace('"', '""') + '"'
