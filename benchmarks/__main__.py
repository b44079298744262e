"""Runs all benchmarks, prints one summary, and writes what each found into `docs/`.

    python -m benchmarks [--quick] [--keep-docs] [NAME ...]

The figures of a benchmark replace what stands between its markers, `<!-- engine -->` and `<!-- /engine -->`.
"""

import json
import re
import subprocess
import sys

from benchmarks.common import GOAL_HEADERS, ROOT, WORK, arguments, table

NAMES = ("engine", "serving", "cache", "overload", "windows", "scaling")
PAGES = {"windows": ROOT / "docs" / "results.md", "scaling": ROOT / "docs" / "scaling.md"}
PAGE = ROOT / "docs" / "performance.md"


def run(name: str, *, quick: bool) -> dict[str, object]:
    """Run one benchmark in a process of its own; what it found."""
    path = WORK / f"{name}.json"
    print(f"\n{name}\n", flush=True)
    subprocess.run(
        [sys.executable, "-m", f"benchmarks.{name}", "--json", path, *(["--quick"] if quick else [])],
        check=True,
        cwd=ROOT,
    )
    found: dict[str, object] = json.loads(path.read_text("utf-8"))
    return found


def written(page: str, name: str, markdown: str) -> str:
    """Page with new text between the markers of a benchmark."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    return re.sub(f"{start}.*?{end}", lambda _: f"{start}\n{markdown}\n{end}", page, flags=re.DOTALL)


def main() -> None:
    """Run, write, print."""
    parser = arguments(__doc__)
    parser.add_argument("names", nargs="*", choices=[*NAMES, []], help="which; all by default")
    parser.add_argument("--keep-docs", action="store_true", help="write nothing into docs/")
    options = parser.parse_args()
    WORK.mkdir(exist_ok=True)
    results = [run(name, quick=options.quick) for name in options.names or NAMES]
    for result in results if not (options.keep_docs or options.quick) else []:
        name = str(result["name"])
        page = PAGES.get(name, PAGE)
        page.write_text(written(page.read_text("utf-8"), name, str(result["markdown"])), "utf-8")
    cells = [goal["cells"] for result in results for goal in result["goals"]]  # type: ignore[attr-defined]
    print("\nsummary\n\n" + table(GOAL_HEADERS, cells))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    main()
