"""The manifests are valid, and what refers to something refers to something that is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.conftest import DEPLOY
from penchant.settings import parse

BASE = DEPLOY / "kubernetes" / "base"
OVERLAYS = sorted((DEPLOY / "kubernetes" / "overlays").iterdir())
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((BASE / "kustomization.yaml").read_text())
OBJECTS: list[dict[str, Any]] = [
    one for name in KUSTOMIZATION["resources"] for one in yaml.safe_load_all((BASE / name).read_text())
]
PORTS = {"collect": 8081, "serve": 8080, "stream": 8082}


def of(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in OBJECTS if one["kind"] == kind}


def pod(name: str) -> dict[str, Any]:
    found: dict[str, Any] = of("Deployment")[name]["spec"]["template"]
    return found


def container(name: str) -> dict[str, Any]:
    (found,) = pod(name)["spec"]["containers"]
    return found  # type: ignore[no-any-return]


def chooses(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    wanted = selector.get("matchLabels", {}).items() <= labels.items()
    return wanted and all(labels.get(one["key"]) in one["values"] for one in selector.get("matchExpressions", ()))


@pytest.mark.deploy
@pytest.mark.parametrize("name", KUSTOMIZATION["resources"])
def test_manifests_are_valid(name: str) -> None:
    assert validate((BASE / name).read_text()) == []


@pytest.mark.deploy
def test_invalid_manifests_are_told() -> None:
    assert validate((BASE / "serve.yaml").read_text().replace("readOnlyRootFilesystem", "readonlyRootFilesystem"))
    assert validate((BASE / "serve.yaml").read_text().replace("maxReplicas: 40", "maxReplicas: many"))


def validate(text: str) -> list[str]:
    import kubernetes_validate

    found = []
    for one in yaml.safe_load_all(text):
        try:
            kubernetes_validate.validate(one, "1.30", strict=True)
        except kubernetes_validate.ValidationError as error:
            found.append(str(error))
    return found


def test_kustomizations_name_every_file_and_none_else() -> None:
    generated = {file for one in KUSTOMIZATION["configMapGenerator"] for file in one.get("files", ())}
    files = {path.name for path in BASE.iterdir()} - {"kustomization.yaml"}
    assert set(KUSTOMIZATION["resources"]) | generated == files
    for overlay in OVERLAYS:
        made = yaml.safe_load((overlay / "kustomization.yaml").read_text())
        assert [(overlay / one).resolve() for one in made["resources"]] == [BASE]
        patches = {one["path"] for one in made["patches"] if "path" in one}
        assert patches == {path.name for path in overlay.iterdir()} - {"kustomization.yaml"}


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_patches_change_something_that_is_there(overlay: Path) -> None:
    made = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    for patch in made["patches"]:
        if "path" not in patch:
            target, operations = patch["target"], yaml.safe_load(patch["patch"])
            for operation in operations:
                at: Any = of(target["kind"])[target["name"]]
                for step in operation["path"].strip("/").split("/"):
                    at = at[int(step)] if isinstance(at, list) else at[step]
            continue
        changed = yaml.safe_load((overlay / patch["path"]).read_text())
        original = of(changed["kind"])[changed["metadata"]["name"]]
        assert changed["apiVersion"] == original["apiVersion"]
        if changed["kind"] == "Deployment":
            names = {one["name"] for one in changed["spec"]["template"]["spec"]["containers"]}
            assert names == {container(changed["metadata"]["name"])["name"]}
    generators = {one["name"] for one in KUSTOMIZATION["configMapGenerator"]}
    assert {one["name"] for one in made["configMapGenerator"]} <= generators


@pytest.mark.parametrize("name", PORTS)
def test_selectors_find_their_pods(name: str) -> None:
    labels = pod(name)["metadata"]["labels"]
    assert chooses(of("Deployment")[name]["spec"]["selector"], labels)
    assert chooses(of("PodDisruptionBudget")[name]["spec"]["selector"], labels)
    for spread in pod(name)["spec"]["topologySpreadConstraints"]:
        assert chooses(spread["labelSelector"], labels)
    scaled = of("HorizontalPodAutoscaler")[name]["spec"]["scaleTargetRef"]
    assert (scaled["kind"], scaled["name"]) == ("Deployment", name)
    if name in of("Service"):
        assert of("Service")[name]["spec"]["selector"].items() <= labels.items()
    assert {rule for rule, one in of("NetworkPolicy").items() if chooses(one["spec"]["podSelector"], labels)} == (
        {"nobody", "metrics", "dependencies"} | ({"callers"} if name != "stream" else set())
    )


@pytest.mark.parametrize("name", PORTS)
def test_ports_that_are_named_are_there(name: str) -> None:
    one = container(name)
    assert one["args"][:5] == [name, "--host", "0.0.0.0", "--port", str(PORTS[name])]
    ports = {port["name"]: port["containerPort"] for port in one["ports"]}
    assert ports == {"http": PORTS[name]}
    for probe, path in (("startup", "/healthz"), ("liveness", "/healthz"), ("readiness", "/readyz")):
        get = one[f"{probe}Probe"]["httpGet"]
        assert (get["path"], get["port"]) == (path, "http")
    for service in of("Service").values():
        assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]


@pytest.mark.parametrize("name", PORTS)
def test_what_a_pod_mounts_and_reads_is_there(name: str) -> None:
    volumes = {one["name"]: one for one in pod(name)["spec"]["volumes"]}
    assert {mount["name"] for mount in container(name)["volumeMounts"]} == set(volumes)
    maps = {one["name"] for one in KUSTOMIZATION["configMapGenerator"]}
    assert volumes["settings"]["configMap"]["name"] in maps
    assert volumes["artifacts"]["persistentVolumeClaim"]["claimName"] in of("PersistentVolumeClaim")
    assert pod(name)["spec"]["serviceAccountName"] in of("ServiceAccount")
    read = [one for source in container(name)["envFrom"] for one in source.items()]
    assert read == [("configMapRef", {"name": "penchant-addresses"}), ("secretRef", {"name": "penchant"})]


@pytest.mark.parametrize("name", PORTS)
def test_pods_may_do_little(name: str) -> None:
    spec, one = pod(name)["spec"], container(name)["securityContext"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not spec["automountServiceAccountToken"]
    assert one == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container(name)["resources"]["requests"].keys() == {"cpu", "memory"}  # what autoscaling divides by


def test_no_secret_stands_in_a_file() -> None:
    assert of("Secret") == {}
    literals = [text for one in KUSTOMIZATION["configMapGenerator"] for text in one.get("literals", ())]
    assert not any("@" in text or "PENCHANT_KEYS" in text for text in literals)


def test_settings_are_those_of_penchant() -> None:
    literals = [text for one in KUSTOMIZATION["configMapGenerator"] for text in one.get("literals", ())]
    settings = parse((BASE / "penchant.toml").read_text(), dict(text.split("=", 1) for text in literals))
    assert settings.log.url.startswith("kafka://")
    assert settings.log.replicas == 3
