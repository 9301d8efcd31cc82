"""Inbound integrations, their versions, the messages they received, and the state needed to decide messages."""

from __future__ import annotations

import zlib
from typing import Any, ClassVar, Final

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from tocsin.access.boundary import BoundedManager
from tocsin.core.db.queries import TrigramIndex
from tocsin.core.models import ReasonField
from tocsin.core.validation.name_validator import validate_name
from tocsin.inbound.enums import HeartbeatHealth, IntegrationMode, MessageStatus, WindowAction

# ---------- body compression
# Compression of stored message bodies: small bodies are stored as they are, larger ones compressed. Pure, lossless.
# A body of 30 kB is written several times until it is on disk (WAL, table, full-page image). Compressed, it is a
# fifth: compressing costs less than those writes, and five times as many messages fit into the same space.

#: Prefix of a compressed body; zlib data (RFC 1950) follows. A raw body with this prefix is always compressed.
COMPRESSED_PREFIX: Final = b"\x00tz\x01"

#: Smaller bodies fit inline in their row; larger ones, mostly e-mails with attachments, take long to compress and
#: hardly shrink.
MIN_COMPRESSED_BYTES: Final = 4 * 1024
MAX_COMPRESSED_BYTES: Final = 256 * 1024

#: The limit for decompressed bodies in bytes. Data that exceeds it was not compressed by Tocsin and is returned as is:
#: a sender must not choose how much memory is used.
MAX_DECOMPRESSED_BYTES: Final = 32 * 1024 * 1024

#: The fastest level: level 2 saves a few per cent more in half as much time again.
_LEVEL: Final = 1


def compress(body: bytes, *, is_pending: bool = False) -> bytes:
    """Returns the stored form of a body.

    The body of a message that `is_pending` (Pending) may be read by any node, including one of an older version without
    compression: it is stored as it is, unless it would be mistaken for a compressed one.
    """
    has_prefix = body.startswith(COMPRESSED_PREFIX)
    if not has_prefix and (is_pending or not MIN_COMPRESSED_BYTES <= len(body) <= MAX_COMPRESSED_BYTES):
        return body
    compressed = COMPRESSED_PREFIX + zlib.compress(body, _LEVEL)
    return compressed if has_prefix or len(compressed) < len(body) else body


def decompress(stored: bytes) -> bytes:
    """Returns the original body. Data that only looks compressed is returned unchanged."""
    if not stored.startswith(COMPRESSED_PREFIX):
        return stored
    decompressor = zlib.decompressobj()
    try:
        body = decompressor.decompress(stored[len(COMPRESSED_PREFIX) :], MAX_DECOMPRESSED_BYTES + 1)
    except zlib.error:
        return stored
    return body if decompressor.eof and not decompressor.unused_data and len(body) <= MAX_DECOMPRESSED_BYTES else stored


# ---------- body field
# Model field for message bodies: compresses on write and decompresses on read.


class BodyField(models.BinaryField):  # type: ignore[type-arg]  # the stubs know arguments that the class does not take
    """A BinaryField compressed as `inbound.models` describes."""

    def from_db_value(self, value: bytes | memoryview | None, *_: Any) -> bytes | None:
        return None if value is None else decompress(bytes(value))

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        """Returns the stored form of the body."""
        stored = None if value is None else compress(bytes(value))
        return super().get_db_prep_value(stored, connection, prepared)


class Integration(models.Model):
    """A named inbound integration with its webhook URL, for one source."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    kind = models.CharField(_("kind"), max_length=40)
    source = models.CharField(_("source"), max_length=100, blank=True)
    #: The dedup key namespace of an integration without Source that was renamed: it keeps its alerts.
    dedup_namespace = models.CharField(max_length=200, blank=True, default="", db_default="")
    group = models.ForeignKey("people.Group", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    mode = models.CharField(
        _("mode"), max_length=10, choices=[(m.value, m.value) for m in IntegrationMode], default=IntegrationMode.PAGE
    )
    policy = models.ForeignKey(
        "escalation.Policy", null=True, blank=True, on_delete=models.PROTECT, related_name="integrations"
    )
    recipient_users = models.ManyToManyField("people.User", blank=True, related_name="+")
    recipient_groups = models.ManyToManyField("people.Group", blank=True, related_name="+")
    #: Since when it has this mode; NULL: since it was created.
    mode_since = models.DateTimeField(null=True)
    #: The kind's settings by name (`halo_address`, `statuses`, …) and `fail_open`.
    settings = models.JSONField(default=dict)
    current_version = models.ForeignKey("IntegrationVersion", null=True, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField()
    #: The outbound integration that writes actions on its alerts back.
    outbound = models.ForeignKey(
        "outbound.OutboundIntegration", null=True, blank=True, on_delete=models.PROTECT, related_name="inbound"
    )

    #: The secret of the webhook URL: the hash finds the integration, the Fernet token displays the URL again.
    token_hash = models.BinaryField(max_length=32, unique=True)
    token = models.TextField()
    #: The previous token, while it still works.
    old_token_hash = models.BinaryField(max_length=32, null=True, unique=True)
    old_token_until = models.DateTimeField(null=True)
    #: The number of requests with an expired token.
    previous_token_requests = models.IntegerField(default=0)

    #: A Fernet token over JSON: `basic` {username, password}, `header` {name, value}, `hmac` {header, secret}.
    credentials = models.TextField(default="", blank=True)

    objects: ClassVar[models.Manager[Integration]] = BoundedManager()

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(Lower("name"), name="inbound_integration_name"),)

    def __str__(self) -> str:
        return self.name


class PinnedSender(models.Model):
    """The sender of an integration's first authentic message, such as an Amazon SNS topic; all others are refused."""

    integration = models.OneToOneField(
        Integration, primary_key=True, on_delete=models.CASCADE, related_name="pinned_sender"
    )
    sender = models.TextField()
    pinned_at = models.DateTimeField()

    objects: ClassVar[models.Manager[PinnedSender]] = BoundedManager()


