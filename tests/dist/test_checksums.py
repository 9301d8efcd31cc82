"""The checksums and their signature: a file that was changed is noticed, a missing key is said aloud."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import bring
import pytest
from builders import checksums, release

pytestmark = pytest.mark.usefixtures("artefacts")


@pytest.fixture
def artefacts(tmp_path: Path) -> None:
    (tmp_path / "tocsin-1.0.tar.gz").write_bytes(b"source")
    (tmp_path / "context").mkdir()
    checksums.build("1.0", tmp_path)


def _is_intact(folder: Path) -> bool:
    command = ["sha256sum", "--check", "--strict", checksums.NAME]
    return subprocess.run(command, cwd=folder, capture_output=True).returncode == 0


def test_changed_artefact_fails_the_check(tmp_path: Path) -> None:
    assert _is_intact(tmp_path)
    (tmp_path / "tocsin-1.0.tar.gz").write_bytes(b"sauce")
    assert not _is_intact(tmp_path)


def test_missing_key_leaves_out_the_signature_aloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(checksums.KEY_VARIABLE, raising=False)
    with pytest.raises(release.Skipped, match="NOT SIGNED"):
        checksums.sign("1.0", tmp_path)


def test_key_that_is_not_there_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(checksums.KEY_VARIABLE, str(tmp_path / "none.key"))
    with pytest.raises(bring.CannotGoOn, match=r"there is no file .*none\.key"):
        checksums.sign("1.0", tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("passphrase", ["", "correct horse"])
def test_signature_is_verified_by_the_public_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, passphrase: str
) -> None:
    minisign = shutil.which("minisign")
    if minisign is None:
        pytest.skip("minisign is not installed")
    key, public = tmp_path / "secret.key", tmp_path / "public.key"
    new_key = [minisign, "-G", "-f", "-s", key, "-p", public, *([] if passphrase else ["-W"])]
    subprocess.run(new_key, input=f"{passphrase}\n{passphrase}\n", text=True, capture_output=True, check=True)
    monkeypatch.setenv(checksums.KEY_VARIABLE, str(key))
    monkeypatch.setenv(checksums.PASSPHRASE_VARIABLE, passphrase)
    checksums.sign("1.0", tmp_path)
    verify = [minisign, "-V", "-p", public, "-m", tmp_path / checksums.NAME]
    assert "Tocsin 1.0" in subprocess.run(verify, text=True, capture_output=True, check=True).stdout
    (tmp_path / checksums.NAME).write_text("forged")
    assert subprocess.run(verify, capture_output=True).returncode == 1
