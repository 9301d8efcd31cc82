"""What only Gotify does: tokens as addresses, priorities, and a message that opens the alert."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.notification_messages import page
from tests.support.outbox_harness import allow_loopback
from tests.support.provider_servers.gotify import TOKEN, gotify_server
from tocsin.core.errors import Rejected
from tocsin.notify.integrations.gotify import GotifyChannel, GotifyKind
from tocsin.people import addresses


def test_page_has_highest_priority_and_opens_the_alert(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_loopback(monkeypatch)
    messages: list[dict[str, Any]] = []
    with gotify_server(messages) as server:
        sender = GotifyKind().open(server.account)
        rendered = GotifyChannel().render(page())
        sender.send(rendered, "gotify", server.address, "key")
        sender.close()
    (message,) = messages
    assert message["priority"] == 10
    assert message["extras"]["client::notification"]["click"]["url"] == rendered.link
    assert message["extras"]["client::display"]["contentType"] == "text/plain"
    assert rendered.link in message["message"]


def test_token_of_an_application_is_stored_encrypted() -> None:
    address = addresses.validate_address("gotify", TOKEN)
    assert TOKEN not in address
    assert addresses.display_form(address) == "gotify://•••"
    addresses.validate_address("gotify", f"gtfy_app.{'x' * 43}")
    for other in ("CbCdEfGhIjKlMnO", f"gtfy_client.{'x' * 43}", "sealed:slack:abc", "https://gotify.example.org"):
        with pytest.raises(Rejected, match="no application's token"):
            addresses.validate_address("gotify", other)
