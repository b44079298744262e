"""`python -m embedscale.embedder`."""

from embedscale.embedder.settings import EmbedderSettings
from embedscale.embedding.bootstrap import serve
from embedscale.embedding.catalog import Catalog
from embedscale.servicekit.lifecycle import Application


def build(settings: EmbedderSettings, catalog: Catalog) -> Application:
    """Import the heavy libraries only once the settings are known to be right."""
    from embedscale.embedder import bootstrap

    return bootstrap.build(settings, catalog)


if __name__ == "__main__":
    serve("embedder", EmbedderSettings, build)
