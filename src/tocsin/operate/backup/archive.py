"""The backup file: a ZIP with one stream per table, and a manifest with their checksums.

Streams use PostgreSQL's COPY text format, which all versions since 15 read alike. Nothing is held in memory.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import secrets
import zipfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import IO, Self

import msgspec
from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
from django.db import connection as django_connection
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from tocsin.core.config import crypto
from tocsin.core.config.environment import Config
from tocsin.core.db import migrate
from tocsin.core.db.database import Connection
from tocsin.core.db.migrate import Migration
from tocsin.core.errors import FILE_UNREADABLE, Rejected
from tocsin.core.reasons import Text, sentence

_OTHER_FORMAT = Text("{path} has format {format}; this Tocsin reads {supported}. Use the Tocsin that made it.")
_DAMAGED = Text("The backup is damaged: the checksum of {part} does not match. Nothing was changed.")
_INCOMPLETE = Text("{path} is not a backup of Tocsin's, or its end is missing.")

#: The format version. A release reads its own and older ones.
FORMAT = 1

#: The first bytes of a backup, complete or not.
MAGIC = b"PK\x03\x04"

_MANIFEST = "manifest.json"
_COMMENT_PREFIX = b"tocsin backup "

#: Bytes read or written at a time.
CHUNK = 1 << 18

#: Exceptions of a corrupt entry; RuntimeError for an encrypted one.
_UNREADABLE = (KeyError, zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)

#: A manifest has a few kilobytes; anything bigger is not ours.
_MAX_MANIFEST_BYTES = 16 << 20


class TableInfo(msgspec.Struct, frozen=True):
    """One table's stream: its columns in order, and its expected content."""

    name: str
    columns: list[str]
    rows: int
    size: int
    sha256: str


class SequenceInfo(msgspec.Struct, frozen=True):
    """The state of a column's sequence."""

    table: str
    column: str
    last: int
    is_called: bool


class ArchiveKeys(msgspec.Struct, frozen=True, omit_defaults=True):
    """The secret keys, newest first, encrypted with a passphrase or in plain text, and their fingerprints."""

    fingerprints: list[str] = []
    sealed: str = ""
    salt: str = ""
    cost: int = 0
    plain: list[str] = []


class Manifest(msgspec.Struct, frozen=True):
    """The content of a backup."""

    format: int
    tocsin: str
    made_at: datetime
    #: PostgreSQL's major version, for information.
    postgres: int
    #: The migrations applied to its tables, as [app, name].
    migrations: list[tuple[str, str]]
    tables: list[TableInfo]
    sequences: list[SequenceInfo]
    keys: ArchiveKeys

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)


class _AnyManifest(msgspec.Struct):
    """The part of the manifest common to all formats."""

    format: int


class StreamChecksum:
    """Checksum, row count and size of a stream."""

    def __init__(self) -> None:
        self.digest = hashlib.sha256()
        self.rows = 0
        self.size = 0

    def add(self, data: bytes) -> None:
        self.digest.update(data)
        self.rows += data.count(b"\n")
        self.size += len(data)


class BackupWriter:
    """Writes a backup into an open file, table by table; `finish` completes it."""

    def __init__(self, file: IO[bytes], made_at: datetime) -> None:
        # Level 1: three times as fast as the default on this kind of text, and hardly larger.
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        self._made_at = made_at

    def add(self, name: str, columns: list[str], stream: Iterable[bytes | bytearray | memoryview]) -> TableInfo:
        """Writes one table's rows in COPY text format, in which a newline only ever ends a row."""
        checksum = StreamChecksum()
        with self._zip.open(self._entry(_path(name)), "w", force_zip64=True) as entry:
            for data in _buffered(stream):
                checksum.add(data)
                entry.write(data)
        return TableInfo(name, columns, checksum.rows, checksum.size, checksum.digest.hexdigest())

    def finish(self, manifest: Manifest) -> None:
        """Writes the manifest and closes the archive."""
        data = msgspec.json.format(msgspec.json.encode(manifest))
        self._zip.writestr(self._entry(_MANIFEST), data)
        self._zip.comment = _COMMENT_PREFIX + hashlib.sha256(data).hexdigest().encode()
        self._zip.close()

    def _entry(self, path: str) -> zipfile.ZipInfo:
        entry = zipfile.ZipInfo(path, self._made_at.timetuple()[:6])
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o600 << 16
        return entry


