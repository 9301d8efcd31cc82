"""The systemd unit that starts Tocsin after a reboot: its text, location and environment file. Pure.

See systemd.unit(5), systemd.exec(5) and systemd.kill(5).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tocsin.core.embedded_layout import ROOT_DATA_DIR

NAME = "tocsin.service"

#: Identifies our own unit; a unit written by somebody else is never overwritten.
MARK = "# Written by `tocsin service install`"

#: The unit of the .deb and the .rpm, and the account that they create for it.
PACKAGE_UNIT = Path("/usr/lib/systemd/system") / NAME
PACKAGE_USER = "tocsin"

#: The exit status for an invalid variable (sysexits.h): only a person can mend that.
EXIT_CONFIG = 78

#: In seconds: longer than any clean shutdown, including PostgreSQL's last checkpoint.
STOP_TIMEOUT = 120


@dataclass(frozen=True, slots=True)
class UnitLocation:
    """The location of the unit and its environment file."""

    unit: Path
    environment: Path
    is_user: bool

    @property
    def systemctl(self) -> tuple[str, ...]:
        return ("systemctl", "--user") if self.is_user else ("systemctl",)

    @property
    def journal(self) -> str:
        return f"journalctl --user -u {NAME}" if self.is_user else f"journalctl -u {NAME}"


def system_location(root: Path = Path("/")) -> UnitLocation:
    """The location for a system service, which needs root."""
    return UnitLocation(root / "etc/systemd/system" / NAME, root / "etc/tocsin/tocsin.env", is_user=False)


def user_location(configuration: Path) -> UnitLocation:
    """The location for a user service; `configuration` is the user's configuration folder."""
    return UnitLocation(configuration / "systemd/user" / NAME, configuration / "tocsin/tocsin.env", is_user=True)


def unit(location: UnitLocation, command: Sequence[str], data_dir: Path, *, is_packaged: bool = False) -> str:
    """The unit's text; `command` starts Tocsin, its first word is an absolute path. A package's unit runs as
    PACKAGE_USER, with a data directory in /var/lib."""
    lines = [
        "# Part of the package." if is_packaged else f"{MARK}; running that again writes it anew.",
        f"# Your own settings belong into {location.environment}, or into `{' '.join(location.systemctl)} "
        "edit tocsin`.",
        "",
        "[Unit]",
        "Description=Tocsin: alert management and on-call paging",
        *(
            []
            if location.is_user
            else ["Wants=network-online.target", "After=network-online.target postgresql.service"]
        ),
        "# However often it fails: a pager is started again.",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "# Started means that it serves. A start may wait for the database, back it up and migrate it.",
        "Type=notify",
        "TimeoutStartSec=infinity",
        f"Environment={_quoted(f'TOCSIN_DATA_DIR={data_dir}')}",
        f"EnvironmentFile=-{_specifiers(str(location.environment))}",
        f"ExecStart={_command(command)}",
        "Restart=always",
        "RestartSec=2",
        "# Except with an invalid variable, which `systemctl status` names.",
        f"RestartPreventExitStatus={EXIT_CONFIG}",
        f"TimeoutStopSec={STOP_TIMEOUT}",
        "# The built-in PostgreSQL is stopped by its last user, who may be a backup that runs beside this.",
        "KillMode=process",
        "OOMPolicy=continue",
        "NoNewPrivileges=yes",
        "LockPersonality=yes",
        "RestrictRealtime=yes",
        "RestrictSUIDSGID=yes",
        "SystemCallArchitectures=native",
        *([] if location.is_user else _sandboxing(data_dir, is_packaged=is_packaged)),
        "",
        "[Install]",
        f"WantedBy={'default.target' if location.is_user else 'multi-user.target'}",
    ]
    return "\n".join(lines) + "\n"


def _account() -> list[str]:
    return [
        f"User={PACKAGE_USER}",
        f"Group={PACKAGE_USER}",
        "# The listener for emails may have a port below 1024.",
        "AmbientCapabilities=CAP_NET_BIND_SERVICE",
        "CapabilityBoundingSet=CAP_NET_BIND_SERVICE",
        "ProtectHome=yes",
        "ProtectProc=invisible",
        "SystemCallFilter=~@privileged",
    ]


