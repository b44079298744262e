"""The shipped catalog, and files that add to it."""

from pathlib import Path
from textwrap import dedent

import pytest

from embedscale.embedding.catalog import CatalogError, LocalModel, PerInputType, RemoteModel, load_catalog

REVISION = "0123456789abcdef0123456789abcdef01234567"


def written(folder: Path, text: str) -> Path:
    path = folder / "more.yaml"
    path.write_text(dedent(text), "utf-8")
    return path


def with_source(folder: Path, source: str) -> Path:
    return written(folder, f"models: {{m: {{engine: torch, source: {{{source}}}, pooling: mean, max_tokens: 512}}}}")


def test_the_shipped_catalog_has_a_local_and_a_remote_model() -> None:
    models = load_catalog().models
    local, remote = models["all-MiniLM-L6-v2"], models["multilingual-e5-small"]
    assert isinstance(local, LocalModel)
    assert (local.max_tokens, local.pooling, local.normalize) == (256, "mean", True)
    assert isinstance(remote, RemoteModel)
    assert remote.upstream_model == PerInputType(query="e5-query", document="e5-passage")
    assert remote.dimensions == 384


def test_every_shipped_model_names_its_license_and_size_and_pins_its_weights() -> None:
    for name, model in load_catalog().models.items():
        assert model.license, name
        if isinstance(model, RemoteModel) and model.price_per_million_tokens:
            continue  # a vendor tells neither size nor revision
        assert model.parameters > 0, name
        pinned = model.revision if isinstance(model, RemoteModel) else model.sha256 or model.source.revision
        assert pinned, name


def test_a_file_adds_models(tmp_path: Path) -> None:
    models = load_catalog(with_source(tmp_path, "folder: /models/m")).models
    assert set(models) == {*load_catalog().models, "m"}
    assert isinstance(models["m"], LocalModel)
    assert models["m"].source.folder == Path("/models/m")


def test_a_file_overrides_a_model_as_a_whole(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        models:
          all-MiniLM-L6-v2:
            {engine: openai, upstream: here, upstream_model: mini, dimensions: 384, max_tokens: 0}
        """,
    )
    models = load_catalog(path).models
    assert models.keys() == load_catalog().models.keys()
    assert isinstance(models["all-MiniLM-L6-v2"], RemoteModel)
    assert models["all-MiniLM-L6-v2"].license == ""
    assert models["multilingual-e5-small"] == load_catalog().models["multilingual-e5-small"]


def test_all_faults_are_reported_at_once_a_line_each(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        """
        models:
          no-engine: {max_tokens: 5}
          strange: {engine: abacus, max_tokens: 5}
          local:
            {engine: torch, source: {folder: a}, pooling: median, max_tokens: -1, dtype: int4, sha256: {a: b}}
          remote:
            {engine: openai, upstream: u, upstream_model: {query: q}, dimensions: 0, max_tokens: 5, colour: red}
          nothing:
        """,
    )
    with pytest.raises(CatalogError) as caught:
        load_catalog(path)
    lines = str(caught.value).splitlines()
    for part in (
        "no-engine",
        "strange",
        "local.torch.pooling",
        "local.torch.max_tokens",
        "local.torch.dtype",
        "local.torch.sha256.a",
        "remote.openai.upstream_model",
        "remote.openai.dimensions",
        "remote.openai.colour",
        "nothing",
    ):
        assert any(part in line for line in lines), (part, lines)
    assert not any("all-MiniLM-L6-v2" in line for line in lines)


@pytest.mark.parametrize("source", ["hub: a/b", "hub: a/b, revision: main", f"hub: a/b, revision: {REVISION.upper()}"])
def test_a_hub_id_needs_a_revision_of_40_hexadecimal_digits(tmp_path: Path, source: str) -> None:
    with pytest.raises(CatalogError, match=r"m\.torch\.source.*revision"):
        load_catalog(with_source(tmp_path, source))


def test_a_hub_id_with_a_revision_is_taken(tmp_path: Path) -> None:
    model = load_catalog(with_source(tmp_path, f"hub: a/b, revision: '{REVISION}'")).models["m"]
    assert isinstance(model, LocalModel)
    assert (model.source.hub, model.source.revision) == ("a/b", REVISION)


@pytest.mark.parametrize(
    "source",
    [
        "",
        "package: p",
        f"folder: f, hub: a/b, revision: '{REVISION}'",
        f"package: p, hub: a/b, revision: '{REVISION}'",
    ],
)
def test_a_source_is_either_a_folder_or_a_hub_id(tmp_path: Path, source: str) -> None:
    with pytest.raises(CatalogError, match=r"m\.torch\.source"):
        load_catalog(with_source(tmp_path, source))


def test_what_is_not_yaml_is_refused_by_the_name_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"more\.yaml: not YAML"):
        load_catalog(written(tmp_path, "models: {a: ["))


@pytest.mark.parametrize("text", ["", "[]", "text", "models:", "models: [a]", "modles: {}"])
def test_a_file_without_a_mapping_of_models_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(CatalogError, match=r"more\.yaml: must hold a mapping `models`"):
        load_catalog(written(tmp_path, text))


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="No such file"):
        load_catalog(tmp_path / "nowhere.yaml")
    with pytest.raises(CatalogError, match="directory"):
        load_catalog(tmp_path)


def test_a_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "latin.yaml"
    path.write_bytes("models: {café: {}}".encode("latin-1"))
    with pytest.raises(CatalogError, match=r"latin\.yaml"):
        load_catalog(path)


def test_a_model_name_that_is_not_a_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"models\.7\.\[key\]"):
        load_catalog(
            written(tmp_path, "models: {7: {engine: torch, source: {folder: a}, pooling: cls, max_tokens: 1}}")
        )


def test_the_catalog_cannot_be_changed() -> None:
    model = load_catalog().models["all-MiniLM-L6-v2"]
    with pytest.raises(ValueError, match="frozen"):
        model.max_tokens = 1
