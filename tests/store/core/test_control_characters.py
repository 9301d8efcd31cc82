"""Names with line breaks or other control characters are rejected."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest

from tests.support.people import ACTOR, make_user
from tocsin.access import tokens
from tocsin.access.roles import UNLIMITED
from tocsin.core.errors import Rejected
from tocsin.escalation.commands import save_policy
from tocsin.inbound.admin.commands import save_integration
from tocsin.notify.providers.commands import save_provider
from tocsin.oncall.changes.commands import save_schedule
from tocsin.outbound.commands import save_outbound
from tocsin.people.changes.groups import save_group
from tocsin.people.changes.users import save_user

type Save = Callable[..., Any]

USER = {"username": "eve", "email": "eve@example.org"}
WAY = {"channel": "email", "address": "eve@example.org"}
SHIFT = {"fixed": {"windows": [{"from": "mon 00:00", "to": "mon 00:00"}], "users": ["alice"]}}


@pytest.mark.parametrize("character", ["\r\n", "\n", "\t", "\x7f", "\x85", "\u2028"])
@pytest.mark.parametrize(
    ("save", "spec"),
    [
        (save_user, lambda name: {**USER, "username": name}),
        (save_user, lambda name: {**USER, "name": name}),
        (save_user, lambda name: {**USER, "contact_methods": [{"label": name, **WAY}]}),
        (save_group, lambda name: {"name": name}),
        (save_group, lambda name: {"name": "Desk", "contacts": [{"label": name, **WAY}]}),
        (save_provider, lambda name: {"name": name, "kind": "sandbox"}),
        (save_integration, lambda name: {"name": name, "kind": "api", "anyway": True}),
        (save_integration, lambda name: {"name": "Halo", "source": name, "kind": "api", "anyway": True}),
        (save_outbound, lambda name: {"name": name, "kind": "http", "url": "https://example.org"}),
        (save_policy, lambda name: {"name": name, "steps": []}),
        (save_policy, lambda name: {"name": "Page", "steps": [{"name": name, "notify": {"users": ["alice"]}}]}),
        (save_schedule, lambda name: {"name": "Week", "group": "Desk", "shifts": [{"name": name, **SHIFT}]}),
    ],
)
def test_name_with_a_control_character_is_refused(
    database: str, now: datetime, save: Save, spec: Callable[[str], dict[str, Any]], character: str
) -> None:
    with pytest.raises(Rejected, match="control character"):
        save(spec(f"Eve{character}Bcc: all"), actor=ACTOR, now=now)


def test_token_name_with_a_line_break_is_refused(database: str, now: datetime) -> None:
    with pytest.raises(Rejected, match="control character"):
        tokens.create(make_user("alice", now), "deploy\r\nscript", limits=UNLIMITED, actor=ACTOR, now=now)
