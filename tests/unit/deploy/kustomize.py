"""As much of kustomize as our overlays use: resources, namespace, images, JSON patches (RFC 6902, two kinds) by kind and name."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import yaml

Resource = dict[str, Any]
KNOWN = {"apiVersion", "kind", "namespace", "resources", "images", "patches"}


def rendered(folder: Path) -> list[Resource]:
    """What `kubectl kustomize FOLDER` would print. Raises ValueError for what we do not know, or that finds nothing."""
    plan = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := set(plan) - KNOWN:
        raise ValueError(f"{folder}: {unknown}")
    resources: list[Resource] = []
    for name in plan["resources"]:
        path = folder / name
        found = rendered(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
        resources += deepcopy(found)
    for image in plan.get("images", []):
        _retag(resources, image["name"], image["newTag"])
    for patch in plan.get("patches", []):
        _patch(resources, patch)
    if namespace := plan.get("namespace"):
        for resource in resources:
            if resource["kind"] != "Namespace":
                resource["metadata"]["namespace"] = namespace
    return resources


def containers(resource: Resource) -> list[dict[str, Any]]:
    """Of a workload; none of anything else."""
    pod = resource["spec"].get("template", {}).get("spec", {}) if "spec" in resource else {}
    found: list[dict[str, Any]] = pod.get("containers", [])
    return found


def _retag(resources: list[Resource], name: str, tag: str) -> None:
    ours = [one for resource in resources for one in containers(resource) if one["image"].partition(":")[0] == name]
    if not ours:
        raise ValueError(f"no container has the image {name}")
    for one in ours:
        one["image"] = f"{name}:{tag}"


def _patch(resources: list[Resource], patch: dict[str, Any]) -> None:
    target = patch["target"]
    ours = [one for one in resources if one["kind"] == target["kind"] and one["metadata"]["name"] == target["name"]]
    if not ours:
        raise ValueError(f"nothing is {target}")
    for resource in ours:
        for step in yaml.safe_load(patch["patch"]):
            if step["op"] not in ("add", "replace"):
                raise ValueError(f"unknown: {step['op']}")
            *way, last = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
            place: Any = resource
            for part in way:
                place = place[int(part)] if isinstance(place, list) else place[part]
            if step["op"] == "replace" and last not in place:
                raise ValueError(f"nothing is at {step['path']}")
            place[last] = step["value"]
