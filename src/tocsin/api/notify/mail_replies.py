"""Replies by e-mail, with their outcome. For administrators, because the senders are users' addresses."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Query
from pydantic import BaseModel

from tocsin.access.roles import Permission
from tocsin.api.framework.authorized_router import AuthorizedRouter
from tocsin.api.framework.pagination import Number, PaginatedList, PaginationQuery, page
from tocsin.api.reasons import ReasonCode, ReasonData
from tocsin.core.reason_json import show_fields
from tocsin.notify.mail_replies.process import ReplyResult
from tocsin.notify.models import MailReply
from tocsin.resources.lookup import find

routes = AuthorizedRouter("mail-replies")


class MailReplySchema(BaseModel):
    """One reply. Its text is stored on the alert's timeline, not here."""

    id: int
    received_at: datetime
    provider: str
    sender: str
    subject: str
    alert_id: int | None
    user: str | None
    outcome: ReplyResult
    reason: str
    reason_code: ReasonCode
    reason_data: ReasonData


class MailReplyFilters(PaginationQuery):
    outcome: ReplyResult | None = None
    alert_id: Number | None = None
    sender: str | None = None


@routes.get("", Permission.ADMINISTER, answers=PaginatedList[MailReplySchema], summary="Answers by mail, newest first")
def list_mail_replies(request: HttpRequest, query: Query[MailReplyFilters]) -> dict[str, Any]:
    rows = MailReply.objects.select_related("user")
    for name in ("outcome", "alert_id"):
        if (value := getattr(query, name)) is not None:
            rows = rows.filter(**{name: value})
    if query.sender is not None:
        rows = rows.filter(sender__iexact=query.sender)
    return page(rows, query, _show, newest_first=True)


@routes.get("/{int:id}", Permission.ADMINISTER, answers=MailReplySchema, summary="One of them")
def get_mail_reply(request: HttpRequest, id: Number) -> dict[str, Any]:
    return _show([find(MailReply.objects.select_related("user"), str(id), label="answer by mail")])[0]


def _show(rows: Sequence[MailReply]) -> list[dict[str, Any]]:
    names = ("id", "received_at", "sender", "subject", "alert_id", "outcome")
    return [
        {
            **show_fields(row, *names, "reason"),
            "provider": row.provider_name,
            "user": row.user.username if row.user else None,
        }
        for row in rows
    ]
