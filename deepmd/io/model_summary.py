"""Summary of a model file for `dp show` and `DeepPot`: numbers of weights, elements of the training data."""

from __future__ import annotations

from typing import Any

import numpy as np

from deepmd.array_model.components import descriptors_of
from deepmd.array_model.tree import flatten
from deepmd.io.model_file import ModelFile

STATISTICS = ("davg", "dstd", "inputs")
"""Endings of paths of parameters that are not weights: statistics, and inputs of type embeddings."""


def model_size(content: ModelFile) -> dict[str, int]:
    """Return the numbers of weights of descriptors and fitting nets; statistics and energy biases are not counted."""
    # searched anywhere in a path, because members of combinations have them further down
    places = {
        "descriptor": "/descriptor/",
        "fitting-net": "/fitting/nets/",
    }
    leaves = {
        f"/{path}": np.size(leaf) for path, leaf in flatten(content.params).items() if not path.endswith(STATISTICS)
    }
    sizes = {name: sum(int(size) for path, size in leaves.items() if place in path) for name, place in places.items()}
    return {**sizes, "total": sum(sizes.values())}


def observed_types(content: ModelFile) -> dict[str, Any]:
    """Return the elements of the training data: as stored in the file, else those with an energy bias, else all."""
    noted = content.definition.get("info", {}).get("observed_type")
    if noted is None:
        type_map, bias = (
            content.model.type_map,
            np.asarray(content.params["out_bias"]).reshape(len(content.model.type_map), -1),
        )
        noted = [element for element, row in zip(type_map, bias, strict=True) if np.any(row != 0.0)] or type_map
    return {"type_num": len(noted), "observed_type": sorted(noted)}


def describe(content: ModelFile) -> str:
    """Return in one line what a model file holds: quantity, elements, descriptors, cutoff, parameters, compression."""
    model = content.model
    kinds = " + ".join(dict.fromkeys(part.kind for part in descriptors_of(model))) or model.kind
    shown = " ".join(model.type_map[:MOST_NAMED]) + " ..." * (len(model.type_map) > MOST_NAMED)
    weights = [leaf for path, leaf in flatten(content.params).items() if not path.endswith(STATISTICS)]
    precisions = " and ".join(sorted({np.asarray(leaf).dtype.name for leaf in weights if np.ndim(leaf) > 1}))
    parts = [f"{model.output.name} of {shown}", kinds, f"cutoff {model.layout().rcut:g} Å"]
    nets = [f"{model_size(content)['total']:,} parameters", precisions] if precisions else []
    return ", ".join([*parts, *nets, *(["compressed"] if content.plan else [])])


MOST_NAMED = 10
"""Elements that a line names."""
