"""E-mail replies and their outcomes, to find out why a reply had no effect. For administrators."""

from __future__ import annotations

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from tocsin.access.roles import Permission
from tocsin.notify.mail_replies.process import ReplyResult
from tocsin.notify.models import MailReply
from tocsin.web.http.authorization import requires
from tocsin.web.http.request import SignedInRequest, page
from tocsin.web.ui import pagination


@require_safe
@requires(Permission.ADMINISTER)
def mail_replies(request: SignedInRequest) -> HttpResponse:
    """Render the replies, newest first, filtered by outcome."""
    rows = MailReply.objects.select_related("user").order_by("-id")
    chosen = request.GET.get("outcome", "")
    if chosen in tuple(ReplyResult):
        rows = rows.filter(outcome=chosen)
    found = pagination.by_number(rows, request.GET.get("cursor", ""), size=50)
    context = {"rows": found.rows, "page": found, "chosen": chosen}
    return page(request, "providers/mail_replies.html", context, parts=("list",))
