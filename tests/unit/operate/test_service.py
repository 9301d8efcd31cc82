"""The systemd unit: its content, location, and validation by systemd."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from tocsin.cli import serve
from tocsin.cli.main import run
from tocsin.core.config import environment as config
from tocsin.core.errors import Permanent, Rejected
from tocsin.node import RECORD_TIMEOUT, STOP_TIMEOUT
from tocsin.operate.service import (
    PACKAGE_UNIT,
    carried_variables,
    environment,
    read_environment,
    system_location,
    unit,
    user_location,
)
from tocsin.operate.service import STOP_TIMEOUT as UNIT_STOP_TIMEOUT

COMMAND = ["/opt/tocsin/bin/tocsin", "serve", "--port", "8686"]


def test_system_unit_starts_at_boot_restarts_forever_and_stops_gracefully() -> None:
    lines = unit(system_location(), COMMAND, Path("/var/lib/tocsin")).splitlines()
    for line in (
        "After=network-online.target postgresql.service",
        "StartLimitIntervalSec=0",
        'ExecStart="/opt/tocsin/bin/tocsin" "serve" "--port" "8686"',
        'Environment="TOCSIN_DATA_DIR=/var/lib/tocsin"',
        "EnvironmentFile=-/etc/tocsin/tocsin.env",
        "Type=notify",
        "TimeoutStartSec=infinity",
        "Restart=always",
        "RestartPreventExitStatus=78",
        "KillMode=process",
        "WantedBy=multi-user.target",
        "NoNewPrivileges=yes",
        "ProtectSystem=strict",
        "PrivateTmp=yes",
        "UMask=0077",
        "SystemCallFilter=@system-service",
    ):
        assert line in lines
    # What a stop waits for, one after the other: requests, threads, the results of what was sent.
    assert serve.SHUTDOWN_TIMEOUT + STOP_TIMEOUT + RECORD_TIMEOUT < UNIT_STOP_TIMEOUT


def test_user_unit_starts_with_session_using_supported_directives_only() -> None:
    text = unit(user_location(Path("/home/alice/.config")), COMMAND, Path("/home/alice/data"))
    assert "WantedBy=default.target" in text
    assert "EnvironmentFile=-/home/alice/.config/tocsin/tocsin.env" in text
    assert "Protect" not in text
    assert "network-online" not in text


def test_packaged_unit_has_own_user_and_same_hardening() -> None:
    plain, packaged = (
        unit(system_location(), COMMAND, Path("/var/lib/tocsin"), is_packaged=flag).splitlines()
        for flag in (False, True)
    )
    assert {"User=tocsin", "Group=tocsin", "StateDirectory=tocsin"} <= set(packaged)
    own = ("ProtectHome=", "CapabilityBoundingSet=")
    assert {line for line in plain[1:] if not line.startswith(own)} <= set(packaged)
    assert "ProtectHome=yes" in packaged


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
@pytest.mark.parametrize(("is_packaged", "most"), [(True, 2.5), (False, 4.5)])
def test_exposure_of_the_unit_is_low(is_packaged: bool, most: float, tmp_path: Path) -> None:
    file = tmp_path / "tocsin.service"
    file.write_text(unit(system_location(), COMMAND, Path("/var/lib/tocsin"), is_packaged=is_packaged))
    command = ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"exposure level for tocsin.service: ([\d.]+)", done.stdout)
    assert found is not None
    assert float(found[1]) <= most


@pytest.mark.parametrize(("is_user", "is_packaged"), [(False, False), (True, False), (False, True)])
@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_unit(is_user: bool, is_packaged: bool, tmp_path: Path) -> None:
    program = tmp_path / "50% of $HOME" / "tocsin"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    place = user_location(tmp_path) if is_user else system_location(tmp_path)
    place.unit.parent.mkdir(parents=True)
    command = [str(program), "serve", "--host", "$HOME 100%"]
    data_dir = tmp_path / ("data" if is_packaged else "data dir")
    place.unit.write_text(unit(place, command, data_dir, is_packaged=is_packaged))
    verify = ["systemd-analyze", "verify", "--man=no", *(["--user"] if is_user else []), str(place.unit)]
    done = subprocess.run(verify, capture_output=True, text=True, env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)})
    about_ours = [line for line in done.stderr.splitlines() if "tocsin.service" in line]
    assert about_ours == []


def test_unit_keeps_shell_variables_except_data_directory_and_tests() -> None:
    shell = {
        "TOCSIN_BASE_URL": "https://tocsin.example.org",
        "TOCSIN_SMTP_URL_FILE": "smtp-url",
        "TOCSIN_DATA_DIR": "/x",
        "TOCSIN_TEST_CLOCK": "1",
        "PATH": "/bin",
    }
    assert carried_variables(shell, Path("/home/alice")) == {
        "TOCSIN_BASE_URL": "https://tocsin.example.org",
        "TOCSIN_SMTP_URL_FILE": "/home/alice/smtp-url",
    }


def test_values_with_quotes_and_dollars_are_kept_as_they_are() -> None:
    assert 'TOCSIN_SMTP_URL="smtp://a:p\\"\\$\\\\@h"' in environment({"TOCSIN_SMTP_URL": 'smtp://a:p"$\\@h'})


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=plain", "plain"),
        ("  A = two words  ", "two words"),
        ("A=Tocsin <tocsin@example.org>", "Tocsin <tocsin@example.org>"),
        ('A="a \\"b\\" \\$c \\d"', 'a "b" $c \\d'),
        ("A='a \\ \"b\"'", 'a \\ "b"'),
        ("A=one\\\ntwo", "onetwo"),
        (r"A=a\ b", "a b"),
        ("A=", ""),
        ("# A=comment\nA=b", "b"),
        ("A=1\nA=2", "2"),
    ],
)
def test_environment_file_is_read_as_systemd_does(line: str, value: str) -> None:
    assert read_environment(line) == {"A": value}


def test_environment_file_reads_back_what_was_written() -> None:
    values = {"TOCSIN_SMTP_URL": "smtp://a:p\"$\\`'@h", "TOCSIN_EMAIL_FROM": "Tocsin <a@example.org>"}
    assert read_environment(environment(values)) == values


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.skipif(
    shutil.which("systemd-run") is None or not Path("/run/systemd/system").exists(), reason="no systemd"
)
def test_systemd_reads_an_environment_file_alike(tmp_path: Path) -> None:
    text = 'A=two words\nB="a \\"b\\" \\$c \\d"\nC=\'a \\ "b"\'\nD=a\\ b\n'
    (tmp_path / "env").write_text(text)
    command = ["systemd-run", "--quiet", "--pipe", "--wait", "-p", f"EnvironmentFile={tmp_path}/env", "env", "-0"]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    assert {line for line in lines if line[:2] in ("A=", "B=", "C=", "D=")} == {
        f"{name}={value}" for name, value in read_environment(text).items()
    }


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine run by systemd, whose `systemctl` and `loginctl` write down how they are called."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("systemctl", "loginctl"):
        program = programs / name
        program.write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n')
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("TOCSIN_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(serve, "BOOTED", tmp_path)
    monkeypatch.setattr(serve, "ROOT", tmp_path)
    yield tmp_path
    config.read_again()


def calls(machine: Path) -> list[str]:
    file = machine / "calls"
    return file.read_text().splitlines() if file.exists() else []


def test_install_writes_enables_and_starts_the_unit(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["service", "install", "--user", "--port", "9000"]) == 0
    text = (machine / "config/systemd/user/tocsin.service").read_text()
    assert '"serve" "--host" "127.0.0.1" "--port" "9000"' in text
    assert f'"TOCSIN_DATA_DIR={machine}/data"' in text
    variables = machine / "config/tocsin/tocsin.env"
    assert "TOCSIN_DATABASE_URL=" in variables.read_text()
    assert stat.S_IMODE(variables.stat().st_mode) == 0o600
    assert calls(machine) == [
        "systemctl --user daemon-reload",
        "systemctl --user enable tocsin.service",
        "systemctl --user restart tocsin.service",
        "loginctl enable-linger",
    ]
    assert "is written, enabled and started." in capsys.readouterr().err


def test_install_again_writes_the_unit_anew_and_leaves_the_variables(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(["service", "install", "--user"])
    variables = machine / "config/tocsin/tocsin.env"
    variables.write_text("TOCSIN_BASE_URL=https://kept.example.org\n")
    assert run(["service", "install", "--user", "--port", "9001"]) == 0
    assert variables.read_text() == "TOCSIN_BASE_URL=https://kept.example.org\n"
    assert '"9001"' in (machine / "config/systemd/user/tocsin.service").read_text()
    assert "is left as it is" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_install_for_the_machine_as_root(machine: Path) -> None:
    assert run(["service", "install"]) == 0
    assert "WantedBy=multi-user.target" in (machine / "etc/systemd/system/tocsin.service").read_text()
    assert calls(machine)[0] == "systemctl daemon-reload"


def test_foreign_unit_file_is_not_overwritten(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = machine / "config/systemd/user/tocsin.service"
    theirs.parent.mkdir(parents=True)
    theirs.write_text("[Service]\n")
    assert run(["service", "install", "--user"]) == 1
    assert "was not written by this command" in capsys.readouterr().err
    assert (theirs.read_text(), calls(machine)) == ("[Service]\n", [])


def test_without_systemd_nothing_is_written_and_alternative_is_shown(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve, "BOOTED", machine / "nowhere")
    assert run(["service", "install", "--user"]) == 1
    text = capsys.readouterr().err
    assert text.startswith("tocsin: This machine is not run by systemd; nothing was written.")
    assert "--print" in text
    assert not (machine / "config").exists()


def test_what_systemctl_refuses_is_one_clear_line(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (machine / "bin/systemctl").write_text("#!/bin/sh\necho 'Failed to connect to bus' >&2\nexit 1\n")
    assert run(["service", "install", "--user"]) == 1
    assert capsys.readouterr().err == ("tocsin: `systemctl --user daemon-reload` failed: Failed to connect to bus.\n")


def test_print_shows_the_unit_and_does_nothing(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["service", "install", "--print"]) == 0
    assert capsys.readouterr().out.startswith("# Written by `tocsin service install`")
    assert (calls(machine), (machine / "etc").exists()) == ([], False)


def test_unit_of_a_package_is_left_alone(machine: Path, capsys: pytest.CaptureFixture[str]) -> None:
    of_package = machine / PACKAGE_UNIT.relative_to("/")
    of_package.parent.mkdir(parents=True)
    of_package.write_text("")
    assert run(["service", "install"]) == 1
    assert capsys.readouterr().err.startswith(f"tocsin: The package has brought {of_package}; nothing was written.")
    assert (calls(machine), (machine / "etc").exists()) == ([], False)


def test_packaged_command_of_root_becomes_the_service(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = machine / "etc/tocsin/tocsin.env"
    file.parent.mkdir(parents=True)
    file.write_text("TOCSIN_EMAIL_FROM=Tocsin <a@example.org>\nTOCSIN_BASE_URL=https://file.example.org\n")
    monkeypatch.setattr("tocsin.operate.service.PACKAGE_USER", "nobody")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "environ", {"TOCSIN_BASE_URL": "https://shell.example.org"})
    became: list[object] = []
    for name in ("initgroups", "setgid", "setuid"):
        monkeypatch.setattr(os, name, lambda *arguments: became.append(arguments))
    serve.act_as_packaged_service()
    nobody = pwd.getpwnam("nobody")
    assert became == [("nobody", nobody.pw_gid), (nobody.pw_gid,), (nobody.pw_uid,)]
    assert os.environ == {
        "TOCSIN_DATA_DIR": "/var/lib/tocsin",
        "TOCSIN_EMAIL_FROM": "Tocsin <a@example.org>",
        "TOCSIN_BASE_URL": "https://shell.example.org",
        "HOME": nobody.pw_dir,
    }


@pytest.mark.parametrize(
    ("program", "codes"),
    [
        (None, ["The program `tocsin` cannot be found.", "Install it with `uv tool install tocsin`."]),
        (
            "/opt/o'brien/tocsin",
            ["systemd cannot start a program whose path contains quotes: {path}.", "Install it elsewhere."],
        ),
    ],
)
def test_program_that_a_unit_cannot_name_is_reported(
    program: str | None, codes: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(serve.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setattr(serve.shutil, "which", lambda name: program)
    with pytest.raises(Permanent) as raised:
        serve._command("127.0.0.1", 8686)
    assert [raised.value.reason.code, raised.value.remedy_reason.code] == codes


def test_system_unit_needs_root(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(serve, "BOOTED", tmp_path)
    monkeypatch.setattr(serve, "ROOT", tmp_path)
    monkeypatch.setattr(serve.shutil, "which", lambda name: "/usr/bin/systemctl")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(Rejected) as rejected:
        serve._refuse(system_location(), "/home/alice/.local/bin/tocsin")
    assert (
        rejected.value.reason.code
        == "A service of the machine needs root: `sudo {program} service install`; or add --user for your own."
    )
    assert "`sudo /home/alice/.local/bin/tocsin service install`" in str(rejected.value)
