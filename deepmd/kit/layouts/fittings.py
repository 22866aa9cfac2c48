"""Fitting nets in `.dp` files (docs/layouts.md#fitting-nets-in-files)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

from deepmd.array_model.contracts import Widths
from deepmd.array_model.errors import InputError
from deepmd.array_model.fittings.net import Fitting
from deepmd.array_model.namespace import Params
from deepmd.array_model.registry import lookup
from deepmd.io.checking import build, find
from deepmd.kit.layouts import nets
from deepmd.kit.rows import (
    ARRAY,
    OPTION,
    UNSET,
    Form,
    Row,
    array,
    check_version,
    derived,
    fixed,
    integer,
    option,
    read_rows,
    write_rows,
)

COMMON = [each.name for each in fields(Fitting) if each.name != "seed"]
"""Options that every file has."""

CONDITIONS = ("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")
"""Statistics of frame and atomic parameters; null in files of models without such parameters."""

PARAMS = [
    Row("nets", "nets", Form(None, None, "_networks."), torch="filter_layers"),
    *(
        Row(f"@variables/{name}", name, ARRAY, torch=name)
        for name in ("bias_atom_e", *CONDITIONS, "scale", "constant_matrix")
    ),
]
"""Rows of the parameters; `fitting_to_dict` knows the form of the nets."""

WIDTHS = [
    Row("dim_descrpt", "invariant", Form(None, integer)),
    Row("embedding_width", "equivariant", Form(None, integer), 0),
]
"""Rows of the widths of the descriptor's features."""

REFUSED = [fixed("spin", None), fixed("dim_case_embd", 0, None), fixed("tot_ener_zero", False, None)]


@dataclass(frozen=True)
class Layout:
    """Version and own options of a kind."""

    version: int
    options: Sequence[Row] = ()


ATOM_ENER = Row("atom_ener", "atom_ener", Form(None, OPTION.read), UNSET)
SMOOTH = [derived(f"{letter}_differentiable", lambda _: True) for letter in "rc"]
PROPERTY = [option("var_name", "property_name", UNSET), *nets.options(["task_dim", "intensive"], UNSET)]

LAYOUTS = {
    "ener": Layout(4, [ATOM_ENER]),
    "dipole": Layout(4, SMOOTH),
    "polar": Layout(5, nets.options(["fit_diag", "shift_diag"], UNSET)),
    "dos": Layout(4, [option("dim_out", "numb_dos", UNSET)]),
    "property": Layout(6, [*PROPERTY, option("distinguish_types", default=False)]),
}


def layout_of(cls: type[Fitting]) -> Layout:
    """Return the layout of a kind; own options of plug-ins are stored as they are."""
    own = [each.name for each in fields(cls) if each.name not in (*COMMON, "seed")]
    return LAYOUTS.get(cls.kind) or Layout(1, nets.options(own, UNSET))


def fitting_to_dict(
    fitting: Fitting, params: Params, type_map: tuple[str, ...], widths: Widths, mixed: bool
) -> dict[str, Any]:
    """Return the stored form, for a descriptor with features of these widths; `mixed`: one net serves all types."""
    layout, ntypes = layout_of(type(fitting)), len(type_map)
    own: dict[str, Any] = {
        "dim_out": fitting.output.width,
        "atom_ener": list(getattr(fitting, "atom_ener", ())) or None,
    }
    return {
        "@class": "Fitting",
        "@version": layout.version,
        "ntypes": ntypes,
        "dim_descrpt": widths.invariant,
        **write_rows(nets.options(COMMON, UNSET), fitting),
        "mixed_types": mixed,
        "nets": _nets(fitting, widths, mixed, ntypes).write(params["nets"]),  # type: ignore[misc]
        "@variables": {
            **dict.fromkeys(("case_embd", *CONDITIONS)),
            **{key: value for key, value in params.items() if key != "nets"},
        },
        "type_map": list(type_map),
        "trainable": list(fitting.layer_flags()),
        "layer_name": None,
        "type": fitting.kind,
        "var_name": fitting.output.name,
        **({"embedding_width": widths.equivariant} if fitting.needs_equivariant else own),
        **write_rows([*REFUSED, *layout.options], fitting),
    }


def fitting_from_dict(tree: dict[str, Any]) -> tuple[Fitting, Params]:
    """Return options and parameters; options that the file lacks have their defaults."""
    cls: type[Fitting] = lookup("fitting_net", find(tree, "type", "model/fitting_net"), "model/fitting_net")
    layout, what = layout_of(cls), f"fitting {cls.kind}"
    check_version(tree, layout.version, what)
    rows = [*nets.options(COMMON, UNSET), *REFUSED, *layout.options]
    fitting = build(cls, read_rows(rows, tree, what), what)
    widths = Widths(**read_rows(WIDTHS, tree, what))
    stored = _nets(fitting, widths, False, 0).read(find(tree, "nets", what), what)  # type: ignore[misc]
    variables = find(tree, "@variables", what)
    if not isinstance(variables, dict):
        raise InputError(f"{what}: @variables is no dict of arrays: {variables!r:.100}")
    arrays = {name: array(value, f"{what}, {name}") for name, value in variables.items() if value is not None}
    return fitting, {"nets": stored, **arrays}


def _nets(fitting: Fitting, widths: Widths, mixed: bool, ntypes: int) -> Form:
    """Return the stored form of the nets: one net, or one for each type."""
    form = nets.net_form(fitting.net(widths), fitting.precision, fitting.layer_flags())
    return nets.nets_form(form, "fitting_network", 0 if mixed else 1, ntypes)
