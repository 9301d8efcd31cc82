"""Secret URLs are displayed as their host."""

from __future__ import annotations

import pytest

from tocsin.core.config import crypto


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://hooks.example.org/services/T0/B0/x", "https://hooks.example.org/…"),
        ("https://hooks.example.org:8443?key=x", "https://hooks.example.org:8443/…"),
        ("https://user:pass@hooks.example.org/", "https://hooks.example.org/…"),
        ("https://[::1]:8080/x", "https://[::1]:8080/…"),
        ("https://<custom.host>/<alert>", "https://<custom.host>/…"),
        ("https://hooks.example.org/", "https://hooks.example.org/"),
        ("https://[bad/x", "/…"),
    ],
)
def test_an_address_is_shown_as_its_host(url: str, shown: str) -> None:
    assert crypto.mask_url(url) == shown
    assert crypto.mask_url(shown) == shown
    assert crypto.is_masked(shown) == (shown != url)
