"""The dry run of a study: its cells, their memory and the estimated time. Nothing is compiled."""

import statistics

from jaxdodge.ablation.result_store import ResultStore
from jaxdodge.ablation.study_run import CellResult
from jaxdodge.ablation.tasks import Task, program_key
from jaxdodge.agents.train_config import TrainConfig, updates_after
from jaxdodge.config import GameConfig
from jaxdodge.evaluation.tables import seconds_text
from jaxdodge.fields import ConfigError
from jaxdodge.outputs import plain_console
from jaxdodge.runs.epochs import pixels_of_an_update

# Seconds on one core of an AMD EPYC (Zen 4), fitted to the cells of the studies in docs/findings.
# Most of these cells took between half and twice as long.
COMPILING = 20.0
UPDATE = 0.6e-3
UPDATE_PER_WEIGHT_OF_A_SAMPLE = 0.4e-9
UPDATE_PER_PIXEL = 5.3e-9
EPISODE = {False: 0.005, True: 0.04}
"""Of 1000 steps with all others of an evaluation; whether the policy sees images."""
NOTE = (
    "~: from the sizes of networks and images, for one core of an AMD EPYC (Zen 4) with a factor of two "
    "either way; memory without temporary arrays"
)


def dry_run(cells: list[CellResult], store: ResultStore) -> None:
    """Print a row per cell, and the estimated time of all that is missing.

    Args:
        cells: after `load`.
        store: of the study.
    """
    console = plain_console()
    width = max(len(cell.cell.name) for cell in cells)
    console.print(f"{'cell':{width}}  {'memory':>9}  seeds at once  {'training':>13}  {'evaluation':>13}")
    scale, finished = _scale(cells)
    compiled: set[str] = set()
    total = 0.0
    with console.status("") as status:
        for number, cell in enumerate(cells, 1):
            status.update(f"cell {number} of {len(cells)}: {cell.cell.name}")
            task = cell.task
            if task is None or not store.missing(task):
                text = "finished earlier" if task else f"invalid: {cell.error}"
                console.print(f"{cell.cell.name:{width}}  {text}")
                continue
            try:
                memory, seeds_at_once = estimate_memory(task)
            except ConfigError as error:
                console.print(f"{cell.cell.name:{width}}  invalid: {error}")
                continue
            groups, program = -(-task.train.seeds // seeds_at_once), program_key(task)
            training, evaluation = (scale * seconds for seconds in estimate_seconds(task, groups))
            # Compiling is shared by cells that share a program.
            training += scale * COMPILING * groups * (program not in compiled)
            compiled.add(program)
            total += training + evaluation
            console.print(
                f"{cell.cell.name:{width}}  {f'~{memory / 1e6:,.0f} MB':>9}  {seeds_at_once:>13}  "
                f"{'~' + seconds_text(training):>13}  {'~' + seconds_text(evaluation):>13}"
            )
    console.print(f"total, one cell after another: {'~' * (total > 0)}{seconds_text(total)}")
    if total:
        console.print(NOTE + (f"; times scaled by those of {finished} finished cells" if finished else ""))


def _scale(cells: list[CellResult]) -> tuple[float, int]:
    """How much longer than estimated finished cells took (1 without any), and their number."""
    ratios = []
    for cell in cells:
        if cell.task and cell.results and cell.error is None:
            took = sum(one["cost"]["training_seconds"] for one in cell.results)
            ratios.append(took / (COMPILING + estimate_seconds(cell.task)[0]))
    return (statistics.median(ratios) if ratios else 1.0), len(ratios)


def estimate_memory(task: Task) -> tuple[int, int]:
    """Bytes of a task without the temporary arrays of an epoch, and its seeds in one program.

    Raises:
        ConfigError: the configuration is invalid, or one seed alone does not fit into memory.
    """
    from jaxdodge.ablation.compute import fitting
    from jaxdodge.agents.program import shared_program
    from jaxdodge.runs.epochs import steps_of_an_epoch
    from jaxdodge.runs.memory import Memory, check_fits, estimate

    def memory(game: GameConfig, train: TrainConfig) -> Memory:
        found = estimate(shared_program(game, train, steps_of_an_epoch(game, train)).shapes)
        check_fits(found, game, train)
        return found

    found, groups = fitting(task, memory)
    return found.total, groups[0].train.seeds


def estimate_seconds(task: Task, groups: int = 1) -> tuple[float, float]:
    """Seconds to train all seeds of a task, without compiling, and to evaluate them afterwards.

    Args:
        task: of a cell.
        groups: that its seeds are trained in, one after another.
    """
    game, train = task.game, task.train
    image = game.observation_mode == "topdown"
    sizes = [64, *train.net_arch]
    weights = sum(one * other for one, other in zip(sizes, [*train.net_arch, 1], strict=True))
    update = UPDATE + UPDATE_PER_WEIGHT_OF_A_SAMPLE * train.batch_size * weights
    if image:
        update += UPDATE_PER_PIXEL * pixels_of_an_update(game, train)
    episode = EPISODE[image] * game.max_episode_steps / 1000
    during = max(train.total_timesteps // train.eval_freq, 1) * train.n_eval_episodes * episode
    seconds = train.seeds * (updates_after(train, game.frame_stack, train.total_timesteps) * update + during)
    if task.minutes is not None:
        seconds = 60 * task.minutes * groups
    return seconds, train.seeds * len(task.conditions) * task.episodes * episode
