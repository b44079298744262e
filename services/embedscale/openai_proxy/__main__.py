"""`python -m embedscale.openai_proxy`."""

from embedscale.embedding.bootstrap import serve
from embedscale.embedding.catalog import Catalog
from embedscale.openai_proxy.settings import ProxySettings
from embedscale.servicekit.lifecycle import Application


def build(settings: ProxySettings, catalog: Catalog) -> Application:
    """Import the heavy libraries only once the settings are known to be right."""
    from embedscale.openai_proxy import bootstrap

    return bootstrap.build(settings, catalog)


if __name__ == "__main__":
    serve("openai_proxy", ProxySettings, build)
