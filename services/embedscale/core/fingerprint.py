"""The name of a vector space."""

import hashlib
import json
from collections.abc import Mapping


def fingerprint(facts: Mapping[str, object]) -> str:
    """Hash everything that a vector depends on besides its text: blake2b-128 of canonical JSON, 32 hexadecimal digits.

    Two spaces have the same name only if all of their facts (weights, tokenizer, prompts, pooling, ...) are equal.
    """
    canonical = json.dumps(facts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()
