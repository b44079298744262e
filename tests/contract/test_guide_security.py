"""The commands of the guide to security make files that servers and clients take."""

import re
import shutil
import subprocess
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from embedscale.client import AsyncCacheClient, AsyncEmbeddingClient, ClientOptions, PermissionDenied
from embedscale.embedder.settings import EmbedderSettings
from embedscale.embedding.bootstrap import build_application
from embedscale.embedding.settings import EmbeddingServerSettings
from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.openai_proxy.settings import ProxySettings
from tests.conftest import served
from tests.fakes.hash_engine import HASH, HashEngine

GUIDE = (Path(__file__).parents[2] / "docs" / "guide-security.md").read_text("utf-8")
BLOCKS = re.findall(r"^```sh\n(.*?)^```", GUIDE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """Folder in which the guide's commands of openssl have been run."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    blocks = [block for block in BLOCKS if block.startswith("openssl")]
    assert len(blocks) == 2
    for block in blocks:
        subprocess.run(["bash", "-euc", block], cwd=tmp_path, check=True, capture_output=True)
    return tmp_path


async def test_certificates_and_tokens_of_the_guide_work(stack: AsyncExitStack, made: Path) -> None:
    settings = EmbeddingServerSettings(
        tls_certificate_file=made / "tls.crt",
        tls_key_file=made / "tls.key",
        auth_tokens_file=made / "tokens.yaml",
        drain_seconds=1,
    )
    address = await served(stack, build_application([HashEngine()], settings), settings)
    token = (made / "search-team.token").read_text()
    options = ClientOptions(ca_file=made / "ca.pem", token=token)
    async with AsyncEmbeddingClient([address.replace("127.0.0.1", "localhost")], options) as client:
        assert (await client.embed(["a"], model=HASH)).vectors.shape == (1, 384)
    async with AsyncCacheClient([address.replace("127.0.0.1", "localhost")], options) as caches:
        with pytest.raises(PermissionDenied, match="'search-team'"):
            await caches.purge(model=HASH)
    assert token.strip() not in (made / "tokens.yaml").read_text()


def test_every_flag_of_the_guide_exists() -> None:
    kinds = (EmbedderSettings, ProxySettings, EvaluatorSettings)
    known = {f"--{name.replace('_', '-')}" for kind in kinds for name in kind.model_fields}
    known |= {"--embedding-address", "--ca-file", "--token-file", "--certificate-file", "--key-file", "--context"}
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", GUIDE)) <= known
