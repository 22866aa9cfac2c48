"""What is measured: a row is one piece of work, done by several contestants in turn."""

import dataclasses

KIT = "DeePMD-kit"
WITH = ", allocator"


@dataclasses.dataclass(frozen=True)
class Contestant:
    """Who does the work.

    Attributes
    ----------
    name : as in the tables
    side : "ours" or "theirs"
    target : model file in the folder of its side, or backend to train with
    allocator : with the allocator settings in its environment
    against : names of the contestants it is compared with
    """

    name: str
    side: str
    target: str
    allocator: bool = False
    against: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Row:
    """A piece of work.

    Attributes
    ----------
    name : for --only
    title : for the tables
    kind : "train", "eval" (energy, forces, virial; repeated in one process), "cold" (once, from process start),
        "lammps" (steps in the LAMMPS of DeePMD-kit, whose files are targets of "theirs")
    unit : of the values
    natoms, batch : atoms of a frame, frames of a training step
    threads : 0 for those of the run
    curve : rows of the learning curve that a training writes, and the steps from one to the next
    """

    name: str
    title: str
    kind: str
    unit: str
    contestants: tuple[Contestant, ...]
    natoms: int = 192
    batch: int = 1
    threads: int = 0
    curve: tuple[int, int] = (5, 40)


def both(
    own: dict[str, str], other: dict[str, str], pairs: dict[str, tuple[str, ...]] | None = None
) -> tuple[Contestant, ...]:
    """Ours, theirs as shipped, theirs with allocator settings.

    `pairs` names the rivals of each of ours (default: all).
    """
    rivals = {name: tuple(f"{KIT} {each}" for each in (pairs or {}).get(name, other)) for name in own}
    mine = [Contestant(f"ours {name}", "ours", target, against=rivals[name]) for name, target in own.items()]
    shipped = [Contestant(f"{KIT} {name}", "theirs", target) for name, target in other.items()]
    return (*mine, *shipped, *(dataclasses.replace(each, name=each.name + WITH, allocator=True) for each in shipped))


NATIVE = {".pth": "model.pth", ".pb": "model.pb"}
COMPRESSED = {".pth": "compressed.pth", ".pb": "compressed.pb"}
TRAINERS = {"torch": "--pt", "tf": "--tf"}
PER_ATOM, PER_STEP = "us/atom", "ms/step"


def all_rows(cores: int, quick: bool) -> list[Row]:
    """Return every row; with `quick` the small ones only."""
    sizes = (192, 1536) if quick else (192, 1536, 12288)
    files = both(NATIVE, {".pb": "model.pb", ".pth": "model.pth"})
    compressed = both(COMPRESSED, {".pb": "compressed.pb"})
    trainers = both(TRAINERS, {"pt": "--pt", "tf": "--tf"}, {"torch": ("pt",), "tf": ("tf",)})
    return [
        Row("train", "training, 192 atoms, batch 1", "train", PER_STEP, trainers),
        *(Row(f"eval-{n}", f"evaluation, {n:,} atoms", "eval", PER_ATOM, files, n) for n in sizes),
        *(Row(f"compressed-{n}", f"compressed, {n:,} atoms", "eval", PER_ATOM, compressed, n) for n in sizes),
        Row(
            "numpy",
            f"NumPy, 192 atoms ({KIT}: energy only)",
            "eval",
            PER_ATOM,
            both({".dp": "model.dp"}, {".dp": "model.dp"}),
        ),
        Row(
            "cold",
            "cold start, 192 atoms",
            "cold",
            "s",
            both(NATIVE, {".pb": "model.pb", ".pth": "model.pth"}, {".pth": (".pth",), ".pb": (".pb",)}),
        ),
        *_scaling(cores, quick),
    ]


def _scaling(cores: int, quick: bool) -> list[Row]:
    """Return the rows of ours alone."""
    files = tuple(Contestant(f"ours {name}", "ours", target) for name, target in NATIVE.items())
    trainers = tuple(Contestant(f"ours {name}", "ours", target) for name, target in TRAINERS.items())
    threads = sorted({1, cores, *(t for t in (2, 4, 8, 16, 32, 64) if t < cores)})
    batches, size = ((2,) if quick else (2, 4, 8)), (192 if quick else 1536)
    return [
        *(() if quick else (Row("eval-98304", "evaluation, 98,304 atoms", "eval", PER_ATOM, files, 98304),)),
        *(
            Row(f"train-batch-{b}", f"training, 192 atoms, batch {b}", "train", PER_STEP, trainers, batch=b)
            for b in batches
        ),
        *(
            Row(f"train-threads-{t}", f"training, 192 atoms, threads: {t}", "train", PER_STEP, trainers, threads=t)
            for t in threads
        ),
        *(
            Row(
                f"eval-threads-{t}",
                f"evaluation, {size:,} atoms, threads: {t}",
                "eval",
                PER_ATOM,
                files,
                size,
                threads=t,
            )
            for t in threads
        ),
    ]
