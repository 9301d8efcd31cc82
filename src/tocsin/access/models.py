"""API tokens, the audit log and the shared cache."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from tocsin.access.boundary import BoundedManager


class ApiToken(models.Model):
    """A secret with which a script acts as its user. Only its hash is stored."""

    user = models.ForeignKey("people.User", on_delete=models.CASCADE, related_name="api_tokens")
    name = models.CharField(_("name"), max_length=100)
    hash = models.BinaryField(max_length=32, unique=True)
    #: The first characters of the secret, shown in lists.
    prefix = models.CharField(max_length=12)
    created_at = models.DateTimeField()
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[models.Manager[ApiToken]] = BoundedManager()


class AuditEntry(models.Model):
    """An audit log entry: who changed which values, before and after, or who signed in. Secrets are masked."""

    at = models.DateTimeField(db_index=True)
    actor = models.ForeignKey("people.User", null=True, on_delete=models.SET_NULL, related_name="+")
    #: The actor's name at that time, which outlives the user.
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

    objects: ClassVar[models.Manager[AuditEntry]] = BoundedManager()

    class Meta:
        indexes = (
            # The history of one object, newest first.
            models.Index(fields=("object_type", "object_id", "id"), name="access_audit_object"),
            # The entries that the managers of a group see.
            models.Index(fields=("group_id", "id"), condition=Q(group_id__isnull=False), name="access_audit_group"),
        )


class SharedCacheEntry(models.Model):
    """An entry of the cache shared by all nodes, such as a count of sign-in attempts: see `access.shared_cache`."""

    #: SHA-256 of the key, in hex.
    key = models.CharField(max_length=64, primary_key=True)
    value = models.JSONField()
    #: Indexed, because every write deletes expired entries.
    expires_at = models.DateTimeField(db_index=True)
