"""E-mail replies and their outcomes, to find out why a reply had no effect. For administrators."""

from __future__ import annotations

from django.http import HttpResponse
from django.views.decorators.http import require_safe

from tocsin.access.roles import Permission
from tocsin.notify.mail_replies.process import ReplyResult
from tocsin.notify.models import MailReply
from tocsin.web.http.authorization import requires
from tocsin.web.http.request import SignedInRequest, render_view
from tocsin.web.ui import pagination


@require_safe
@requires(Permission.ADMINISTER)
def mail_replies(request: SignedInRequest) -> HttpResponse:
    """Render the replies, newest first, filtered by outcome."""
    rows = MailReply.objects.select_related("user").order_by("-id")
    outcome = request.GET.get("outcome", "")
    if outcome in tuple(ReplyResult):
        rows = rows.filter(outcome=outcome)
    result = pagination.paginate_by_number(rows, request.GET.get("cursor", ""), size=50)
    context = {"rows": result.rows, "pagination": result, "chosen": outcome}
    return render_view(request, "providers/mail_replies.html", context, partials=("list",))
