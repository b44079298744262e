"""Environment variables that evalctl reads; an option wins over its variable."""

VARIABLES = {
    "EVALCTL_CONTEXT": "Context to talk to, as `--context`.",
    "EVALCTL_EMBEDDING_ADDRESS": "Addresses of embedding servers, blanks between them, as `--embedding-address`.",
    "EVALCTL_EVALUATION_ADDRESS": "Address of the evaluator, as `--evaluation-address`.",
    "EVALCTL_CONFIG": "File of contexts; by default `embedscale/contexts.json` in the user's configuration folder.",
    "EMBEDSCALE_HOME": "Folder of the cluster of this machine; by default one in the user's state folder.",
    "NO_COLOR": "No colours, whatever its value.",
}
