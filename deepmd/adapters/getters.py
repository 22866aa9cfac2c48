"""Getters of exported models (`get_rcut`, `get_type_map`, ...): what C++ and DeePMD-kit's Python ask of a model file.

One table for `.pth`, `.pb` and `.savedmodel` (docs/layouts.md#pth). Imports no framework.
"""

from __future__ import annotations

import json
from typing import Any

from deepmd.array_model.conditions import CONDITIONS
from deepmd.array_model.contracts import Model
from deepmd.array_model.outputs import Output
from deepmd.io.model_file import ModelFile

Getters = dict[str, tuple[Any, Any]]
"""{function: (type, value)}; types are `bool`, `int`, `float`, `str` and lists of them."""


def kit_name(output: Output) -> str:
    """Return DeePMD-kit's name of an output: of a property its label."""
    return output.label if output.name == "property" else output.name


def getters_of(content: ModelFile) -> Getters:
    """Return the getters of a file, functions without arguments, with the type and value that each returns."""
    model, layout = content.model, content.model.layout()
    output: Output = model.output
    name = kit_name(output)
    getters: Getters = {
        "get_model_def_script": (str, json.dumps(content.definition)),
        "get_type_map": (list[str], list(model.type_map)),
        "get_ntypes": (int, model.ntypes),
        "get_rcut": (float, float(layout.rcut)),
        "get_sel": (list[int], list(layout.sel)),
        "get_nnei": (int, sum(layout.sel)),
        "get_nsel": (int, sum(layout.sel)),
        "get_sel_type": (list[int], types_with_output(model) if model.atom_exclude_types and not output.scalar else []),
        "mixed_types": (bool, layout.mixed),
        "has_message_passing": (bool, layout.needs_neighbour_features),
        "has_spin": (bool, False),
        "has_chg_spin_ebd": (bool, model.conditions["charge_spin"].dim > 0),
        "is_aparam_nall": (bool, False),  # ghost atoms have no atomic parameters
        "model_output_type": (list[str], [name]),
    }
    for condition, (size, default) in model.conditions.items():
        row = CONDITIONS[condition]
        short = row.short or condition
        getters[f"get_dim_{short}"] = (int, size)
        if row.default_option:
            getters[f"has_default_{short}"] = (bool, default is not None)
            getters[f"get_default_{short}"] = (list[float], list(default or ()))
    if not output.scalar:
        getters["get_task_dim"] = getters["get_numb_dos"] = (int, output.width)
        getters["get_var_name"] = (str, name)
        getters["get_intensive"] = (bool, output.intensive)
    return getters


def types_with_output(model: Model) -> list[int]:
    """Return the types whose atoms have an output."""
    return [kind for kind in range(model.ntypes) if kind not in model.atom_exclude_types]
