"""What is wrong with providers, and with addresses that want no messages, for Home. Reads only."""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import reverse
from django.utils.translation import gettext as _

from tocsin.core import database
from tocsin.notify import opt_outs, provider_status
from tocsin.notify.models import ProviderHealth


def found() -> Iterator[tuple[str, str, bool]]:
    """Each as a sentence, where to mend it, and whether somebody must come now."""
    for row in ProviderHealth.objects.filter(is_open=True, name__in=provider_status.in_use()).order_by("name"):
        text = _("%(name)s fails, and others take its turn: %(error)s") % {"name": row.name, "error": row.error}
        yield text, reverse("providers"), True
    with database.transaction() as connection:
        people = opt_outs.opted_out(connection)
    for user_id, name, label, _at in people[:5]:
        text = _("%(name)s wrote STOP, and gets no texts at %(label)s") % {"name": name, "label": label}
        yield text, reverse("user", args=[user_id]), False
