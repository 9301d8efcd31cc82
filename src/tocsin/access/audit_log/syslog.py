"""Sends entries by syslog (RFC 5424): over TLS (RFC 5425), TCP with octet counting (RFC 6587), or UDP (RFC 5426)."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from tocsin.core.errors import Temporary
from tocsin.core.net import egress
from tocsin.core.reasons import ReasonType
from tocsin.core.validation.forwarding_target import ForwardingTarget, Transport

#: Facility 13, "log audit", with the severities notice and warning.
_NOTICE, _WARNING = 13 * 8 + 5, 13 * 8 + 4

#: Actions that a SIEM may want to raise an alarm for.
_WARNINGS = frozenset({"sign_in_failed", "refused"})

#: The largest datagram. Receivers should accept 2,048 bytes, and common ones accept 8 KiB.
_MAX_DATAGRAM_BYTES = 8_192

#: In seconds: for connecting, for each write, and for the receiver to close the connection at the end of a batch.
_TIMEOUT = 5.0

_BROKEN = ReasonType("audit.syslog_broken", "{host} closed the connection: {error}.")


def format_message(fields: Mapping[str, Any], host_name: str) -> bytes:
    """Returns an entry as an RFC 5424 message: its fields as JSON in ASCII, its sequence also as `meta sequenceId`."""
    priority = _WARNING if fields["action"] in _WARNINGS else _NOTICE
    at = datetime.fromisoformat(str(fields["at"])).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    # A message id has no spaces and at most 32 characters; `sequenceId` ends at 2^31 - 1.
    action = "".join(c for c in str(fields["action"]) if "!" <= c <= "~")[:32] or "-"
    sequence = (int(fields["sequence"]) - 1) % 2_147_483_647 + 1
    body = json.dumps(fields, ensure_ascii=True, separators=(",", ":"))
    return f'<{priority}>1 {at} {host_name} tocsin - {action} [meta sequenceId="{sequence}"] {body}'.encode("ascii")


def send(target: ForwardingTarget, entries: Sequence[Mapping[str, Any]], host_name: str) -> None:
    """Sends the entries in their order. Raises Temporary, or Permanent for a private address that is not allowed."""
    if target.transport is Transport.UDP:
        _send_datagrams(target, (_datagram(fields, host_name) for fields in entries))
    else:
        _send_stream(target, [format_message(fields, host_name) for fields in entries])


def _datagram(fields: Mapping[str, Any], host_name: str) -> bytes:
    message = format_message(fields, host_name)
    if len(message) <= _MAX_DATAGRAM_BYTES:
        return message
    return format_message({**fields, "before": None, "after": None, "is_truncated": True}, host_name)


def _send_datagrams(target: ForwardingTarget, messages: Iterable[bytes]) -> None:
    family, address = egress.resolve(target.host, target.port)[0]
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as connection:
            connection.connect((address, target.port))
            for message in messages:
                connection.send(message)
    except OSError as error:
        raise Temporary(_BROKEN(host=target.host, error=str(error))) from None


def _send_stream(target: ForwardingTarget, messages: Sequence[bytes]) -> None:
    connection = egress.connect(target.host, target.port, _TIMEOUT)
    try:
        with connection:
            if target.transport is Transport.TLS:
                connection = egress.tls_context().wrap_socket(connection, server_hostname=target.host)
            with connection:
                connection.settimeout(_TIMEOUT)
                for message in messages:
                    connection.sendall(b"%d %b" % (len(message), message))
                _wait_for_end(connection)
    except OSError as error:
        raise Temporary(_BROKEN(host=target.host, error=str(error))) from None


def _wait_for_end(connection: socket.socket) -> None:
    """Ends the stream and waits until the receiver does, too: syslog has no other sign that all of it was read.

    A receiver that keeps its side open has not refused anything. A reset raises OSError, and the batch is sent again.
    """
    connection.shutdown(socket.SHUT_WR)
    try:
        while connection.recv(4096):
            pass
    except TimeoutError:
        return
