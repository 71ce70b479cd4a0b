"""Prometheus, Alertmanager, Grafana, Loki, Alloy: what they themselves say of their files, and that what is asked for exists."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.unit.deploy.files import DEPLOY, compose

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="needs Debian's prometheus: apt-get install prometheus"
)
needs_amtool = pytest.mark.skipif(
    shutil.which("amtool") is None,
    reason="needs Debian's prometheus-alertmanager: apt-get install prometheus-alertmanager",
)
DASHBOARDS = sorted((DEPLOY / "grafana" / "dashboards").glob("*.json"))
OPERATOR_PORTS = {"candor": "9464", "models": "8090"}
"""Of what says how it is in its Dockerfile; `test_compose` compares these with the settings."""
OF_PROMETHEUS_ITSELF = {"up"}
NAME = re.compile(r"\b[a-z][a-z0-9_]*_[a-z0-9_]+\b|\bup\b")
WORDS_OF_PROMQL = {"histogram_quantile", "label_values"}
METRIC = re.compile(r"^\| `([a-z0-9_]+)` \| (counter|gauge|histogram) \| (.*?) \|", re.MULTILINE)


def declared() -> dict[str, tuple[str, set[str]]]:
    """Of deploy/METRICS.md, which is generated from the code: name -> type, labels."""
    found = METRIC.findall((DEPLOY / "METRICS.md").read_text())
    return {name: (kind, set(re.findall(r"`(\w+)`", labels))) for name, kind, labels in found}


def series() -> dict[str, set[str]]:
    """Every series that can be asked for -> its labels, those included that a scrape adds."""
    labels_of: dict[str, set[str]] = {name: {"job", "instance"} for name in OF_PROMETHEUS_ITSELF}
    for name, (kind, labels) in declared().items():
        for suffix in ("_bucket", "_sum", "_count") if kind == "histogram" else ("",):
            labels_of[name + suffix] = (
                labels | {"job", "instance", "process"} | ({"le"} if suffix == "_bucket" else set())
            )
    return labels_of


def rules() -> list[dict[str, Any]]:
    files = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
    return [rule for path in files for group in yaml.safe_load(path.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    return [panel for path in DASHBOARDS for panel in json.loads(path.read_text())["panels"]]


def expressions() -> list[str]:
    """Everything that is asked of Prometheus anywhere."""
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    variables = [one["query"]["query"] for board in boards for one in board["templating"]["list"]]
    return (
        [rule["expr"] for rule in rules()] + [one["expr"] for panel in panels() for one in panel["targets"]] + variables
    )


@pytest.mark.parametrize("expression", sorted(set(expressions())))
def test_metrics_and_labels_that_are_asked_for_exist(expression: str) -> None:
    known = series()
    bare = re.sub(r'"[^"]*"', "", expression)
    labels = {label for inside in re.findall(r"\b(?:by|without) \(([^)]*)\)", bare) for label in inside.split(", ")}
    labels |= {label for inside in re.findall(r"\{([^}]*)\}", bare) for label in re.findall(r"(\w+)\s*[=!]", inside)}
    names = NAME.findall(re.sub(r"\{[^}]*\}|\b(?:by|without) \([^)]*\)|\$\w+", "", bare))
    asked = [name for name in names if name not in WORDS_OF_PROMQL]
    assert asked, expression
    for name in asked:
        assert name in known, f"{name} is told by nobody"
    assert labels <= set().union(*(known[name] for name in asked)), expression


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_legends_name_labels_that_are_left(panel: dict[str, Any]) -> None:
    for target in panel["targets"]:
        named = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
        kept = re.search(r"\bby \(([^)]*)\)", target["expr"])
        left = set(kept[1].split(", ")) if kept else series()[NAME.findall(target["expr"])[0]]
        assert named <= left, target["legendFormat"]


def test_a_metric_that_nobody_tells_is_noticed() -> None:
    with pytest.raises(AssertionError, match="told by nobody"):
        test_metrics_and_labels_that_are_asked_for_exist("rate(candor_no_such_thing_total[5m])")
    with pytest.raises(AssertionError):
        test_metrics_and_labels_that_are_asked_for_exist("sum by (colour) (candor_rooms)")


def test_every_alert_has_a_runbook() -> None:
    headings = {
        line.removeprefix("## ") for line in (DEPLOY / "RUNBOOK.md").read_text().splitlines() if line.startswith("## ")
    }
    assert {rule["alert"] for rule in rules()} == headings
    for rule in rules():
        assert rule["annotations"]["runbook"] == f"deploy/RUNBOOK.md#{rule['alert'].lower()}"
        assert rule["labels"]["severity"] in ("page", "ticket")


@needs_promtool
def test_prometheus_takes_its_files(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY / "prometheus", tmp_path, dirs_exist_ok=True)
    key = tmp_path / "models.key"
    key.touch()  # compose makes it from a variable
    config = tmp_path / "prometheus.yml"
    config.write_text(config.read_text().replace("/tmp/models.key", str(key)))
    assert str(key) in config.read_text()
    checked = subprocess.run(["promtool", "check", "config", str(config)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(rules())} rules found" in checked.stdout


@needs_promtool
def test_prometheus_takes_what_dashboards_ask(tmp_path: Path) -> None:
    asked = sorted({one["expr"].replace("$__rate_interval", "1m") for panel in panels() for one in panel["targets"]})
    records = [{"record": f"asked:{number}", "expr": expression} for number, expression in enumerate(asked)]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "dashboards", "rules": records}]}))
    checked = subprocess.run(["promtool", "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(asked)} rules found" in checked.stdout


@needs_amtool
def test_alertmanager_takes_its_file() -> None:
    path = DEPLOY / "alertmanager" / "alertmanager.yml"
    checked = subprocess.run(["amtool", "check-config", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_they_find_each_other_in_compose() -> None:
    services = compose()["services"]
    text = "".join(
        (DEPLOY / path).read_text()
        for path in (
            "prometheus/prometheus.yml",
            "alloy/config.alloy",
            "grafana/provisioning/datasources/datasources.yml",
        )
    )
    for host, port in set(re.findall(r"\b(candor|models|alertmanager|prometheus|loki):(\d+)", text)):
        service = services[host]
        assert "operator" in service["networks"], host
        assert port == OPERATOR_PORTS.get(host) or f":{port}/" in " ".join(service["healthcheck"]["test"]), host


def test_dashboards_are_where_grafana_looks_for_them() -> None:
    provider = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "dashboards" / "dashboards.yml").read_text())
    folder = provider["providers"][0]["options"]["path"]
    mounts = dict(volume.split(":")[:2][::-1] for volume in compose()["services"]["grafana"]["volumes"])
    assert mounts[folder] == "./deploy/grafana/dashboards"
    sources = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "datasources.yml").read_text())
    assert {panel["datasource"]["uid"] for panel in panels()} <= {source["uid"] for source in sources["datasources"]}
    boards = [json.loads(path.read_text()) for path in DASHBOARDS]
    assert len({board["uid"] for board in boards}) == len(boards) == 3


def test_logs_are_where_the_shipper_looks_for_them() -> None:
    alloy = compose()["services"]["alloy"]
    assert "/var/lib/docker/containers:/logs:ro" in alloy["volumes"]
    config = (DEPLOY / "alloy" / "config.alloy").read_text()
    assert '"/logs/*/*-json.log"' in config
    assert all(service["logging"]["driver"] == "json-file" for service in compose()["services"].values())
    assert all(service["logging"]["options"]["tag"] == "{{.Name}}" for service in compose()["services"].values())


def test_loki_keeps_what_it_says() -> None:
    loki = yaml.safe_load((DEPLOY / "loki" / "loki.yml").read_text())
    assert loki["compactor"]["retention_enabled"]
    assert loki["limits_config"]["retention_period"] == f"{30 * 24}h"
    assert loki["schema_config"]["configs"][0]["index"]["period"] == "24h"  # Loki refuses retention with another
