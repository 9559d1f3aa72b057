"""What a report says, part by part; every number is from the rows of `measures`."""

import itertools
import json

import yaml

from jaxdodge.ablation import plots
from jaxdodge.ablation.cells import code_version, configuration
from jaxdodge.ablation.document import Bullets, Code, Figure, Heading, Part, Pictures, Table, Text
from jaxdodge.ablation.measures import COSTS, Row
from jaxdodge.ablation.running import Outcome
from jaxdodge.ablation.study import Study
from jaxdodge.evaluation.tables import seconds_text

# More cells than that make a table of all pairs unreadable; the CSV has them.
MOST_PAIRED = 12
# More pairs than that are a number, not a list.
LISTED_PAIRS = 10
FEW_SEEDS = 10
METHOD = (
    "Of each seed, the final averaged policy plays whole episodes, deterministically; its score is the mean "
    "return over the conditions of the evaluation. IQM is the interquartile mean, that of the middle half. "
    "Intervals are 95 % percentile intervals of the stratified bootstrap over seeds, profiles are "
    "distributions of run scores, and the probability of improvement counts draws half, all after Agarwal et "
    "al. 2021 (arXiv 2108.13264), sections 4.1 to 4.3. A main effect is the IQM over all cells with a level; "
    "an interaction is what the mean of the cells with two levels has beyond the sum of the two levels' own "
    "deviations from the mean of all cells."
)


def _of(rows: list[Row], figure: str) -> list[Row]:
    return [row for row in rows if row["figure"] == figure]


def _interval(row: Row, form: str = ".1f") -> str:
    return f"{row['value']:{form}} [{row['low']:{form}}, {row['high']:{form}}]"


def sections(study: Study, outcomes: list[Outcome], rows: list[Row]) -> list[Part]:
    """The parts of a report.

    Args:
        study: what was asked.
        outcomes: of its cells.
        rows: all numbers of those that have not failed.
    """
    parts: list[Part] = [Text(study.question)]
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if failed:
        parts.append(Heading("Cells that failed"))
        parts.append(Bullets([f"{outcome.cell.name}: {outcome.error}" for outcome in failed]))
    done = [outcome for outcome in outcomes if outcome.error is None]
    if done:
        parts += _answers(study, rows)
        parts += _cells(study, rows)
        parts += _effects(study, rows)
        parts += _pairs(study, rows)
        parts += _curves(rows)
        parts += _costs(rows)
        parts += _samples(done)
    return parts + _conditions_of_work(study, outcomes)


def _answers(study: Study, rows: list[Row]) -> list[Part]:
    lines = comparison(_of(rows, "score"))
    for factor in study.factors:
        effects = [row for row in _of(rows, "main_effect") if row["other"] == factor]
        if len(study.factors) > 1 and len(effects) > 1:
            lines += [f"{factor}: {line}" for line in comparison(effects)]
    warning = []
    if study.seeds < FEW_SEEDS:
        warning.append(
            f"With {study.seeds} seeds, bootstrap intervals are narrower than the truth: where they overlap, "
            "the study does not tell apart; where they do not, more seeds should confirm it."
        )
    if study.minutes is not None:
        warning.append("The budget was a time, so these figures do not come out the same again.")
    return [Heading("What the intervals say"), Bullets(lines), *map(Text, warning)]


def comparison(rows: list[Row]) -> list[str]:
    """Sentences: the highest, what its interval overlaps, what is clearly below it, what else overlaps."""
    best, *others = sorted(rows, key=lambda row: -row["value"])
    lines = [f"highest: {best['of']}, {_interval(best)}"]
    near = [row for row in others if row["high"] >= best["low"]]
    below = [row for row in others if row["high"] < best["low"]]
    if near:
        listed = "; ".join(f"{row['of']}, {_interval(row)}" for row in near)
        lines.append(f"intervals overlap with the highest, so they are not told apart: {listed}")
    if below:
        listed = "; ".join(f"{row['of']}, {_interval(row)}" for row in below)
        lines.append(f"intervals wholly below the highest: {listed}")
    compared = list(itertools.combinations(others, 2))
    pairs = [f"{one['of']} and {other['of']}" for one, other in compared if other["high"] >= one["low"]]
    if len(pairs) > LISTED_PAIRS:
        lines.append(
            f"of the others, intervals of {len(pairs)} of {len(compared)} pairs overlap: see the scores"
        )
    elif pairs:
        lines.append(f"of the others, intervals overlap of: {'; '.join(pairs)}")
    return lines


