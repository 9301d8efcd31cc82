"""`tocsin apply`, `export`, `user create` and `token create` on a real database, errors first."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from allauth.mfa.models import Authenticator

from tests.support.postgres import TAKES_NO_WRITES, in_use
from tocsin.access import tokens
from tocsin.cli.main import run
from tocsin.core.config import environment as config
from tocsin.core.reasons import each_of
from tocsin.core.runtime import clock
from tocsin.identity.models import IdentityProvider
from tocsin.identity.scim import documents as scim_tokens
from tocsin.oncall.models import PendingNotice
from tocsin.people.models import User

EXAMPLE = Path(__file__).parents[3] / "examples" / "tocsin.yaml"


@pytest.fixture(autouse=True)
def environment(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Commands find the test's database as a user's would: by the environment."""
    monkeypatch.setenv("TOCSIN_DATABASE_URL", database)
    monkeypatch.setenv("TOCSIN_DATA_DIR", str(tmp_path))
    yield
    config.read_again()


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    status = run(arguments)
    out, err = capsys.readouterr()
    return status, out, err


def test_an_unknown_variable_is_one_line_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TOCSIN_DATABSE_URL", "x")
    status, out, err = answer(capsys, "export")
    assert (status, out) == (78, "")
    assert err.startswith("tocsin: TOCSIN_DATABSE_URL is not a variable that Tocsin knows.")
    assert err.count("\n") == 1


