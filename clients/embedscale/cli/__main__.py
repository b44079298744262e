"""`evalctl`, and `python -m embedscale.cli`: the library is installed without what only the command line needs."""

import sys
import traceback


def main() -> None:
    """Run the command line, or say how to install it."""
    try:
        from embedscale.cli.exit_codes import EXIT_BUG
        from embedscale.cli.main import main as evalctl
    except ModuleNotFoundError as error:
        sys.exit(f"evalctl needs {error.name}: pip install 'embedscale[cli]'")
    try:
        evalctl(prog_name="evalctl")
    except Exception:
        traceback.print_exc()
        sys.exit(EXIT_BUG)


if __name__ == "__main__":
    main()