class BackupReader:
    """A backup with a valid manifest; `verify` checks the rest. Close it when done."""

    def __init__(self, archive: zipfile.ZipFile, manifest: Manifest) -> None:
        self._zip = archive
        self.manifest = manifest

    @classmethod
    def open(cls, path: Path) -> Self:
        """Opens a backup. Raises Rejected if it is unreadable, not a backup, damaged, or of a newer format."""
        try:
            archive = zipfile.ZipFile(path)
        except OSError as error:
            raise Rejected("unreadable", FILE_UNREADABLE(file=str(path), error=str(error.strerror or error))) from error
        except zipfile.BadZipFile:
            raise Rejected("not_a_backup", _INCOMPLETE(path=str(path))) from None
        try:
            return cls(archive, _manifest(archive, path))
        except BaseException:
            archive.close()
            raise

    def verify(self) -> None:
        """Reads everything. Raises Rejected, naming the table, if a stream does not match the manifest."""
        for table in self.manifest.tables:
            checksum = StreamChecksum()
            for data in self.stream(table):
                checksum.add(data)
            if (checksum.digest.hexdigest(), checksum.rows, checksum.size) != (table.sha256, table.rows, table.size):
                raise _damaged(table.name)

    def stream(self, table: TableInfo) -> Iterator[bytes]:
        """One table's rows. Raises Rejected if they cannot be read."""
        try:
            with self._zip.open(_path(table.name)) as entry:
                while data := entry.read(CHUNK):
                    yield data
        except _UNREADABLE as error:
            raise _damaged(table.name) from error

    def close(self) -> None:
        self._zip.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _manifest(archive: zipfile.ZipFile, path: Path) -> Manifest:
    comment = archive.comment
    if not comment.startswith(_COMMENT_PREFIX) or _MANIFEST not in archive.namelist():
        raise Rejected("not_a_backup", sentence("{path} is not a backup of Tocsin's.", path=str(path)))
    if archive.getinfo(_MANIFEST).file_size > _MAX_MANIFEST_BYTES:
        raise _damaged(_MANIFEST)
    try:
        data = archive.read(_MANIFEST)
    except _UNREADABLE as error:
        raise _damaged(_MANIFEST) from error
    if hashlib.sha256(data).hexdigest().encode() != comment.removeprefix(_COMMENT_PREFIX):
        raise _damaged(_MANIFEST)
    try:
        format_version = msgspec.json.decode(data, type=_AnyManifest).format
    except msgspec.DecodeError as error:
        raise _damaged(_MANIFEST) from error
    if format_version != FORMAT:
        raise Rejected("newer", _OTHER_FORMAT(path=str(path), format=format_version, supported=FORMAT))
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise _damaged(_MANIFEST) from error


def _buffered(stream: Iterable[bytes | bytearray | memoryview]) -> Iterator[bytes]:
    """Combines small chunks into larger ones: COPY yields row by row."""
    buffer = bytearray()
    for chunk in stream:
        buffer += chunk
        if len(buffer) >= CHUNK:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)


def _path(table: str) -> str:
    return f"tables/{table}.copy"


def _damaged(part: str) -> Rejected:
    return Rejected("damaged", _DAMAGED(part=part))


# ---------- key encryption
# Encrypts the secret keys in a backup with a passphrase (scrypt, RFC 7914, and Fernet), and restores them.
#
# Stored secrets cannot be read without these keys. No key is ever displayed.


