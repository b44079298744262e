"""`python -m embedscale.cli`."""

from embedscale.cli.main import main

if __name__ == "__main__":
    main()
