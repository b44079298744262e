"""Quantization with bitsandbytes: how near vectors stay to those of float32; each kind is a space of its own."""

import importlib.util

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from embedscale.core.embedding import ModelState, Truncation
from embedscale.embedder.encoder import Encoder
from embedscale.embedder.engine import TorchEngine
from embedscale.embedding.catalog import Catalog, LocalModel
from tests.conftest import MINILM
from tests.contract.test_local_models import FOLDER, TEXTS, matrix

INT8 = {"quantization": "int8", "runtime": "torch"}
NF4 = {"quantization": "nf4"}
TWICE = {**NF4, "double_quantization": True}
BFLOAT16 = {**NF4, "compute_dtype": "bfloat16"}
LEAST_COSINE = [(INT8, 0.998), (NF4, 0.95), (TWICE, 0.95), (BFLOAT16, 0.95)]
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"),
]


@pytest.fixture(scope="module", params=DEVICES)
def device(request: pytest.FixtureRequest) -> str:
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return str(request.param)


def entry(catalog: Catalog, **changes: object) -> LocalModel:
    return LocalModel.model_validate(catalog.models[MINILM].model_dump() | changes)


def encoder(catalog: Catalog, device: str, **changes: object) -> Encoder:
    return Encoder(FOLDER, entry(catalog, **changes), device=device, token_budget=1024)


@pytest.fixture(scope="module")
def exact(catalog: Catalog, device: str) -> Encoder:
    return encoder(catalog, device)


@pytest.mark.parametrize(("changes", "least"), LEAST_COSINE)
def test_vectors_stay_near_those_of_float32(
    catalog: Catalog, device: str, exact: Encoder, changes: dict, least: float
) -> None:
    quantized = encoder(catalog, device, **changes)
    found = matrix(quantized, TEXTS)
    cosines = (matrix(exact, TEXTS) * found).sum(1)
    assert least <= cosines.mean() < 0.99999  # it did quantize
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert quantized.parameters == exact.parameters


def test_nothing_is_logged_at_every_product(catalog: Catalog, caplog: pytest.LogCaptureFixture) -> None:
    model = encoder(catalog, "cpu", **INT8)
    caplog.clear()
    model.encode(TEXTS[:2], Truncation.END)
    assert not caplog.records


async def test_each_kind_is_a_vector_space_of_its_own(catalog: Catalog) -> None:
    names = set()
    kinds = [{}, {"runtime": "torch"}, {"dtype": "float16"}, INT8, NF4, TWICE, BFLOAT16]
    for changes in kinds:
        engine = TorchEngine("variant", entry(catalog, **changes), device="cpu", token_budget=1024)
        await engine.start()
        assert engine.info.state is ModelState.READY, engine.info.state_message
        names.add(engine.fingerprint(Truncation.END))
        await engine.close()
    assert len(names) == len(kinds)


@pytest.mark.parametrize("package", ["bitsandbytes", "accelerate"])
async def test_a_missing_package_is_named(catalog: Catalog, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("embedscale.embedder.loading.find_spec", lambda name: None if name == package else found(name))
    engine = TorchEngine("variant", entry(catalog, **INT8), device="cpu", token_budget=1024)
    await engine.start()
    assert engine.info.state is ModelState.FAILED
    assert f"quantization int8 needs packages not installed: {package}" in engine.info.state_message
    await engine.close()


@pytest.mark.parametrize("changes", [{"compute_dtype": "bfloat16"}, {**INT8, "double_quantization": True}])
def test_what_has_no_effect_is_refused(catalog: Catalog, changes: dict) -> None:
    with pytest.raises(ValidationError, match="for quantization nf4 only"):
        entry(catalog, **changes)
