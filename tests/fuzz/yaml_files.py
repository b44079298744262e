"""Files of YAML: changed as the values that they hold."""

import json
from random import Random

import yaml

from tests.fuzz.mutating import mutated_json


def mutated_yaml(data: bytes, pick: Random) -> bytes | None:
    """Change some values; None for what is not YAML, or holds what JSON does not."""
    try:
        changed = mutated_json(json.dumps(yaml.safe_load(data)).encode(), pick)
        if changed is None or pick.random() < 0.5:  # JSON is YAML
            return changed
        return yaml.safe_dump(json.loads(changed), allow_unicode=pick.random() < 0.5).encode("utf-8", "surrogatepass")
    except Exception:  # it raises almost anything
        return None
