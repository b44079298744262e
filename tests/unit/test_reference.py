"""What is generated is what the code says, and the map of the house is whole."""

from tests.unit.scripts import ROOT, script


def test_the_reference_page_is_up_to_date() -> None:
    reference = script("docs/generate_reference.py")
    assert reference.PAGE.read_text("utf-8") == reference.page(), "run `make docs`"


def test_the_page_and_the_schema_of_the_chart_are_up_to_date() -> None:
    reference = script("docs/generate_chart_reference.py")
    assert reference.PAGE.read_text("utf-8") == reference.page(), "run `make docs`"
    assert reference.SCHEMA.read_text("utf-8") == reference.schema(), "run `make docs`"


def test_every_file_of_the_house_is_in_the_picture() -> None:
    architecture = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for root in ("services", "clients"):
        for path in sorted((ROOT / root / "embedscale").rglob("*.py")):
            if path.name not in ("__init__.py", "__main__.py", "settings.py", "bootstrap.py"):
                assert f"`{path.name}`" in architecture, f"docs/architecture.md does not name {path.name}"
