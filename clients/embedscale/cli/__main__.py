"""`evalctl`, and `python -m embedscale.cli`: the library is installed without what only the command line needs."""

import sys


def main() -> None:
    """Run the command line, or say how to install it."""
    try:
        from embedscale.cli.main import main as evalctl
    except ModuleNotFoundError as error:
        sys.exit(f"evalctl needs {error.name}: pip install 'embedscale[cli]'")
    evalctl(prog_name="evalctl")


if __name__ == "__main__":
    main()
