"""Who may add a chat address at a server of no well-known vendor. Alert texts are sent to that server."""

from __future__ import annotations

from tocsin.access.audit import AuditActor
from tocsin.access.roles import Permission
from tocsin.core.config import settings_store
from tocsin.core.errors import Rejected
from tocsin.core.reasons import ReasonType
from tocsin.people import addresses, permissions

#: Actors with the machine's shell or a configuration file.
_TRUSTED = ("cli", "yaml")

_NEEDS_ADMINISTRATOR = ReasonType(
    "contact_method.needs_administrator",
    "{host} is not a well-known chat service. An administrator must add this address.",
)


def require_allowed(channel: str, address: str, actor: AuditActor, *, is_group: bool) -> None:
    """Raises `Rejected("own_server")` if `actor` may not add this address. The caller has already checked whether the
    actor may change the user's or group's addresses at all."""
    host = addresses.custom_host(channel, address)
    if not host or actor.via in _TRUSTED:
        return
    allowed = settings_store.get(settings_store.CHAT_SERVERS_BY)
    if allowed == "everybody" or (allowed == "managers" and is_group):
        return
    viewer = permissions.viewer_of(actor)
    if viewer is not None and not viewer.may(Permission.ADMINISTER):
        raise Rejected(
            "own_server",
            _NEEDS_ADMINISTRATOR(host=host),
            "address",
        )
