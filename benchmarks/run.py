"""Measure this program and DeePMD-kit in turn, keep every sample, and write the tables and plots of docs/benchmarks.md.

python benchmarks/run.py [--quick] [--only ROW ...] [--time-limit SECONDS]          (see benchmarks/README.md)
"""

import argparse
import dataclasses
import datetime
import fnmatch
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import report
from measure import measure
from prepare import Workplace
from rows import Row, all_rows
from sides import ROOT, Side, machine, ours, theirs


class Results:
    """The JSON file: machine, settings, and of every row the work, the contestants and their samples.

    Written after each sample.

    A row that was measured with the present source is completed; one that was measured with another is measured anew.
    """

    def __init__(self, path: Path, conditions: dict[str, Any], fresh: bool) -> None:
        self._path = path
        self.content: dict[str, Any] = {**conditions, "rows": {}}
        if path.exists() and not fresh:
            self.content = json.loads(path.read_text())
            different = [
                f"{part}/{key} was {self.content[part][key]!r}, is {value!r}"
                for part, values in conditions.items()
                for key, value in values.items()
                if self.content[part][key] != value
            ]
            if different:
                raise SystemExit(
                    f"{path}: {'; '.join(different)}. --fresh measures everything anew, --output writes elsewhere"
                )
        self._source = hashlib.sha256(
            b"".join(path.read_bytes() for path in sorted((ROOT / "deepmd").rglob("*.py")))
        ).hexdigest()[:12]

    def begin(self, row: Row) -> int:
        """Return how many rounds of this row are there."""
        found = self.content["rows"].get(row.name)
        names = {each.name: each for each in row.contestants}
        if found is None or found["source"] != self._source or set(found["contestants"]) != set(names):
            contestants = {name: {**dataclasses.asdict(each), "samples": []} for name, each in names.items()}
            when = datetime.datetime.now().astimezone().isoformat(timespec="minutes")
            found = {
                **dataclasses.asdict(row),
                "contestants": contestants,
                "commit": _commit(),
                "source": self._source,
                "date": when,
                "rounds": 0,
            }
            self.content["rows"][row.name] = found
        for each in found[
            "contestants"
        ].values():  # contestants are compared within a round: what is left of one does not count
            each["samples"] = [sample for sample in each["samples"] if sample["round"] < found["rounds"]]
        return int(found["rounds"])

    def failed(self, row: Row, name: str) -> bool:
        """Whether this contestant cannot do this work; it is not asked again."""
        return any("error" in sample for sample in self.content["rows"][row.name]["contestants"][name]["samples"])

    def add(self, row: Row, name: str, sample: dict[str, Any]) -> None:
        """Keep a sample."""
        found = self.content["rows"][row.name]
        found["contestants"][name]["samples"].append({"round": found["rounds"], **sample})
        self._write()

    def finish(self, row: Row) -> None:
        """End a round."""
        self.content["rows"][row.name]["rounds"] += 1
        self._write()

    def _write(self) -> None:
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        temporary.write_text(json.dumps(self.content, indent=1) + "\n")
        temporary.replace(self._path)


def _commit() -> str:
    """Commit of this checkout, with a + if the program has been changed since; empty outside of a repository."""
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=10", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--", "deepmd"], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return commit + ("+" if changed else "")


def play_round(row: Row, sides: dict[str, Side], results: Results, args: argparse.Namespace, place: Workplace) -> None:
    """Let every contestant of a row do the work once."""
    for contestant in row.contestants:
        if results.failed(row, contestant.name):
            continue
        sample = measure(row, contestant, sides[contestant.side], place, args.threads, args.quick)
        text = f"{report.number(sample['value'])} {row.unit}" if "value" in sample else f"fails: {sample['error']}"
        print(f"{row.name:18s} {contestant.name:26s} {text}", flush=True)
        results.add(row, contestant.name, sample)
    results.finish(row)


def play(
    rows: list[Row],
    sides: dict[str, Side],
    results: Results,
    args: argparse.Namespace,
    place_of: Callable[[Row], Workplace],
) -> None:
    """Round after round through all rows, so that an interruption leaves them all equally well known."""
    begin = time.monotonic()
    done = {row.name: results.begin(row) for row in rows}
    for number in range(args.rounds):
        for row in rows:
            if done[row.name] > number:
                continue
            if args.time_limit is not None and time.monotonic() - begin > args.time_limit:
                print("time is up; the same command goes on from here")
                return
            print(f"-- round {number + 1} of {args.rounds}: {row.title}")
            play_round(row, sides, results, args, place_of(row))


