"""Problems with outbound integrations, for Home."""

from __future__ import annotations

from collections.abc import Iterator

from django.urls import reverse

from tocsin.core.db import database
from tocsin.outbound import health
from tocsin.web.told import told_of


def found() -> Iterator[tuple[str, str, bool]]:
    """Yield (sentence, URL that resolves it, urgent) for each."""
    with database.pool().connection() as connection:
        every = list(health.find_problems(connection))
    for one in every:
        url = reverse("outbound", args=[one.integration_id])
        if one.kind == "dead":
            url = f"{reverse('outbound_log', args=[one.integration_id])}?show=dead"
        yield told_of(one.name, one.text), url, one.is_urgent
