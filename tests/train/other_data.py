"""A small system with labels of everything, and inputs that train on them."""

from __future__ import annotations

import numpy as np

LABELS = {"dipole": 3, "polarizability": 9, "dos": 4}
DESCRIPTOR = {
    "type": "se_e2_a",
    "sel": [12, 20],
    "rcut": 4.0,
    "rcut_smth": 0.5,
    "neuron": [4],
    "axis_neuron": 2,
    "type_one_side": True,
    "seed": 1,
}
KINDS = {
    # name: fitting net and loss; the loss without type, which follows
    "dipole": ({"type": "dipole", "sel_type": [0]}, {"pref": 1.0, "pref_atomic": 0.5}),
    "polar": ({"type": "polar", "fit_diag": False, "scale": [1.0, 0.5]}, {"pref": 0.3, "pref_atomic": 1.0}),
    "dos": ({"type": "dos", "numb_dos": 4}, {f"start_pref_{term}": 1.0 for term in ("dos", "cdf", "acdf")}),
    "property": (
        {"type": "property", "property_name": "gap", "task_dim": 2, "intensive": True},
        {"metric": ["mae", "rmse"]},
    ),
    "extensive": (
        {"type": "property", "property_name": "gap", "task_dim": 2, "distinguish_types": False},
        {"loss_func": "mse"},
    ),
}


def write_system(folder, natoms=9, frames=4, seed=5):
    """Write atoms near a grid, with random labels whose totals are not the sums of the atomic ones."""
    rng = np.random.default_rng(seed)
    (folder / "set.000").mkdir(parents=True)
    types = np.arange(natoms) % 3 > 0
    (folder / "type.raw").write_text("\n".join(str(int(kind)) for kind in types) + "\n")
    (folder / "type_map.raw").write_text("O\nH\n")
    grid = np.stack(np.meshgrid(*[[0.1, 0.4, 0.7]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    coord = [6.0 * (grid[rng.permutation(27)[:natoms]] + rng.uniform(-0.05, 0.05, (natoms, 3))) for _ in range(frames)]
    arrays = {
        "coord": np.stack(coord),
        "box": np.tile(6.0 * np.eye(3), (frames, 1, 1)),
        "gap": rng.normal(3.0, 2.0, (frames, 2)),
    }
    for name, width in LABELS.items():
        each = rng.normal(0.5, 1.0, (frames, natoms, width))
        arrays |= {f"atomic_{name}": each, name: each.sum(axis=1) + rng.normal(size=(frames, width))}
    for name, array in arrays.items():
        np.save(folder / "set.000" / f"{name}.npy", array.reshape(frames, -1))
    return arrays


def other_input(kind, train, validation, **training):
    """An input of a kind."""
    fitting, loss = KINDS[kind]
    return {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": DESCRIPTOR,
            "fitting_net": {"neuron": [4], "seed": 2, **fitting},
        },
        "learning_rate": {"start_lr": 5e-3, "stop_lr": 1e-4},
        "loss": loss,
        "training": {
            "numb_steps": 20,
            "seed": 5,
            "disp_freq": 4,
            "training_data": {"systems": [str(train)], "batch_size": 2},
            "validation_data": {"systems": [str(validation)], "batch_size": 2},
            **training,
        },
    }
