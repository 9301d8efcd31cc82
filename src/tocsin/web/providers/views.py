"""Providers: what carries messages out, in order, with a test of each. For administrators."""

from __future__ import annotations

from django.http import HttpResponse
from django.views.decorators.http import require_GET

from tocsin.access.roles import Action
from tocsin.core import config
from tocsin.notify.channels.registry import CHANNELS, KINDS
from tocsin.notify.models import Provider
from tocsin.notify.providers import ENVIRONMENT
from tocsin.web.guard import needs
from tocsin.web.request import Request, page


@require_GET
@needs(Action.ADMINISTER)
def provider_list(request: Request) -> HttpResponse:
    """Every provider in the order in which it is tried, and the channels that have none."""
    rows = list(Provider.objects.all())
    carried = {channel for row in rows if row.is_enabled for channel in row.channels}
    by_environment = config.current().smtp_url is not None
    if by_environment:
        carried.add("email")
    context = {
        "rows": [(row, KINDS.get(row.kind)) for row in rows],
        "kinds": KINDS.values(),
        "environment": ENVIRONMENT if by_environment else "",
        "without": [channel.label for name, channel in CHANNELS.items() if name not in carried],
    }
    return page(request, "providers/list.html", context)
