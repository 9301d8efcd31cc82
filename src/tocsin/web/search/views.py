"""The search in the side bar."""

from __future__ import annotations

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.search import queries


@require_safe
def search(request: SignedInRequest) -> HttpResponse:
    """Render the hits for the query in the URL, or the empty search."""
    text = request.GET.get("q", "").replace("\x00", "").strip()[:200]
    results = queries.search_everything(text, request.viewer, request.now) if text else None
    return render_view(
        request, "search/search.html", {"text": text, "results": results}, partials=("results", "palette")
    )
