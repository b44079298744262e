"""`python -m embedscale.evaluator`."""

from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.servicekit.lifecycle import run
from embedscale.servicekit.settings import load_settings


def main() -> None:
    """Run the server until it is told to stop."""
    settings = load_settings(EvaluatorSettings, "evaluator")
    from embedscale.evaluator.bootstrap import build

    run(lambda: build(settings), settings)


if __name__ == "__main__":
    main()
