"""Signs a browser in without the form."""

from __future__ import annotations

from functools import cache

from playwright.sync_api import expect

from tests.support import service_desk
from tests.support.browser import Visitor


def open_home(visitor: Visitor, username: str) -> None:
    """Opens Home as one of the desk's people. A person has one session on a server."""
    cookies = _session(visitor.base, username)
    visitor.context.add_cookies([{"name": name, "value": value, "url": visitor.base} for name, value in cookies])
    visitor.open("/")
    expect(visitor.page.get_by_role("heading", name="Home")).to_be_visible()


@cache
def _session(url: str, username: str) -> tuple[tuple[str, str], ...]:
    return tuple(service_desk.session(url, username).items())
