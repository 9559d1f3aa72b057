"""`jaxdodge ablate STUDY`: train and evaluate the cells of a study, write a report.

Exit status: 0 finished, 1 finished but some cells failed, 2 invalid input, 130 or 143 stopped by
Ctrl-C or SIGTERM (the same command resumes).
"""

import dataclasses
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro

from jaxdodge import resources
from jaxdodge.ablation.dry_run import dry_run
from jaxdodge.ablation.local_executor import Event, run_locally
from jaxdodge.ablation.ray_executor import run_on_ray
from jaxdodge.ablation.result_store import ResultStore
from jaxdodge.ablation.status_display import StatusDisplay
from jaxdodge.ablation.study import Study
from jaxdodge.ablation.study_file import read_study
from jaxdodge.ablation.study_run import (
    UNFINISHED,
    CellResult,
    cell_results,
    leave_out_unfinished,
    load,
    run_missing,
)
from jaxdodge.ablation.tasks import Task
from jaxdodge.cli import Interrupt, guarded
from jaxdodge.fields import ConfigError, Number
from jaxdodge.locks import locked
from jaxdodge.runs.options import parse_options


@dataclasses.dataclass(frozen=True)
class Ablate:
    """Train every cell of a study with several seeds, evaluate it, and write a report.

    If it is interrupted, the same command resumes. Finished cells are computed again only if their
    configuration or the code has changed. The report names the cells that fail; the others
    continue.
    """

    study: Annotated[Path, tyro.conf.Positional]
    """Study file, or the name of one in configs/studies; see docs/studies.md."""
    out: Path | None = None
    """Folder for results and report; default: results/studies/NAME, or NAME_full with --full."""
    full: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Run the larger version of the study, which its section `full` describes."""
    report_only: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Write the report of the cells that are finished so far, and train nothing. It may be written
    while the study runs."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print the cells, their memory and the estimated time. Nothing is compiled or kept."""
    ray: str | None = None
    """Run on a Ray cluster: its address, or auto, or local."""
    gpus_per_cell: float | None = None
    """With --ray: GPUs per cell, possibly a fraction; default: 1 if the cluster has any."""
    cpus_per_cell: float = 1
    """With --ray: CPUs per cell."""

    def __post_init__(self) -> None:
        if self.gpus_per_cell is not None:
            Number(float, 0, 1000).check("gpus_per_cell", self.gpus_per_cell)
        Number(float, 0, 10_000, above_low=True).check("cpus_per_cell", self.cpus_per_cell)


def ablate(arguments: list[str]) -> int:
    """Parse the arguments, run the study, write the report; returns the exit status."""
    notes = f"Studies in the package: {', '.join(resources.presets('studies'))}."
    options, _ = parse_options(Ablate, (), "jaxdodge ablate", arguments, notes=notes)
    study = read_study(resources.preset(options.study, "studies"), options.full)
    out = options.out or Path("results/studies") / (study.name + ("_full" if options.full else ""))
    cells, store = cell_results(study, out), ResultStore(out / "cells")
    summary = (
        f"{study.question}\n{len(study.cells)} cells, {study.seeds} seeds each, "
        f"{len(study.conditions)} conditions"
    )
    if options.dry_run:
        print(summary, flush=True)
        load(cells, store)
        dry_run(cells, store)
        return 0

    if options.report_only:
        load(cells, store)
        if not leave_out_unfinished(cells, store):
            raise ConfigError(f"{out}: no finished cell of {study.name}; expected at least one")
        return _report(study, cells, out)

    def execute(tasks: list[Task]) -> Iterator[Event]:
        if not tasks:
            return iter(())
        if options.ray is None:
            return run_locally(tasks, interrupt.reason, out / "log.txt", out / "compiled")
        return run_on_ray(tasks, interrupt.reason, options.ray, options.gpus_per_cell, options.cpus_per_cell)

    in_use = "in use by another process; expected another --out"
    with Interrupt() as interrupt, locked(out, in_use):
        load(cells, store)
        print(f"{summary}; results: {out}", flush=True)
        with StatusDisplay([cell.cell.name for cell in cells]) as display:
            run_missing(cells, store, execute, display)
        if interrupt.signal:
            return 128 + interrupt.signal
        return _report(study, cells, out)


def _report(study: Study, cells: list[CellResult], out: Path) -> int:
    """Write the report; returns the exit status."""
    from jaxdodge.ablation.report import write_report

    write_report(study, cells, out)
    errors = [cell.error for cell in cells if cell.error is not None]
    unfinished = errors.count(UNFINISHED)
    failed = len(errors) - unfinished
    print(
        f"report: {out / 'report.html'}"
        + (f"; {failed} cells failed" if failed else "")
        + (f"; {unfinished} of {len(cells)} cells are not finished" if unfinished else "")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(guarded(ablate, sys.argv[1:]))
