"""The examples of the client's guide do what the guide says."""

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import trustme

GUIDE = Path(__file__).parents[2] / "docs" / "guide-client.md"
EXAMPLE = re.compile(r"```python\n(.*?)```(?:\n\n```text\n(.*?)```)?", re.DOTALL)
SERVER = "127.0.0.1:50051"
END = "=== end of an example ==="


def written_files(folder: Path) -> None:
    """What the examples read."""
    authority = trustme.CA()
    mine = authority.issue_cert("me")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    mine.private_key_pem.write_to_path(folder / "me.key")
    mine.cert_chain_pems[0].write_to_path(folder / "me.pem")


async def test_the_examples_print_what_the_guide_shows(embedder: str, tmp_path: Path) -> None:
    for library in ("langchain_core", "llama_index.core", "mteb"):
        pytest.importorskip(library.partition(".")[0])
    examples = EXAMPLE.findall(GUIDE.read_text("utf-8"))
    assert len(examples) == 9
    assert examples[0][0].count(SERVER) == 1
    written_files(tmp_path)
    code = f"print({END!r})\n".join(f"{code}\n" for code, _ in examples).replace(SERVER, embedder)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"HF_HOME": str(tmp_path), "HF_DATASETS_OFFLINE": "1"},
    )  # fmt: skip
    said, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()[-3000:]
    assert said.decode().split(f"{END}\n") == [shown for _, shown in examples]
