"""Completion in bash for words with colons in them, such as `builtin:velmar/en`, at which bash would cut."""

import os

from click.shell_completion import BashComplete, add_completion_class, split_arg_string

_SOURCE = """\
%(complete_func)s() {
    local line=${COMP_LINE:0:COMP_POINT} type value present=""
    # Bash replaces only what follows the last colon, so that what is before it must not be offered again.
    local word=${line##* }
    [[ $COMP_WORDBREAKS == *:* && $word == *:* ]] && present=${word%%:*}:
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain) COMPREPLY+=("${value#"$present"}") ;;
        esac
    done < <(COMP_LINE="$line" %(complete_var)s=bash_complete "$1")
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@add_completion_class
class Bash(BashComplete):
    """Reads the line as it was typed, not as bash cut it."""

    source_template = _SOURCE

    def get_completion_args(self) -> tuple[list[str], str]:
        """See `ShellComplete`."""
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)[1:]
        incomplete = words.pop() if words and not line[-1].isspace() else ""
        return words, incomplete
