"""Reads YAML that people wrote, whatever is in it."""

from typing import Any

import yaml


class NotYaml(ValueError):
    """The text is not YAML, or holds a value that is none; the message says where, as far as that is known."""


def read_yaml(content: str | bytes) -> Any:
    """Read one document of plain values. Raises NotYaml."""
    try:
        return yaml.safe_load(content)
    except yaml.YAMLError as error:
        raise NotYaml(f"not YAML: {error}") from None
    except RecursionError:
        raise NotYaml("not YAML that can be read: nested too deeply") from None
    except (
        Exception
    ) as error:  # a value that does not suit its tag, as the date 2026-13-01, makes PyYAML raise anything
        raise NotYaml(f"not YAML that can be read: a value is not of its kind: {type(error).__name__}") from None
