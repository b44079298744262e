"""`python -m embedscale.evaluator`."""

import sys

from embedscale.evaluator.settings import EvaluatorSettings
from embedscale.servicekit.lifecycle import run
from embedscale.servicekit.settings import EXIT_BAD_SETTINGS, BadConfiguration, load_settings


def main() -> None:
    """Run the server until it is told to stop."""
    settings = load_settings(EvaluatorSettings, "evaluator")
    from embedscale.evaluator.bootstrap import build

    try:
        run(lambda: build(settings), settings)
    except BadConfiguration as error:
        sys.stderr.write(f"evaluator: {error}\n")
        raise SystemExit(EXIT_BAD_SETTINGS) from None


if __name__ == "__main__":
    main()
