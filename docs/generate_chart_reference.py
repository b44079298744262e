"""Writes `docs/reference-chart.md` from the chart's values, and the servers' settings into its schema.

`make docs` runs it.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic_settings import BaseSettings

from embedscale.embedder.settings import EmbedderSettings
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.openai_gateway.settings import GatewaySettings
from embedscale.openai_proxy.settings import ProxySettings

CHART = Path(__file__).parents[1] / "deploy" / "helm" / "embedscale"
SCHEMA = CHART / "values.schema.json"
PAGE = Path(__file__).with_name("reference-chart.md")

SERVERS: dict[str, type[BaseSettings]] = {
    "embedder": EmbedderSettings,
    "proxy": ProxySettings,
    "gateway": GatewaySettings,
    "evaluator": EvaluatorSettings,
}
OWN = {
    "host", "port", "port_file", "health_port", "metrics_port", "insecure", "drain_seconds",
    "tls_certificate_file", "tls_key_file", "tls_client_ca_file",
    "auth_tokens_file", "jwt_keys_file", "jwt_issuer", "jwt_audience", "api_keys_file",
    "embedding_addresses", "embedding_tls", "embedding_ca_file", "embedding_certificate_file", "embedding_key_file",
    "embedding_token_file", "catalog", "models", "redis_url", "device", "upstreams",
}  # fmt: skip
"""Settings that the chart makes of other values."""


def schema() -> str:
    """The schema with the settings that each server may be given, their types and limits."""
    content = json.loads(SCHEMA.read_text("utf-8"))
    offered = {role: _offered(kind) for role, kind in SERVERS.items()}
    shared = set.intersection(*(set(fields) for fields in offered.values()))
    for role, fields in {**offered, "shared": {name: offered["gateway"][name] for name in shared}}.items():
        properties = dict(sorted(fields.items()))
        content["definitions"][f"{role}Settings"] = {
            "type": "object", "additionalProperties": False, "properties": properties,
        }  # fmt: skip
    return json.dumps(content, indent=2) + "\n"


def _offered(kind: type[BaseSettings]) -> dict[str, Any]:
    described = kind.model_json_schema()["properties"]
    return {name: _plain(field) for name, field in described.items() if name not in OWN}


def _plain(field: dict[str, Any]) -> dict[str, Any]:
    """What a value may be; nothing is said by leaving it out, not by null."""
    kinds = [kind for kind in field.pop("anyOf", []) if kind.get("type") != "null"]
    kept = {key: value for key, value in field.items() if key not in ("title", "default")}
    kept["description"] = " ".join(kept["description"].split())
    return kept | (kinds[0] if len(kinds) == 1 else {"anyOf": kinds} if kinds else {})


def page() -> str:
    """The whole page."""
    rows = [f"| `{path}` | `{default}` | {meaning} |" for path, default, meaning in values()]
    return "\n\n".join([
        "# Values of the Helm chart",
        "Written by `make docs` from `deploy/helm/embedscale/values.yaml`; do not edit. "
        "[How to use them](guide-kubernetes.md).",
        "\n".join(["| value | default | meaning |", "|---|---|---|", *rows]),
    ]) + "\n"  # fmt: skip


def values() -> Iterator[tuple[str, str, str]]:
    """Path, default and comment of each value that has a comment above it."""
    lines = (CHART / "values.yaml").read_text("utf-8").splitlines()
    tree = yaml.compose("\n".join(lines))
    if not isinstance(tree, yaml.MappingNode):
        raise TypeError("values.yaml is no mapping")
    yield from _described(tree, lines, "")


def _described(tree: yaml.MappingNode, lines: list[str], path: str) -> Iterator[tuple[str, str, str]]:
    for key, node in tree.value:
        name = f"{path}{key.value}"
        comment = _comment(lines, key.start_mark.line)
        nested = isinstance(node, yaml.MappingNode) and not node.flow_style and node.value
        if comment and not (nested and _has_comments(node, lines)):
            yield name, json.dumps(yaml.safe_load(yaml.serialize(node))), comment
        elif comment:
            yield name, "", comment
        elif not nested:
            raise ValueError(f"values.yaml: {name} has no comment")
        if nested and _has_comments(node, lines):
            yield from _described(node, lines, f"{name}.")


def _has_comments(tree: yaml.MappingNode, lines: list[str]) -> bool:
    return any(_comment(lines, key.start_mark.line) for key, _ in tree.value)


def _comment(lines: list[str], line: int) -> str:
    """The comment that ends on the line above."""
    first = line
    while first and lines[first - 1].lstrip().startswith("#"):
        first -= 1
    return " ".join(text.lstrip().removeprefix("#").strip() for text in lines[first:line])


if __name__ == "__main__":
    SCHEMA.write_text(schema(), "utf-8")
    PAGE.write_text(page(), "utf-8")
