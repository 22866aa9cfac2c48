"""Stored forms of fitting nets (docs/layouts.md#fitting-nets-in-files)."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from deepmd.array_model.descriptors.base import Widths
from deepmd.array_model.fittings.net import Fitting
from deepmd.array_model.namespace import Params
from deepmd.array_model.registry import lookup
from deepmd.kit.layouts import nets

STORED = tuple(each.name for each in fields(Fitting) if each.name != "seed")
"""Options that every file has."""

STATISTICS = ("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")


@dataclass(frozen=True)
class Form:
    """What differs between kinds: the version, the option behind each key, keys that always have the same value, options of old files."""

    version: int = 4
    options: dict[str, str] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=dict)
    before: dict[str, Any] = field(default_factory=dict)


FORMS = {
    "ener": Form(),
    "dipole": Form(fixed={"r_differentiable": True, "c_differentiable": True}),
    "polar": Form(5, {"fit_diag": "fit_diag", "shift_diag": "shift_diag"}),
    "dos": Form(4, {"dim_out": "numb_dos"}),
    "property": Form(
        6,
        {
            "var_name": "property_name",
            "task_dim": "task_dim",
            "intensive": "intensive",
            "distinguish_types": "distinguish_types",
        },
        before={"distinguish_types": False},
    ),
}


def form_of(cls: type[Fitting]) -> Form:
    """Return the form of a kind.

    DeePMD-kit does not know those of plug-ins, whose own options are stored as they are.
    """
    own = [each.name for each in fields(cls) if each.name not in (*STORED, "seed")]
    return FORMS.get(cls.kind) or Form(1, {name: name for name in own})


def fitting_to_dict(
    fitting: Fitting, params: Params, type_map: tuple[str, ...], widths: Widths, mixed: bool
) -> dict[str, Any]:
    """Return the stored form; `widths` are those of the descriptor, `mixed` says that one net serves all types."""
    ntypes, net, form, flags = len(type_map), fitting.net(widths), form_of(type(fitting)), fitting.layer_flags()
    stored = [nets.net_to_dict(net, p, fitting.precision, flags) for p in params["nets"]]
    own: dict[str, Any] = {
        "dim_out": fitting.output.width,
        "atom_ener": list(getattr(fitting, "atom_ener", ())) or None,
    }
    return {
        "@class": "Fitting",
        "@version": form.version,
        "ntypes": ntypes,
        "dim_descrpt": widths.invariant,
        **nets.options_to_dict(fitting, STORED),
        "dim_case_embd": 0,
        "mixed_types": mixed,
        "nets": nets.collection(stored, 0 if mixed else 1, ntypes, "fitting_network"),
        "@variables": {
            **dict.fromkeys(("case_embd", *STATISTICS)),
            **{key: value for key, value in params.items() if key != "nets"},
        },
        "type_map": list(type_map),
        "tot_ener_zero": False,
        "trainable": list(flags),
        "layer_name": None,
        "spin": None,
        "type": fitting.kind,
        "var_name": fitting.output.name,
        **({"embedding_width": widths.equivariant} if fitting.needs_equivariant else own),
        **form.fixed,
        **{key: getattr(fitting, option) for key, option in form.options.items()},
    }


def fitting_from_dict(tree: dict[str, Any]) -> tuple[Fitting, Params]:
    """Return options and parameters; what the stored form does not hold has its default."""
    cls: type[Fitting] = lookup("fitting_net", tree["type"], "model/fitting_net")
    form, what = form_of(cls), f"fitting {cls.kind}"
    nets.check_version(tree, form.version, what)
    for key, accepted in (("spin", [None]), ("dim_case_embd", [None, 0]), ("tot_ener_zero", [None, False])):
        nets.require(tree, key, accepted, what)
    options = {**form.before, **nets.options_from_dict(tree, {**{name: name for name in STORED}, **form.options})}
    if cls.kind == "ener":
        options["atom_ener"] = tuple(tree.get("atom_ener") or ())
    fitting = cls(**options)
    net = fitting.net(Widths(tree["dim_descrpt"], tree.get("embedding_width") or 0))
    each = [nets.net_from_dict(net, item, f"{what}, net {k}") for k, item in enumerate(tree["nets"]["networks"])]
    return fitting, {"nets": each, **{key: value for key, value in tree["@variables"].items() if value is not None}}
