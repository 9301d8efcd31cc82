"""What happens next to one alert, in a sentence, with its moment. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.utils.translation import gettext as _

from tocsin.alerts.models import Alert
from tocsin.alerts.states import AlertStatus
from tocsin.escalation.models import Run
from tocsin.escalation.runs import RunStatus


@dataclass(frozen=True, slots=True)
class Next:
    """When (None: no timer), what, and what else to know."""

    at: datetime | None
    text: str
    detail: str = ""
    #: `now` while nobody has answered, `wait` while a timer runs, else empty.
    tone: str = ""


def of(alert: Alert, now: datetime) -> Next:
    """What comes next if nobody acts."""
    run = Run.objects.filter(alert=alert).exclude(status=RunStatus.ENDED).select_related("version__policy").first()
    policy = run.version.policy.name if run and run.version else ""
    match AlertStatus(alert.status):
        case AlertStatus.ON_HOLD:
            return Next(alert.hold_until, _("Comes back from hold"), tone="wait")
        case AlertStatus.ASSIGNED:
            owner = alert.owner.display_name if alert.owner else alert.owner_name
            return Next(None, _("Nothing: %(name)s has it.") % {"name": owner})
        case AlertStatus.OPEN:
            return _of_open(run, policy)
        case AlertStatus.MERGED:
            return Next(None, _("Nothing: act on alert %(number)s instead.") % {"number": alert.merged_into_id})
        case AlertStatus.CLOSED | AlertStatus.CANCELLED:
            return Next(None, _("Nothing: it is over."))


def _of_open(run: Run | None, policy: str) -> Next:
    if run is None:
        return Next(None, _("Nothing is planned: no policy works on this alert."))
    stops = _("%(policy)s. Stops when somebody acknowledges, takes or closes it.") % {"policy": policy} if policy else ""
    if run.due_at is None:
        tone = "now" if run.status == RunStatus.FINISHED else ""
        return Next(None, run.reason or _("Nothing is planned."), policy, tone)
    return Next(run.due_at, run.reason, stops, "now" if run.status == RunStatus.ACTIVE else "wait")
