"""`python -m embedscale.openai_gateway`."""

from embedscale.openai_gateway.settings import GatewaySettings
from embedscale.servicekit.process import run_server
from embedscale.servicekit.settings import load_settings


def main() -> None:
    """Run the server until it is told to stop."""
    settings = load_settings(GatewaySettings, "openai_gateway")
    from embedscale.openai_gateway.bootstrap import build

    run_server(lambda: build(settings), settings)


if __name__ == "__main__":
    main()
