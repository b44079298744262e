"""Strike each part of a cluster in each way while it works, and say what was lost, what differed, how long it took.

    python -m tests.chaos [--rounds N] [--json FILE] [--picture FILE] [CELL...]

A CELL is target/fault/activity, of which any part may be * and the last may be left out: redis/disk-full,
*/sigkill/evaluation. The environment may say the same: SEED=n repeats a run's random moments, CELLS chooses.
"""

import argparse
import asyncio
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos import matrix
from tests.chaos.activities import works
from tests.chaos.cluster import Cluster, started
from tests.chaos.matrix import Found
from tests.chaos.picture import write_picture
from tests.chaos.report import Run, line, write_json
from tests.chaos.services import environment


def main() -> int:
    options = _options()
    os.environ.clear()
    os.environ.update(environment())
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.signal(signal.SIGINT, lambda *_: sys.exit(128 + signal.SIGINT))
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    print(f"seed {seed}: SEED={seed} make chaos repeats it", flush=True)
    with tempfile.TemporaryDirectory(prefix="chaos-") as folder, started(Path(folder)) as cluster:
        run = asyncio.run(_run(cluster, options, Run(seed)))
        for name in {found.cell.target for found in run.found if found.verdict == "BROKEN"}:
            print(f"--- end of {name}'s log\n{cluster.services[name].log.read_text(errors='replace')[-3000:]}")
    print(f"\n{run.markdown}")
    if options.picture:
        write_picture(run.found, options.picture)
    return 1 if run.broken else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cells", nargs="*", default=os.environ.get("CELLS", "").split())
    parser.add_argument("--seed", type=int, default=int(os.environ["SEED"]) if "SEED" in os.environ else None)
    parser.add_argument("--rounds", type=int, default=1, help="how often each cell is struck")
    parser.add_argument("--scale", type=float, help="how much work there is; what fits the machine without it")
    parser.add_argument("--patience", type=float, default=240.0, help="seconds after which a cell is not waited for")
    parser.add_argument("--json", type=Path, help="write what was found to this file too")
    parser.add_argument("--picture", type=Path, help="draw recovery by cell into this PNG")
    return parser.parse_args()


async def _run(cluster: Cluster, options: argparse.Namespace, run: Run) -> Run:
    chosen = [cell for cell in matrix.cells(cluster.net.shared_because) if cell.chosen(options.cells)]
    run.found += [Found(cell, "left out", note=cell.because) for cell in chosen if cell.because]
    wanted = [cell for cell in chosen if not cell.because]
    scale = options.scale or await matrix.fitting(cluster)
    print(f"scale {scale:.3f} of the work", flush=True)
    work = works(cluster, scale)
    calm: dict[tuple[str, str], tuple[object, float]] = {}
    for model in dict.fromkeys(work[cell.target].model for cell in wanted):
        mine = [cell for cell in wanted if work[cell.target].model == model]
        activities = list(dict.fromkeys(cell.activity for cell in mine))
        calm |= await matrix.undisturbed(cluster, work[mine[0].target], activities)
        seconds = {name: f"{calm[model, name][1]:.1f} s" for name in activities}
        print(f"undisturbed, with {model}: {seconds}", flush=True)
    for number in range(1, options.rounds + 1):
        for (target, fault), group in itertools.groupby(wanted, lambda cell: (cell.target, cell.fault)):
            # A chance of its own for each, so that a choice of cells is struck as in the run of all.
            chance = random.Random(f"{run.seed}/{number}/{target}/{fault}")
            for found in await matrix.hit(cluster, list(group), work[target], calm, chance, options.patience):
                found.round = number
                run.found.append(found)
                print(f"{time.strftime('%H:%M:%S')} {line(found)}", flush=True)
            if options.json:
                write_json(run, options.json)
    return run


if __name__ == "__main__":
    sys.exit(main())
