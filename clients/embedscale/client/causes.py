"""Why there is no connection, in words: all that gRPC has is one status and a sentence about its own parts."""

import re

_CAUSES = {
    "Connection refused": "nothing listens there",
    "Domain name not found|address lookup failed|DNS resolution failed": "its name cannot be resolved",
    "CERTIFICATE_VERIFY_FAILED": "its certificate is not signed by an authority that is trusted here (ca_file)",
    "Hostname Verification": "its certificate is for another name (server_name)",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
    "Expected SETTINGS frame": "it does not speak gRPC",
    "CERTIFICATE_REQUIRED": "it wants a certificate of its callers (certificate_file, key_file)",
    "last error.*(Socket closed|reset by peer|closed connection)": (
        "it closes connections at once: it may want TLS (tls, ca_file), or a certificate (certificate_file, key_file)"
    ),
}


def unreachable(address: str, details: str) -> str:
    """Say that no server answers at an address, and why, if gRPC's `details` tell."""
    cause = next((words for pattern, words in _CAUSES.items() if re.search(pattern, details)), "")
    return f"no server answers at {address}{': ' if cause else ''}{cause}"
