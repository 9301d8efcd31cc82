"""Schedules of groups, and support hours."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from tocsin.core.name_field import validate_name


class Schedule(models.Model):
    """Shifts of a group: who is on call when, instead of the group's holders of the same roles."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    group = models.ForeignKey("people.Group", on_delete=models.PROTECT, related_name="schedules")
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    #: `shifts`, as people write them; users by id. See `oncall.schedules`.
    definition = models.JSONField(default=dict)

    class Meta:
        ordering = ("name",)
        constraints = (models.UniqueConstraint(Lower("name"), name="oncall_schedule_name"),)

    def __str__(self) -> str:
        return self.name


class SupportHours(models.Model):
    """A named set of weekly windows."""

    name = models.CharField(_("name"), max_length=100, validators=[validate_name])
    #: The group that owns it.
    group = models.ForeignKey("people.Group", null=True, blank=True, on_delete=models.PROTECT, related_name="+")
    time_zone = models.CharField(_("time zone"), max_length=64, default="UTC")
    #: As people write them: days, from, to. See `oncall.windows`.
    windows = models.JSONField(default=list)

    class Meta:
        ordering = ("name",)
        verbose_name_plural = "support hours"
        constraints = (models.UniqueConstraint(Lower("name"), name="oncall_supporthours_name"),)

    def __str__(self) -> str:
        return self.name
