"""Kubernetes files: valid, confined, and of one mind with the settings, the images and each other."""

import os
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from candor.config_check import problems
from candor.settings import Settings, load
from models import catalog
from models.ray_settings import RaySettings
from models.service.routes import ROUTES
from tests.unit.deploy.files import DEPLOY, instructions
from tests.unit.deploy.kustomize import Resource, containers, rendered
from tests.unit.deploy.test_monitoring import declared

OVERLAYS = ("cpu", "gpu", "ray")
VERSION = "1.34"
SECRETS = {
    "secret": "s" * 64,
    "redis-url": "rediss://:password@redis.example:6379/0",
    "turn-secret": "t" * 64,
    "turn-urls": '["turn:turn.example:3478"]',
    "models-key": "cmk_key",
    "models-api-keys": f'[{{"id": "node", "sha256": "{"0" * 64}", "scopes": ["models:infer"]}}]',
    "models-metrics-key": "cmk_other",
}
"""The keys of the Secret `candor`, which nobody keeps in a repository: deploy/README.md says how it is made."""
FIELDS: dict[str, dict[str, Any]] = {
    "ServiceMonitor": {
        "jobLabel": {},
        "selector": {"matchLabels": None},
        "endpoints": {
            "port": {},
            "path": {},
            "interval": {},
            "authorization": {"credentials": {"name": {}, "key": {}}},
        },
    },
    "RayService": {
        "serveConfigV2": {},
        "rayClusterConfig": {
            "rayVersion": {},
            "enableInTreeAutoscaling": {},
            "headGroupSpec": {"rayStartParams": None, "template": None},
            "workerGroupSpecs": {
                "groupName": {},
                "replicas": {},
                "minReplicas": {},
                "maxReplicas": {},
                "rayStartParams": None,
                "template": None,
            },
        },
    },
}
"""Of custom resources, the fields that we use: of the Prometheus operator (monitoring.coreos.com/v1) and of KubeRay (ray.io/v1).
None: anything."""


@pytest.fixture(params=OVERLAYS)
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    return rendered(DEPLOY / "k8s" / "overlays" / request.param)


def one(resources: list[Resource], kind: str, name: str) -> Resource:
    return next(item for item in resources if (item["kind"], item["metadata"]["name"]) == (kind, name))


def environment(container: dict[str, Any]) -> dict[str, str]:
    """What the container would see, with secrets and downward fields of an example."""
    fields = {"metadata.name": "candor-0", "status.hostIP": "203.0.113.7"}
    values: dict[str, str] = {}
    for item in container["env"]:
        source = item.get("valueFrom", {})
        if "secretKeyRef" in source:
            assert source["secretKeyRef"]["name"] == "candor"
            value = SECRETS[source["secretKeyRef"]["key"]]
        elif "fieldRef" in source:
            value = fields[source["fieldRef"]["fieldPath"]]
        else:
            value = item["value"]
        values[item["name"]] = re.sub(r"\$\((\w+)\)", lambda match: values[match[1]], value)
    return values


