"""`evalctl run -f plan.yaml`: options in a file, checked as a whole."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import click
import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from embedscale.cli.errors import CommandFailed
from embedscale.cli.exit_codes import EXIT_USER
from embedscale.cli.gates import LimitType
from embedscale.cli.indexes import IndexType
from embedscale.cli.options import located

Metric = Literal["mrr", "hit_rate", "recall", "precision", "ndcg", "map"]
Cutoff = Annotated[int, Field(ge=1, le=1000)]
Dimensions = Annotated[int, Field(ge=1)]


def _accepted_by(kind: "click.ParamType[Any]") -> AfterValidator:
    """Hold a text against what the option takes."""

    def check(text: str) -> str:
        try:
            kind.convert(text, None, None)
        except click.BadParameter as error:
            raise ValueError(error.message) from None
        return text

    return AfterValidator(check)


class Plan(BaseModel):
    """What `evalctl run` does; options on the command line win over it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    models: list[str] = Field(min_length=1)
    """Catalog names of models."""
    datasets: list[str] = Field(min_length=1)
    """URIs of data sets, or paths, which are relative to the plan."""
    cutoffs: list[Cutoff] = Field([5], min_length=1)
    """Cutoffs of the metrics."""
    metrics: list[Metric] = Field(["mrr", "hit_rate"], min_length=1)
    """Metrics in the table; the first one is compared with a baseline."""
    dimensions: int = Field(0, ge=0)
    """Length of the vectors; 0 for the model's own."""
    truncation: Literal["end", "windows", "error"] = "end"
    """What to do with texts that are too long."""
    indexes: list[Annotated[str, _accepted_by(IndexType())]] = []
    """Indexes to try beside exact search."""
    sweep_dimensions: list[Dimensions] = []
    """Shorter vectors to try."""
    encodings: list[Literal["float16", "int8", "binary"]] = []
    """Encodings of vectors to try."""
    ignore_identical_ids: bool = False
    """Whether to leave the document with the query's own id out of its ranking."""
    fail_under: list[Annotated[str, _accepted_by(LimitType())]] = []
    """Least values of metrics."""
    baselines: list[str] = []
    """Evaluations to compare with."""
    max_regression: float = Field(0.0, ge=0, le=1)
    """The most that may be lost against a baseline."""


def read(path: Path) -> Plan:
    """Read a plan. Raises CommandFailed with all its faults at once."""
    try:
        content = yaml.safe_load(path.read_text("utf-8"))
        return Plan.model_validate(content, strict=True)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path} is not YAML: {' '.join(str(error).split())}", EXIT_USER) from None
    except ValidationError as error:
        faults = "\n".join(f"  {_place(fault['loc'])}: {fault['msg']}" for fault in error.errors())
        raise CommandFailed(f"{path} has {error.error_count()} faults:\n{faults}", EXIT_USER) from None


def as_defaults(plan: Plan, folder: Path) -> Mapping[str, Any]:
    """Values of `run`'s parameters, by their names."""
    return {
        "models": plan.models,
        "datasets": [located(dataset, folder) for dataset in plan.datasets],
        "cutoffs": plan.cutoffs,
        "metrics": plan.metrics,
        "dimensions": plan.dimensions,
        "truncation": plan.truncation,
        "wanted_indexes": plan.indexes,
        "dims": tuple(plan.sweep_dimensions),
        "encodings": plan.encodings,
        "ignore_identical_ids": plan.ignore_identical_ids,
        "limits": plan.fail_under,
        "baselines": plan.baselines,
        "max_regression": plan.max_regression,
    }


def _place(parts: Sequence[int | str]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts).lstrip(".") or "plan"
