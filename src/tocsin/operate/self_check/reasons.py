"""What a self-check finds: title, detail and remedy of each problem. They are stored with it."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

#: Parts of the sentences below.
NODE_AGO = ReasonType("problem.node_ago", "{node} ({ago})")
ALERT_NUMBER = ReasonType("problem.alert_number", "#{alert}")

TASK_STOPPED = ReasonType("problem.task_stopped", "The periodic task “{task}” has stopped")
TASK_STOPPED_DETAIL = ReasonType(
    "problem.task_stopped_detail", "The periodic task “{task}” last finished without an error on {nodes}."
)
TASK_STOPPED_REMEDY = ReasonType(
    "problem.task_stopped_remedy", "Find the error in that node's log, and restart the node if it hangs."
)

PROVIDER_HANGS = ReasonType("problem.provider_hangs", "The provider “{provider}” hangs")
PROVIDER_HANGS_DETAIL = ReasonType(
    "problem.provider_hangs_detail",
    "{count} send hangs in the provider “{provider}” on {nodes}. It counts as failed, and other providers take over. "
    "If several sends hang, the provider is not used.",
    "{count} sends hang in the provider “{provider}” on {nodes}. They count as failed, and other providers take over. "
    "If several sends hang, the provider is not used.",
)
PROVIDER_HANGS_REMEDY = ReasonType(
    "problem.provider_hangs_remedy",
    "Check the server that the provider connects to. Restart that node to end the hanging sends. If it happens again, "
    "report it.",
)

ESCALATION_LATE = ReasonType("problem.escalation_late", "Escalation is late")
ESCALATION_LATE_DETAIL = ReasonType(
    "problem.escalation_late_detail", "The escalation of alert {alert} has been overdue for {duration}."
)
ESCALATION_LATE_REMEDY = ReasonType(
    "problem.escalation_late_remedy",
    "Check whether a node with the role worker is running, and read its log. Page people by hand meanwhile.",
)

PAGES_LATE = ReasonType("problem.pages_late", "Pages are late")
PAGES_LATE_DETAIL = ReasonType("problem.pages_late_detail", "The first page about alert {alert} was due {ago}.")
PAGES_LATE_REMEDY = ReasonType(
    "problem.pages_late_remedy", "Check the providers, and call the people on call by hand meanwhile."
)

ALERTS_UNREACHED = ReasonType("problem.alerts_unreached", "Alerts have reached nobody")
ALERTS_UNREACHED_DETAIL = ReasonType(
    "problem.alerts_unreached_detail",
    "Alert {alerts} is open, and no page about it was sent although one was due.",
    "Alerts {alerts} are open, and no page about them was sent although one was due.",
)
ALERTS_UNREACHED_REMEDY = ReasonType(
    "problem.alerts_unreached_remedy",
    "Call the people on call by hand. Check the providers, and those people's contact methods.",
)

MESSAGES_LATE = ReasonType("problem.messages_late", "Inbound messages are not processed")
MESSAGES_LATE_DETAIL = ReasonType(
    "problem.messages_late_detail", "A stored message has not been processed for {duration}. It may open an alert."
)
MESSAGES_LATE_REMEDY = ReasonType(
    "problem.messages_late_remedy",
    "Check the Inbound Log for pending messages, and the log of a node with the role worker.",
)

ALERTS_FORGOTTEN = ReasonType("problem.alerts_forgotten", "Alerts are forgotten")
ALERTS_FORGOTTEN_DETAIL = ReasonType(
    "problem.alerts_forgotten_detail",
    "Alert {alerts} is open, without a timer and without a reason for that.",
    "Alerts {alerts} are open, without a timer and without a reason for that.",
)
ALERTS_FORGOTTEN_REMEDY = ReasonType(
    "problem.alerts_forgotten_remedy",
    "Press Escalate on it to page somebody. This is a bug in Tocsin: please report it.",
)

ESCALATION_STUCK = ReasonType("problem.escalation_stuck", "Escalation is stuck")
ESCALATION_STUCK_DETAIL = ReasonType(
    "problem.escalation_stuck_detail",
    "The escalation of alert {alerts} failed five times in a row.",
    "The escalation of alerts {alerts} failed five times in a row.",
)
ESCALATION_STUCK_REMEDY = ReasonType(
    "problem.escalation_stuck_remedy",
    "Page somebody by hand. The alert's page and the log show the error. Saving its policy again may fix it.",
)

DELIVERIES_LOST = ReasonType("problem.deliveries_lost", "Sends were interrupted")
DELIVERIES_LOST_DETAIL = ReasonType(
    "problem.deliveries_lost_detail",
    "{count} message was being sent by a process that ended, and no other process has retried it.",
    "{count} messages were being sent by a process that ended, and no other process has retried them.",
)
DELIVERIES_LOST_REMEDY = ReasonType(
    "problem.deliveries_lost_remedy", "Check whether a node with the role worker is running, and read its log."
)

CLOCK_SET_BACK = ReasonType("problem.clock_set_back", "The clock was set back")
CLOCK_SET_BACK_DETAIL = ReasonType(
    "problem.clock_set_back_detail",
    "The clock of the database's machine was set back by {duration}. Pending timers were moved forward by the same "
    "span. Earlier records have times that are too late by it.",
)
CLOCK_SET_BACK_AND_REPORTED = ReasonType(
    "problem.clock_set_back_and_reported",
    "The clock of the database's machine was set back by {duration}. Pending timers were moved forward by the same "
    "span, and each alert's timeline says so. Earlier records have times that are too late by it.",
)
CLOCK_SET_BACK_REMEDY = ReasonType(
    "problem.clock_set_back_remedy",
    "Have that machine follow NTP (`timedatectl set-ntp true`), with its hardware clock in UTC "
    "(`timedatectl set-local-rtc 0`).",
)
CLOCK_AHEAD = ReasonType("problem.clock_ahead", "The clock jumped far ahead")
CLOCK_AHEAD_DETAIL = ReasonType(
    "problem.clock_ahead_detail",
    "The clock of the database's machine is {duration} further than at the last check. Nothing is deleted by its age "
    "for a day.",
)
CLOCK_AHEAD_REMEDY = ReasonType(
    "problem.clock_ahead_remedy",
    "If Tocsin was not stopped for that long, correct that machine's clock before the day is over.",
)

DISK_FULL = ReasonType("problem.disk_full", "The disk is nearly full")
DISK_FULL_CONSEQUENCE = ReasonType(
    "problem.disk_full_consequence", "When it is full, nothing can be stored and nobody is paged."
)