def settings_of(container: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    for name in list(os.environ):
        if name.startswith("CANDOR_"):
            monkeypatch.delenv(name)
    for name, value in environment(container).items():
        monkeypatch.setenv(name, value)
    return load()


def only_known(value: Any, fields: Any, where: str) -> None:
    """Raises AssertionError for a field that is not in the list."""
    if fields is None:
        return
    for item in value if isinstance(value, list) else [value]:
        if isinstance(item, dict):
            for name, inside in item.items():
                assert name in fields, f"{where}.{name}"
                only_known(inside, fields[name], f"{where}.{name}")


def test_kubernetes_takes_them() -> None:
    different: list[Resource] = []
    for overlay in OVERLAYS:
        resources = rendered(DEPLOY / "k8s" / "overlays" / overlay)
        names = [(item["apiVersion"], item["kind"], item["metadata"]["name"]) for item in resources]
        assert len(set(names)) == len(names)
        different += [resource for resource in resources if resource not in different]
    for resource in different:
        if resource["kind"] in FIELDS:
            only_known(resource["spec"], FIELDS[resource["kind"]], resource["metadata"]["name"])
        else:
            kubernetes_validate.validate(resource, VERSION, strict=True)
    wrong = {**one(different, "Service", "candor"), "spec": {"selektor": {}}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, VERSION, strict=True)


def test_nodes_and_models_take_their_settings(resources: list[Resource], monkeypatch: pytest.MonkeyPatch) -> None:
    [candor] = containers(one(resources, "StatefulSet", "candor"))
    node = settings_of(candor, monkeypatch)
    assert [problem for problem in problems(node) if not problem.startswith("web_root")] == []
    assert node.signaling.public_url == "https://candor-0.meet.example.org"
    assert not node.signaling.open_rooms
    ports = {port["name"]: port for port in candor["ports"]}
    assert ports["http"]["containerPort"] == node.signaling.port
    assert ports["operator"]["containerPort"] == node.operator.port
    assert ports["media"]["containerPort"] == ports["media"]["hostPort"] == node.sfu.port
    assert node.sfu.workers == 1, "one port, one worker"
    [models] = containers(one(resources, "Deployment", "models"))
    service = settings_of(models, monkeypatch)
    assert [problem for problem in problems(service) if problem.startswith("models")] == []
    assert models["ports"][0]["containerPort"] == service.models.service.port
    ray = [resource["metadata"]["name"] for resource in resources if resource["kind"] == "RayService"]
    asked = f"http://{ray[0]}-serve-svc:8000" if ray else f"http://models:{service.models.service.port}"
    assert node.models.backend_url == asked
    assert {mount["mountPath"] for mount in models["volumeMounts"]} >= {str(service.models.models_dir)}


def test_no_secret_is_in_the_files_and_every_key_of_it_is_used(resources: list[Resource]) -> None:
    text = "".join(path.read_text() for path in (DEPLOY / "k8s").rglob("*.yaml"))
    assert not [resource for resource in resources if resource["kind"] == "Secret"]
    used = set(re.findall(r"name: candor, key: ([a-z-]+)", text))
    assert used == set(SECRETS)
    readme = (DEPLOY / "README.md").read_text()
    assert all(f"--from-literal={key}=" in readme for key in used)


def test_every_container_is_confined(resources: list[Resource]) -> None:
    workloads = [resource for resource in resources if containers(resource)]
    assert len(workloads) == 2
    for workload in workloads:
        pod = workload["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod["automountServiceAccountToken"]
        assert not pod["enableServiceLinks"], "CANDOR_PORT and the like would be unknown settings"
        assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
        for container in containers(workload):
            context = container["securityContext"]
            assert not context["allowPrivilegeEscalation"]
            assert context["readOnlyRootFilesystem"]
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert {"requests", "limits"} <= set(container["resources"])
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container)


def test_images_are_those_that_are_built_and_users_those_in_them(resources: list[Resource]) -> None:
    for workload, name in (("StatefulSet", "candor"), ("Deployment", "models")):
        resource = one(resources, workload, name)
        [container] = containers(resource)
        lines = dict(instructions(DEPLOY / "docker" / f"{name}.Dockerfile"))
        uid = resource["spec"]["template"]["spec"]["securityContext"]["runAsUser"]
        assert lines["USER"].split(":")[0] == str(uid)
        assert re.fullmatch(r"candor(-models)?:\d+\.\d+\.\d+(-cpu|-cuda)?", container["image"])
        exposed = {port.split("/")[0].split("-")[0] for port in lines["EXPOSE"].split()}
        assert {str(port["containerPort"]) for port in container["ports"]} == exposed


def test_probes_ask_for_what_is_answered(resources: list[Resource]) -> None:
    of_node = {"/api/v1/health/live", "/api/v1/health/ready"}
    app = (Path(__file__).resolve().parents[3] / "signaling" / "app.py").read_text()
    site = (Path(__file__).resolve().parents[3] / "candor" / "operator_site.py").read_text()
    for workload, name in (("StatefulSet", "candor"), ("Deployment", "models")):
        [container] = containers(one(resources, workload, name))
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            path, port = (container[probe]["httpGet"][key] for key in ("path", "port"))
            if name == "models":
                assert path in {route.path for route in ROUTES}
            elif port == "operator":
                assert f'"{path}"' in site
            else:
                assert path in of_node
                assert f'"{path}"' in app


def test_services_lead_to_ports_and_the_ingress_to_services(resources: list[Resource]) -> None:
    pods = {
        resource["metadata"]["name"]: {port["name"] for port in containers(resource)[0]["ports"]}
        for resource in resources
        if containers(resource)
    }
    services = {item["metadata"]["name"]: item for item in resources if item["kind"] == "Service"}
    for service in services.values():
        selector = service["spec"]["selector"]
        name = (
            selector.get("app.kubernetes.io/name") or selector["statefulset.kubernetes.io/pod-name"].rsplit("-", 1)[0]
        )
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= pods[name]
    most = one(resources, "HorizontalPodAutoscaler", "candor")["spec"]["maxReplicas"]
    hosts = {rule["host"]: rule for rule in one(resources, "Ingress", "candor")["spec"]["rules"]}
    assert set(hosts) == {"meet.example.org", *(f"candor-{number}.meet.example.org" for number in range(most))}
    for host, rule in hosts.items():
        backend = rule["http"]["paths"][0]["backend"]["service"]
        assert backend["name"] == (host.split(".")[0] if host.startswith("candor-") else "candor")
        assert backend["port"]["name"] in {port["name"] for port in services[backend["name"]]["spec"]["ports"]}


def test_the_network_lets_in_what_the_ports_are_for(resources: list[Resource]) -> None:
    for workload, name in (("StatefulSet", "candor"), ("Deployment", "models")):
        ports = {port["containerPort"] for port in containers(one(resources, workload, name))[0]["ports"]}
        policy = one(resources, "NetworkPolicy", name)["spec"]
        assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == ports
        open_to_all = [port["port"] for rule in policy["ingress"] if "from" not in rule for port in rule["ports"]]
        assert open_to_all == ([40000] if name == "candor" else [])
    assert one(resources, "NetworkPolicy", "nothing-by-default")["spec"]["podSelector"] == {}


def test_nodes_are_scaled_by_a_metric_that_there_is(resources: list[Resource]) -> None:
    scaler = one(resources, "HorizontalPodAutoscaler", "candor")["spec"]
    assert scaler["scaleTargetRef"]["kind"] == "StatefulSet"
    for metric in scaler["metrics"]:
        assert declared()[metric["pods"]["metric"]["name"]][0] == "gauge"


def test_ray_is_given_what_our_application_takes() -> None:
    resources = rendered(DEPLOY / "k8s" / "overlays" / "ray")
    cluster = one(resources, "RayService", "ray-models")["spec"]
    config = yaml.safe_load(cluster["serveConfigV2"])
    [application] = config["applications"]
    settings = RaySettings.model_validate(application["args"])
    assert {model.name for model in settings.models} <= {entry.name for entry in catalog.load().model}
    assert application["import_path"] == "models.ray_app:build"
    requirements = (DEPLOY.parent / "models" / "requirements" / "ray.txt").read_text()
    assert f"ray[serve]=={cluster['rayClusterConfig']['rayVersion']}\n" in requirements
    groups = [cluster["rayClusterConfig"]["headGroupSpec"], *cluster["rayClusterConfig"]["workerGroupSpecs"]]
    policy = one(resources, "NetworkPolicy", "ray-models")["spec"]
    for group in groups:
        metadata = {**group["template"]["metadata"], "name": "one"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, VERSION, strict=True)
        assert metadata["labels"] == policy["podSelector"]["matchLabels"]
        assert pod["spec"]["securityContext"]["runAsNonRoot"]
        [container] = pod["spec"]["containers"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert [port["containerPort"] for port in container["ports"]] == [config["http_options"]["port"]]
        assert container["volumeMounts"][0]["mountPath"] == str(settings.models_dir)
        claim = pod["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"]
        assert one(resources, "PersistentVolumeClaim", claim)["spec"]["accessModes"] == ["ReadWriteMany"]
    assert policy["ingress"][0]["ports"][0]["port"] == config["http_options"]["port"]


def test_only_the_gpu_overlay_asks_for_one() -> None:
    for overlay in OVERLAYS:
        [container] = containers(one(rendered(DEPLOY / "k8s" / "overlays" / overlay), "Deployment", "models"))
        assert ("nvidia.com/gpu" in container["resources"]["limits"]) is (overlay == "gpu")
        assert container["image"].endswith("-cuda" if overlay == "gpu" else "-cpu")
