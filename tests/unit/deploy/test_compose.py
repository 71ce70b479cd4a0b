"""docker-compose.yml: valid, hardened, and of one mind with the settings, with `candor init` and with the Dockerfiles."""

import json
import os
import re
from importlib.metadata import distribution
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import jsonschema
import pytest
from pydantic import SecretStr

from candor import cli, init
from candor.config_check import problems
from candor.settings import Settings, load
from models.service.auth import Authority
from tests.unit.deploy.files import DEPLOY, ROOT, VARIABLE, answers, compose, instructions, raw_compose

SCHEMA = Path(str(distribution("docker-compose").locate_file("compose/config/compose_spec.json")))
"""docker-compose 1.29's, of what v2 also takes: the Compose Specification. Found without importing it: its code is of 2021."""
OURS = {"candor", "models", "models-gpu", "pull"}
NOT_ROOT = {
    "nginx": "nginxinc/nginx-unprivileged",  # uid 101
    "prometheus": "prom/prometheus",  # nobody
    "alertmanager": "prom/alertmanager",  # nobody
    "grafana": "grafana/grafana",  # uid 472
    "loki": "grafana/loki",  # uid 10001
}
"""Images that say themselves that they do not run as root."""
WITH_ONE_CAPABILITY = {"alloy": ["DAC_READ_SEARCH"]}
"""Docker writes its logs for root alone."""