class IntegrationVersion(models.Model):
    """Mapping, rules, filters and routes from one point in time on. Immutable."""

    integration = models.ForeignKey(Integration, on_delete=models.CASCADE, related_name="versions")
    number = models.PositiveIntegerField()
    #: `mapping`, `rules`, `filters`, `routes`, `dedup_key` as far as set here; the kind's defaults fill the rest.
    #: Routes refer to policies, users and groups by id.
    definition = models.JSONField(default=dict)
    created_at = models.DateTimeField()
    created_by = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+")

    objects: ClassVar[models.Manager[IntegrationVersion]] = BoundedManager()

    class Meta:
        constraints = (
            models.UniqueConstraint(fields=("integration", "number"), name="inbound_integrationversion_number"),
        )


#: Outcomes that users filter the log by, and that may be one in millions.
RARE_OUTCOMES = [str(MessageStatus.UPDATED), str(MessageStatus.CLOSED), str(MessageStatus.IGNORED)]

#: The reason code of a message that says too little to know what it wants (see `deciding.reasons`).
NOT_UNDERSTOOD_CODE = "message.not_understood"


class InboundMessage(models.Model):
    """One received message: raw bytes, time, outcome, reason. No foreign key refers to it."""

    #: A UUIDv7, generated before the first attempt to store it.
    id = models.UUIDField(primary_key=True)
    integration = models.ForeignKey(
        Integration, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    received_at = models.DateTimeField()
    status = models.TextField()
    reason = ReasonField()
    source_id = models.TextField(default="", db_default="")
    source_status = models.TextField(default="", db_default="")
    subject = models.TextField(default="", db_default="")
    alert = models.ForeignKey(
        "alerts.Alert", null=True, on_delete=models.SET_NULL, related_name="+", db_constraint=False, db_index=False
    )
    raw = BodyField()
    content_type = models.TextField(default="", db_default="")
    #: Headers of an allow-list; for credentials only the result of the check, such as "present, valid".
    headers = models.JSONField(default=dict, db_default={})
    #: The integration's version that decided the message.
    version = models.ForeignKey(
        IntegrationVersion, null=True, on_delete=models.SET_NULL, related_name="+", db_constraint=False, db_index=False
    )
    #: The rule that decided, the route, and the results of noise reduction.
    verdict = models.JSONField(default=dict, db_default={})
    #: The message that this one replays.
    replay_of = models.UUIDField(null=True)
    #: For Pending and Delayed messages: SHA-256 of the dedup key, by which they are decided in order.
    key_hash = models.BinaryField(max_length=32, null=True)
    test = models.BooleanField(default=False, db_default=False)
    failures = models.SmallIntegerField(default=0, db_default=0)

    objects: ClassVar[models.Manager[InboundMessage]] = BoundedManager()

    class Meta:
        constraints = (
            models.CheckConstraint(
                condition=Q(status__in=[str(s) for s in MessageStatus]), name="inbound_message_status"
            ),
        )
        indexes = (
            # The Inbound Log of one integration, newest first.
            models.Index(fields=("integration", "id"), name="inbound_message_integration"),
            # The messages of one alert.
            models.Index(fields=("alert", "id"), condition=Q(alert__isnull=False), name="inbound_message_alert"),
            # Pending and failed messages.
            models.Index(
                fields=("status", "id"),
                condition=Q(status__in=[str(MessageStatus.FAILED), str(MessageStatus.PENDING)]),
                name="inbound_message_open",
            ),
            # Outcomes that may be rare: without this index, filtering the log for one of them scans all messages.
            # Opened and appended messages, the majority, are left out.
            models.Index(
                fields=("status", "id"),
                condition=Q(status__in=RARE_OUTCOMES),
                name="inbound_message_rare",
            ),
            # Messages of tests, which are few.
            models.Index(fields=("id",), condition=Q(test=True), name="inbound_message_test"),
            # Messages that were not understood, which the health check counts.
            models.Index(
                fields=("integration", "id"),
                condition=Q(reason__code=NOT_UNDERSTOOD_CODE),
                name="inbound_message_unknown",
            ),
            # The replays of a message, which are very few.
            models.Index(
                fields=("replay_of", "id"), condition=Q(replay_of__isnull=False), name="inbound_message_replay"
            ),
            # The messages of a delayed alert.
            models.Index(
                fields=("key_hash", "id"),
                condition=Q(status=str(MessageStatus.DELAYED)),
                name="inbound_message_delayed",
            ),
        )


class MessageText(models.Model):
    """A message's searchable text in upper case. `inbound.storage.retention` writes it; pruned with the message."""

    message = models.OneToOneField(
        InboundMessage, primary_key=True, on_delete=models.CASCADE, related_name="texts", db_constraint=False
    )
    subject = models.TextField()
    source_id = models.TextField()

    class Meta:
        indexes = (
            # Searches the log for a part of the subject or a ticket number. See `core.db.queries`.
            TrigramIndex(fields=("subject", "source_id"), name="inbound_messagetext_parts"),
        )


class ProcessedDelivery(models.Model):
    """A sender's delivery id that was decided, to recognise duplicates. Pruned with messages."""

    pk = models.CompositePrimaryKey("integration_id", "hash")
    integration = models.ForeignKey(
        Integration, on_delete=models.CASCADE, related_name="+", db_index=False, db_constraint=False
    )
    #: SHA-256 of the delivery id.
    hash = models.BinaryField(max_length=32)
    message = models.UUIDField()


class DedupKey(models.Model):
    """What a dedup key's messages left behind: the newest source time that counted, to recognise late messages, and the
    last alert, to link the next one to it. Pruned with messages."""

    key_hash = models.BinaryField(max_length=32, primary_key=True)
    latest_source_time = models.DateTimeField(null=True)
    last_alert = models.BigIntegerField(null=True)
    #: When a message of the key last counted, for pruning.
    touched_at = models.DateTimeField()


_DELAY_REASON_LABELS = {
    "wait": _("Delayed"),
    "count": _("Waiting for more"),
    "every": _("Rate limited"),
    "hours": _("Waiting for support hours"),
    "maintenance": _("Maintenance"),
    "flapping": _("Flapping"),
}


class DelayedAlert(models.Model):
    """An alert whose opening is delayed: by a delay, a maintenance window, or because it flaps. Its messages are the
    Mapped Delayed ones with its key."""

    key_hash = models.BinaryField(max_length=32, primary_key=True)
    integration = models.ForeignKey(Integration, on_delete=models.CASCADE, related_name="+")
    delay_reason = models.TextField()
    since = models.DateTimeField()
    #: When it opens, or is dropped if it waits for a count; NULL: when others come.
    due_at = models.DateTimeField(null=True)
    #: Completes "it opens …".
    reason = ReasonField()
    #: Arrival times of its opening messages; only the newest if there are many.
    triggered_at = ArrayField(models.DateTimeField(), default=list)
    message_count = models.IntegerField(default=1)
    priority = models.TextField(null=True)
    scope = models.BinaryField(max_length=32, null=True)
    released = models.BooleanField(default=False)
    window = models.ForeignKey(
        "MaintenanceWindow", null=True, on_delete=models.SET_NULL, related_name="+", db_index=False
    )
    subject = models.TextField(default="")
    source_id = models.TextField(default="")

    objects: ClassVar[models.Manager[DelayedAlert]] = BoundedManager()

    class Meta:
        indexes = (
            # Due alerts: queried every second.
            models.Index(fields=("due_at",), condition=Q(due_at__isnull=False), name="inbound_delayed_due"),
            # The number of alerts that wait in a rate window.
            models.Index(fields=("scope",), condition=Q(scope__isnull=False), name="inbound_delayed_scope"),
        )

    @property
    def hex_key(self) -> str:
        """The key, as in addresses."""
        return bytes(self.key_hash).hex()

    @property
    def shown_subject(self) -> str:
        return self.subject or self.source_id

    @property
    def delay_reason_label(self) -> str | Promise:
        return _DELAY_REASON_LABELS.get(self.delay_reason, self.delay_reason)


class GroupMember(models.Model):
    """A dedup key whose messages count on an alert that it shares with others."""

    key_hash = models.BinaryField(max_length=32, primary_key=True)
    alert = models.ForeignKey(
        "alerts.Alert", on_delete=models.CASCADE, related_name="group_members", db_constraint=False
    )
    role = models.TextField()
    subject = models.TextField(default="")
    source_id = models.TextField(default="")
    joined_at = models.DateTimeField()
    left_at = models.DateTimeField(null=True)

    objects: ClassVar[models.Manager[GroupMember]] = BoundedManager()


class RateWindow(models.Model):
    """Counters for a scope of an integration, see `inbound.deciding.state.RateWindow`. Locked like a dedup key."""

    hash = models.BinaryField(max_length=32, primary_key=True)
    alert_id = models.BigIntegerField(null=True)
    until = models.DateTimeField(null=True)
    tokens = models.FloatField(null=True)
    at = models.DateTimeField(null=True)
    times = ArrayField(models.DateTimeField(), default=list)
    touched_at = models.DateTimeField()


class MaintenanceWindow(models.Model):
    """When alerts of some integrations, groups, tags or a condition do not open, or open only at the window's end."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    #: The group that owns it.
    group = models.ForeignKey("people.Group", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    #: The times as in a spec; see `inbound.maintenance`.
    times = models.JSONField(default=dict)
    action = models.CharField(_("what happens"), max_length=10, default=WindowAction.SUPPRESS)
    #: Ids; empty: all.
    integrations = ArrayField(models.BigIntegerField(), default=list)
    groups = ArrayField(models.BigIntegerField(), default=list)
    tags = models.JSONField(default=dict)
    #: A condition as in routes, or null.
    condition = models.JSONField(null=True)
    ticket_reference = models.CharField(_("ticket reference"), max_length=100, blank=True, db_default="")
    #: Ids of the groups, and names of the clients, to which it is announced.
    announce_to = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    announce_to_clients = ArrayField(models.CharField(max_length=200), default=list, db_default=[])
    created_at = models.DateTimeField()

    objects: ClassVar[models.Manager[MaintenanceWindow]] = BoundedManager()

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(Lower("name"), name="inbound_maintenancewindow_name"),)

    def __str__(self) -> str:
        return self.name


class Heartbeat(models.Model):
    """State of a monitored sender; created by its first ping."""

    integration = models.OneToOneField(Integration, primary_key=True, on_delete=models.CASCADE, related_name="+")
    health = models.TextField(default="new", db_default="new")
    last_at = models.DateTimeField(null=True)
    #: The start of the current run, between its start and finish.
    started_at = models.DateTimeField(null=True)
    #: When an alert opens unless it pings; NULL while nothing is expected.
    due_at = models.DateTimeField(null=True)

    objects: ClassVar[models.Manager[Heartbeat]] = BoundedManager()

    class Meta:
        constraints = (
            models.CheckConstraint(
                condition=Q(health__in=[str(h) for h in HeartbeatHealth]), name="inbound_heartbeat_health"
            ),
        )
        indexes = (
            # Missed heartbeats: queried every second.
            models.Index(fields=("due_at",), condition=Q(due_at__isnull=False), name="inbound_heartbeat_due"),
        )


class UnmatchedPost(models.Model):
    """Requests of one address to one path that no integration receives."""

    #: Without what may be a token.
    path = models.TextField()
    address = models.TextField()
    requests = models.IntegerField()
    last_at = models.DateTimeField()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("path", "address"), name="inbound_unmatchedpost_sender"),)


class RefusedSender(models.Model):
    """Requests of one address that an integration refused."""

    id = models.BigAutoField(primary_key=True)
    integration = models.ForeignKey(Integration, on_delete=models.CASCADE, related_name="+", db_index=False)
    address = models.TextField()
    requests = models.IntegerField()
    last_at = models.DateTimeField()
    #: That of the last request.
    reason = ReasonField()

    objects: ClassVar[models.Manager[RefusedSender]] = BoundedManager()

    class Meta:
        constraints = (models.UniqueConstraint(fields=("integration", "address"), name="inbound_refusedsender_sender"),)


class ClientTable(models.Model):
    """The group and policy responsible for each client. Routes refer to a table."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    #: The group that owns it.
    group = models.ForeignKey("people.Group", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    #: `client`, and `group` and `policy` by id, in the order of the spec.
    clients = models.JSONField(default=list)

    objects: ClassVar[models.Manager[ClientTable]] = BoundedManager()

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(Lower("name"), name="inbound_clienttable_name"),)

    def __str__(self) -> str:
        return self.name
