"""The command line itself: every command has help and --data-dir, and an error is one clear line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import tocsin
from tocsin.cli.main import app, run
from tocsin.core.config import environment


def commands(command: Any, names: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command with the words that lead to it."""
    for name, inner in command.commands.items():
        if hasattr(inner, "commands"):
            yield from commands(inner, (*names, name))
        else:
            yield (*names, name), inner


ALL = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_has_help_and_takes_a_data_directory(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*words, "--help"]) == 0
    text = capsys.readouterr().out
    # The probe asks a port, and the bridge an address.
    assert ("--data-dir" in text) == (words not in (("probe",), ("mcp",)))
    assert ALL[words].help, "a sentence that says what it does"


@pytest.mark.parametrize("name", ["TOCSIN_DATABASE_URL", "TOCSIN_DATABASE_URL_FILE"])
def test_shell_command_uses_the_same_database_as_the_service(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tocsin" / "tocsin.env"
    file.parent.mkdir()
    file.write_text(f'# TOCSIN_BASE_URL=https://tocsin.example.org\n{name}="postgresql://db/tocsin"\n')
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("TOCSIN_DATABASE_URL", raising=False)
    monkeypatch.delenv("TOCSIN_DATA_DIR", raising=False)
    monkeypatch.setattr(environment, "default_data_dir", lambda: tmp_path / "data")
    assert run(["backup", str(tmp_path / "state"), "--no-passphrase"]) == 1
    assert f"set -a; . {file}; set +a" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()
    environment.read_again()


def test_the_commands_of_this_part_are_there() -> None:
    assert {("apply",), ("export",), ("user", "create"), ("token", "create")} <= set(ALL)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], "No such command 'fly'."),
        (["export", "--loud"], "No such option: --loud"),
        (["user", "create", "alice"], "Missing option '--email'."),
        (
            ["user", "create", "alice", "--email", "a@example.org", "--role", "boss"],
            "Invalid value for '--role': 'boss' is not one of",
        ),
        (["apply"], "Missing argument 'FILE…'."),
    ],
)
def test_invalid_command_line_is_one_line_with_status_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("tocsin: ")
    assert message in err
    assert err.count("\n") == 1


def test_without_arguments_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "Commands:" in capsys.readouterr().err


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"tocsin {tocsin.__version__}\n"


def test_missing_file_is_reported_before_startup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["apply", str(tmp_path / "none.yaml"), "--data-dir", str(tmp_path / "data")]) == 1
    assert capsys.readouterr().err == f"tocsin: {tmp_path}/none.yaml: cannot be read: No such file or directory.\n"
    assert not (tmp_path / "data").exists()


def test_too_large_payload_is_reported_before_startup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    payload = tmp_path / "large.json"
    payload.write_text(" " * (5 * 2**20 + 1))
    assert run(["simulate", "--integration", "Halo", str(payload)]) == 1
    assert capsys.readouterr().err == f"tocsin: {payload} has more than 5 MiB.\n"


def test_key_file_that_is_not_utf8_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_bytes(b"\xff\xfe")
    assert run(["import", "opsgenie", "--key-file", str(tmp_path / "key")]) == 1
    assert "it is not UTF-8" in capsys.readouterr().err