def settings_of(service: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """What Candor makes of a service's environment."""
    for name in list(os.environ):
        if name.startswith("CANDOR_"):
            monkeypatch.delenv(name)
    for name, value in service["environment"].items():
        if value is not None:
            monkeypatch.setenv(name, value)
    return load()


def test_docker_compose_1_29_takes_it() -> None:
    validator = jsonschema.Draft7Validator(json.loads(SCHEMA.read_text()))  # as docker-compose does
    for options in ((), ("--parts", "gpu,monitoring,scale")):
        validator.validate(compose(*options))
    wrong = {"services": {"candor": {"image": "candor", "memory": "4g"}}}
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(wrong)


def test_every_variable_is_explained_and_every_explained_one_is_used() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    used = {match["name"] for match in VARIABLE.finditer(text) if match["name"]}
    example = (ROOT / ".env.example").read_text()
    explained = set(re.findall(r"^([A-Z0-9_]+)=", example, re.MULTILINE))
    assert used | {"COMPOSE_PROFILES"} == explained
    for name in re.findall(r"^# (CANDOR_[A-Z0-9_]+)=", example, re.MULTILINE):
        assert name in raw_compose()["services"]["candor"]["environment"]


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    secret = set(init.fresh_secrets())
    for match in VARIABLE.finditer(text):
        if match["name"] in secret:
            assert match["kind"] == ":?", f"{match['name']} would be empty"
    assert secret <= {match["name"] for match in VARIABLE.finditer(text)}


def test_the_node_takes_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    service = compose()["services"]["candor"]
    settings = settings_of(service, monkeypatch)
    assert [problem for problem in problems(settings) if not problem.startswith("web_root")] == []
    assert not settings.signaling.open_rooms
    assert settings.signaling.secret is not None
    assert settings.signaling.turn.secret is not None
    assert settings.models.backend == "http"
    assert settings.cluster.redis_url is None


def test_the_model_services_take_their_settings_and_let_the_node_in(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = answers()
    for name in ("models", "models-gpu"):
        settings = settings_of(compose()["services"][name], monkeypatch)
        assert [problem for problem in problems(settings) if problem.startswith("models")] == []
        assert [key.id for key in settings.models.service.api_keys] == ["node", "prometheus"]
        assert "models:infer" not in settings.models.service.api_keys[1].scopes
        assert settings.models.models_dir == Path("/models")
    node = settings_of(compose()["services"]["candor"], monkeypatch)
    assert node.models.backend_url == f"http://models:{settings.models.service.port}"
    assert isinstance(node.models.backend_key, SecretStr)
    assert variables["MODELS_KEY"] != variables["MODELS_METRICS_KEY"]


def test_the_node_and_prometheus_may_do_what_they_have_to_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    services = compose()["services"]
    authority = Authority(settings_of(services["models"], monkeypatch).models.service)
    for key, scopes in (
        (services["candor"]["environment"]["CANDOR_MODELS__BACKEND_KEY"], {"models:infer"}),
        (services["prometheus"]["environment"]["MODELS_METRICS_KEY"], {"models:read"}),
    ):
        assert authority.caller(f"Bearer {key}", "").scopes == scopes


def test_every_service_is_confined() -> None:
    for name, service in raw_compose()["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service.get("cap_add", []) == WITH_ONE_CAPABILITY.get(name, []), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert {"mem_limit", "cpus", "pids_limit", "logging", "restart"} <= set(service), name
        assert set(service["logging"]["options"]) >= {"max-size", "max-file"}, name
        assert "privileged" not in service
        assert not any("docker.sock" in str(volume) for volume in service.get("volumes", [])), name


def test_nobody_is_root_without_need() -> None:
    for name, service in raw_compose()["services"].items():
        if name in OURS:
            dockerfile = ROOT / service["build"]["dockerfile"]
            assert ("USER", "10001:10001") in instructions(dockerfile)
        elif name in NOT_ROOT:
            assert service["image"].startswith(NOT_ROOT[name])
        elif name not in WITH_ONE_CAPABILITY:
            assert int(service["user"].partition(":")[0]) > 0, name


def test_images_are_pinned_and_say_how_they_are() -> None:
    for name, service in raw_compose()["services"].items():
        assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+\.\d+[a-z0-9.-]*", service["image"]), name
        own = (
            {instruction for instruction, _ in instructions(ROOT / service["build"]["dockerfile"])}
            if name in OURS
            else set()
        )
        assert "healthcheck" in service or "HEALTHCHECK" in own, name


def test_paths_that_are_mounted_exist_and_scripts_can_be_run() -> None:
    for name, service in raw_compose()["services"].items():
        for volume in service.get("volumes", []):
            source, target, *_ = str(volume).split(":")
            if source.startswith("./"):
                assert (ROOT / source).is_dir(), f"{name}: {source}"
                for script in (ROOT / source).glob("*.sh"):
                    assert os.access(script, os.X_OK), script
                for entrypoint in service.get("entrypoint", []):
                    if entrypoint.startswith(f"{target}/"):
                        assert (ROOT / source / entrypoint.removeprefix(f"{target}/")).is_file()
            elif source in raw_compose()["volumes"]:
                assert target.startswith("/")
            else:
                assert source.startswith(("${CERTIFICATES", "/var/lib/docker/containers"))


def test_media_ports_are_one_for_each_worker_inside_and_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for workers in (1, init.MEDIA_PORTS_MAX):
        service = compose("--workers", str(workers), "--media-port", "50000")["services"]["candor"]
        settings = settings_of(service, monkeypatch).sfu
        [published] = service["ports"]
        outside, inside = published.removesuffix("/udp").split(":")
        first, last = (int(port) for port in inside.split("-"))
        assert (first, last - first + 1) == (settings.port, settings.workers) == (init.MEDIA_PORT_INSIDE, workers)
        assert outside == f"50000-{50000 + workers - 1}"
        assert settings.announced_port == 50000
        exposed = dict(instructions(DEPLOY / "docker" / "candor.Dockerfile"))["EXPOSE"].split()
        assert f"{first}-{first + init.MEDIA_PORTS_MAX - 1}/udp" in exposed


def test_only_what_people_need_is_published() -> None:
    published = {
        name: [port.rsplit(":", 1)[1] for port in service["ports"]]
        for name, service in compose()["services"].items()
        if "ports" in service and not all(port.startswith("127.0.0.1:") for port in service["ports"])
    }
    assert published == {
        "candor": ["40000-40001/udp"],
        "nginx": ["8443/tcp", "8080/tcp"],
        "coturn": ["3478/udp", "3478/tcp", "5349/tcp"],
    }


def test_the_operators_port_is_where_only_those_who_watch_are(monkeypatch: pytest.MonkeyPatch) -> None:
    services = compose()["services"]
    operator = settings_of(services["candor"], monkeypatch).operator
    assert operator.host == services["candor"]["networks"]["operator"]["ipv4_address"]
    on_it = {name for name, service in services.items() if "operator" in service["networks"]}
    assert not {"nginx", "coturn"} & on_it
    assert str(operator.port) not in (DEPLOY / "nginx" / "nginx.conf").read_text()


def test_the_relay_leads_to_the_node_and_has_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    variables = answers()
    services = compose()["services"]
    node, relay = services["candor"], services["coturn"]
    settings = settings_of(node, monkeypatch)
    at = node["networks"]["edge"]["ipv4_address"]
    assert relay["environment"]["TURN_PEERS"] == settings.sfu.relay_host == at
    raw = raw_compose()["services"]
    assert raw["coturn"]["environment"]["TURN_SECRET"] == raw["candor"]["environment"]["CANDOR_SIGNALING__TURN__SECRET"]
    udp, tcp, tls = settings.signaling.turn.urls
    ports = {port.rsplit(":", 1)[1]: port.split(":")[0] for port in relay["ports"]}
    domain = variables["DOMAIN"]
    assert udp == f"turn:{domain}:{ports['3478/udp']}?transport=udp"
    assert tcp == f"turn:{domain}:{ports['3478/tcp']}?transport=tcp"
    assert tls == f"turns:{domain}:{ports['5349/tcp']}?transport=tcp"
    assert relay["environment"]["TURN_PORT"] == "3478"
    assert relay["environment"]["TURN_TLS_PORT"] == "5349"


def test_what_the_example_says_of_redis_and_traces_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    services = compose()["services"]
    example = (ROOT / ".env.example").read_text()
    optional = dict(re.findall(r"^# (CANDOR_[A-Z0-9_]+)=(.+)$", example, re.MULTILINE))
    assert all(services["candor"]["environment"][name] is None for name in optional), "set although .env does not"
    node = {**services["candor"], "environment": {**services["candor"]["environment"], **optional}}
    settings = settings_of(node, monkeypatch)
    assert [problem for problem in problems(settings) if problem.startswith(("cluster", "signaling"))] == []
    for url, network in ((settings.cluster.redis_url, "inside"), (settings.telemetry.endpoint, "operator")):
        host = urlsplit(url.get_secret_value() if isinstance(url, SecretStr) else str(url)).hostname
        assert network in services[str(host)]["networks"]


def test_the_network_of_node_and_models_has_no_way_out_and_nobody_else() -> None:
    services = raw_compose()["services"]
    assert raw_compose()["networks"]["inside"]["internal"]
    assert {name for name, one in services.items() if "inside" in one["networks"]} == {
        "candor",
        "models",
        "models-gpu",
        "redis",
    }


def test_profiles_are_those_of_candor_init() -> None:
    profiles = {profile for service in raw_compose()["services"].values() for profile in service.get("profiles", [])}
    assert profiles - {"pull"} == set(init.PARTS)


def test_the_commands_of_backup_and_restore_are_ones_and_reach_the_models() -> None:
    text = (DEPLOY / "UPGRADE.md").read_text()
    lines = re.findall(r"docker compose run --rm -T --entrypoint candor (\S+) ([^<>\n]*)[<>]", text)
    assert [arguments.split()[0] for _, arguments in lines] == ["backup", "restore"]
    for name, arguments in lines:
        service = raw_compose()["services"][name]
        assert "models:/models" in service["volumes"]
        assert service["environment"]["CANDOR_MODELS__MODELS_DIR"] == "/models"
        assert cli._parser().parse_args(arguments.split()).file == Path("-")
