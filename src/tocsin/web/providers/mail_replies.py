"""The mails that came as answers, and what became of each: why one did not count is read here. For administrators."""

from __future__ import annotations

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from tocsin.access.roles import Action
from tocsin.notify.mail_replies.process import Result
from tocsin.notify.models import MailReply
from tocsin.web.http.authorization import needs
from tocsin.web.http.request import Request, page
from tocsin.web.ui import pagination


@require_safe
@needs(Action.ADMINISTER)
def mail_replies(request: Request) -> HttpResponse:
    """Newest first; by outcome."""
    rows = MailReply.objects.select_related("user").order_by("-id")
    chosen = request.GET.get("outcome", "")
    if chosen in tuple(Result):
        rows = rows.filter(outcome=chosen)
    found = pagination.by_number(rows, request.GET.get("cursor", ""), size=50)
    context = {"rows": found.rows, "page": found, "chosen": chosen}
    return page(request, "providers/mail_replies.html", context, parts=("list",))
