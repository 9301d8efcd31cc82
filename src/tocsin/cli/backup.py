"""`tocsin backup` and `tocsin restore`: the complete state in one file, and back."""

from __future__ import annotations

import json
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import psycopg
import typer

from tocsin.cli.session import DatabaseSession, DataDir, configure, open_database
from tocsin.core.config import environment
from tocsin.core.config.environment import ConfigError
from tocsin.core.errors import FILE_UNREADABLE, Rejected, TocsinError
from tocsin.core.reasons import Text, as_reason, sentence
from tocsin.core.runtime import clock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.operate.backup.restoring import RestoreResult
    from tocsin.operate.finding import HealthFinding


PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        metavar="F",
        help="The file whose first line is the passphrase of the secret key. Default: $TOCSIN_BACKUP_PASSPHRASE.",
        show_default=False,
    ),
]

_PLAINTEXT_WARNING = (
    "WARNING: the backup is not under a passphrase. The key to every stored secret is in it as it is: whoever gets the "
    "file can read every password, token and address in it. Use --passphrase-file, or keep the file very safe."
)


def backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write. An existing file is replaced.")],
    passphrase_file: PassphraseFile = None,
    no_passphrase: Annotated[
        bool, typer.Option("--no-passphrase", help="Store the secret key in the file unencrypted.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Write a backup of the complete state to FILE.

    The backup is consistent, also while Tocsin runs. It can be restored into the built-in PostgreSQL or any other from
    version 15 on. It contains the key that encrypts stored secrets, protected by the passphrase.
    """
    configure(data_dir)
    passphrase = None if no_passphrase else _read_passphrase(passphrase_file, confirm=True)
    with open_database(data_dir, migrate=False) as session:
        from tocsin.core.config import crypto
        from tocsin.operate.backup import archive, writing

        _measure_clock(session)
        keys = archive.seal(crypto.secret_keys(), passphrase)
        manifest = writing.write(file.absolute(), clock.now(), keys=keys)
        _record(file.absolute(), manifest.made_at)
    if passphrase is None:
        _echo(_PLAINTEXT_WARNING)
    _echo(f"{file}: {manifest.rows:,} rows of {len(manifest.tables)} tables, {_size(file)}.")


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file that `tocsin backup` wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the existing state.")] = False,
    passphrase_file: PassphraseFile = None,
    without_key: Annotated[
        bool,
        typer.Option("--without-key", help="Keep the current secret key: stored secrets must be re-entered."),
    ] = False,
    paused: Annotated[
        bool, typer.Option("--paused", help="Pause all paging for a week or until someone resumes it.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Replace the complete state by a backup.

    Stop Tocsin first. The whole file is verified before anything is changed; if it is damaged, nothing is changed.
    """
    configure(data_dir)
    from tocsin.operate.backup import archive
    from tocsin.operate.backup.archive import BackupReader

    with BackupReader.open(file) as reader:
        reader.verify()
        keys = reader.manifest.keys
        settings = environment.current()
        known_keys = settings.secret_keys or archive.load_keys(settings.data_dir)
        needs_passphrase = bool(keys.sealed) and not without_key and archive.missing(keys, known_keys)
        passphrase = _read_passphrase(passphrase_file, confirm=False) if needs_passphrase else None
        new_keys = archive.choose_keys(keys, settings, passphrase, without_key=without_key)
        with open_database(data_dir, migrate=False) as session:
            from tocsin.notify import pause
            from tocsin.operate.backup import restoring

            result = restoring.restore(reader, new_keys, force=force, paused_for=pause.MAX_PAUSE if paused else None)
            if paused:
                _pause(session)
    _report_restore(file, result, is_paused=paused)


def _measure_clock(session: DatabaseSession) -> None:
    """Measure the offset of the database's clock, and report the location of the embedded PostgreSQL if it is outside
    the data directory."""
    from tocsin.core.db import database

    with database.connect(name="tocsin backup") as connection:
        clock.measure(connection)
    if session.embedded is not None and session.embedded.is_outside_data_dir:
        _echo(
            f"PostgreSQL's part lives in {session.embedded.location}. It is in the backup; a copy of "
            f"{session.config.data_dir} alone would not have it."
        )


def _record(file: Path, now: datetime) -> None:
    """Record the backup for System, doctor and metrics. A database that only reads keeps none."""
    from tocsin.core.config import settings_store
    from tocsin.core.db import database

    location = f"{socket.gethostname()}:{file}"
    try:
        with database.connect(name="tocsin backup") as connection:
            settings_store.record_backup(connection, settings_store.LastBackup(now, location, file.stat().st_size))
    except psycopg.Error as error:
        _echo(f"The backup is complete, but could not be recorded as the last one: {error}")


def _pause(session: DatabaseSession) -> None:
    from tocsin.access.audit import COMMAND_LINE
    from tocsin.notify import pause
    from tocsin.operate.backup.restoring import PAUSE_REASON

    # The restored state is paused already; this records the pause in the audit log.
    _measure_clock(session)
    pause.start(PAUSE_REASON, clock.now() + pause.MAX_PAUSE, COMMAND_LINE, clock.now())


def _report_restore(file: Path, result: RestoreResult, *, is_paused: bool) -> None:
    manifest = result.manifest
    origin = f"Tocsin {manifest.tocsin}, {manifest.made_at:%Y-%m-%d %H:%M} UTC, from PostgreSQL {manifest.postgres}"
    _echo(f"Restored {manifest.rows:,} rows of {len(manifest.tables)} tables from {file} ({origin}).")
    _echo("Everybody signs in again; invitations and links for a new password work no more.")
    if result.migrated:
        _echo(f"Brought up to date: {len(result.migrated)} migrations applied.")
    if result.were_keys_written:
        _echo(f"The backup's secret key is in {environment.current().data_dir / 'secret.key'} now.")
    if not result.has_keys:
        _echo("WARNING: the backup's secret key is missing: enter every password and token of providers anew.")
    if is_paused:
        _echo("All paging is paused for a week: look, then end the pause.")
    elif result.active_alerts:
        alerts = "1 alert is" if result.active_alerts == 1 else f"{result.active_alerts:,} alerts are"
        _echo(f"{alerts} live: Tocsin pages people about them as soon as it starts. --paused would prevent that.")


def _read_passphrase(file: Path | None, *, confirm: bool) -> str | None:
    """Return the passphrase from the file, the environment or the terminal; None if it is empty."""
    if file is not None:
        try:
            passphrase = file.read_text(encoding="utf-8").partition("\n")[0].rstrip("\r")
        except (OSError, UnicodeDecodeError) as error:
            raise Rejected("passphrase_missing", FILE_UNREADABLE(file=str(file), error=str(error))) from error
        if not passphrase:
            raise Rejected(
                "passphrase_missing", sentence("{file} has no passphrase on its first line.", file=str(file))
            )
        return passphrase
    if (configured := environment.current().backup_passphrase) is not None:
        return configured
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        return None
    prompt = "Passphrase for the secret key (none: leave empty)" if confirm else "Passphrase of the secret key"
    entered = typer.prompt(
        prompt, default="", hide_input=True, confirmation_prompt=confirm, show_default=False, err=True
    )
    return str(entered) or None


def _size(file: Path) -> str:
    size = file.stat().st_size
    return f"{size / 1024**2:,.1f} MB" if size >= 1024**2 else f"{size / 1024:,.0f} kB"


def _echo(text: str) -> None:
    typer.echo(text, err=True)


# ---------- keys
# `tocsin keys`: replaces the secret key, for example after it leaked, and removes the old one.


_NODE_WITHOUT_KEY = Text(
    "{nodes} runs without the new key and could not decrypt what is encrypted with it. Add the new key "
    "in front of the old one there, restart Tocsin, and run this command again. Nothing was "
    "re-encrypted."
)

app = typer.Typer(help="Rotate the key that encrypts stored secrets.", no_args_is_help=True, rich_markup_mode=None)

#: Seconds to wait for all nodes. A node reports the keys that it knows every five seconds.
_WAIT_FOR_NODES = 30


@app.callback()
def _group() -> None:
    """Rotate the key that encrypts stored secrets."""


@app.command()
def rotate(data_dir: DataDir = None) -> None:
    """Re-encrypt all secrets under the newest key.

    Works while Tocsin runs. The newest key is the first one in TOCSIN_SECRET_KEY; if that is not set, a new key is
    created in the data directory. After an interruption, run the command again: it continues where it stopped.
    """
    with open_database(data_dir):
        from tocsin.access import audit
        from tocsin.core.db import database
        from tocsin.operate import encryption

        if encryption.begin_rotation():
            _echo("Made a new key in the data directory.")
        _wait_for_nodes()
        total, last_line = 0, ""
        for step in encryption.rotate():
            total += step.values
            line = f"{step.column.table}.{step.column.column}: {step.page * 100 // max(1, step.pages)} %"
            if step.values and line != last_line:
                _echo(f"{line}, {total:,} values so far")
                last_line = line
        with database.transaction() as connection:
            remaining = encryption.count(connection)
        if total:
            audit.record(
                audit.COMMAND_LINE, "rotate_keys", now=clock.now(), object_type="secret_key", after={"values": total}
            )
    for label, count in remaining.unreadable.items():
        _echo(f"WARNING: {count:,} of {label} cannot be read with any known key, and stay as they are.")
    if remaining.old:
        raise Rejected(
            "unfinished",
            sentence("Still encrypted with an older key: {remaining}. Run it again.", remaining=remaining.old_values),
        )
    _echo(f"{total:,} values re-encrypted. Nothing needs an older key any more; see `tocsin keys retire`.")


@app.command()
def retire(data_dir: DataDir = None) -> None:
    """Remove old keys from the data directory.

    Rejected while a stored secret needs them. Links in pages that were sent under an old key stop working; otherwise
    they are valid for seven days.
    """
    with open_database(data_dir):
        from tocsin.core.db import database
        from tocsin.operate import encryption

        with database.transaction() as connection:
            remaining = encryption.count(connection)
        if remaining.old:
            raise Rejected(
                "still_needed",
                sentence(
                    "Still encrypted with an older key: {remaining}. Run `tocsin keys rotate` first.",
                    remaining=remaining.old_values,
                ),
            )
        removed = encryption.retire()
    _echo(
        f"{removed} old {'key' if removed == 1 else 'keys'} retired. Start Tocsin again." if removed else "No old key."
    )


def _wait_for_nodes() -> None:
    """Wait until every running node knows the newest key. Raises Rejected("node_without_key") after a timeout."""
    from tocsin.core.db import database
    from tocsin.operate import encryption

    deadline = time.monotonic() + _WAIT_FOR_NODES
    while True:
        with database.transaction() as connection:
            outdated_nodes = encryption.nodes_without_newest_key(connection)
        if not outdated_nodes:
            return
        if time.monotonic() >= deadline:
            raise Rejected("node_without_key", _NODE_WITHOUT_KEY(nodes=tuple(outdated_nodes)))
        time.sleep(1)


# ---------- doctor
# `tocsin doctor`: reports problems, each with its remedy. Changes nothing.


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    data_dir: DataDir = None,
) -> None:
    """Check the installation for problems.

    Checks the database, durability, clock, disk, configuration, public URL, providers, and who can be reached. Each
    problem has an id and a remedy. The exit status is 1 if there is a problem; notes do not count.
    """
    findings = []
    for finding in _find(data_dir):
        findings.append(finding)
        if not as_json:
            # Each is printed at once: under load, the next check may take long.
            remedy = f"\n{'':8} → {finding.remedy}" if finding.remedy else ""
            typer.echo(f"{finding.level:8} {finding.id}: {finding.detail}{remedy}")
    problems = [_as_dict(finding) for finding in findings if finding.is_problem]
    if as_json:
        notes = [_as_dict(finding) for finding in findings if not finding.is_problem]
        report = {"ok": not problems, "problems": problems, "notes": notes}
        typer.echo(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        typer.echo(
            f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'}." if problems else "No problems."
        )
    if problems:
        raise typer.Exit(1)


def _find(data_dir: Path | None) -> Iterator[HealthFinding]:
    from tocsin.operate.finding import HealthFinding

    try:
        configure(data_dir)
    except ConfigError as error:
        remedy = sentence("Correct that variable; nothing else was checked.")
        yield HealthFinding("configuration.variable", as_reason(str(error)), remedy)
        return
    from django.db import OperationalError

    try:
        # A diagnosis must not change anything, so the tables are not migrated.
        with open_database(data_dir, migrate=False):
            from tocsin.core.db import database
            from tocsin.operate import doctor as examination

            # A direct connection reports the actual error; the pool would only report a timeout.
            with database.connect(name="tocsin doctor") as connection:
                clock.measure(connection)
            yield from examination.find(clock.now())
    except (psycopg.OperationalError, OperationalError, TocsinError) as error:
        yield from _find_without_database(" ".join(str(error).split()))


def _find_without_database(problem: str) -> Iterator[HealthFinding]:
    from tocsin.cli.session import set_up_django
    from tocsin.core.db import database, start_up
    from tocsin.core.runtime.telemetry import mask_tokens

    set_up_django()
    from tocsin.operate import doctor as examination

    sqlstate = start_up.sqlstate_of_rejection() if database.url_in_use() is not None else ""
    yield from examination.find_without_database(mask_tokens(problem), datetime.now(UTC), sqlstate=sqlstate)


def _as_dict(finding: HealthFinding) -> dict[str, str]:
    return {name: str(getattr(finding, name)) for name in ("id", "detail", "remedy", "about", "level")}
