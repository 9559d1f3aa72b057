"""The result of the suite as Markdown tables."""

from typing import Any

from benchmarks.sac import EPOCH, IMAGE_EPOCH, OURS_IMAGES

Document = dict[str, Any]
# Goals of the ratios, on two cores.
GOALS = {
    "env: steps over CartPole-v1": 1.5,
    "env: frames at frames_per_step 7 over CartPole-v1": 3.0,
    "render: environment 84x84x1 over its frames alone": 0.6,
    "sac: updates over sbx 2 x 128": 1.5,
    "sac: updates over sb3 2 x 128": 5.0,
    "sac: updates over sbx 2 x 256": 1.2,
    "sac: updates over sb3 2 x 256": 2.0,
    "train: time of sbx over ours": 5.0,
    "train: time of stable_baselines3 over ours": 5.0,
}
# Goals by part and name of a row: compilation time in seconds, and rate at the best batch size.
COMPILE_GOALS = {("sac", EPOCH): 15, ("sac", IMAGE_EPOCH): 30}
RATE_GOALS = {("render", "frames 84x84x1"): 500_000, ("sac", OURS_IMAGES): 100}


def markdown(document: Document) -> str:
    """The machine, the rows, the goals and the ratios."""
    hardware, machine = document["hardware"], document["machine"]
    lines = [
        f"{hardware['cores_used']} of {hardware['cores']} cores of {hardware['cpu']}, {hardware['device']}; "
        f"load {hardware['load_average']} at the start; "
        + ", ".join(f"{name} {version}" for name, version in document["packages"].items()),
        "",
        "Machine: "
        + ", ".join(
            f"{level['median'] / 1e9:.1f} GB/s copied within {level['bytes'] / 2**20:g} MiB"
            for level in machine["bytes_per_second"]
        )
        + f"; {machine['operations_per_second']['median'] / 1e9:.1f} GFLOP/s in float32 matrices.",
    ]
    timed = [row for row in document["rows"] if "rates" in row]
    if timed:
        lines += [
            "",
            "| part | what | at once | per second: median | min | max | compile s | roofline | reached |",
            "|---|---|--:|--:|--:|--:|--:|--:|--:|",
        ]
    lines += [_row(row) for row in timed]
    lines += _goals(timed)
    trained = [row for row in document["rows"] if row["part"] == "train"]
    if trained:
        lines += [
            "",
            "| training | seed | reached | seconds | CPU seconds | steps | best return |",
            "|---|--:|---|--:|--:|--:|--:|",
        ]
    for row in trained:
        best = "" if row["best_return"] is None else f"{row['best_return']:.0f}"
        reached = f"return {row['goal']:.0f}" if row["reached"] else "no"
        lines.append(
            f"| {row['name']} | {row['seed']} | {reached} | {row['seconds']:.0f} "
            f"| {row['processor_seconds']:.0f} | {row['timesteps']:,} | {best} |"
        )
    if document["ratios"]:
        lines += [
            "",
            "| ratio | median | min | max | by CPU time | goal | |",
            "|---|--:|--:|--:|--:|--:|---|",
        ]
    lines += [_ratio(name, spread) for name, spread in document["ratios"].items()]
    return "\n".join(lines)


def _row(row: dict[str, Any]) -> str:
    roofline = row.get("roofline")
    limit, share = (
        (f"{roofline['rate']:,.0f} ({roofline['limit']})", f"{roofline['share']:.0%}") if roofline else "  "
    )
    # A single measurement has no spread.
    low, high = (f"{row[name]:,.0f}" if len(row["rates"]) > 1 else "" for name in ("min", "max"))
    return (
        f"| {row['part']} | {row['name']} | {row['size']:,} | {row['median']:,.0f} {row['unit']} "
        f"| {low} | {high} | {row['compile_seconds']:.1f} | {limit} | {share} |"
    )


def _goals(rows: list[dict[str, Any]]) -> list[str]:
    """A table of the goals of measured rows."""

    def of(part: str, name: str) -> list[dict[str, Any]]:
        return [row for row in rows if (row["part"], row["name"]) == (part, name)]

    lines = []
    for (part, name), most in COMPILE_GOALS.items():
        for row in of(part, name):
            seconds = row["compile_seconds"]
            verdict = _verdict(seconds < most)
            lines.append(
                f"| {part}: {name}, compilation seconds | {seconds:.1f} | below {most} | {verdict} |"
            )
    for (part, name), least in RATE_GOALS.items():
        rates = [row["median"] for row in of(part, name)]
        if rates:
            verdict = _verdict(max(rates) >= least)
            lines.append(f"| {part}: {name}, per second | {max(rates):,.0f} | {least:,} | {verdict} |")
    return ["", "| goal of | measured | goal | |", "|---|--:|--:|---|", *lines] if lines else []


def _verdict(reached: bool) -> str:
    return "reached" if reached else "not reached"


def _ratio(name: str, spread: dict[str, Any]) -> str:
    goal = GOALS.get(name)
    least = ">= " if spread.get("at_least") else ""
    low, high = (f"{spread[name]:.2f}" if name in spread else "" for name in ("min", "max"))
    verdict = "" if goal is None else _verdict(spread["median"] >= goal)
    return (
        f"| {name} | {least}{spread['median']:.2f} | {low} | {high} "
        f"| {spread['by_processor']:.2f} "
        f"| {goal or ''} | {verdict} |"
    )
