"""How a model's vectors are made: what the catalog says, else what a sentence-transformers folder says of itself."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from embedscale.embedder.weights import WeightsError
from embedscale.embedding.catalog import LocalModel, Pooling, Prompts

ValueT = TypeVar("ValueT")

_POOLINGS: dict[str, Pooling] = {"mean": "mean", "cls": "cls", "lasttoken": "last_token"}
_OLD_POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
_NO_LIMIT = 10**9  # tokenizers without a limit state a number of 30 digits
_WITHOUT_EFFECT = ("Transformer", "Dropout")


@dataclass(frozen=True, slots=True)
class DenseSpec:
    """A linear layer after pooling: its folder inside the model's, and its activation, such as "Tanh"."""

    folder: str
    activation: str


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything about a vector but weights and number formats."""

    pooling: Pooling
    normalize: bool
    max_tokens: int
    prompts: Prompts
    dense: tuple[DenseSpec, ...] = ()

    def facts(self) -> dict[str, object]:
        """What goes into the fingerprint, as JSON."""
        return {**asdict(self), "prompts": self.prompts.model_dump()}


@dataclass
class _Stated:
    """What a folder says; None where it says nothing."""

    pooling: Pooling | None = None
    normalize: bool | None = None
    dense: list[DenseSpec] = field(default_factory=list)


def resolve(model: LocalModel, folder: Path) -> Profile:
    """Profile of the model in `folder`. Raises WeightsError for a field said nowhere and for what is not supported."""
    stated = _modules(folder, model)
    normalize = _first(model.normalize, stated.normalize)
    return Profile(
        pooling=_required("pooling", _first(model.pooling, stated.pooling), folder),
        normalize=True if normalize is None else normalize,
        max_tokens=_required("max_tokens", _first(model.max_tokens, _max_tokens(folder)), folder),
        prompts=model.prompts or _prompts(folder),
        dense=tuple(stated.dense),
    )


def _first(catalogued: ValueT | None, stated: ValueT | None) -> ValueT | None:
    return stated if catalogued is None else catalogued


def _required(name: str, value: ValueT | None, folder: Path) -> ValueT:
    if value is None:
        raise WeightsError(f"neither the catalog nor {folder} says the model's {name}; give `{name}` in the catalog")
    return value


def _modules(folder: Path, model: LocalModel) -> _Stated:
    stated = _Stated()
    for kind, path in _module_list(folder):
        stated.normalize = stated.normalize or kind == "Normalize"
        if kind == "Pooling":
            stated.pooling = model.pooling or _pooling(folder / path)
        elif kind == "Dense":
            stated.dense.append(_dense(folder, path))
        elif kind not in ("Normalize", *_WITHOUT_EFFECT):
            raise WeightsError(f"the module {kind!r} of {folder / 'modules.json'} is not supported")
    return stated


def _module_list(folder: Path) -> Iterator[tuple[str, str]]:
    """Kind and path of each module, in their order."""
    listed = _read(folder / "modules.json", [])
    for module in sorted(listed, key=lambda module: int(module.get("idx", 0))):
        yield str(module.get("type", "")).rpartition(".")[2], str(module.get("path", ""))


def _pooling(folder: Path) -> Pooling:
    config = _read(folder / "config.json", {})
    modes = config.get("pooling_mode") or [mode for key, mode in _OLD_POOLINGS.items() if config.get(key)] or "mean"
    names = [modes] if isinstance(modes, str) else list(modes)
    if len(names) != 1 or names[0] not in _POOLINGS:
        raise WeightsError(
            f"the pooling {'+'.join(names)} of {folder} is not supported; there is {', '.join(_POOLINGS)}"
        )
    if config.get("include_prompt") is False:
        raise WeightsError(f"{folder} leaves the prompt out of the pooling, which is not supported")
    return _POOLINGS[names[0]]


def _dense(folder: Path, path: str) -> DenseSpec:
    config = _read(folder / path / "config.json", {})
    inputs = {config.get(key) or "sentence_embedding" for key in ("module_input_name", "module_output_name")}
    if inputs != {"sentence_embedding"} or config.get("use_residual"):
        raise WeightsError(f"the dense layer {folder / path} is of a kind that is not supported")
    return DenseSpec(path, str(config.get("activation_function") or "Tanh").rpartition(".")[2])


def _max_tokens(folder: Path) -> int | None:
    config = _read(folder / "sentence_bert_config.json", {})
    if config.get("do_lower_case"):
        raise WeightsError(f"{folder} asks for lower case outside its tokenizer, which is not supported")
    found = config.get("max_seq_length") or _tokenizer_limit(folder)
    return int(found) if found else None


def _tokenizer_limit(folder: Path) -> int | None:
    """Where newer sentence-transformers keep `max_seq_length`; only in their folders does it mean what it says."""
    limit = _read(folder / "tokenizer_config.json", {}).get("model_max_length")
    if not (folder / "modules.json").is_file() or not limit or limit > _NO_LIMIT:
        return None
    positions = _read(folder / "config.json", {}).get("max_position_embeddings")
    return min(int(limit), int(positions or limit))


def _prompts(folder: Path) -> Prompts:
    """Prompts under the names that sentence-transformers gives them, "passage" being an older word for a document."""
    config: Mapping[str, Any] = _read(folder / "config_sentence_transformers.json", {})
    prompts = config.get("prompts") or {}
    default = prompts.get(config.get("default_prompt_name"), "")
    document = prompts.get("document") or prompts.get("passage")
    return Prompts(query=prompts.get("query") or default, document=document or default)


def _read(path: Path, otherwise: Any) -> Any:
    try:
        return json.loads(path.read_text("utf-8")) if path.is_file() else otherwise
    except ValueError as error:
        raise WeightsError(f"{path} is not JSON") from error
