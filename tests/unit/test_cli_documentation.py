"""Every command, flag, exit code and variable is documented, with examples that are read by the real parser."""

import re
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import click
import pytest
import yaml

from embedscale.cli.exit_codes import EXIT_CODES
from embedscale.cli.main import COMMANDS, main
from embedscale.cli.plan import Plan
from embedscale.cli.variables import VARIABLES
from tests.markdown_pages import PAGES, commands

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "clients" / "embedscale" / "cli").glob("*.py"))
PAGE = (ROOT / "docs" / "cli.md").read_text("utf-8")
REFERENCE = (ROOT / "docs" / "reference.md").read_text("utf-8")
FILES = (
    *("plan.yaml", "questions.csv", "questions.json", "questions.jsonl", "questions.txt", "nordquell-en.csv"),
    *("nordquell-de.csv", "corpus.txt", "ca.pem", "search-team.token", "mounted/tls/ca.crt", "mounted/ca.crt"),
)
HELP_TIMES = 3
"""As long as importing click may the help take."""
SHELL = ("|", ">", "<", "2>")


def tree(path: tuple[str, ...], command: click.Command) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            yield from tree((*path, name), command.get_command(context, name))


ALL = dict(tree(("evalctl",), main))
EXAMPLES = [line.strip() for line in re.findall(r"^evalctl .+$", PAGE, re.MULTILINE)]
EXAMPLES_ANYWHERE = sorted({line for page in PAGES for line in commands(page) if line.startswith("evalctl ")})


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The files that examples name."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (plan,) = re.findall(r"```yaml\n(.+?)```", PAGE, re.DOTALL)
    (tmp_path / "plan.yaml").write_text(plan)
    monkeypatch.chdir(tmp_path)


def parse(line: str) -> list[str]:
    """Read a line as the command would, without running it; returns the command's path."""
    words = shlex.split(line)
    for sign in SHELL:
        words = words[: words.index(sign)] if sign in words else words
    path, arguments, command = [words[0]], words[1:], main
    context = main.make_context("evalctl", arguments)
    while isinstance(command, click.Group) and context._protected_args:
        name, command, arguments = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, arguments, parent=context)
        path.append(name)
    return path


def example(command: click.Command) -> str:
    """The paragraph that begins with `Example:`."""
    return " ".join(command.help.split("Example:", 1)[1].split()).removesuffix("\x08")


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_help_ends_in_an_example_that_is_read(path: tuple[str, ...], files: None) -> None:
    shown = example(ALL[path])
    assert shown.startswith("evalctl ")
    assert parse(shown)[: len(path)] == list(path)


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_parameter_says_what_it_is_for(path: tuple[str, ...]) -> None:
    for parameter in ALL[path].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert all(name in REFERENCE for name in parameter.opts)


def test_the_table_of_commands_says_what_the_commands_say() -> None:
    for name, (_, line) in COMMANDS.items():
        command = ALL["evalctl", name]
        assert command.name == name
        assert command.help.splitlines()[0] == line


@pytest.mark.parametrize("line", EXAMPLES_ANYWHERE)
def test_examples_of_all_pages_are_read(line: str, files: None) -> None:
    parse(line)


def test_the_page_has_an_example_of_every_command(files: None) -> None:
    shown = {tuple(parse(line)) for line in EXAMPLES}
    commands = {path for path, command in ALL.items() if not isinstance(command, click.Group)}
    assert commands - shown - {("evalctl", "models", "list"), ("evalctl", "demo"), ("evalctl", "version")} == set()
    assert all(f"`evalctl {name}`" in PAGE for name in ("demo", "version"))


def test_the_plan_of_the_page_is_one() -> None:
    (written,) = re.findall(r"```yaml\n(.+?)```", PAGE, re.DOTALL)
    assert Plan.model_validate(yaml.safe_load(written), strict=True).models


def test_exit_codes_are_all_in_the_page_and_no_other_is_used() -> None:
    for code, meaning in EXIT_CODES.items():
        assert f"| {code} | " in PAGE
        assert f"| {code} | {meaning} |" in REFERENCE
    named = {int(value) for path in SOURCES for value in re.findall(r"^EXIT_\w+ = (\d+)$", path.read_text(), re.M)}
    assert named == set(EXIT_CODES) - {0}


def test_variables_are_all_documented() -> None:
    read = {
        name
        for path in SOURCES
        for name in re.findall(
            r"(?:envvar=|environ\.get\(|environ\[)\"((?:EVALCTL|EMBEDSCALE)_\w+)\"", path.read_text()
        )
    }
    assert read == set(VARIABLES) - {"NO_COLOR"}
    assert all(f"| `{name}` |" in REFERENCE for name in VARIABLES)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['evalctl', '--help']\nfrom embedscale.cli.__main__ import main\n"
    report = "\nfinally: print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", f"{code}try: main(){report}"], capture_output=True, text=True)
    assert "Commands:" in done.stdout
    assert not {"numpy", "grpc", "google", "rich", "matplotlib", "yaml", "pydantic"} & set(done.stderr.split())


def test_help_is_quick() -> None:
    def seconds(*arguments: str) -> float:
        """Of the processor, at best; how they are divided between program and system is for chance to say."""
        used = []
        for _ in range(4):
            subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
            usage = resource.getrusage(resource.RUSAGE_CHILDREN)
            used.append(usage.ru_utime + usage.ru_stime)
        return min(later - earlier for earlier, later in pairwise(used))

    assert seconds("-m", "embedscale.cli", "--help") < HELP_TIMES * seconds("-c", "import click")


def test_a_bug_has_a_traceback_and_a_code_of_its_own() -> None:
    code = (
        "import embedscale.cli.version as broken, sys\n"
        "from embedscale.cli.__main__ import main\n"
        "broken.version.callback = lambda output: 1 / 0\n"
        "sys.argv = ['evalctl', 'version']\n"
        "main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 4
    assert "ZeroDivisionError" in done.stderr
