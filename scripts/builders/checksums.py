"""The checksums of all artefacts, and their signature."""

import hashlib
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path

import bring

from builders import release

NAME = "SHA256SUMS"
SIGNATURE = f"{NAME}.minisig"

#: The file with minisign's secret key, and the passphrase if the key has one.
KEY_VARIABLE, PASSPHRASE_VARIABLE = "MINISIGN_KEY", "MINISIGN_PASSPHRASE"


def build(_version: str, out: Path) -> None:
    """Writes the checksums of the artefacts that are files."""
    _write(out, out.iterdir())


def write(folder: Path) -> None:
    """Writes the checksums of everything in a folder and below."""
    _write(folder, folder.rglob("*"))


def _write(folder: Path, paths: Iterable[Path]) -> None:
    """Writes the file that `sha256sum --check` reads."""
    files = sorted(path for path in paths if path.is_file() and path.name not in (NAME, SIGNATURE))
    (folder / NAME).write_text("".join(f"{_digest(path)}  {path.relative_to(folder)}\n" for path in files))


def sign(version: str, out: Path) -> None:
    """Signs the checksums with minisign, and so every artefact. Without a key they stay unsigned."""
    key = os.environ.get(KEY_VARIABLE)
    if not key:
        raise release.Skipped(f"{NAME} is NOT SIGNED: {KEY_VARIABLE} names no secret key of minisign")
    if not Path(key).is_file():
        raise bring.CannotGoOn(f"{KEY_VARIABLE}: there is no file {key}")
    minisign = release.needs_program("minisign", "minisign")
    command = [minisign, "-S", "-s", key, "-m", out / NAME, "-x", out / SIGNATURE, "-t", f"Tocsin {version}"]
    passphrase = os.environ.get(PASSPHRASE_VARIABLE, "")
    done = subprocess.run(command, input=f"{passphrase}\n", capture_output=True, text=True)
    if done.returncode:
        raise bring.CannotGoOn(f"{NAME} could not be signed: {(done.stdout + done.stderr).strip()}")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
