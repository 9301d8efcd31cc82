"""`tocsin keys`: replaces the secret key, for example after it leaked, and removes the old one."""

from __future__ import annotations

import time

import typer

from tocsin.cli.session import DataDir, open_database
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType

_UNFINISHED = ReasonType("keys.rotation_unfinished", "Still encrypted with an older key: {remaining}. Run it again.")
_STILL_NEEDED = ReasonType(
    "keys.still_needed", "Still encrypted with an older key: {remaining}. Run `tocsin keys rotate` first."
)
_NODE_WITHOUT_KEY = ReasonType(
    "keys.node_without_key",
    "{nodes} runs without the new key and could not decrypt what is encrypted with it. Add the new key "
    "in front of the old one there, restart Tocsin, and run this command again. Nothing was "
    "re-encrypted.",
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
        from tocsin.core.runtime import clock
        from tocsin.operate.encryption import key_file, rotation

        if key_file.begin_rotation():
            _echo("Made a new key in the data directory.")
        _wait_for_nodes()
        total, last_line = 0, ""
        for step in rotation.rotate():
            total += step.values
            line = f"{step.column.table}.{step.column.column}: {step.page * 100 // max(1, step.pages)} %"
            if step.values and line != last_line:
                _echo(f"{line}, {total:,} values so far")
                last_line = line
        with database.transaction() as connection:
            remaining = rotation.count(connection)
        if total:
            audit.record(
                audit.COMMAND_LINE, "rotate_keys", now=clock.now(), object_type="secret_key", after={"values": total}
            )
    for label, count in remaining.unreadable.items():
        _echo(f"WARNING: {count:,} of {label} cannot be read with any known key, and stay as they are.")
    if remaining.old:
        raise Rejected("unfinished", _UNFINISHED(remaining=remaining.old_values))
    _echo(f"{total:,} values re-encrypted. Nothing needs an older key any more; see `tocsin keys retire`.")


@app.command()
def retire(data_dir: DataDir = None) -> None:
    """Remove old keys from the data directory.

    Rejected while a stored secret needs them. Links in pages that were sent under an old key stop working; otherwise
    they are valid for seven days.
    """
    with open_database(data_dir):
        from tocsin.core.db import database
        from tocsin.operate.encryption import key_file, rotation

        with database.transaction() as connection:
            remaining = rotation.count(connection)
        if remaining.old:
            raise Rejected("still_needed", _STILL_NEEDED(remaining=remaining.old_values))
        removed = key_file.retire()
    _echo(
        f"{removed} old {'key' if removed == 1 else 'keys'} retired. Start Tocsin again." if removed else "No old key."
    )


def _wait_for_nodes() -> None:
    """Wait until every running node knows the newest key. Raises Rejected("node_without_key") after a timeout."""
    from tocsin.core.db import database
    from tocsin.operate.encryption import rotation

    deadline = time.monotonic() + _WAIT_FOR_NODES
    while True:
        with database.transaction() as connection:
            outdated_nodes = rotation.nodes_without_newest_key(connection)
        if not outdated_nodes:
            return
        if time.monotonic() >= deadline:
            raise Rejected(
                "node_without_key",
                _NODE_WITHOUT_KEY(nodes=tuple(outdated_nodes)),
            )
        time.sleep(1)


def _echo(text: str) -> None:
    typer.echo(text, err=True)
