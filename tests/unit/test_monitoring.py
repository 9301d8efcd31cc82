"""The alert rules for Prometheus and the dashboard for Grafana are up to date, complete and valid."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]

#: What a healthy installation of one node reports. A rule's series replaces one of these.
HEALTHY = {
    'tocsin_build_info{job="tocsin", instance="a", version="0.1.0"}': "1x200",
    'tocsin_paging_ok{job="tocsin", instance="a"}': "1x200",
    'tocsin_alerts_unreached{job="tocsin", instance="a"}': "0x200",
    'tocsin_outbox_late_seconds{job="tocsin", instance="a"}': "2x200",
    'tocsin_runs_late_seconds{job="tocsin", instance="a"}': "1x200",
    'tocsin_runs_stuck{job="tocsin", instance="a"}': "0x200",
    'tocsin_messages_pending_seconds{job="tocsin", instance="a"}': "0x200",
    'tocsin_messages_refused_total{job="tocsin", instance="a"}': "7x200",
    'tocsin_database_up{job="tocsin", instance="a"}': "1x200",
    'tocsin_queue_oldest_seconds{job="tocsin", instance="a"}': "0x200",
    'tocsin_pool_waiting{job="tocsin", instance="a"}': "0x200",
    'tocsin_errors_total{job="tocsin", instance="a"}': "3x200",
    'tocsin_node_age_seconds{job="tocsin", instance="a", node="one", role="all"}': "3x200",
    # The row of its process before the last start.
    'tocsin_node_age_seconds{job="tocsin", instance="a", node="one/0198", role="all"}': "100+60x200",
    'tocsin_provider_up{job="tocsin", instance="a", provider="smtp"}': "1x200",
    'tocsin_deliveries_total{job="tocsin", instance="a", channel="email", status="sent"}': "0+10x200",
    'tocsin_deliveries_total{job="tocsin", instance="a", channel="email", status="failed"}': "0+1x200",
    'tocsin_heartbeat_age_seconds{job="tocsin", instance="a"}': "20x200",
    'tocsin_backup_age_seconds{job="tocsin", instance="a"}': "3600x200",
}

#: By alert: the series that differ when it fires; None: the series is missing. One value a minute.
FIRING: dict[str, dict[str, str | None]] = {
    "TocsinPagingNotOk": {'tocsin_paging_ok{job="tocsin", instance="a"}': "0x200"},
    "TocsinAlertsUnreached": {'tocsin_alerts_unreached{job="tocsin", instance="a"}': "2x200"},
    "TocsinPagesLate": {'tocsin_outbox_late_seconds{job="tocsin", instance="a"}': "90x200"},
    "TocsinEscalationLate": {'tocsin_runs_late_seconds{job="tocsin", instance="a"}': "90x200"},
    "TocsinMessagesLate": {'tocsin_messages_pending_seconds{job="tocsin", instance="a"}': "90x200"},
    "TocsinMessagesRefused": {'tocsin_messages_refused_total{job="tocsin", instance="a"}': "7+1x200"},
    "TocsinDatabaseDown": {'tocsin_database_up{job="tocsin", instance="a"}': "0x200"},
    "TocsinStandbyMissing": {'tocsin_database_risk{job="tocsin", instance="a", risk="standby_missing"}': "1x200"},
    "TocsinDatabaseNotDurable": {'tocsin_database_risk{job="tocsin", instance="a", risk="fsync"}': "1x200"},
    "TocsinQueueOld": {'tocsin_queue_oldest_seconds{job="tocsin", instance="a"}': "9x200"},
    "TocsinNodeGone": {'tocsin_node_age_seconds{job="tocsin", instance="a", node="two", role="all"}': "90+60x200"},
    "TocsinRunsStuck": {'tocsin_runs_stuck{job="tocsin", instance="a"}': "1x200"},
    "TocsinProviderDown": {'tocsin_provider_up{job="tocsin", instance="a", provider="twilio"}': "0x200"},
    "TocsinDeliveriesFail": {
        'tocsin_deliveries_total{job="tocsin", instance="a", channel="email", status="failed"}': "0+30x200"
    },
    "TocsinHeartbeatOld": {'tocsin_heartbeat_age_seconds{job="tocsin", instance="a"}': "400x200"},
    "TocsinBackupOld": {'tocsin_backup_age_seconds{job="tocsin", instance="a"}': "700000x200"},
    "TocsinConnectionsExhausted": {'tocsin_pool_waiting{job="tocsin", instance="a"}': "4x200"},
    "TocsinErrors": {'tocsin_errors_total{job="tocsin", instance="a"}': "3+1x200"},
    "TocsinVersionsDiffer": {'tocsin_build_info{job="tocsin", instance="b", version="0.2.0"}': "1x200"},
}

#: They fire without series of other alerts, or need a day.
APART = {"TocsinAbsent", "TocsinBackupMissing"}


@pytest.fixture(scope="module")
def monitoring() -> Iterator[Any]:
    scripts = str(ROOT / "scripts")
    sys.path.insert(0, scripts)
    try:
        yield import_module("monitoring")
    finally:
        sys.path.remove(scripts)


def promtool(*arguments: object) -> str:
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_rules_and_dashboard_are_up_to_date(monitoring: Any) -> None:
    for path, text in monitoring.documents().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make reference`"


def test_rules_and_dashboard_name_existing_metrics_only(monitoring: Any) -> None:
    existing = {metric.name for metric in monitoring.metrics_reference.metrics()}
    expressions = [rule.expression for rule in monitoring.ALERTS]
    expressions += [query for _, panels in monitoring.ROWS for panel in panels for query, _ in panel.queries]
    named = {name for text in expressions for name in monitoring.metric_names(text)}
    assert {name for name in named if name.startswith("tocsin_")} <= existing


def test_labels_of_rules_and_dashboard_exist(monitoring: Any) -> None:
    """`job` and `instance` are Prometheus' own, `le` a histogram's; `host` is made from `node`."""
    known = {label for metric in monitoring.metrics_reference.metrics() for label in metric.labels}
    known |= {"job", "instance", "le", "host"}
    expressions = [rule.expression for rule in monitoring.ALERTS]
    expressions += [query for _, panels in monitoring.ROWS for panel in panels for query, _ in panel.queries]
    used = {
        label for text in expressions for group in re.findall(r"by \(([a-z, ]+)\)", text) for label in group.split(", ")
    }
    assert used <= known


def test_every_metric_is_on_the_dashboard(monitoring: Any) -> None:
    shown = {
        name
        for _, panels in monitoring.ROWS
        for panel in panels
        for query, _ in panel.queries
        for name in monitoring.metric_names(query)
    }
    assert {metric.name for metric in monitoring.metrics_reference.metrics()} <= shown


def test_dashboard_has_what_grafana_needs(monitoring: Any) -> None:
    dashboard = json.loads(monitoring.DASHBOARD.read_text())
    panels = dashboard["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (column, line)
            for column in range(place["x"], place["x"] + place["w"])
            for line in range(place["y"], place["y"] + place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
        if panel["type"] != "row":
            assert panel["datasource"]["uid"] == "${DS_PROMETHEUS}"
            assert panel["description"] or all("process_" in target["expr"] for target in panel["targets"])
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert [source["name"] for source in dashboard["__inputs"]] == ["DS_PROMETHEUS"]


def test_promtool_accepts_the_rules(monitoring: Any) -> None:
    assert f"SUCCESS: {len(monitoring.ALERTS)} rules found" in promtool("check", "rules", monitoring.RULES)


def test_each_query_of_the_dashboard_is_promql(monitoring: Any, tmp_path: Path) -> None:
    queries = [query for _, panels in monitoring.ROWS for panel in panels for query, _ in panel.queries]
    rules = [
        {"record": f"query:{number}", "expr": query.replace("$job", 'job=~".+"').replace("$__rate_interval", "5m")}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "queries.yaml"
    with file.open("w") as stream:
        YAML().dump({"groups": [{"name": "dashboard", "rules": rules}]}, stream)
    promtool("check", "rules", file)


def test_each_alert_fires_alone_when_it_should(monitoring: Any, tmp_path: Path) -> None:
    assert FIRING.keys() | APART == {rule.name for rule in monitoring.ALERTS}
    cases = [_case(None, HEALTHY)]
    cases += [_case(name, HEALTHY | changed) for name, changed in FIRING.items()]
    without_backup = {name: value.replace("x200", "x320") for name, value in HEALTHY.items() if "backup" not in name}
    for tests, minutes in (
        ([*cases, _case("TocsinAbsent", {})], 1),
        # It takes a day, of which every fifth minute is enough.
        ([_case("TocsinBackupMissing", without_backup, at="25h", minutes=5)], 5),
    ):
        file = tmp_path / f"{minutes}.test.yaml"
        content = {"rule_files": [str(monitoring.RULES)], "evaluation_interval": f"{minutes}m", "tests": tests}
        with file.open("w") as stream:
            YAML().dump(content, stream)
        promtool("test", "rules", file)


def _case(alert: str | None, series: dict[str, str | None], *, at: str = "75m", minutes: int = 1) -> dict[str, Any]:
    """At that time, with series of one value each `minutes`, exactly this alert fires."""
    firing = [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else []
    return {
        "name": alert or "healthy",
        "interval": f"{minutes}m",
        "input_series": [{"series": name, "values": values} for name, values in series.items() if values],
        "promql_expr_test": [
            {"expr": 'count by (alertname) (ALERTS{alertstate="firing"})', "eval_time": at, "exp_samples": firing}
        ],
    }
