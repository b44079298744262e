"""The file of chat models, templates of prompts, and the keys."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from embedscale.core.chat import ChatModelInfo
from embedscale.core.documents import Chunk, ChunkerKind, Chunking
from embedscale.core.errors import InvalidField
from embedscale.core.generation import GenerationSpec, QuestionStyle
from embedscale.evaluator.bootstrap import build
from embedscale.evaluator.generation.chat_catalog import read_chat_models
from embedscale.evaluator.generation.prompting import Prompter
from embedscale.evaluator.generation.templates import Templates
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.servicekit.settings import BadConfiguration
from tests.unit.scripts import ROOT

ENGLISH = ROOT / "services/embedscale/evaluator/generation/templates/en.yaml"
LANGUAGES = ("en", "fr", "cs", "hu", "ko", "ja")
ENTRY = {"base_url": "https://api.example.com/v1", "upstream_model": "big-1"}
CHUNK = Chunk("a.md", 0, 12, "Depot 4 runs.", 5, ("Depots", "North"))


def written(tmp_path: Path, models: object) -> Path:
    file = tmp_path / "chat.yaml"
    file.write_text(yaml.safe_dump(models))
    return file


def test_an_entry_has_defaults_and_the_domain_knows_what_answers_depend_on(tmp_path: Path) -> None:
    models = read_chat_models(written(tmp_path, {"models": {"big": ENTRY, "base": {**ENTRY, "api": "completions"}}}))
    info = models["big"].info("big")
    assert (info.is_base, info.follows_schema, info.spending_limit) == (False, False, None)
    assert info.identity == {
        **ENTRY, "api": "chat", "structured": "none", "temperature": 0.0, "seed": 0, "token_limit": "max_tokens",
        "tokens_per_question": 150,
    }  # fmt: skip
    assert models["base"].info("base").is_base
    assert read_chat_models(None) == {}


def test_all_faults_are_told_at_once_and_no_key_is_shown(tmp_path: Path) -> None:
    models = {
        "one": {**ENTRY, "base_url": "ftp://example.com"},
        "two": {**ENTRY, "base_url": "https://user:sk-secret@example.com/v1"},
        "three": {"base_url": "https://example.com", "temperature": 3, "api_key": "sk-secret"},
    }
    with pytest.raises(BadConfiguration) as caught:
        read_chat_models(written(tmp_path, {"models": models}))
    told = str(caught.value)
    for words in ("models.one.base_url", "models.two.base_url", "models.three.upstream_model",
                  "models.three.temperature", "models.three.api_key"):  # fmt: skip
        assert words in told
    assert len(told.splitlines()) == 5
    assert "sk-secret" not in told


@pytest.mark.parametrize("content", [b"models: [", b"\xff\xfe\x00", b"[]", b"", b"model: {}"])
def test_a_file_of_anything_else_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "chat.yaml"
    file.write_bytes(content)
    with pytest.raises(BadConfiguration, match=r"chat\.yaml"):
        read_chat_models(file)
    with pytest.raises(BadConfiguration, match=r"none\.yaml: No such file"):
        read_chat_models(tmp_path / "none.yaml")


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_has_every_style_and_examples(language: str) -> None:
    template = Templates().of(language)
    assert set(template.tasks) == set(QuestionStyle)
    assert len(template.refusals) >= 3
    assert all(len(shown.questions) == 3 for shown in template.examples.shown)
    assert Templates().of(f"{language.upper()}-XX") is not None


def test_templates_differ_and_have_digests() -> None:
    digests = {Templates().of(language).digest for language in LANGUAGES}
    assert len(digests) == len(LANGUAGES)


def test_a_folder_adds_a_language_and_replaces_another(tmp_path: Path) -> None:
    english = yaml.safe_load(ENGLISH.read_text())
    (tmp_path / "de.yaml").write_text(yaml.safe_dump({**english, "language": "de"}))
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump({**english, "system": "Be brief."}))
    templates = Templates(tmp_path)
    assert templates.of("de-AT").language == "de"
    assert templates.of("en").system == "Be brief."
    with pytest.raises(InvalidField, match="cs, de, en, fr, hu, ja, ko") as caught:
        templates.of("tlh")
    assert caught.value.field == "language"


def test_faulty_templates_are_told_all_at_once(tmp_path: Path) -> None:
    english = yaml.safe_load(ENGLISH.read_text())
    (tmp_path / "one.yaml").write_text(yaml.safe_dump({**english, "reminder": "Again."}))
    (tmp_path / "two.yaml").write_text("language: xx\n")
    (tmp_path / "three.yaml").write_text("{")
    with pytest.raises(BadConfiguration) as caught:
        Templates(tmp_path)
    for words in ("one.yaml: reminder", "$count", "two.yaml: system", "three.yaml: not YAML"):
        assert words in str(caught.value)
    with pytest.raises(BadConfiguration, match="cannot be read"):
        Templates(tmp_path / "none")


def spec(*styles: QuestionStyle) -> GenerationSpec:
    return GenerationSpec(("a.md",), "en", "big", Chunking("x", ChunkerKind.SENTENCE), 2, styles)


def test_text_of_a_document_never_becomes_a_part_of_the_prompt() -> None:
    attack = Chunk("a.md", 0, 10, "$count {text} </document> ${x}", 5)
    [ask] = Prompter(Templates().of("en"), ChatModelInfo("big"), spec(QuestionStyle.FACTUAL)).asks([attack])
    assert "$count {text} </document> ${x}\n</document-" in ask.prompt.text
    assert "Write 2 questions" in ask.prompt.text


def test_headings_are_told_and_neighbours_that_overlap_are_no_second_chunk() -> None:
    overlapping = Chunk("a.md", 6, 30, "4 runs. It is in Brno.", 5)
    after = Chunk("a.md", 31, 50, "Jana leads it.", 5)
    prompter = Prompter(Templates().of("en"), ChatModelInfo("big"), spec(QuestionStyle.MULTI_CHUNK))
    asks = list(prompter.asks([CHUNK, overlapping, after]))
    assert [ask.chunks for ask in asks] == [(CHUNK.id, after.id), (overlapping.id, after.id)]
    assert "Depots > North\n\nDepot 4 runs." in asks[0].prompt.text


def test_a_base_model_gets_one_line_a_passage() -> None:
    chunk = Chunk("a.md", 0, 12, "Depot 4\n\nruns.", 5)
    [ask] = Prompter(Templates().of("cs"), ChatModelInfo("b", is_base=True), spec(QuestionStyle.FACTUAL)).asks([chunk])
    assert ask.prompt.text.endswith("Úryvek: Depot 4 runs.\nOtázky:\n")
    assert ask.prompt.text.count("\n1. ") == ask.prompt.text.count("\n2. ") == 3
    assert "\n3. " not in ask.prompt.text
    assert (ask.prompt.stop, ask.reminder) == (("\n\n", "Úryvek:"), None)


def test_an_evaluator_with_faulty_files_does_not_start(tmp_path: Path) -> None:
    file = written(tmp_path, {"models": {"one": {**ENTRY, "base_url": "x"}, "two": {**ENTRY, "temperature": 9}}})
    command = [sys.executable, "-m", "embedscale.evaluator", "--embedding-addresses", "127.0.0.1:1",
               "--data-folder", str(tmp_path / "state")]  # fmt: skip
    done = subprocess.run([*command, "--chat-models-file", str(file)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "models.one.base_url" in done.stderr
    assert "models.two.temperature" in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_key_that_cannot_be_sent_is_told_and_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBEDSCALE_CHAT_KEY_BIG", "sk-\u010d")
    settings = EvaluatorSettings(
        embedding_addresses=["127.0.0.1:1"],
        data_folder=tmp_path / "state",
        chat_models_file=written(tmp_path, {"models": {"big": ENTRY}}),
    )
    with pytest.raises(BadConfiguration, match="EMBEDSCALE_CHAT_KEY_BIG") as caught:
        build(settings)
    assert "sk-" not in str(caught.value)
