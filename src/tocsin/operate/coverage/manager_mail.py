"""Mails a group's managers about its on-call coverage; the administrators where it has none."""

from __future__ import annotations

from datetime import datetime, timedelta

from tocsin.core.config import environment
from tocsin.core.db.database import Connection
from tocsin.core.reasons import Reason, ReasonType, joined
from tocsin.notify.enqueue.notices import Notice, queue_notice, was_noticed
from tocsin.notify.enqueue.recipients import load_administrators
from tocsin.oncall.calculation.group_snapshot import GroupPlan
from tocsin.people.member_roles import MemberRole

#: The last line of a list that is cut off.
MORE = ReasonType("coverage.mail_more", "- and {count} more", "- and {count} more")

_GROUP = ReasonType("coverage.mail_group", "The group: {url}")
_MANAGER = ReasonType("coverage.mail_to_manager", "You are a manager of {group}.")
_NO_MANAGER = ReasonType("coverage.mail_no_manager", "{group} has no manager.")


def mail_managers(
    connection: Connection, plan: GroupPlan, title: Reason, text: Reason, about: str, now: datetime, window: timedelta
) -> int:
    """Queues the mail, unless one about the same was sent within `window`. Returns the number of recipients."""
    managers = [m.user_id for m in plan.members if m.is_active and MemberRole.MANAGER in m.roles]
    recipient_ids = managers or load_administrators(connection)
    if not recipient_ids or was_noticed(connection, recipient_ids, about, now, window):
        return 0
    link = _GROUP(url=f"{environment.current().public_url}/groups/{plan.id}/")
    notice = Notice(
        title=title,
        text=joined(text, link, separator="\n\n"),
        about=about,
        reason=_MANAGER(group=plan.name) if managers else _NO_MANAGER(group=plan.name),
    )
    return len(queue_notice(connection, notice, now, user_ids=recipient_ids).names)
