"""Search in everything, from the side bar of every page."""

from __future__ import annotations

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from tocsin.people import permissions
from tocsin.web.http.request import SignedInRequest, page
from tocsin.web.search import queries


@require_safe
def search(request: SignedInRequest) -> HttpResponse:
    """What fits the words in the address; none, and it asks for some."""
    text = request.GET.get("q", "").replace("\x00", "").strip()[:200]
    found = queries.found(text, permissions.viewer(request.user), request.now) if text else None
    return page(request, "search/search.html", {"text": text, "found": found}, parts=("found",))
