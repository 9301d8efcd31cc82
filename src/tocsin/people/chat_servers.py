"""Who may add the address of a chat service at a server that no well-known vendor runs: messages with an alert's text
go there."""

from __future__ import annotations

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Role
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.people import addresses
from tocsin.people.models import User

#: An actor of the machine's shell or of a file.
_TRUSTED = ("cli", "yaml")


def require_allowed(channel: str, address: str, actor: AuditActor, *, is_group: bool) -> None:
    """Raises Rejected ("own_server") where `actor` may not add this address. The caller has asked already whether the
    actor may change the person's or the group's addresses at all."""
    host = addresses.own_server(channel, address)
    if not host or actor.user_id is None or actor.via in _TRUSTED:
        return
    allowed = settings_store.get(settings_store.CHAT_SERVERS_BY)
    if allowed == "everybody" or (allowed == "managers" and is_group):
        return
    if not User.objects.filter(pk=actor.user_id, role=Role.ADMIN).exists():
        raise Rejected(
            "own_server",
            f"{host} is no well-known chat service: an administrator has to add this address.",
            "address",
        )
