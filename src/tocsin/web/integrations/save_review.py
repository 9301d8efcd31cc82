"""The review before a save that changes who is paged: what would have been different for the last messages.

The first save shows it and saves nothing. A second one with the same change saves.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.http import HttpResponse

from tocsin.core.net.etag import make_etag
from tocsin.inbound.enums import IntegrationMode
from tocsin.inbound.models import Integration
from tocsin.simulate.backtest import Backtest, backtest
from tocsin.web.http.request import SignedInRequest, render_view

#: Name of the hidden field that contains the stamp of the change that was shown.
FIELD = "reviewed"

#: Number of newest messages that the review compares.
REVIEWED_MESSAGES = 200


@dataclass(frozen=True, slots=True)
class SaveReview:
    """The effect on the last messages, and the stamp that confirms it."""

    backtest: Backtest
    stamp: str


def review_change(request: SignedInRequest, row: Integration, parts: Mapping[str, Any]) -> SaveReview | None:
    """Return the effect of changed `parts` of the definition, unless the user has confirmed it.

    None as well if the last messages would have paged the same users, the integration pages nobody, or its current
    version is unusable. Raises Rejected for parts that cannot be saved.
    """
    stamp = make_etag(parts)
    if row.mode != IntegrationMode.PAGE or request.POST.get(FIELD) == stamp:
        return None
    result = backtest(row, parts, limit=REVIEWED_MESSAGES)
    return SaveReview(result, stamp) if result.effects and not result.problem else None


def render_review(request: SignedInRequest, review: SaveReview, frame: Mapping[str, Any], back: str) -> HttpResponse:
    """Render the review of a change by a button: a form that posts the same again. `back` is the name of a URL."""
    fields = [(name, value) for name, value in request.POST.items() if name not in (FIELD, "csrfmiddlewaretoken")]
    context = {**frame, "review": review, "posted": fields, "back": back}
    return render_view(request, "integrations/confirm.html", context)
