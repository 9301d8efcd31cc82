"""Encrypts the URLs of chat and push services for storage, since anyone who knows one can post there."""

from __future__ import annotations

from tocsin.core.errors import Permanent, Rejected
from tocsin.core.reasons import ReasonType
from tocsin.notify.channels import chat_url_policy
from tocsin.people import encrypted_addresses

_TOO_LONG = ReasonType("address.too_long", "The address has at most {limit} characters.")


def validate_address(text: str) -> str:
    """Returns the encrypted form of a service's URL. An encrypted or masked one is returned unchanged.

    Raises Rejected("invalid_address") without repeating the address.
    """
    if encrypted_addresses.is_masked(text):
        return text
    if encrypted_addresses.is_encrypted(text):
        return _readable(text)
    if len(text.encode()) > encrypted_addresses.MAX_PLAIN_ADDRESS_CHARS:
        raise Rejected("invalid_address", _TOO_LONG(limit=encrypted_addresses.MAX_PLAIN_ADDRESS_CHARS))
    return encrypted_addresses.encrypt_address(chat_url_policy.service(text).scheme, text)


def own_server(address: str) -> str:
    """Returns the host of an encrypted address that belongs to a self-hosted server; empty for a public service or any
    other address. Raises Rejected.
    """
    if not encrypted_addresses.is_encrypted(address):
        return ""
    return chat_url_policy.service(encrypted_addresses.decrypt_address(address)).own_host


def _readable(text: str) -> str:
    try:
        encrypted_addresses.decrypt_address(text)
    except Permanent as problem:
        raise Rejected("invalid_address", problem.full_reason) from None
    return text
