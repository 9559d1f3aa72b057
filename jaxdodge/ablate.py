"""`python -m jaxdodge.ablate STUDY.yaml`: run a study of many trainings, and report what it says.

Exit status: 0 finished, 1 finished but for cells that failed, 2 bad input, 130 or 143 stopped by Ctrl-C or
SIGTERM (the same command goes on).
"""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro

from jaxdodge.ablation.cells import Store, Task
from jaxdodge.ablation.local import News, run_locally
from jaxdodge.ablation.running import Outcome, load, outcomes_of, run
from jaxdodge.ablation.screen import Screen
from jaxdodge.ablation.study import Study
from jaxdodge.ablation.study_file import read_study
from jaxdodge.cli import Interrupt, guarded, parse
from jaxdodge.evaluation.tables import seconds_text
from jaxdodge.fields import Number
from jaxdodge.locks import locked


@dataclasses.dataclass(frozen=True)
class Ablate:
    """Train every cell of a study with several seeds, evaluate it, and write a report.

    Killed or stopped, the same command goes on; finished cells are never computed again, unless their
    configuration or the code has changed. Cells that fail are named in the report, and the others go on.
    """

    study: Annotated[Path, tyro.conf.Positional]
    """Study file; configs/studies holds some, docs/studies.md says how to write one."""
    out: Path | None = None
    """Folder for results and report; default: results/studies/NAME, or NAME_full with --full."""
    full: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """The version of the study for a GPU, which the file's section `full` describes."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the cells, their memory, and an estimate of the time from a short calibration.

    Nothing is kept of it but what was compiled, which the study then does not compile again.
    """
    ray: str | None = None
    """Address of a Ray cluster to run on, or auto, or local."""
    gpus_per_cell: float | None = None
    """With --ray: GPUs that a cell takes, or the share of one; default: one if the cluster has any."""
    cpus_per_cell: float = 1
    """With --ray: processors that a cell takes."""

    def __post_init__(self) -> None:
        if self.gpus_per_cell is not None:
            Number(float, 0, 1000).check("gpus_per_cell", self.gpus_per_cell)
        Number(float, 0, 10_000, above_low=True).check("cpus_per_cell", self.cpus_per_cell)


def ablate(arguments: list[str]) -> int:
    """Parse, run, report, and return the exit status."""
    options = parse(lambda: tyro.cli(Ablate, prog="python -m jaxdodge.ablate", args=arguments))
    study = read_study(options.study, options.full)
    name = study.name + ("_full" if options.full else "")
    out = options.out or Path("results/studies") / name
    outcomes = outcomes_of(study, out)
    if options.dry_run:
        return _dry_run(study, outcomes, out)
    interrupt = Interrupt()

    def execute(tasks: list[Task]) -> Iterator[News]:
        if not tasks:
            return iter(())
        if options.ray is None:
            return run_locally(tasks, interrupt.reason, out / "log.txt", out / "compiled")
        from jaxdodge.ablation.cluster import run_on_ray

        return run_on_ray(tasks, interrupt.reason, options.ray, options.gpus_per_cell, options.cpus_per_cell)

    store = Store(out / "cells")
    with locked(out, "another process is at this study; expected another --out"):
        load(outcomes, store)
        print(f"{study.question}\n{_size(study)}; results: {out}", flush=True)
        with Screen([outcome.cell.name for outcome in outcomes]) as screen:
            run(outcomes, store, execute, screen)
        if interrupt.signal:
            return 128 + interrupt.signal
        from jaxdodge.ablation.report import write_report

        write_report(study, outcomes, out)
    failed = sum(outcome.error is not None for outcome in outcomes)
    print(f"report: {out / 'report.html'}" + (f"; {failed} cells failed" if failed else ""))
    return 1 if failed else 0


def _size(study: Study) -> str:
    return f"{len(study.cells)} cells, {study.seeds} seeds each, {len(study.conditions)} conditions"


def _dry_run(study: Study, outcomes: list[Outcome], out: Path) -> int:
    from jaxdodge.ablation.calibration import calibrate

    print(f"{study.question}\n{_size(study)}")
    width = max(len(outcome.cell.name) for outcome in outcomes)
    print(f"{'cell':{width}}  {'memory':>9}  seeds at once  {'compile':>12}  {'training':>12}  evaluation")
    total = 0.0
    store = Store(out / "cells")
    load(outcomes, store)
    left = [outcome for outcome in outcomes if outcome.task is None or store.missing(outcome.task)]
    found_of = calibrate(left, out / "compiled")
    for outcome in outcomes:
        if outcome not in left:
            print(f"{outcome.cell.name:{width}}  there already", flush=True)
            continue
        _, found = next(found_of)
        if isinstance(found, str):
            print(f"{outcome.cell.name:{width}}  refused: {found}", flush=True)
            continue
        times = [found["compile"], found["epochs"], found["evaluations"]]
        total += sum(times)
        shown = "  ".join(f"{seconds_text(time):>12}" for time in times)
        memory = f"{found['memory_bytes'] / 1e6:,.0f} MB"
        print(
            f"{outcome.cell.name:{width}}  {memory:>9}  {found['seeds_per_program']:>13}  {shown}", flush=True
        )
    print(f"in all, one after the other: {seconds_text(total)}")
    return 0


if __name__ == "__main__":
    sys.exit(guarded(ablate, sys.argv[1:]))
