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
    Conversion,
    Row,
    array,
    check_version,
    constant_row,
    integer,
    option_row,
    read_rows,
    write_only_row,
    write_rows,
)

COMMON = [each.name for each in fields(Fitting) if each.name != "seed"]
"""Options that every file has."""

CONDITION_STATISTICS = ("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")
"""Statistics of frame and atomic parameters; null in files of models without such parameters."""

PARAMS = [
    Row("nets", "nets", Conversion(None, None, "_networks."), torch="filter_layers"),
    *(
        Row(f"@variables/{name}", name, ARRAY, torch=name)
        for name in ("bias_atom_e", *CONDITION_STATISTICS, "scale", "constant_matrix")
    ),
]
"""Rows of the parameters; `fitting_to_dict` knows the form of the nets."""

WIDTHS = [
    Row("dim_descrpt", "invariant", Conversion(None, integer)),
    Row("embedding_width", "equivariant", Conversion(None, integer), 0),
]
"""Rows of the widths of the descriptor's features."""

REFUSED = [
    constant_row("spin", None),
    constant_row("dim_case_embd", 0, None),
    constant_row("tot_ener_zero", False, None),
]


@dataclass(frozen=True)
class FittingLayout:
    """Version and own options of a kind."""

    version: int
    options: Sequence[Row] = ()


ATOM_ENER = Row("atom_ener", "atom_ener", Conversion(None, OPTION.read), UNSET)
SMOOTH = [write_only_row(f"{letter}_differentiable", lambda _: True) for letter in "rc"]
PROPERTY = [option_row("var_name", "property_name", UNSET), *nets.option_rows(["task_dim", "intensive"], UNSET)]

LAYOUTS = {
    "ener": FittingLayout(4, [ATOM_ENER]),
    "dipole": FittingLayout(4, SMOOTH),
    "polar": FittingLayout(5, nets.option_rows(["fit_diag", "shift_diag"], UNSET)),
    "dos": FittingLayout(4, [option_row("dim_out", "numb_dos", UNSET)]),
    "property": FittingLayout(6, [*PROPERTY, option_row("distinguish_types", default=False)]),
}


def layout_of(cls: type[Fitting]) -> FittingLayout:
    """Return the layout of a kind; own options of plug-ins are stored as they are."""
    own = [each.name for each in fields(cls) if each.name not in (*COMMON, "seed")]
    return LAYOUTS.get(cls.kind) or FittingLayout(1, nets.option_rows(own, UNSET))


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
        **write_rows(nets.option_rows(COMMON, UNSET), fitting),
        "mixed_types": mixed,
        "nets": _nets(fitting, widths, mixed, ntypes).write(params["nets"]),  # type: ignore[misc]
        "@variables": {
            **dict.fromkeys(("case_embd", *CONDITION_STATISTICS)),
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
    rows = [*nets.option_rows(COMMON, UNSET), *REFUSED, *layout.options]
    fitting = build(cls, read_rows(rows, tree, what), what)
    widths = Widths(**read_rows(WIDTHS, tree, what))
    stored = _nets(fitting, widths, False, 0).read(find(tree, "nets", what), what)  # type: ignore[misc]
    variables = find(tree, "@variables", what)
    if not isinstance(variables, dict):
        raise InputError(f"{what}: @variables is no dict of arrays: {variables!r:.100}")
    arrays = {name: array(value, f"{what}, {name}") for name, value in variables.items() if value is not None}
    return fitting, {"nets": stored, **arrays}


def _nets(fitting: Fitting, widths: Widths, mixed: bool, ntypes: int) -> Conversion:
    """Return the stored form of the nets: one net, or one for each type."""
    conversion = nets.net_conversion(fitting.net(widths), fitting.precision, fitting.layer_flags())
    return nets.nets_conversion(conversion, "fitting_network", 0 if mixed else 1, ntypes)
