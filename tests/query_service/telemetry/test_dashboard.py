"""The dashboard, the alerts and the documentation name only metrics that the service has."""

import itertools
import json
import re
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.query_service.conftest import Service
from tests.query_service.telemetry.scraping import free_port
from tests.skips import needs_program
from tools.processes import ROOT

DEPLOY = ROOT / "deploy"
DASHBOARD = DEPLOY / "grafana" / "dashboards" / "shortlist.json"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DOCUMENT = ROOT / "docs" / "observability.md"
ROWS = ["Traffic", "Latency", "Errors", "Model server", "Candidates", "Seen store", "Processes"]

Labels = dict[str, set[str]]


@pytest.fixture
def served(serve: Callable[..., Service]) -> dict[str, Labels]:
    """The samples of a service: the values of each label, by sample name and label name."""
    port = free_port()
    serve(metrics_port=port)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    found: dict[str, Labels] = {}
    for sample in itertools.chain.from_iterable(family.samples for family in families):
        labels = found.setdefault(sample.name, {"instance": {"any"}})
        for key, value in sample.labels.items():
            labels.setdefault(key, set()).add(value)
    return found


def _panels() -> list[dict[str, Any]]:
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text())["panels"]
    return panels


def _dashboard_queries() -> Iterator[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    yield from (target["expr"] for panel in _panels() for target in panel.get("targets", ()))
    yield from (annotation["expr"] for annotation in dashboard["annotations"]["list"])
    yield from (
        variable["query"]["query"].removeprefix("label_values(").partition(",")[0]
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    )


def _rules() -> list[dict[str, Any]]:
    [group] = yaml.safe_load(ALERTS.read_text())["groups"]
    rules: list[dict[str, Any]] = group["rules"]
    return rules


def _check(expression: str, served: dict[str, Labels]) -> None:
    names = re.findall(r"\bshortlist_\w+", expression)
    assert names or expression.startswith("up{"), expression
    for name in names:
        assert name in served, f"{name} is not served: {expression}"
    for name, selector in re.findall(r"\b(shortlist_\w+)\{([^}]*)\}", expression):
        for label, operator, value in re.findall(r'(\w+)(=~|!=|=)"([^"]*)"', selector):
            known = served[name].get(label, set())
            assert known, f"{name} has no label {label}: {expression}"
            if not value.startswith("$"):
                wanted = value.split("|") if operator == "=~" else [value]
                assert set(wanted) <= known, f"{name}: {label} is never {value}"
    for groups in re.findall(r"\bby \(([^)]*)\)", expression):
        labels = set().union(*(served[name] for name in names))
        assert set(groups.replace(" ", "").split(",")) <= labels, expression
    for opening, closing in ("()", "{}", "[]"):
        assert expression.count(opening) == expression.count(closing), expression
    # histogram_quantile() needs the label `le`.
    assert expression.count("histogram_quantile(") == len(re.findall(r"\ble\) \(", expression))


def test_queries_use_only_metrics_of_the_service(served: dict[str, Labels]) -> None:
    for expression in (*_dashboard_queries(), *(rule["expr"] for rule in _rules())):
        _check(expression, served)


def test_every_metric_is_on_the_dashboard_and_documented(served: dict[str, Labels]) -> None:
    families = {re.sub(r"_(bucket|count|sum)$", "", name) for name in served}
    shown = {
        re.sub(r"_(bucket|count|sum)$", "", name)
        for expression in _dashboard_queries()
        for name in re.findall(r"\bshortlist_\w+", expression)
    }
    assert shown == families
    documented = re.findall(r"^\| `(shortlist_\w+)` \|([^|]*)\|", DOCUMENT.read_text(), re.M)
    assert {name for name, _ in documented} == families
    for name, labels in documented:
        samples = [
            sample for sample in served if re.sub(r"_(bucket|count|sum)$", "", sample) == name
        ]
        own = set().union(*(served[sample] for sample in samples)) - {"instance", "le"}
        assert set(re.findall(r"`(\w+)`", labels)) == own, name


def test_every_alert_is_documented() -> None:
    names = [rule["alert"] for rule in _rules()]
    assert names == re.findall(r"^\| (Shortlist\w+) \|", DOCUMENT.read_text(), re.M)
    for rule in _rules():
        assert rule["annotations"]["summary"]
        assert rule["labels"]["severity"] in ("critical", "warning")


def test_layout_of_the_dashboard_is_valid() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    assert dashboard["schemaVersion"] >= 36
    panels = _panels()
    assert [panel["title"] for panel in panels if panel["type"] == "row"] == ROWS
    ids = [panel["id"] for panel in panels]
    assert len(ids) == len(set(ids))
    cells: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        own = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
        )
        assert not own & cells, panel["title"]
        cells |= own
        if panel["type"] != "row":
            references = [target["refId"] for target in panel["targets"]]
            assert len(references) == len(set(references))
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_compose_mounts_the_files_of_deploy() -> None:
    services = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    for name in ("prometheus", "grafana"):
        assert services[name]["profiles"] == ["observability"]
        assert all(port.startswith("127.0.0.1:") for port in services[name]["ports"])
        for volume in services[name]["volumes"]:
            source = volume.split(":")[0]
            assert not source.startswith(".") or (ROOT / source).is_dir(), source
    [job] = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    [target] = job["static_configs"][0]["targets"]
    host, _, port = target.partition(":")
    assert host in services
    assert f"SHORTLIST_METRICS_PORT={port}" in (ROOT / "Dockerfile").read_text()
    provisioning = DEPLOY / "grafana" / "provisioning"
    source = yaml.safe_load((provisioning / "datasources" / "prometheus.yml").read_text())
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    provider = yaml.safe_load((provisioning / "dashboards" / "shortlist.yml").read_text())
    mounts = [volume.split(":")[1] for volume in services["grafana"]["volumes"]]
    assert provider["providers"][0]["options"]["path"] in mounts


@needs_program("promtool", "apt-get install prometheus")
def test_prometheus_accepts_the_rules(tmp_path: Path) -> None:
    rules = [
        {"record": f"one:{n}", "expr": _plain(query)}
        for n, query in enumerate(_dashboard_queries())
    ]
    queries = tmp_path / "queries.yml"
    queries.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    prometheus = DEPLOY / "prometheus"
    for arguments in (
        ("check", "config", prometheus / "prometheus.yml"),
        ("test", "rules", prometheus / "alerts.test.yml"),
        ("check", "rules", queries),
    ):
        done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def _plain(expression: str) -> str:
    """Replace the variables of Grafana in a query."""
    return expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
