"""Writes packaging/monitoring: alert rules for Prometheus, a dashboard for Grafana; and the page that lists the rules.
Run by `make reference`.

Every metric of Tocsin's is on the dashboard; the texts of its panels are the meanings of metrics_reference.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import metrics_reference

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "packaging" / "monitoring"
RULES = FOLDER / "prometheus-rules.yaml"
DASHBOARD = FOLDER / "grafana-dashboard.json"
PAGE = ROOT / "docs" / "reference" / "alert-rules.md"

INTRODUCTION = """\
# Alert rules

The rules of `packaging/monitoring/prometheus-rules.yaml`. [How to load them](../how-to/metrics-and-alerts.md).

This page is written by `make reference`.

| alert | severity | when | for | what to do |
|---|---|---|---|---|
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """One alert. `severity`: `critical` if pages may not arrive now, else `warning`."""

    name: str
    severity: str
    #: How long the expression must hold, in Prometheus' format.
    wait: str
    expression: str
    summary: str
    #: What to do.
    action: str


ALERTS = (
    Rule(
        "TocsinAbsent", "critical", "2m", "absent(tocsin_build_info)",
        "No node of Tocsin answers Prometheus.",
        "Start Tocsin. If it runs, check the scrape: /metrics needs a token.",
    ),
    Rule(
        "TocsinPagingNotOk", "critical", "1m", "max by (job) (tocsin_paging_ok) == 0",
        "The self-check found a problem, or has not run for two minutes.",
        "Read the problems on Home, or run tocsin doctor.",
    ),
    Rule(
        "TocsinAlertsUnreached", "critical", "1m", "max by (job) (tocsin_alerts_unreached) > 0",
        "{{ $value }} open alerts have reached no one.",
        "Read on the alert why no one was paged; call the person on call.",
    ),
    Rule(
        "TocsinPagesLate", "critical", "1m", "max by (job) (tocsin_outbox_late_seconds) > 60",
        "A page has been due for {{ $value | humanizeDuration }} and was not sent.",
        "Check that a node with the role worker runs, and the providers on the System page.",
    ),
    Rule(
        "TocsinEscalationLate", "critical", "1m", "max by (job) (tocsin_runs_late_seconds) > 60",
        "An escalation step has been due for {{ $value | humanizeDuration }} and was not decided.",
        "Check that a node with the role worker runs, and its log.",
    ),
    Rule(
        "TocsinMessagesLate", "critical", "1m", "max by (job) (tocsin_messages_pending_seconds) > 60",
        "A stored message has waited {{ $value | humanizeDuration }} for its decision.",
        "Check that a node with the role worker runs, and whether the table of alerts is locked.",
    ),
    Rule(
        "TocsinMessagesRefused", "critical", "0m", "sum by (job) (increase(tocsin_messages_refused_total[5m])) > 0",
        "Messages could not be stored and were answered with 503. Their senders must repeat them.",
        "Check the database and its disk: /readyz of each node says why.",
    ),
    Rule(
        "TocsinDatabaseDown", "critical", "1m", "min by (job, instance) (tocsin_database_up) == 0",
        "PostgreSQL does not answer the node {{ $labels.instance }}.",
        "Start PostgreSQL, or check the network and the number of connections.",
    ),
    Rule(
        "TocsinStandbyMissing", "critical", "1m",
        'max by (job) (tocsin_database_risk{risk="standby_missing"}) == 1',
        "Commits wait for a synchronous standby and none is connected: nothing can be stored.",
        "Start the standby, or remove it from synchronous_standby_names.",
    ),
    Rule(
        "TocsinDatabaseNotDurable", "warning", "5m",
        'max by (job, risk) (tocsin_database_risk{risk!="standby_missing"}) == 1',
        "PostgreSQL may lose accepted messages: {{ $labels.risk }}. tocsin doctor says what to set.",
        "Run tocsin doctor, which names the setting.",
    ),
    Rule(
        "TocsinQueueOld", "warning", "1m", "max by (job, instance) (tocsin_queue_oldest_seconds) > 5",
        "Messages wait {{ $value | humanizeDuration }} to be stored on {{ $labels.instance }}.",
        "Check the database's load and locks.",
    ),
    Rule(
        # A process that was started again has a row of its own beside the old one, named host/id.
        "TocsinNodeGone", "warning", "1m",
        'min by (job, host, role) (label_replace(tocsin_node_age_seconds, "host", "$1", "node", "([^/]+).*")) > 60',
        "The node {{ $labels.host }} has sent no heartbeat for {{ $value | humanizeDuration }}.",
        "Start the node. The others do its work.",
    ),
    Rule(
        "TocsinRunsStuck", "warning", "1m", "max by (job) (tocsin_runs_stuck) > 0",
        "The escalation of {{ $value }} alerts failed five times in a row.",
        "Page someone manually about what is urgent; the log has the error.",
    ),
    Rule(
        "TocsinProviderDown", "warning", "5m", "min by (job, provider) (tocsin_provider_up) == 0",
        "The provider {{ $labels.provider }} fails. Pages take the next one, if there is one.",
        "Send a test from its page, which shows the error.",
    ),
    Rule(
        "TocsinDeliveriesFail", "warning", "5m",
        'sum by (job, channel) (rate(tocsin_deliveries_total{status="failed"}[15m]))'
        " / sum by (job, channel) (rate(tocsin_deliveries_total[15m])) > 0.5",
        "{{ $value | humanizePercentage }} of the attempts by {{ $labels.channel }} fail.",
        "Read the errors of the providers of this channel.",
    ),
    Rule(
        "TocsinHeartbeatOld", "warning", "1m", "min by (job) (tocsin_heartbeat_age_seconds) > 180",
        "The external heartbeat was last accepted {{ $value | humanizeDuration }} ago.",
        "Check that Tocsin reaches the service in TOCSIN_HEARTBEAT_URL.",
    ),
    Rule(
        "TocsinBackupOld", "warning", "1h", "min by (job) (tocsin_backup_age_seconds) > 7 * 86400",
        "The last backup is {{ $value | humanizeDuration }} old.",
        "Check the job that runs tocsin backup.",
    ),
    Rule(
        "TocsinBackupMissing", "warning", "1d",
        "max by (job) (tocsin_database_up) == 1 unless on (job) max by (job) (tocsin_backup_age_seconds)",
        "No backup of Tocsin was ever recorded.",
        "Run tocsin backup every day.",
    ),
    Rule(
        "TocsinConnectionsExhausted", "warning", "5m", "max by (job, instance) (tocsin_pool_waiting) > 0",
        "Threads of {{ $labels.instance }} wait for a database connection.",
        "Check for long queries and locks; run another node.",
    ),
    Rule(
        "TocsinErrors", "warning", "0m", "sum by (job, instance) (increase(tocsin_errors_total[15m])) > 0",
        "{{ $labels.instance }} wrote errors to its log.",
        "Read the log.",
    ),
    Rule(
        "TocsinVersionsDiffer", "warning", "1h",
        "count by (job) (count by (job, version) (tocsin_build_info)) > 1",
        "Nodes of {{ $value }} versions have run side by side for an hour.",
        "Finish the upgrade of every node.",
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Panel:
    """One panel. `queries` are PromQL and legend; the metrics in them explain the panel. Widths are of 24."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    #: Thresholds from green on: (value from which, colour).
    steps: tuple[tuple[float, str], ...] = ()


def _panel(title: str, query: str, legend: str = "", unit: str = "short") -> Panel:
    return Panel(title, ((query, legend),), unit)


def _figure(title: str, query: str, unit: str = "short", *steps: tuple[float, str]) -> Panel:
    return Panel(title, ((query, ""),), unit, "stat", 4, steps)


#: The rows of the dashboard: a heading and its panels. $job is a variable of the dashboard.
ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Does paging work?",
        (
            _figure("Paging", "max(tocsin_paging_ok{$job})", "bool_yes_no", (0, "red"), (1, "green")),
            _figure("Unreached alerts", "max(tocsin_alerts_unreached{$job})", "short", (1, "red")),
            _figure("Active alerts", "sum(max by (status) (tocsin_alerts{$job}))"),
            _figure("Nodes", 'count(max by (node) (tocsin_node_age_seconds{$job}) < 60)'),
            _figure("Last backup", "min(tocsin_backup_age_seconds{$job})", "s", (604800, "orange")),
            _figure("Last heartbeat", "min(tocsin_heartbeat_age_seconds{$job})", "s", (180, "red")),
            _panel("Problems of the self-check", "max by (problem) (tocsin_problem{$job})", "{{problem}}"),
            _panel("Risks of the database", "max by (risk) (tocsin_database_risk{$job})", "{{risk}}"),
            _panel("Providers that work", "min by (provider) (tocsin_provider_up{$job})", "{{provider}}"),
            _panel("Since a provider's last success",
                   "time() - max by (provider) (tocsin_provider_last_success_timestamp_seconds{$job})", "{{provider}}",
                   "s"),
        ),
    ),
    (
        "Messages",
        (
            _panel("Messages stored", "sum by (status) (rate(tocsin_messages_total{$job}[$__rate_interval]))",
                   "{{status}}", "cps"),
            _panel("Messages refused",
                   "sum by (instance) (rate(tocsin_messages_refused_total{$job}[$__rate_interval]))",
                   "{{instance}}", "cps"),
            Panel("Duration of a transaction", tuple(
                ("histogram_quantile(PART, sum by (le) (rate(tocsin_batch_seconds_bucket{$job}[$__rate_interval])))"
                 .replace("PART", str(part)), f"p{part * 100:.0f}") for part in (0.5, 0.9, 0.99)), "s"),
            _panel("Messages in one transaction",
                   "sum(rate(tocsin_batch_messages_sum{$job}[$__rate_interval]))"
                   " / sum(rate(tocsin_batch_messages_count{$job}[$__rate_interval]))", "mean"),
            Panel("Queue of each node", (("max by (instance) (tocsin_queue_messages{$job})", "{{instance}}"),)),
            _panel("Size of the queue", "max by (instance) (tocsin_queue_bytes{$job})", "{{instance}}", "bytes"),
            _panel("Oldest in the queue", "max by (instance) (tocsin_queue_oldest_seconds{$job})", "{{instance}}", "s"),
            _panel("Stored, not yet decided", "max(tocsin_messages_pending{$job})", "messages"),
            _panel("Oldest not yet decided", "max(tocsin_messages_pending_seconds{$job})", "age", "s"),
        ),
    ),
    (
        "Alerts and pages",
        (
            _panel("Active alerts", "max by (status) (tocsin_alerts{$job})", "{{status}}"),
            Panel("Escalation runs", (
                ("max(tocsin_runs_waiting{$job})", "waiting"), ("max(tocsin_runs_due{$job})", "due"),
                ("max(tocsin_runs_stuck{$job})", "stuck"))),
            _panel("Latest escalation", "max(tocsin_runs_late_seconds{$job})", "late", "s"),
            _panel("Outbox", "max by (channel, status) (tocsin_outbox{$job})", "{{channel}} {{status}}"),
            _panel("Latest page", "max(tocsin_outbox_late_seconds{$job})", "late", "s"),
            _panel("Attempts to send",
                   "sum by (channel, status) (rate(tocsin_deliveries_total{$job}[$__rate_interval]))",
                   "{{channel}} {{status}}", "cps"),
        ),
    ),
    (
        "Nodes and database",
        (
            _panel("Heartbeat of the nodes", "max by (node, role) (tocsin_node_age_seconds{$job})",
                   "{{node}} {{role}}", "s"),
            _panel("Oldest periodic tasks", "topk(5, max by (node, loop) (tocsin_loop_age_seconds{$job}))",
                   "{{node}} {{loop}}", "s"),
            _panel("Self-check", "min(tocsin_audit_age_seconds{$job})", "age", "s"),
            Panel("Connections", (
                ("sum by (instance) (tocsin_pool_connections{$job})", "{{instance}} open"),
                ("sum by (instance) (tocsin_pool_idle{$job})", "{{instance}} idle"),
                ("sum by (instance) (tocsin_pool_waiting{$job})", "{{instance}} waited for"),
                ("sum by (instance) (tocsin_pool_connections_max{$job})", "{{instance}} maximum"))),
            _panel("Database answers", "min by (instance) (tocsin_database_up{$job})", "{{instance}}"),
            _panel("Errors in the log", "sum by (instance) (rate(tocsin_errors_total{$job}[$__rate_interval]))",
                   "{{instance}}", "cps"),
            _panel("Memory", "max by (instance) (process_resident_memory_bytes{$job})", "{{instance}}", "bytes"),
            _panel("Processor", "sum by (instance) (rate(process_cpu_seconds_total{$job}[$__rate_interval]))",
                   "{{instance}}", "percentunit"),
            Panel("Size of backups", (("max(tocsin_backup_size_bytes{$job})", "last backup"),), "bytes"),
            Panel("Versions", (("count by (version) (tocsin_build_info{$job})", "{{version}}"),)),
        ),
    ),
)  # fmt: skip


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")


def documents() -> dict[Path, str]:
    """Every file, by path."""
    return {RULES: rules(), DASHBOARD: json.dumps(dashboard(), indent=2) + "\n", PAGE: INTRODUCTION + _table()}


def _table() -> str:
    return "".join(
        f"| {rule.name} | {rule.severity} | `{rule.expression}` | {rule.wait} | {rule.action} |\n" for rule in ALERTS
    )


def rules() -> str:
    """The alert rules as YAML."""
    lines = ["# Alert rules for Prometheus. Written by `make reference`.", "groups:", "  - name: tocsin", "    rules:"]
    for rule in ALERTS:
        lines += [
            f"      - alert: {rule.name}",
            f"        expr: {_quoted(rule.expression)}",
            f"        for: {rule.wait}",
            "        labels:",
            f"          severity: {rule.severity}",
            "        annotations:",
            f"          summary: {_quoted(rule.summary)}",
            f"          description: {_quoted(rule.action)}",
        ]
    return "\n".join(lines) + "\n"


def dashboard() -> dict[str, object]:
    """The dashboard, in the JSON model of Grafana 9 and later."""
    return {
        "__inputs": [
            {"name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource", "pluginId": "prometheus"}
        ],
        "uid": "tocsin",
        "title": "Tocsin",
        "description": "Whether paging works, and how much there is to do.",
        "tags": ["tocsin"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "30s",
        "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [_job_variable()]},
        "annotations": {"list": []},
        "panels": list(_panels()),
    }  # fmt: skip


_DATA_SOURCE = {"type": "prometheus", "uid": "${DS_PROMETHEUS}"}


def _job_variable() -> dict[str, object]:
    query = "label_values(tocsin_build_info, job)"
    return {
        "name": "job",
        "label": "Job",
        "type": "query",
        "datasource": _DATA_SOURCE,
        "query": {"query": query, "refId": "job"},
        "definition": query,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": "All", "value": "$__all"},
        "refresh": 2,
    }


def _panels() -> Iterator[dict[str, object]]:
    number, top = 1, 0
    for heading, panels in ROWS:
        yield {
            "id": number, "type": "row", "title": heading, "collapsed": False, "panels": [],
            "gridPos": {"x": 0, "y": top, "w": 24, "h": 1},
        }  # fmt: skip
        number, top, left, height = number + 1, top + 1, 0, 0
        for panel in panels:
            if left + panel.width > 24:
                left, top = 0, top + height
            height = 4 if panel.kind == "stat" else 7
            yield _draw(panel, number, {"x": left, "y": top, "w": panel.width, "h": height})
            number, left = number + 1, left + panel.width
        top += height


def _draw(panel: Panel, number: int, position: dict[str, int]) -> dict[str, object]:
    steps = [{"color": "green", "value": None}] if not panel.steps or panel.steps[0][0] else []
    steps += [{"color": color, "value": value or None} for value, color in panel.steps]
    is_figure = panel.kind == "stat"
    options: dict[str, object] = (
        {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value" if panel.steps else "none"}
        if is_figure
        else {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    )
    targets = [
        {"refId": chr(ord("A") + index), "datasource": _DATA_SOURCE, "legendFormat": legend or "__auto",
         "expr": query.replace("$job", 'job=~"$job"'), "instant": is_figure, "range": not is_figure}
        for index, (query, legend) in enumerate(panel.queries)
    ]  # fmt: skip
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": _describe(panel),
        "datasource": _DATA_SOURCE,
        "gridPos": position,
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": options,
        "targets": targets,
    }


def _describe(panel: Panel) -> str:
    """The meanings of the panel's metrics, in the order in which the queries use them."""
    meanings = {metric.name: metric.meaning for metric in metrics_reference.metrics()}
    names = dict.fromkeys(name for query, _ in panel.queries for name in metric_names(query))
    return " ".join(meanings[name] for name in names if name in meanings)


def metric_names(expression: str) -> list[str]:
    """The metrics that an expression of PromQL names, without the suffixes of a histogram."""
    found = re.findall(r"\b(?:tocsin|process)_[a-z_]+\b", expression)
    return [re.sub(r"_(bucket|sum|count)$", "", name) for name in found]


def _quoted(text: str) -> str:
    """A YAML string in single quotes."""
    return "'" + text.replace("'", "''") + "'"


if __name__ == "__main__":
    main()