#: scrypt's N, with r = 8 and p = 1: 64 MiB of memory and some tenths of a second per guess.
COST = 1 << 16
_MAX_COST = 1 << 20


def seal(keys: Sequence[str], passphrase: str | None, *, cost: int = COST) -> ArchiveKeys:
    """The keys for a backup; in plain text only without a passphrase."""
    fingerprints = [crypto.fingerprint(key) for key in keys]
    if passphrase is None:
        return ArchiveKeys(fingerprints, plain=list(keys))
    salt = secrets.token_bytes(16)
    encrypted = _derive_fernet(passphrase, salt, cost).encrypt(json.dumps(list(keys)).encode())
    return ArchiveKeys(fingerprints, encrypted.decode(), base64.b64encode(salt).decode(), cost)


def unseal(keys: ArchiveKeys, passphrase: str | None) -> tuple[str, ...]:
    """The keys of a backup. Raises Rejected without the right passphrase."""
    if not keys.sealed:
        return tuple(keys.plain)
    if passphrase is None:
        raise Rejected(
            "passphrase_missing",
            sentence(
                "The secret key in this backup is encrypted with a passphrase. Pass it with --passphrase-file, or "
                "restore with --without-key and re-enter every secret."
            ),
        )
    if not 2 <= keys.cost <= _MAX_COST:
        raise Rejected("damaged", sentence("The backup is damaged: its secret key cannot be read."))
    try:
        decrypted = _derive_fernet(passphrase, base64.b64decode(keys.salt), keys.cost).decrypt(keys.sealed.encode())
    except (InvalidToken, ValueError):
        raise Rejected("passphrase_wrong", sentence("That is not the passphrase of this backup.")) from None
    return tuple(str(key) for key in json.loads(decrypted))


def missing(keys: ArchiveKeys, known_keys: Sequence[str]) -> bool:
    """Whether a secret in the backup may need a key that is not among `known_keys`."""
    return not set(keys.fingerprints) <= {crypto.fingerprint(key) for key in known_keys}


def choose_keys(keys: ArchiveKeys, settings: Config, passphrase: str | None, *, without_key: bool) -> tuple[str, ...]:
    """The keys to write to the data directory, newest first; empty if nothing changes.

    Raises Rejected if secrets in the backup would become unreadable, unless `without_key` accepts that.
    """
    known_keys = settings.secret_keys or load_keys(settings.data_dir)
    if without_key or not missing(keys, known_keys):
        return ()
    decrypted = unseal(keys, passphrase)
    if settings.secret_keys:
        raise Rejected(
            "key_differs",
            sentence(
                "TOCSIN_SECRET_KEY is not the key of this backup. Unset the variable, so that the backup's key is "
                "written to the data directory. Or add that key to the variable. Or restore with --without-key and "
                "re-enter every secret."
            ),
        )
    return decrypted


def load_keys(data_dir: Path) -> tuple[str, ...]:
    """The keys in the data directory, newest first; never creates one. Raises Permanent if its file is unreadable."""
    try:
        return crypto.keys_in(crypto.read_key_file(data_dir / crypto.KEY_FILE))
    except FileNotFoundError:
        return ()


