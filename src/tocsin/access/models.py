"""API tokens, the audit log with its hash chain, and the shared cache."""

from __future__ import annotations

from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from tocsin.access.boundary import BoundedManager
from tocsin.access.roles import TokenLimits, TokenScope
from tocsin.core.models import ReasonField


class ApiToken(models.Model):
    """A secret with which a script acts as its user, within limits. Only its hash is stored."""

    user = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(_("name"), max_length=100)
    hash = models.BinaryField(max_length=32, unique=True)
    #: The first characters of the secret, shown in lists.
    prefix = models.CharField(max_length=12)
    scope = models.CharField(max_length=10, choices=TokenScope.choices())
    #: Ids of the groups to which it is limited; empty: not limited. No foreign keys: a token must not become unlimited
    #: when its only group is deleted.
    group_ids = ArrayField(models.BigIntegerField(), default=list, db_default=[])
    #: Names of the clients to which it is limited; empty: not limited.
    clients = ArrayField(models.CharField(max_length=200), default=list, db_default=[])
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    #: When its owner was warned of the expiry.
    warned_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_used_from = models.GenericIPAddressField(null=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    #: The last calls of an assistant (`access.tokens.AssistantCall`), newest last; empty: no assistant uses it.
    assistant_calls = models.JSONField(default=list, db_default=[])
    #: The token that made it, if one did. It is revoked together with that one.
    made_by = models.ForeignKey("self", null=True, on_delete=models.SET_NULL, related_name="+")

    objects: ClassVar[models.Manager[ApiToken]] = BoundedManager()

    class Meta:
        constraints = (models.CheckConstraint(condition=Q(scope__in=list(TokenScope)), name="access_apitoken_scope"),)

    @property
    def limits(self) -> TokenLimits:
        """What it may do at most."""
        return TokenLimits(TokenScope(self.scope), frozenset(self.group_ids), frozenset(self.clients))


class AuditEntry(models.Model):
    """An audit log entry: who changed which values, before and after, or who signed in. Secrets are masked."""

    at = models.DateTimeField(db_index=True)
    #: No constraint: an entry never changes, and outlives the user.
    actor = models.ForeignKey(
        "people.User", null=True, on_delete=models.DO_NOTHING, db_constraint=False, related_name="+"
    )
    #: The actor's name at that time.
    actor_name = models.CharField(max_length=200)
    #: `create`, `update`, `delete`, `sign_in`, `sign_in_failed`, `sign_out`, or a verb of the object: `rotate_token`.
    action = models.CharField(max_length=40)
    object_type = models.CharField(max_length=60, blank=True)
    object_id = models.CharField(max_length=60, blank=True)
    object_name = models.CharField(max_length=200, blank=True)
    #: The group that owned the object then, whose managers see the entry. No foreign key: entries outlive groups.
    group_id = models.BigIntegerField(null=True)
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    #: The interface: `web`, `api`, `cli`, `yaml`.
    via = models.CharField(max_length=20, blank=True)
    address = models.GenericIPAddressField(null=True)
    #: The place in the hash chain, the hash, the hash of what may name a person, and its salt: see `access.audit_log`.
    sequence = models.BigIntegerField(null=True, unique=True)
    hash = models.BinaryField(max_length=32, null=True)
    content_hash = models.BinaryField(max_length=32, null=True)
    salt = models.BinaryField(max_length=16, null=True)

    objects: ClassVar[models.Manager[AuditEntry]] = BoundedManager()

    class Meta:
        indexes = (
            # The entries that are not linked yet.
            models.Index(fields=("id",), condition=Q(sequence__isnull=True), name="access_audit_unlinked"),
            # What erased persons left, which a verification of the chain reads first.
            models.Index(fields=("id",), condition=Q(action="erase"), name="access_audit_erase"),
            # The history of one object, newest first.
            models.Index(fields=("object_type", "object_id", "id"), name="access_audit_object"),
            # The entries that the managers of a group see.
            models.Index(fields=("group_id", "id"), condition=Q(group_id__isnull=False), name="access_audit_group"),
        )


class AuditChain(models.Model):
    """The ends of the audit log's hash chain, one row: the newest entry, and the last one that retention deleted. And
    the last one that was verified in the current round."""

    id = models.PositiveSmallIntegerField(primary_key=True)
    head = models.BigIntegerField()
    head_hash = models.BinaryField(max_length=32)
    anchor = models.BigIntegerField()
    anchor_hash = models.BinaryField(max_length=32)
    verified = models.BigIntegerField(default=0, db_default=0)
    verified_hash = models.BinaryField(max_length=32, default=b"", db_default=b"")


class AuditForwarding(models.Model):
    """How far the audit log was forwarded, one row: see `access.audit_log`."""

    id = models.PositiveSmallIntegerField(primary_key=True)
    #: The sequence of the last entry that was sent.
    cursor = models.BigIntegerField(default=0)
    #: A Fernet token over the secret that signs requests.
    secret = models.TextField()
    #: The end of the lease of the worker that sends, or the next attempt after a failure.
    not_before = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    failed_since = models.DateTimeField(null=True)
    problem = ReasonField()


class SharedCacheEntry(models.Model):
    """An entry of the cache shared by all nodes, such as a count of sign-in attempts: see `access.shared_cache`."""

    #: SHA-256 of the key, in hex.
    key = models.CharField(max_length=64, primary_key=True)
    value = models.JSONField()
    #: Indexed, because every write deletes expired entries.
    expires_at = models.DateTimeField(db_index=True)
