"""The addresses of chat and push services as they are stored: sealed, since whoever has one can write there."""

from __future__ import annotations

from tocsin.core.errors import Permanent, Rejected
from tocsin.people import sealed


def checked(text: str) -> str:
    """The sealed form of a service's address; one that is sealed, or hidden as it is shown, stays as it is.

    Raises Rejected("invalid_address"), without repeating the address.
    """
    if sealed.is_shown(text):
        return text
    if sealed.is_sealed(text):
        return _readable(text)
    if len(text.encode()) > sealed.LONGEST:
        raise Rejected("invalid_address", f"The address has at most {sealed.LONGEST} characters.")
    # Not where a sealed address is looked at, which happens with every page: apprise is large.
    from tocsin.notify.channels.chat_services import services

    return sealed.seal(services.service(text).scheme, text)


def own_server(address: str) -> str:
    """The host of a sealed address, where no well-known service runs it; empty for any other. Raises Rejected."""
    if not sealed.is_sealed(address):
        return ""
    from tocsin.notify.channels.chat_services import services

    return services.service(sealed.unseal(address)).own_host


def _readable(text: str) -> str:
    try:
        sealed.unseal(text)
    except Permanent as problem:
        raise Rejected("invalid_address", str(problem)) from None
    return text