def write_keys(data_dir: Path, keys: Sequence[str]) -> None:
    """Atomically replaces the keys of the data directory, newest first."""
    data_dir.mkdir(parents=True, exist_ok=True)
    path = data_dir / crypto.KEY_FILE
    temporary_path = path.with_name(f".{crypto.KEY_FILE}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary_path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write("".join(f"{key}\n" for key in keys))
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        # Root may run the command, while the server with its own account must be able to read the key.
        with contextlib.suppress(PermissionError):
            os.chown(temporary_path, path.stat().st_uid, path.stat().st_gid)
    temporary_path.replace(path)


def _derive_fernet(passphrase: str, salt: bytes, cost: int) -> Fernet:
    derived = Scrypt(salt=salt, length=32, n=cost, r=8, p=1).derive(passphrase.encode())
    return Fernet(base64.urlsafe_b64encode(derived))


# ---------- tables
# The tables that exist after given migrations, and migrating an empty database to exactly that state.


#: Django's migration records. Recreated by applying migrations, never copied.
MIGRATIONS = "django_migrations"

#: Tables a backup does not need: running processes, recent sign-in attempts, this machine's clock, and data that a
#: periodic task derives from other tables.
TRANSIENT = frozenset(
    {"operate_node", "core_clockseen", "alerts_alerttext", "inbound_messagetext", "access_sharedcacheentry"}
)

#: Tables that grant access: sessions, sandbox messages with their links, one-time codes and links. Backups are stored
#: in more places than a database, and none of them may let anybody sign in.
ACCESS = frozenset(
    {
        "account_emailconfirmation",
        "django_session",
        "identity_browsersession",
        "notify_sandboxmessage",
        "notify_verificationcode",
    }
)

#: Tables that are in no backup.
OMITTED = TRANSIENT | ACCESS

#: Rows that are in no backup, by table: hashes of the first administrator's setup links.
OMITTED_ROWS = {"core_setting": "name = 'setup_link'"}


def applied(connection: Connection) -> list[Migration]:
    """The migrations applied to the database, in order; empty without Tocsin's tables."""
    table_row = connection.execute("SELECT to_regclass(%s)::text", (MIGRATIONS,)).fetchone()
    if table_row is None or table_row[0] is None:
        return []
    return [
        (row[0], row[1]) for row in connection.execute(f"SELECT app, name FROM {MIGRATIONS} ORDER BY id").fetchall()
    ]


def tables_at(migrations: Collection[Migration]) -> list[str]:
    """The tables after exactly these migrations, sorted, without Django's own migration table."""
    return list(_tables_at(frozenset(migrations)))


@lru_cache(maxsize=8)
def _tables_at(migrations: frozenset[Migration]) -> tuple[str, ...]:
    """Cached, because a restore asks for the same state several times."""
    if not migrations:
        return ()
    loader = MigrationLoader(None, ignore_no_migrations=True)
    state = loader.project_state(list(migrations))
    models = state.apps.get_models(include_auto_created=True)
    return tuple(sorted({model._meta.db_table for model in models if model._meta.managed and not model._meta.proxy}))


def of_apps(connection: Connection, apps: Collection[str]) -> list[str]:
    """The existing tables whose names begin with these apps' labels, as Django names them."""
    query = (
        "SELECT c.relname FROM pg_class c JOIN unnest(%s::text[]) a ON starts_with(c.relname, a || '_') "
        "WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind IN ('r', 'p')"
    )
    return sorted({row[0] for row in connection.execute(query, (list(apps),)).fetchall()})


def migrate_to(migrations: Collection[Migration]) -> None:
    """Applies exactly these migrations to an empty database, in the transaction of Django's connection.

    Raises Rejected if they do not form a valid state.
    """
    executor = MigrationExecutor(django_connection)
    requested = set(migrations)
    full_plan = executor.migration_plan(executor.loader.graph.leaf_nodes(), clean_start=True)
    plan = [(migration, False) for migration, _ in full_plan if (migration.app_label, migration.name) in requested]
    completed: set[Migration] = set()
    for migration, _ in plan:
        parents = executor.loader.graph.node_map[migration.app_label, migration.name].parents
        if not {parent.key for parent in parents} <= completed:
            raise Rejected(
                "damaged",
                sentence("The backup is damaged: migrations before {migration} are missing.", migration=str(migration)),
            )
        completed.add((migration.app_label, migration.name))
    if len(plan) == len(full_plan):
        migrate.create_tables(executor)
    else:
        executor.migrate(None, plan=plan)
