"""The registry of all columns with encrypted values.

Values in a column that is not listed are lost when the old secret key is retired; a test finds missing columns.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Column:
    """One column, and a label for its values."""

    table: str
    column: str
    label: str
    is_json: bool = False


COLUMNS: tuple[Column, ...] = (
    Column("inbound_integration", "token", "integrations"),
    Column("inbound_integration", "credentials", "integrations"),
    Column("notify_provider", "secrets", "providers"),
    Column("outbound_outboundintegration", "secrets", "outbound integrations"),
    Column("oncall_schedule", "definition", "schedules", is_json=True),
    Column("oncall_calendarimport", "url", "schedules"),
    Column("people_contactmethod", "address", "contact methods"),
    Column("people_groupcontact", "address", "contact methods"),
    Column("mfa_authenticator", "data", "second factors", is_json=True),
    Column("notify_pushkey", "private", "push devices"),
    Column("notify_pushdevice", "subscription", "push devices"),
    Column("configure_importrun", "configuration", "imports"),
    Column("notify_verificationcode", "address", "notifications"),
    Column("notify_notification", "address", "notifications"),
    Column("notify_notification", "data", "notifications", is_json=True),
    Column("notify_delivery", "address", "notifications"),
    Column("notify_lastsent", "address", "notifications"),
    Column("notify_optout", "address", "notifications"),
    Column("notify_sandboxmessage", "address", "sandbox messages"),
    Column("access_auditentry", "before", "audit log", is_json=True),
    Column("access_auditentry", "after", "audit log", is_json=True),
)
