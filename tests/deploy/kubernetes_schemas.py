"""Strict schemas: of Kubernetes by version, and of custom resources as their projects publish them."""

import importlib
import json
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import jsonschema_rs

VERSIONS = [f"1.{minor}" for minor in range(30, 38)]

_MODELS = {
    "cert-manager.io/v1": "cloudcoil.models.cert_manager.v1",
    "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
}
"""Packages made of the projects' own definitions. None has the Gateway API, whose one resource is described beside."""
_GRPC_ROUTE = Path(__file__).with_name("grpcroute.schema.json")


def faults(manifest: dict[str, Any], version: str) -> list[str]:
    """What is wrong with a manifest in a version of Kubernetes, unknown fields included."""
    api, kind = manifest["apiVersion"], manifest["kind"]
    validator = _custom(api, kind) if is_custom(manifest) else _native(api, kind, version)
    where = f"{kind} {manifest['metadata']['name']} in {version}"
    return [f"{where}: {error.instance_path}: {error.message[:300]}" for error in validator.iter_errors(manifest)]


def is_custom(manifest: dict[str, Any]) -> bool:
    group = manifest["apiVersion"].rpartition("/")[0]
    return "." in group and not (group.endswith(".k8s.io") and not group.startswith("gateway."))


@cache
def _native(api: str, kind: str, version: str) -> jsonschema_rs.Draft202012Validator:
    group, _, number = api.rpartition("/")
    name = "-".join(filter(None, (kind.lower(), group.partition(".")[0], number)))
    folder = f"v{version}.0-local-strict"
    return jsonschema_rs.Draft202012Validator(_read(folder, f"{name}.json"), registry=_definitions(folder))


@cache
def _definitions(folder: str) -> jsonschema_rs.Registry:
    return jsonschema_rs.Registry([("_definitions.json", _read(folder, "_definitions.json"))])


def _read(folder: str, name: str) -> Any:
    file = resources.files("kubernetes_validate") / "kubernetes-json-schema" / folder / name
    return json.loads(file.read_text("utf-8"))


@cache
def _custom(api: str, kind: str) -> jsonschema_rs.Draft202012Validator:
    if kind == "GRPCRoute":
        return jsonschema_rs.Draft202012Validator(json.loads(_GRPC_ROUTE.read_text("utf-8")))
    model = getattr(importlib.import_module(_MODELS[api]), kind)
    return jsonschema_rs.Draft202012Validator(_strict(model.model_json_schema()))


def _strict(node: Any) -> Any:
    """A schema that knows no other fields than those it names, and no null."""
    if isinstance(node, list):
        return [_strict(one) for one in node]
    if not isinstance(node, dict):
        return node
    strict = {key: _strict(value) for key, value in node.items() if key != "default"}
    given = [one for one in strict.pop("anyOf", []) if one != {"type": "null"}]
    strict |= given[0] if len(given) == 1 else {"anyOf": given} if given else {}
    return {"additionalProperties": False, **strict} if "properties" in node and "type" in node else strict
