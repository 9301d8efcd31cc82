"""Addresses to which the audit log is forwarded."""

from __future__ import annotations

import pytest

from tocsin.core.config.crypto import ForwardingTarget, Transport


@pytest.mark.parametrize(
    ("text", "transport", "host", "port"),
    [
        ("syslog+tls://siem.example.org", Transport.TLS, "siem.example.org", 6514),
        ("syslog+tcp://siem.example.org:1601/", Transport.TCP, "siem.example.org", 1601),
        ("syslog+udp://[2001:db8::1]", Transport.UDP, "2001:db8::1", 514),
        ("https://hooks.example.org/a?b=c", Transport.WEBHOOK, "hooks.example.org", 443),
        ("http://10.0.0.7:8080/in", Transport.WEBHOOK, "10.0.0.7", 8080),
        ("http://localhost/in", Transport.WEBHOOK, "localhost", 80),
    ],
)
def test_an_address_is_parsed(text: str, transport: Transport, host: str, port: int) -> None:
    target = ForwardingTarget.parse(text)
    assert (target.transport, target.host, target.port) == (transport, host, port)


@pytest.mark.parametrize(
    "text",
    [
        "siem.example.org",
        "syslog://siem.example.org",
        "syslog+tls://",
        "syslog+tls://siem.example.org:99999",
        "syslog+tcp://siem.example.org/path",
        "syslog+tcp://user:secret@siem.example.org",
        "https://user:secret@hooks.example.org/",
        "http://hooks.example.org/",
        "http://8.8.8.8/",
        "file:///etc/passwd",
        "https://hooks.example.org/a b",
        "https://hooks.example.org/\r\nX: y",
    ],
)
def test_what_is_no_safe_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        ForwardingTarget.parse(text)
