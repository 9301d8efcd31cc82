"""What a self-check finds: title, detail and remedy of each problem. They are stored with it."""

from __future__ import annotations

from tocsin.core.reasons import ReasonType

#: Parts of the sentences below.
NODE_AGO = ReasonType("problem.node_ago", "{node} ({ago})")
ALERT_NUMBER = ReasonType("problem.alert_number", "#{alert}")

TASK_STOPPED = ReasonType("problem.task_stopped", "The periodic task “{task}” has stopped")
TASK_STOPPED_DETAIL = ReasonType("problem.task_stopped_detail", "The periodic task “{task}” last succeeded on {nodes}.")
TASK_STOPPED_REMEDY = ReasonType(
    "problem.task_stopped_remedy", "Check that node's log for the error, and restart the node if it hangs."
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
    "Check whether a node with the role worker is running, and check its log. In the meantime, contact "
    "people manually.",
)

PAGES_LATE = ReasonType("problem.pages_late", "Pages are late")
PAGES_LATE_DETAIL = ReasonType("problem.pages_late_detail", "The first page about alert {alert} was due {ago}.")
PAGES_LATE_REMEDY = ReasonType(
    "problem.pages_late_remedy", "Check the providers. In the meantime, contact the people on call manually."
)

ALERTS_UNREACHED = ReasonType("problem.alerts_unreached", "Alerts reached no one")
ALERTS_UNREACHED_DETAIL = ReasonType(
    "problem.alerts_unreached_detail",
    "{count} alert is open and has reached no one: {alerts}.",
    "{count} alerts are open and have reached no one: {alerts}.",
)
ALERTS_UNREACHED_REMEDY = ReasonType(
    "problem.alerts_unreached_remedy",
    "Contact the people on call manually. Each alert's timeline says why: no one has the role that the policy pages, "
    "or a provider or contact method fails.",
)

NO_PROVIDER = ReasonType("problem.no_provider", "No provider for {channel}")
NO_PROVIDER_DETAIL = ReasonType(
    "problem.no_provider_detail",
    "{channel} has no provider. Pages for {users} are kept in the sandbox and reach no one.",
)
NO_PROVIDER_REMEDY = ReasonType(
    "problem.no_provider_remedy", "Add or enable a provider under Providers. Pages that were kept are then sent."
)
NO_PROVIDER_EMAIL_REMEDY = ReasonType(
    "problem.no_provider_email_remedy",
    "Set TOCSIN_SMTP_URL on every node, or add a provider under Providers. Pages that were kept are then sent.",
)

MESSAGES_LATE = ReasonType("problem.messages_late", "Inbound messages are not processed")
MESSAGES_LATE_DETAIL = ReasonType(
    "problem.messages_late_detail", "A message has been pending for {duration}. It may trigger an alert."
)
MESSAGES_LATE_REMEDY = ReasonType(
    "problem.messages_late_remedy",
    "Check the Inbound Log for pending messages, and the log of the worker nodes.",
)

ALERTS_FORGOTTEN = ReasonType("problem.alerts_forgotten", "Alerts without a scheduled action")
ALERTS_FORGOTTEN_DETAIL = ReasonType(
    "problem.alerts_forgotten_detail",
    "Alert {alerts} is open but has no scheduled action.",
    "Alerts {alerts} are open but have no scheduled action.",
)
ALERTS_FORGOTTEN_REMEDY = ReasonType(
    "problem.alerts_forgotten_remedy",
    "Press “Escalate now” on it to page someone. This is a bug in Tocsin: please report it.",
)

ESCALATION_STUCK = ReasonType("problem.escalation_stuck", "Escalation is stuck")
ESCALATION_STUCK_DETAIL = ReasonType(
    "problem.escalation_stuck_detail",
    "The escalation of alert {alerts} failed five times in a row.",
    "The escalation of alerts {alerts} failed five times in a row.",
)
ESCALATION_STUCK_REMEDY = ReasonType(
    "problem.escalation_stuck_remedy",
    "Contact someone manually. The alert and the log show the error. Saving its policy again may fix it.",
)

DELIVERIES_LOST = ReasonType("problem.deliveries_lost", "Sends were interrupted")
DELIVERIES_LOST_DETAIL = ReasonType(
    "problem.deliveries_lost_detail",
    "{count} message was being sent when its process stopped, and has not been retried.",
    "{count} messages were being sent when their process stopped, and have not been retried.",
)
DELIVERIES_LOST_REMEDY = ReasonType(
    "problem.deliveries_lost_remedy", "Check whether a node with the role worker is running, and check its log."
)

CLOCK_SET_BACK = ReasonType("problem.clock_set_back", "The clock was set back")
CLOCK_SET_BACK_DETAIL = ReasonType(
    "problem.clock_set_back_detail",
    "The database server's clock was set back by {duration}. Pending timers were adjusted. Timestamps "
    "of earlier records are too late by the same amount.",
)
CLOCK_SET_BACK_AND_REPORTED = ReasonType(
    "problem.clock_set_back_and_reported",
    "The database server's clock was set back by {duration}. Pending timers were adjusted, as noted on "
    "each alert's timeline. Timestamps of earlier records are too late by the same amount.",
)
CLOCK_SET_BACK_REMEDY = ReasonType(
    "problem.clock_set_back_remedy",
    "Enable NTP on that server (`timedatectl set-ntp true`), and keep its hardware clock in UTC "
    "(`timedatectl set-local-rtc 0`).",
)
CLOCK_AHEAD = ReasonType("problem.clock_ahead", "The clock jumped far ahead")
CLOCK_AHEAD_DETAIL = ReasonType(
    "problem.clock_ahead_detail",
    "The database server's clock has jumped ahead by {duration} since the last check. Retention "
    "cleanup is paused for a day.",
)
CLOCK_AHEAD_REMEDY = ReasonType(
    "problem.clock_ahead_remedy",
    "Unless Tocsin was stopped for that long, fix that server's clock within a day.",
)

DISK_FULL = ReasonType("problem.disk_full", "The disk is nearly full")
DISK_FULL_CONSEQUENCE = ReasonType(
    "problem.disk_full_consequence", "When it is full, nothing can be stored and no one is paged."
)