def test_unreachable_database_is_one_error_line_without_password(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from tocsin.cli.main import main; main()", "export", "--data-dir", str(tmp_path)],
        env={**os.environ, "TOCSIN_DATABASE_URL": "postgresql://tocsin:hunter2@127.0.0.1:1/tocsin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("tocsin: The database is unavailable: ")
    assert "hunter2" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_database_that_takes_no_writes_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    monkeypatch.setenv("TOCSIN_DATABASE_URL", f"{database}{TAKES_NO_WRITES}")
    with in_use(f"{database}{TAKES_NO_WRITES}"):
        status, out, err = answer(capsys, "apply", str(EXAMPLE))
    assert (status, out) == (1, "")
    assert err.startswith("tocsin: The database is unavailable: cannot execute ")
    assert err.count("\n") == 1


def test_invalid_yaml_prints_each_problem_and_exits_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "bad.yaml"
    file.write_text(
        "users:\n  - {username: alice, email: nonsense}\n  - {username: bob, email: b@example.org, rol: x}\n"
    )
    status, out, err = answer(capsys, "apply", str(file))
    assert (status, out) == (1, "")
    assert err.splitlines() == [
        f'tocsin: {file}:2: user alice: email: "nonsense" is not an email address.',
        f'tocsin: {file}:3: user bob: rol: unknown key; did you mean "role"?',
    ]
    assert not User.objects.exists()


def test_the_example_is_planned_applied_exported_and_then_unchanged(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    status, out, err = answer(capsys, "apply", str(EXAMPLE), "--dry-run")
    assert (status, err) == (0, "")
    assert "create    integration HaloITSM\n7 to create.\n" in out
    assert not User.objects.exists()
    status, out, _ = answer(capsys, "apply", str(EXAMPLE))
    assert status == 0
    assert out.endswith("7 to create.\nDone.\n")
    for file in (EXAMPLE, tmp_path / "export.yaml"):
        if file != EXAMPLE:
            file.write_text(answer(capsys, "export")[1])
        status, out, _ = answer(capsys, "apply", str(file))
        assert status == 0
        assert "unchanged integration HaloITSM" in out
        assert out.endswith("7 unchanged.\nNothing to do.\n")


def test_secrets_are_exported_only_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    answer(capsys, "apply", str(EXAMPLE))
    assert "token:" not in answer(capsys, "export")[1]
    assert "token:" in answer(capsys, "export", "--with-secrets")[1]


def test_a_user_is_made_with_a_password_from_standard_input(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    make = ("user", "create", "alice", "--email", "alice@example.org", "--role", "admin", "--password-stdin")
    for typed, text in (("", "no password on standard input"), ("short\n", "too short")):
        monkeypatch.setattr("sys.stdin", StringIO(typed))
        status, _, err = answer(capsys, *make)
        assert status == 1
        assert text in err
    monkeypatch.setattr("sys.stdin", StringIO("correct horse battery\n"))
    status, out, err = answer(capsys, *make)
    assert (status, out) == (0, "")
    user = User.objects.get()
    assert (user.role, user.check_password("correct horse battery")) == ("admin", True)
    monkeypatch.setattr("sys.stdin", StringIO("correct horse battery\n"))
    status, _, err = answer(capsys, *make)
    assert status == 1
    assert 'The username "alice" is already in use.' in err


def test_a_token_is_alone_on_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = answer(capsys, "token", "create", "--user", "alice", "--name", "script")
    assert (status, out, err) == (1, "", "tocsin: No user named alice.\n")
    answer(capsys, "user", "create", "alice", "--email", "alice@example.org")
    status, out, err = answer(capsys, "token", "create", "--user", "ALICE", "--name", "script")
    assert (status, err) == (0, "")
    api_token = tokens.verify(out.removesuffix("\n"), now=clock.now())
    assert api_token is not None
    assert api_token.user.username == "alice"


def test_a_scim_token_is_made_and_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = answer(capsys, "scim", "create-token", "Entra")
    assert (status, out, err) == (1, "", "tocsin: No identity provider named Entra.\n")
    IdentityProvider.objects.create(name="Entra", slug="entra", kind="oidc", issuer="i")
    status, out, err = answer(capsys, "scim", "create-token", "ENTRA")
    assert (status, err) == (0, "")
    assert scim_tokens.verify_token(out.removesuffix("\n")) is not None
    assert answer(capsys, "scim", "revoke-token", "Entra") == (0, "", "Entra no longer provisions users.\n")
    assert answer(capsys, "scim", "revoke-token", "Entra") == (0, "", "Entra has no SCIM token.\n")
    assert scim_tokens.verify_token(out.removesuffix("\n")) is None


def test_payload_file_is_simulated_as_text_or_json(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    answer(capsys, "apply", str(EXAMPLE))
    file = tmp_path / "payload.json"
    file.write_text('{"id": 20817, "summary": "VPN down", "status": "New", "client_name": "Acme"}')
    to = ("simulate", "--integration", "haloitsm", str(file))
    for wrong, text in (
        (("simulate", "--integration", "none", str(file)), "No integration named none."),
        ((*to, "--at", "noon"), '--at: "noon" is not a time'),
        (("simulate", "--integration", "haloitsm", str(tmp_path / "none")), "cannot be read"),
    ):
        status, out, err = answer(capsys, *wrong)
        assert (status, out) == (1, "")
        assert text in err
        assert err.count("\n") == 1
    status, out, _ = answer(capsys, *to, "--at", "2026-01-13T03:00+01:00")
    assert status == 0
    assert out.startswith("HaloITSM, at Tue 2026-01-13 02:00 UTC. Nothing is sent or stored.\n\nMapped Opened: ")
    assert "at once  02:00:00  Bob Brown by email, bob@example.org" in out
    status, out, _ = answer(capsys, *to, "--at", "2026-01-13T02:00", "--json")
    assert status == 0
    message = json.loads(out)["messages"][0]
    assert (message["status"], message["pages"][0]["to"]) == ("Mapped Opened", "Bob Brown")


def test_command_resets_a_lost_second_factor(capsys: pytest.CaptureFixture[str]) -> None:
    make = ("user", "create", "alice", "--email", "alice@example.org")
    assert answer(capsys, *make)[0] == 0
    Authenticator.objects.create(user=User.objects.get(), type="totp", data={"secret": "under a key that is lost"})
    status, _, output = answer(capsys, "user", "reset-second-factor", "ALICE")
    assert (status, output) == (0, "Two-factor authentication reset for alice.\n")
    assert not Authenticator.objects.exists()
    assert (
        each_of(PendingNotice.objects.get().text)[0].code
        == "Someone with access to the Tocsin server removed all your second factors."
    )
    assert answer(capsys, "user", "reset-second-factor", "alice")[2] == "alice has no second factor.\n"
    status, _, output = answer(capsys, "user", "reset-second-factor", "bob")
    assert (status, "No user named bob." in output) == (1, True)
