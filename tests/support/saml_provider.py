"""A SAML provider of npm, started on loopback, and what a browser does there."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from tests.doubles.saml import certificate, saml_key
from tests.support.openid_provider import node_program

_SCRIPT = Path(__file__).with_suffix(".mjs")


@dataclass(frozen=True, slots=True)
class NpmSamlProvider:
    """A running provider."""

    url: str

    @property
    def metadata(self) -> str:
        """Its metadata."""
        return httpx.get(f"{self.url}/metadata").text

    def sign_in(self, location: str, login: str) -> dict[str, str]:
        """Signs in as `login`; returns the form with which it sends the browser back."""
        answer = httpx.get(f"{location}&login={login}", timeout=20).json()
        return {"SAMLResponse": answer["response"], "RelayState": answer["relayState"]}


@contextmanager
def npm_saml_provider(folder: Path, own_metadata: str) -> Iterator[NpmSamlProvider]:
    """A running provider that knows Tocsin by its metadata; ended at the end. Writes its key into `folder`."""
    key = saml_key("npm").private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "key.pem").write_bytes(key)
    (folder / "certificate.pem").write_text(certificate("npm"))
    process = subprocess.Popen(
        [node_program(), _SCRIPT, folder / "key.pem", folder / "certificate.pem"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(own_metadata)
        process.stdin.close()
        yield NpmSamlProvider(next(line for line in process.stdout if line.startswith("http")).strip())
    finally:
        process.kill()
        process.wait(10)