def _sandboxing(data_dir: Path, *, is_packaged: bool) -> list[str]:
    """Sandboxing for the system service. A user's service manager cannot apply it everywhere.

    Root's own installation may live in root's home, and runs PostgreSQL as another user.
    """
    return [
        "OOMScoreAdjust=-500",
        "LimitNOFILE=65536",
        "# It writes to its data directory and nowhere else; files that variables name must be readable.",
        "ProtectSystem=strict",
        f"StateDirectory={ROOT_DATA_DIR.name}",
        "StateDirectoryMode=0711",
        *([] if data_dir == ROOT_DATA_DIR else [f"ReadWritePaths={_quoted(f'-{data_dir}')}"]),
        "PrivateTmp=yes",
        "UMask=0077",
        "ProtectClock=yes",
        "ProtectKernelTunables=yes",
        "ProtectKernelModules=yes",
        "ProtectKernelLogs=yes",
        "ProtectControlGroups=yes",
        "ProtectHostname=yes",
        "PrivateDevices=yes",
        "RestrictNamespaces=yes",
        "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK",
        "SystemCallFilter=@system-service",
        "# What is not allowed fails, as on a system that does not have it.",
        "SystemCallErrorNumber=EPERM",
        *(
            _account()
            if is_packaged
            else [
                "ProtectHome=read-only",
                "CapabilityBoundingSet=CAP_CHOWN CAP_DAC_OVERRIDE CAP_DAC_READ_SEARCH CAP_FOWNER CAP_FSETID CAP_KILL "
                "CAP_NET_BIND_SERVICE CAP_SETGID CAP_SETUID CAP_SYS_PTRACE CAP_SYS_RESOURCE",
            ]
        ),
    ]


def environment(variables: Mapping[str, str]) -> str:
    """The initial text of the environment file, created once; the administrator edits it afterwards."""
    lines = [
        "# Variables of Tocsin's service, one a line. After a change: systemctl restart tocsin",
        "# TOCSIN_BASE_URL=https://tocsin.example.org",
        "# TOCSIN_TRUSTED_PROXIES=127.0.0.1,::1",
        "# TOCSIN_SMTP_URL=smtps://user:password@mail.example.org:465",
        "# TOCSIN_EMAIL_FROM=tocsin@example.org",
        "# TOCSIN_HEARTBEAT_URL=https://hc.example.org/ping/...",
        *(f"{name}={_in_file(value)}" for name, value in sorted(variables.items())),
    ]
    return "\n".join(lines) + "\n"


def read_environment(text: str) -> dict[str, str]:
    """The variables in an environment file, as systemd reads it (systemd.exec(5), EnvironmentFile). A quoted value
    ends with its line."""
    variables = {}
    for line in text.replace("\\\n", "").splitlines():
        name, separator, value = line.strip().partition("=")
        if separator and not name.startswith(("#", ";")):
            variables[name.rstrip()] = _unquoted(value.strip())
    return variables


def _unquoted(value: str) -> str:
    """Quotes may begin anywhere. Within double quotes a backslash only escapes what the shell would expand."""
    result, quote, position = "", "", 0
    while position < len(value):
        character, following = value[position], value[position + 1 : position + 2]
        position += 1
        if character == "\\" and quote != "'" and following and (not quote or following in '"\\$`'):
            result += following
            position += 1
        elif character in (quote or "\"'"):
            quote = "" if quote else character
        else:
            result += character
    return result


def names_database(environment: str) -> bool:
    """Whether an environment file configures an external PostgreSQL."""
    return re.search(r'^\s*TOCSIN_DATABASE_URL(_FILE)?=\s*"?[^"\s]', environment, re.MULTILINE) is not None


def carried_variables(variables: Mapping[str, str], folder: Path) -> dict[str, str]:
    """The variables of a shell that the service needs too; relative paths are resolved against `folder`."""
    carried = {}
    for name, value in variables.items():
        if not name.startswith("TOCSIN_") or name == "TOCSIN_DATA_DIR" or name.startswith("TOCSIN_TEST_"):
            continue
        carried[name] = str(folder / Path(value).expanduser()) if name.endswith("_FILE") else value
    return carried


def _command(words: Sequence[str]) -> str:
    """A command line. `$` is expanded in arguments only, so it is escaped there but not in the program's path."""
    program, *arguments = words
    return " ".join([_quoted(program), *(_quoted(argument.replace("$", "$$")) for argument in arguments)])


def _quoted(text: str) -> str:
    return '"' + _specifiers(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _specifiers(text: str) -> str:
    return text.replace("%", "%%")


def _in_file(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("`", "\\`") + '"'
