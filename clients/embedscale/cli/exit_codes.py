"""Exit codes that scripts can rely on, in one place."""

EXIT_GATE = 1
EXIT_USER = 2
EXIT_SERVER = 3
EXIT_BUG = 4
EXIT_INTERRUPTED = 130
EXIT_UNREAD = 141
EXIT_TERMINATED = 143

EXIT_CODES = {
    0: "Done.",
    EXIT_GATE: "A gate failed: --fail-under, --max-regression, or a check of doctor.",
    EXIT_USER: "The command, its arguments or its data are wrong.",
    EXIT_SERVER: "A server failed, or none answers.",
    EXIT_BUG: "evalctl itself failed; the traceback says where.",
    EXIT_INTERRUPTED: "Ctrl-C.",
    EXIT_UNREAD: "Who reads the output went away, as `| head` does.",
    EXIT_TERMINATED: "SIGTERM.",
}
