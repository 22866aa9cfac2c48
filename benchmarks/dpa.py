"""Training steps of DPA-2 and DPA-3 in the sizes of DeePMD-kit's examples, both programs in turn: ms/step, peak memory.

python benchmarks/dpa.py [--rounds 3] [--steps 20] [--data FOLDER]
(DEEPMD_KIT_ENV names the environment with bin/dp)

192 atoms of water, batch 1. Every process trains five times `--steps` steps; the first part, in which graphs are built,
does not count. The samples go to a JSON file, the table to docs/benchmarks.md.
"""

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

from measure import time_training
from prepare import Workplace
from sides import ROOT, machine, ours, theirs

LIMIT = 7200.0
ROWS = 5

DESCRIPTORS = {
    "dpa2": {
        "type": "dpa2",
        "repinit": {
            **{"rcut": 6.0, "rcut_smth": 0.5, "nsel": 120, "neuron": [25, 50, 100], "axis_neuron": 12, "tebd_dim": 8},
            **{"use_three_body": True, "three_body_sel": 48, "three_body_rcut": 4.0, "three_body_rcut_smth": 3.5},
        },
        "repformer": {
            **{"rcut": 4.0, "rcut_smth": 3.5, "nsel": 48, "nlayers": 3, "g1_dim": 128, "g2_dim": 32, "axis_neuron": 4},
            **{"attn2_hidden": 32, "attn2_nhead": 4, "attn2_has_gate": True, "attn1_hidden": 128, "attn1_nhead": 4},
            **{"update_g1_has_attn": False, "update_g2_has_g1g1": False, "update_g2_has_attn": False},
            **{"update_style": "res_residual", "update_residual": 0.01, "update_residual_init": "norm"},
        },
        "precision": "float64",
        "seed": 1,
    },
    "dpa3": {
        "type": "dpa3",
        "repflow": {
            **{"n_dim": 128, "e_dim": 64, "a_dim": 32, "nlayers": 6, "e_rcut": 6.0, "e_rcut_smth": 5.3, "e_sel": 120},
            **{
                "a_rcut": 4.0,
                "a_rcut_smth": 3.5,
                "a_sel": 30,
                "axis_neuron": 4,
                "fix_stat_std": 0.3,
                "smooth_edge_update": True,
            },
            **{
                "a_compress_rate": 1,
                "a_compress_e_rate": 2,
                "a_compress_use_split": True,
                "edge_init_use_dist": True,
                "use_exp_switch": True,
            },
            **{"update_style": "res_residual", "update_residual": 0.1, "update_residual_init": "const"},
        },
        "activation_function": "silut:10.0",
        "precision": "float32",
        "seed": 1,
    },
}
FITTINGS = {
    "dpa2": {"neuron": [240, 240, 240], "resnet_dt": True, "precision": "float64", "seed": 1},
    "dpa3": {
        "neuron": [240, 240, 240],
        "resnet_dt": True,
        "precision": "float32",
        "activation_function": "silut:10.0",
        "seed": 1,
    },
}
CONTESTANTS = {
    "ours, torch": ("ours", "--pt", False),
    "ours, TensorFlow": ("ours", "--tf", False),
    "DeePMD-kit, pt": ("theirs", "--pt", False),
    "DeePMD-kit, pt, our allocator settings": ("theirs", "--pt", True),
}
"""Side, backend, and whether glibc is told to keep freed memory, which our program asks for itself."""

BEGIN, END = "<!-- dpa: written by benchmarks/dpa.py -->", "<!-- end of dpa -->"


def write_input(place: Workplace, folder: Path, kind: str, steps: int) -> None:
    """Write an input: that of examples/water with another model."""
    path = folder / "input.json"
    place.write_input(path, ROWS * steps, steps)
    options = json.loads(path.read_text())
    options["model"] = {"type_map": ["O", "H"], "descriptor": DESCRIPTORS[kind], "fitting_net": FITTINGS[kind]}
    path.write_text(json.dumps(options, indent=4))


def table(content: dict[str, Any]) -> str:
    """Return medians and, of rivals, how many times longer than our torch they take, round by round."""
    lines = [
        f"192 atoms of water, batch 1, {content['settings']['threads']} threads; "
        "medians, and ratios to our torch with the smallest and largest",
        "of a round.",
        "",
        "| model | contestant | ms/step | peak memory, GB | times as long |",
        "|---|---|---|---|---|",
    ]
    for kind, contestants in content["rows"].items():
        own = [sample.get("value") for sample in contestants.get("ours, torch", [])]
        for who, samples in contestants.items():
            done = [sample for sample in samples if "value" in sample]
            if not done:
                lines.append(f"| {kind} | {who} | {samples[0]['error'] if samples else 'not measured'} | - | - |")
                continue
            ratios = [
                sample["value"] / mine for sample, mine in zip(samples, own, strict=False) if mine and "value" in sample
            ]
            shown = f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})" if ratios else "-"
            value, memory = (statistics.median(sample[key] for sample in done) for key in ("value", "peak_memory"))
            lines.append(f"| {kind} | {who} | {value:,.0f} | {memory / 1e9:.1f} | {shown} |")
    return "\n".join(lines)


def publish(content: dict[str, Any], docs: Path) -> None:
    """Put the table between its marks on the page."""
    page = docs.read_text()
    head, rest = page.split(BEGIN)
    docs.write_text(f"{head}{BEGIN}\n{table(content)}\n{END}{rest.split(END)[1]}")


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=20, help="steps of each of the five parts of a training")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--only", nargs="+", default=list(CONTESTANTS), choices=list(CONTESTANTS), metavar="NAME", help="contestants"
    )
    parser.add_argument("--models", nargs="+", default=list(DESCRIPTORS), choices=list(DESCRIPTORS))
    parser.add_argument("--data", type=Path, help="systems of O and H, instead of those of examples/water")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/benchmarks/dpa.json")
    parser.add_argument("--docs", type=Path, default=ROOT / "docs/benchmarks.md")
    parser.add_argument("--work", type=Path, default=ROOT / "build/benchmarks", help="folder for data and models")
    args = parser.parse_args()
    own, kit = ours(), theirs()
    sides = {"ours": own, "theirs": kit}
    place = Workplace(args.work, args.data, quick=False)
    rows: dict[str, Any] = {kind: {who: [] for who in args.only} for kind in args.models}
    settings = {"steps": args.steps, "parts": ROWS, "threads": args.threads}
    content = {"machine": machine(own, kit), "settings": settings, "rows": rows}
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for number in range(args.rounds):
        for kind in args.models:
            for who in args.only:
                name, backend, allocator = CONTESTANTS[who]
                side, folder = sides[name], place.folder / "dpa"
                if side is None:
                    continue
                write_input(place, folder, kind, args.steps)
                sample: dict[str, Any] = {"load_average": round(os.getloadavg()[0], 2)}
                try:
                    environment = side.environment(args.threads, allocator)
                    sample |= time_training([*side.dp, backend, "train"], environment, folder, ROWS, args.steps, LIMIT)
                except RuntimeError as error:
                    sample["error"] = str(error)
                print(f"round {number + 1}, {kind}, {who}: {sample.get('value', sample.get('error'))}", flush=True)
                rows[kind][who].append(sample)
                args.output.write_text(json.dumps(content, indent=1) + "\n")
    publish(content, args.docs)


if __name__ == "__main__":
    main()
