"""What a generated set was made from: whoever has the documents and the language model can make it again."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from embedscale.core.chat import ChatModelInfo
from embedscale.core.generation import GenerationSpec

_FORMAT = 1


def manifest(spec: GenerationSpec, models: Mapping[str, ChatModelInfo], prompts: str, corpus: str) -> str:
    """JSON of all that the set depends on: `models` by role, digests of the prompts' template and of the corpus."""
    content = {
        "format": _FORMAT,
        "documents": list(spec.documents),
        "corpus_digest": corpus,
        "chunking": asdict(spec.chunking),
        "language": spec.language,
        "questions_per_chunk": spec.questions_per_chunk,
        "styles": list(spec.styles),
        "seed": spec.seed,
        "prompts_digest": prompts,
        "models": {role: {"name": model.name, **model.identity} for role, model in models.items()},
        "filters": _filters(spec),
        "versions": {"embedscale": version("embedscale")},
    }
    if spec.written:
        content["written_questions"] = [asdict(question) for question in spec.written]
    return json.dumps(content, indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def manifest_digest(text: str) -> str:
    """SHA-256 of a manifest, 64 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def _filters(spec: GenerationSpec) -> dict[str, Any]:
    return asdict(spec.filtering) | {"off": sorted(spec.filtering.off)}
