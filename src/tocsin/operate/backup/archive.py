"""The backup file: a ZIP with one stream per table, and a manifest with their checksums.

Streams use PostgreSQL's COPY text format, which all versions since 15 read alike. Nothing is held in memory.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import IO, Self

import msgspec

from tocsin.core.errors import FILE_UNREADABLE, Rejected
from tocsin.core.reasons import ReasonType

_INCOMPLETE = ReasonType("backup.incomplete", "{path} is not a backup of Tocsin's, or its end is missing.")
_NOT_A_BACKUP = ReasonType("backup.not_a_backup", "{path} is not a backup of Tocsin's.")
_OTHER_FORMAT = ReasonType(
    "backup.other_format", "{path} has format {format}; this Tocsin reads {supported}. Use the Tocsin that made it."
)
_DAMAGED = ReasonType(
    "backup.damaged", "The backup is damaged: the checksum of {part} does not match. Nothing was changed."
)

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
        raise Rejected("not_a_backup", _NOT_A_BACKUP(path=str(path)))
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
