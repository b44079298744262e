"""The generated page is the code's."""

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[2]


def generator(name: str) -> ModuleType:
    specification = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_reference_page_is_up_to_date() -> None:
    reference = generator("generate_reference")
    assert reference.PAGE.read_text("utf-8") == reference.page(), "run `make docs`"


def test_the_page_and_the_schema_of_the_chart_are_up_to_date() -> None:
    reference = generator("generate_chart_reference")
    assert reference.PAGE.read_text("utf-8") == reference.page(), "run `make docs`"
    assert reference.SCHEMA.read_text("utf-8") == reference.schema(), "run `make docs`"


def test_every_file_of_the_house_is_in_the_picture() -> None:
    architecture = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for root in ("services", "clients"):
        for path in sorted((ROOT / root / "embedscale").rglob("*.py")):
            if path.name not in ("__init__.py", "__main__.py", "settings.py", "bootstrap.py"):
                assert f"`{path.name}`" in architecture, f"docs/architecture.md does not name {path.name}"