def _arguments(description: str | None, stem: str, quick: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick",
        action="store_true",
        default=quick,
        help="small sizes, few repetitions, two rounds: to see that everything works",
    )
    parser.add_argument(
        "--only", nargs="+", default=["*"], metavar="ROW", help="rows to measure, with wildcards: eval-* train"
    )
    parser.add_argument("--list", action="store_true", help="print the names of the rows and stop")
    parser.add_argument("--rounds", type=int, help="rounds of every row (default: 5, quick 2)")
    parser.add_argument("--threads", type=int, default=2, help="threads of every process (default: 2)")
    parser.add_argument(
        "--time-limit",
        type=float,
        metavar="SECONDS",
        help="begin no work after this time; the same command goes on later",
    )
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="measure with these systems of O and H instead of examples/water"
    )
    parser.add_argument("--fresh", action="store_true", help="forget earlier results instead of completing them")
    parser.add_argument("--report", action="store_true", help="measure nothing; write tables and plots again")
    parser.add_argument(
        "--output", type=Path, help=f"results (default: docs/benchmarks/{stem}.json; quick: below --work)"
    )
    parser.add_argument(
        "--docs", type=Path, help="page with the tables (default: docs/benchmarks.md; quick: below --work)"
    )
    parser.add_argument(
        "--work",
        type=Path,
        default=ROOT / "build/benchmarks",
        help="folder for data and models (default: build/benchmarks)",
    )
    args = parser.parse_args()
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.output = args.output or (
        args.work / f"quick-{stem}.json" if args.quick else ROOT / f"docs/benchmarks/{stem}.json"
    )
    args.docs = args.docs or (args.work / "quick.md" if args.quick else ROOT / "docs/benchmarks.md")
    return args


def _interrupt(*_: object) -> NoReturn:
    """End as Ctrl-C does, the running process included; programs that end others tend to say so twice."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


def command(
    description: str | None,
    stem: str,
    every_row: Callable[[bool], list[Row]],
    prepare: Callable[[argparse.Namespace, dict[str, Side], list[Row]], Callable[[Row], Workplace]],
    write: Callable[[dict[str, Any], Path], None],
    device: tuple[str, dict[str, str]] | None = None,
    quick: bool = False,
) -> None:
    """Do what the command line says.

    Parameters
    ----------
    stem : name of the file of results
    every_row : returns all rows; with True the quick ones
    prepare : makes the models, and returns a function from a row to where its models are
    write : writes the tables of results to a page
    device : its name, and variables of the environment by which programs find it. None: the processor
    quick : whether --quick is implied
    """
    args = _arguments(description, stem, quick)
    if args.report:
        write(json.loads(args.output.read_text()), args.docs)
        return
    names = [row.name for row in every_row(args.quick)]
    rows = [row for row in every_row(args.quick) if any(fnmatch.fnmatch(row.name, pattern) for pattern in args.only)]
    if args.list or not rows:
        print(*names)
        raise SystemExit(0 if args.list else f"--only {' '.join(args.only)}: no such row; accepted: the names above")
    own, other = ours(), theirs()
    if other is None:
        print("without DeePMD-kit (DEEPMD_KIT_ENV would name an environment that has it)")
        rows = [
            dataclasses.replace(row, contestants=contestants)
            for row in rows
            if (contestants := tuple(each for each in row.contestants if each.side == "ours"))
        ]
    sides = {"ours": own} | ({"theirs": other} if other else {})
    args.output.parent.mkdir(parents=True, exist_ok=True)
    settings = {
        "threads": args.threads,
        "quick": args.quick,
        "data": "examples/water" if args.data is None else args.data.name,
        **({"device": device[0]} if device else {}),
    }
    results = Results(args.output, {"machine": machine(own, other), "settings": settings}, args.fresh)
    place_of = prepare(args, sides, rows)
    if device:  # models are made on the processor, which every build of a framework has
        sides = {name: side.on(device[1]) for name, side in sides.items()}
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        play(rows, sides, results, args, place_of)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here")
    write(results.content, args.docs)


def _prepare(args: argparse.Namespace, sides: dict[str, Side], rows: list[Row]) -> Callable[[Row], Workplace]:
    """Make the one model of all rows."""
    place = Workplace(args.work, args.data, args.quick)
    place.prepare(sides, args.threads)
    return lambda _: place


if __name__ == "__main__":
    command(__doc__, "results", lambda quick: all_rows(os.cpu_count() or 1, quick), _prepare, report.write)
