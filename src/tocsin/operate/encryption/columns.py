"""The registry of all columns with encrypted values.

Values in a column that is not listed are lost when the old secret key is retired; a test finds missing columns.
"""

from __future__ import annotations

from dataclasses import dataclass

from tocsin.core.reasons import Term


@dataclass(frozen=True, slots=True)
class Column:
    """One column, and a label for its values."""

    table: str
    column: str
    label: Term
    is_json: bool = False


COLUMNS: tuple[Column, ...] = (
    Column("inbound_integration", "token", Term("integrations")),
    Column("inbound_integration", "credentials", Term("integrations")),
    Column("notify_provider", "secrets", Term("providers")),
    Column("outbound_outboundintegration", "secrets", Term("outbound integrations")),
    Column("identity_identityprovider", "client_secret", Term("identity providers")),
    Column("access_auditforwarding", "secret", Term("audit log")),
    Column("oncall_schedule", "definition", Term("schedules"), is_json=True),
    Column("oncall_calendarimport", "url", Term("schedules")),
    Column("people_contactmethod", "address", Term("contact methods")),
    Column("people_groupcontact", "address", Term("contact methods")),
    Column("mfa_authenticator", "data", Term("second factors"), is_json=True),
    Column("notify_pushkey", "private", Term("push devices")),
    Column("notify_pushdevice", "subscription", Term("push devices")),
    Column("configure_importrun", "configuration", Term("imports")),
    Column("notify_verificationcode", "address", Term("notifications")),
    Column("notify_notification", "address", Term("notifications")),
    Column("notify_notification", "data", Term("notifications"), is_json=True),
    Column("notify_delivery", "address", Term("notifications")),
    Column("notify_lastsent", "address", Term("notifications")),
    Column("notify_optout", "address", Term("notifications")),
    Column("notify_sandboxmessage", "address", Term("sandbox messages")),
)