def _cells(study: Study, rows: list[Row]) -> list[Part]:
    scores, survivals = _of(rows, "score"), _of(rows, "survival")
    each: dict[str, dict[int, list[float]]] = {}
    for row in _of(rows, "seed_return"):
        each.setdefault(row["of"], {}).setdefault(row["seed"], []).append(row["value"])
    of_seeds = {
        name: " ".join(f"{sum(values) / len(values):.1f}" for values in own.values())
        for name, own in each.items()
    }
    table = [
        [score["of"], _interval(score), _interval(survival, ".1%"), of_seeds[score["of"]]]
        for score, survival in zip(scores, survivals, strict=True)
    ]
    parts: list[Part] = [
        Heading("Scores"),
        Table(["cell", "IQM [95 % interval]", "survival [95 % interval]", "score of each seed"], table),
        Figure("scores", plots.intervals(scores, "score, IQM"), "Score of each cell: IQM and 95 % interval."),
    ]
    if len(study.conditions) > 1:
        parts.append(Heading("Cells against conditions of evaluation"))
        for figure, title, form in (
            ("condition_return", "Return: IQM over seeds [95 % interval]", ".0f"),
            ("condition_survival", "Survival: mean over seeds [95 % interval]", ".0%"),
        ):
            found = {(row["of"], row["other"]): row for row in _of(rows, figure)}
            lines = [
                [score["of"], *(_interval(found[score["of"], name], form) for name in study.conditions)]
                for score in scores
            ]
            parts += [Text(title), Table(["trained as, evaluated as", *study.conditions], lines)]
    figure = plots.profiles(_of(rows, "profile"))
    text = "Performance profiles: the share of seeds and conditions above each return, with 95 % intervals."
    return [*parts, Figure("profiles", figure, text)]


def _effects(study: Study, rows: list[Row]) -> list[Part]:
    if len(study.factors) < 2:
        return []
    effects = _of(rows, "main_effect")
    if not effects:
        return [Text("No main effects and interactions: they need all cells of a whole grid.")]
    parts: list[Part] = [
        Heading("Main effects"),
        Table(["level", "IQM over all cells that have it"], [[row["of"], _interval(row)] for row in effects]),
        Figure("main_effects", plots.intervals(effects, "score, IQM"), "IQM of the score of each level."),
    ]
    pairs, interactions = _of(rows, "pair_mean"), _of(rows, "interaction")
    parts.append(Heading("Interactions of two factors"))
    for number, (one, two) in enumerate(itertools.combinations(study.factors, 2)):
        first = {f"{one} {level}" for level in study.factors[one]}
        second = {f"{two} {level}" for level in study.factors[two]}
        own = [row for row in pairs if row["of"] in first and row["other"] in second]
        beyond = [row for row in interactions if row["of"] in first and row["other"] in second]
        lines = [
            [f"{row['of']}, {row['other']}", _interval(row), _interval(more, "+.1f"), _sure(more)]
            for row, more in zip(own, beyond, strict=True)
        ]
        text = f"Mean score of {one} and {two} together, with 95 % intervals."
        parts += [
            Table(["levels", "mean", "interaction", ""], lines),
            Figure(f"pairs_{number}", plots.pair_means(own), text),
        ]
    return parts


def _sure(row: Row) -> str:
    return "may be none" if row["low"] <= 0 <= row["high"] else ""


