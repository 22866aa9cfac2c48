"""Tables and plots of the results."""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from rows import KIT, WITH

MARKERS = ("<!-- tables: written by benchmarks/run.py -->", "<!-- end of tables -->")
GIGA = 1e9


Panel = tuple[str, str, list[dict[str, Any]], Callable[[dict[str, Any]], float], str, float]
"""A plot: x label, y label, rows, x of a row, key of the samples, divisor."""


def number(value: float) -> str:
    """Three or so digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _values(row: dict[str, Any], name: str, key: str = "value") -> dict[int, float]:
    """Samples by round; empty where there are none."""
    contestant = row["contestants"].get(name, {"samples": []})
    return {
        sample["round"]: sample[key]
        for sample in contestant["samples"]
        if key in sample and sample["round"] < row["rounds"]
    }


def _median(row: dict[str, Any], name: str, key: str = "value") -> float:
    """Median of the samples, of which there must be some."""
    return median(_values(row, name, key).values())


def _error(row: dict[str, Any], name: str) -> str:
    """Why a contestant failed, as a table shows it."""
    samples = row["contestants"].get(name, {"samples": []})["samples"]
    return next((sample["error"].replace("|", "/").replace("<", "‹") for sample in samples if "error" in sample), "")


def ratio(row: dict[str, Any], ours: str, rival: str) -> str:
    """Median of the rival by ours, with the smallest and the largest ratio of a round."""
    mine, other = _values(row, ours), _values(row, rival)
    each = [other[k] / mine[k] for k in mine if k in other]
    if not each:
        return ""
    whole = median(other.values()) / median(mine.values())
    return f"**{whole:.1f}** ({min(each):.1f} to {max(each):.1f})"


def _fastest(row: dict[str, Any], names: list[str]) -> str | None:
    known = {name: _median(row, name) for name in names if _values(row, name)}
    return min(known, key=known.__getitem__) if known else None


def _table(headings: list[str], lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in [headings, ["---"] * len(headings), *lines])


def comparison(rows: list[dict[str, Any]]) -> str:
    """Each of ours beside its fastest rival, as shipped and with allocator settings."""
    lines = []
    variants = {f"{KIT} as shipped": "", f"{KIT} with allocator settings": WITH}
    if not any(contestant["allocator"] for row in rows for contestant in row["contestants"].values()):
        variants = {KIT: ""}
    for row in rows:
        for name, contestant in row["contestants"].items():
            if (
                not contestant["against"]
                or not any(_values(row, each) for each in contestant["against"])
                or not _values(row, name)
            ):
                continue
            line = [f"{row['title']}, {row['unit']}", name, number(_median(row, name))]
            for variant in variants.values():
                rival = _fastest(row, [each + variant for each in contestant["against"]])
                line += (
                    [
                        f"{number(_median(row, rival))} ({rival.removeprefix(KIT + ' ').removesuffix(WITH)})",
                        ratio(row, name, rival),
                    ]
                    if rival
                    else ["", ""]
                )
            lines.append(line)
    headings = ["work", "ours", "", *(heading for variant in variants for heading in (variant, "ratio"))]
    return _table(headings, lines) if lines else ""


def everything(rows: list[dict[str, Any]]) -> str:
    """Every contestant: median, spread, peaks of memory, or why it failed; the device's where a sample has it."""
    lines = []
    peaks = {"peak_memory": "peak memory, GB", "peak_device_memory": "of the device, GB"}
    samples = [sample for row in rows for each in row["contestants"].values() for sample in each["samples"]]
    if not any("peak_device_memory" in sample for sample in samples):
        del peaks["peak_device_memory"]
    for row in rows:
        for name in row["contestants"]:
            values = _values(row, name)
            error = f"fails: {_error(row, name)}" if _error(row, name) else ""
            if values:
                spread = f"{number(min(values.values()))} to {number(max(values.values()))}"
                result = [
                    number(median(values.values())),
                    spread,
                    *(f"{_median(row, name, key) / GIGA:.2f}" if _values(row, name, key) else "" for key in peaks),
                    f"{len(values)}, then {error}" if error else str(len(values)),
                ]
            else:
                result = [error or "not measured", "", "", *("" for _ in peaks)]
            lines.append([row["title"], name, row["unit"], *result])
    return _table(["work", "program", "unit", "median", "smallest to largest", *peaks.values(), "processes"], lines)


def agreement(rows: list[dict[str, Any]]) -> str:
    """How far the largest force component differs between the contestants of a row: they do the same work."""
    deviations: dict[str, float] = {}
    for row in rows:
        forces = [
            force
            for name in row["contestants"]
            for force in [*_values(row, name, "largest_force").values()][:1]
            if force is not None
        ]
        kind = "compressed models" if row["name"].startswith("compressed") else "models"
        if len(forces) > 1:
            deviations[kind] = max(deviations.get(kind, 0.0), (max(forces) - min(forces)) / max(forces))
    texts = [f"{value:.0e} for {kind}" for kind, value in deviations.items()]
    return (
        f"Largest relative difference of the largest force component between files and programs: {', '.join(texts)}."
        if texts
        else ""
    )


