"""What to do when the library behind an adapter is not installed."""


def missing(extra: str) -> ImportError:
    """Make the error that says which extra to install."""
    return ImportError(f"this adapter needs another package: pip install 'embedscale[{extra}]'")
