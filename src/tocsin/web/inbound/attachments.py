"""Downloads an attachment of an inbound e-mail, extracted from the stored message."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404
from django.utils.http import content_disposition_header
from django.views.decorators.http import require_safe

from tocsin.core.errors import Rejected
from tocsin.inbound.models import InboundMessage
from tocsin.inbound.parsing import mime_parser as mail
from tocsin.web.http.request import SignedInRequest

#: Media types that are safe to declare, because browsers never execute them. Everything else is sent as octet-stream.
_HARMLESS = frozenset(
    {
        "image/png",
        "image/jpeg",
        "image/gif",
        "image/webp",
        "application/pdf",
        "text/plain",
        "text/csv",
        "application/zip",
    }
)


@require_safe
def attachment(request: SignedInRequest, message_id: UUID, number: int) -> HttpResponse:
    """Serve the file as a download, never inline in Tocsin's origin, whatever type the sender declared."""
    message = get_object_or_404(InboundMessage.objects.only("raw", "content_type"), pk=message_id)
    if message.content_type.partition(";")[0].strip() != mail.MEDIA_TYPE:
        raise Http404
    try:
        files = mail.attachments(bytes(message.raw))
    except Rejected:
        raise Http404 from None
    if number >= len(files):
        raise Http404
    file = files[number]
    response = HttpResponse(
        file.content, content_type=file.media if file.media in _HARMLESS else "application/octet-stream"
    )
    response["Content-Disposition"] = content_disposition_header(True, file.name) or "attachment"
    response["X-Content-Type-Options"] = "nosniff"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response