def conditions(results: dict[str, Any]) -> str:
    machine, settings = results["machine"], results["settings"]
    lines = [
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory'] / GIGA:.0f} GB, {machine['system']}",
        *([f"device: {settings['device']}"] if "device" in settings else []),
        f"{settings['threads']} threads, data: {settings['data']}"
        + (", QUICK: numbers mean nothing" if settings["quick"] else ""),
        *(
            f"{name}: " + ", ".join(f"{k} {v}" for k, v in machine[side].items())
            for name, side in (("ours", "ours"), (KIT, "theirs"))
            if machine[side]
        ),
    ]
    commits: dict[str, list[str]] = {}
    for row in results["rows"].values():
        if not any(contestant["samples"] for contestant in row["contestants"].values()):
            continue
        commits.setdefault(f"commit {row['commit'] or 'unknown'}, {row['date'][:10]}", []).append(row["name"])
    lines += [f"{text}: {', '.join(names) if len(commits) > 1 else 'all rows'}" for text, names in commits.items()]
    return "\n".join(f"- {line}" for line in lines)


def _plot(panels: list[Panel], target: Path) -> bool:
    """Draw curves, one panel each.

    Return whether there was anything to draw.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    if any(len({x(row) for row in rows}) < 2 for _, _, rows, x, _, _ in panels):
        return False
    figure, axes = plt.subplots(1, len(panels), figsize=(5.5 * len(panels), 4), layout="constrained", squeeze=False)
    for axis, (label, ylabel, rows, x, key, divisor) in zip(axes[0], panels, strict=True):
        rows = sorted(rows, key=x)
        for name in dict.fromkeys(name for row in rows for name in row["contestants"] if WITH not in name):
            points = [(x(row), _median(row, name, key) / divisor) for row in rows if _values(row, name, key)]
            axis.plot(
                *zip(*points, strict=True), marker="o", ms=4, ls="-" if name.startswith("ours") else "--", label=name
            ) if points else None
        axis.set(xlabel=label, ylabel=ylabel, xscale="log")
        ticks = sorted({x(row) for row in rows})
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.minorticks_off()
        axis.set_ylim(bottom=0)
        axis.legend(frameon=False)
        axis.grid(alpha=0.3)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)
    plt.close(figure)
    return True


def _plots(rows: list[dict[str, Any]], folder: Path) -> str:
    """Draw the scaling curves; return the lines that show them."""
    named = {row["name"]: row for row in rows}
    sizes = [row for name, row in named.items() if name.startswith("eval-") and "threads" not in name]
    batches = [named[name] for name in named if name == "train" or name.startswith("train-batch")]
    train, evaluate = (
        [row for name, row in named.items() if name.startswith(f"{kind}-threads")] for kind in ("train", "eval")
    )
    wanted: dict[str, list[Panel]] = {
        "atoms": [
            ("atoms", "us/atom", sizes, _atoms, "value", 1.0),
            ("atoms", "peak memory, GB", sizes, _atoms, "peak_memory", GIGA),
        ],
        "batch": [("frames in a training step", "ms/step", batches, _batch, "value", 1.0)],
        "threads": [
            (f"threads ({title})", unit, part, _threads, "value", 1.0)
            for title, unit, part in (("training", "ms/step", train), ("evaluation", "us/atom", evaluate))
        ],
    }
    shown = [
        f"![{name}]({folder.name}/{name}.png)"
        for name, panels in wanted.items()
        if _plot(panels, folder / f"{name}.png")
    ]
    return "\n\n".join(["### Scaling", *shown]) if shown else ""


def _atoms(row: dict[str, Any]) -> int:
    return int(row["natoms"])


def _batch(row: dict[str, Any]) -> int:
    return int(row["batch"])


def _threads(row: dict[str, Any]) -> int:
    return int(row["threads"])


def write(results: dict[str, Any], docs: Path) -> None:
    """Put tables between the markers of a page, and plots into the folder of its name."""
    rows = [row for row in results["rows"].values() if row["rounds"]]
    parts = [
        conditions(results),
        comparison(rows),
        agreement(rows),
        _plots(rows, docs.with_suffix("")),
        "### Every measurement",
        everything(rows),
    ]
    put(docs, MARKERS, parts)


def put(docs: Path, markers: tuple[str, str], parts: list[str]) -> None:
    """Write parts that are not empty between the markers of a page, or at its end if it has no markers."""
    begin, end = markers
    page = docs.read_text() if docs.exists() else "# Benchmarks\n"
    if begin not in page:
        page += f"\n{begin}\n{end}\n"
    before, _, rest = page.partition(begin)
    _, _, after = rest.partition(end)
    docs.write_text(f"{before}{begin}\n\n" + "\n\n".join(part for part in parts if part) + f"\n\n{end}{after}")
    print(f"written: {docs}")
