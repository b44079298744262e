"""What a language model is told, in each language: files that ship, and those of a folder of one's own."""

import hashlib
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from string import Template
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from embedscale.core.errors import InvalidField
from embedscale.core.generation import QuestionStyle
from embedscale.evaluator.generation.chat_catalog import faults
from embedscale.servicekit.settings import BadConfiguration
from embedscale.servicekit.yaml_files import NotYaml, read_yaml


def _counting(text: str) -> str:
    if Template(text).get_identifiers() != ["count"] or not Template(text).is_valid():
        raise ValueError("must have $count, and no other name after a $")
    return text


Counting = Annotated[str, AfterValidator(_counting)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, str_strip_whitespace=True)


class ShownExample(_Part):
    """A passage and questions as a base model is shown them."""

    text: str = Field(min_length=1)
    """The passage."""
    questions: list[str] = Field(min_length=1)
    """Questions that it answers; as many are shown as are asked for."""


class Examples(_Part):
    """What a base model, which only goes on with a text, is given."""

    heading: str
    """The first line."""
    passage: str = Field(min_length=1)
    """Stands before each passage."""
    questions: str = Field(min_length=1)
    """Stands before the questions."""
    shown: list[ShownExample] = Field(min_length=1)
    """The examples."""


class PromptTemplate(_Part):
    """What models are told in one language; $count is the number of questions."""

    language: str = Field(pattern="^[a-z]{2,3}$")
    """Primary language subtag of BCP 47, such as cs."""
    system: str = Field(min_length=1)
    """Who the model is to be."""
    data: str = Field(min_length=1)
    """Says that what follows is a piece of a document, and data."""
    tasks: dict[QuestionStyle, Counting]
    """What to write, by style."""
    lines: str = Field(min_length=1)
    """Asks for numbered lines, in the language."""
    schema_: str = Field(alias="schema", min_length=1)
    """Asks for quotations, in the language; the form is given as a JSON schema."""
    reminder: Counting
    """Follows the prompt when an answer could not be read."""
    refusals: list[str] = []
    """Beginnings of answers that refuse."""
    examples: Examples
    """For base models."""

    @property
    def digest(self) -> str:
        """SHA-256 of all of it."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class Templates:
    """Templates by language."""

    def __init__(self, folder: Path | None = None) -> None:
        """Read the templates that ship, and those of a folder over them. Raises BadConfiguration with all faults."""
        self._by_language: dict[str, PromptTemplate] = {}
        found: list[str] = []
        for name, text in _files(folder):
            try:
                template = PromptTemplate.model_validate(read_yaml(text))
                self._by_language[template.language] = template
            except ValidationError as error:
                found.append(faults(name, error))
            except NotYaml as error:
                found.append(f"{name}: {error}")
        if found:
            raise BadConfiguration("\n".join(found))

    def of(self, language: str) -> PromptTemplate:
        """Template of a language, whatever its region. Raises InvalidField."""
        template = self._by_language.get(language.partition("-")[0].lower())
        if template is None:
            known = ", ".join(sorted(self._by_language))
            raise InvalidField(f"language is {language!r}; there are prompts for {known}", field="language")
        return template


def _files(folder: Path | None) -> Iterator[tuple[Path, str]]:
    shipped = resources.files("embedscale.evaluator.generation").joinpath("templates")
    for file in sorted(shipped.iterdir(), key=lambda file: file.name):
        yield Path(file.name), file.read_text("utf-8")
    if folder is None:
        return
    try:
        for path in sorted(folder.iterdir()):
            if path.suffix == ".yaml":
                yield path, path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadConfiguration(f"{folder}: cannot be read: {type(error).__name__}") from None


def filled(text: str, count: int) -> str:
    """Put the number of questions into a text of a template."""
    return Template(text).substitute(count=count)