def _pairs(study: Study, rows: list[Row]) -> list[Part]:
    pairs = {(row["of"], row["other"]): row for row in _of(rows, "improvement")}
    names = [row["of"] for row in _of(rows, "score")]
    heading = Heading("Probability that a seed of the row scores higher than one of the column")
    if not pairs or len(names) > MOST_PAIRED:
        return [heading, Text("Of so many cells (or one) only results.csv has the pairs.")]
    lines = [
        [name, *("" if name == other else _interval(pairs[name, other], ".2f") for other in names)]
        for name in names
    ]
    return [heading, Table(["", *names], lines)]


def _curves(rows: list[Row]) -> list[Part]:
    curve = _of(rows, "learning_curve")
    if not curve:
        return []
    text = "Learning curves: mean return over seeds while training, with 95 % intervals, over {}."
    return [
        Heading("Learning curves"),
        Figure("curves_by_steps", plots.learning_curves(curve, "steps"), text.format("environment steps")),
        Figure("curves_by_time", plots.learning_curves(curve, "seconds"), text.format("wall time")),
    ]


def _costs(rows: list[Row]) -> list[Part]:
    costs = {(row["of"], row["other"]): row["value"] for row in _of(rows, "cost")}
    lines = []
    for name in dict.fromkeys(of for of, _ in costs):
        own = {cost: costs[name, cost] for cost in COSTS}
        times = [seconds_text(own[cost]) for cost in ("training_seconds", "evaluation_seconds")]
        memory = f"{own['memory_bytes'] / 1e6:,.0f} MB"
        lines.append([name, *times, memory, *(f"{own[cost]:,.0f}" for cost in COSTS[3:])])
    header = [
        "cell, all seeds",
        "training",
        "evaluation",
        "peak memory",
        *(c.replace("_", " ") for c in COSTS[3:]),
    ]
    return [Heading("Cost"), Table(header, lines)]


def _samples(done: list[Outcome]) -> list[Part]:
    """The same scene as the policies of every resolution and colour mode see it."""
    pictures = {}
    for outcome in done:
        game = outcome.task and outcome.task.game
        png = outcome.results[0].get("sample_frame")
        if game and png:
            colour = "gray" if game.image_grayscale else "colour"
            text = f"{game.image_obs_width} x {game.image_obs_height}, {colour}"
            pictures[text] = (f"sample_{text.replace(' ', '').replace(',', '_')}", png, text)
    return [Heading("What the policies see"), Pictures(list(pictures.values()))] if pictures else []


def _conditions_of_work(study: Study, outcomes: list[Outcome]) -> list[Part]:
    tasks = [outcome.task for outcome in outcomes if outcome.task]
    configurations = [configuration(task.game, task.train) for task in tasks]
    common = {
        name: value
        for name, value in (configurations[0] if configurations else {}).items()
        if all(other[name] == value for other in configurations)
    }
    different = [name for name in (configurations[0] if configurations else {}) if name not in common]
    machines = {
        json.dumps(each["hardware"]) for outcome in outcomes for each in outcome.results if "hardware" in each
    }
    first = tasks[0].train.seed if tasks else 0
    how = (
        f"Seeds {first} to {first + study.seeds - 1}; {study.episodes} episodes in each condition. "
        f"Code {code_version()}."
    )
    parts: list[Part] = [
        Heading("Method"),
        Text(METHOD),
        Text(how),
        Heading("Configuration"),
        Text("Of all cells:"),
        Code(yaml.safe_dump(common, sort_keys=False).strip()),
    ]
    if different:
        lines = [
            [task.cell, *(str(values[name]) for name in different)]
            for task, values in zip(tasks, configurations, strict=True)
        ]
        parts += [Text("Of each cell:"), Table(["cell", *different], lines)]
    settings = {name: str(dict(fields)) for name, fields in study.conditions.items() if fields}
    if settings:
        parts += [
            Text("Conditions:"),
            Table(["condition", "differs in"], [list(each) for each in settings.items()]),
        ]
    machine = [Code(yaml.safe_dump(json.loads(each), sort_keys=False).strip()) for each in sorted(machines)]
    return [*parts, Heading("Hardware"), *machine]
