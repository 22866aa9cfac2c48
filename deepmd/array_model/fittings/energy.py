"""ener: atomic energies from features, one net per atom type (spec core, section 11)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model import serial
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params, dtype_of
from deepmd.array_model.networks import Net, activation, apply_net, init_net
from deepmd.array_model.pairs import Conditions, Pairs
from deepmd.array_model.registry import register


@register("fitting_net", "ener")
@dataclass(frozen=True)
class EnergyFitting:
    """Options of the energy fitting. `atom_ener` holds the energy of an isolated atom per type (eV), None where not assigned."""

    numb_fparam: int = 0
    numb_aparam: int = 0
    default_fparam: tuple[float, ...] | None = None
    neuron: tuple[int, ...] = (120, 120, 120)
    activation_function: str = "tanh"
    precision: str = "default"
    resnet_dt: bool = True
    trainable: bool | tuple[bool, ...] = True
    rcond: float | None = None
    seed: int | None = None
    atom_ener: tuple[float | None, ...] = ()
    use_aparam_as_mask: bool = False
    exclude_types: tuple[int, ...] = ()

    names = {"n_neuron": "neuron"}
    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        activation(self.activation_function)
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; accepted: {', '.join(PRECISIONS)}")
        if any(width < 1 for width in self.neuron) or self.numb_fparam < 0 or self.numb_aparam < 0:
            raise ValueError(
                f"neuron is {list(self.neuron)}, numb_fparam {self.numb_fparam}, numb_aparam {self.numb_aparam}: widths must be positive"
            )
        if self.default_fparam is not None and len(self.default_fparam) != self.numb_fparam:
            raise ValueError(f"default_fparam has {len(self.default_fparam)} values, numb_fparam is {self.numb_fparam}")
        if not isinstance(self.trainable, bool) and len(self.trainable) != len(self.neuron) + 1:
            raise ValueError(f"trainable has {len(self.trainable)} flags; give one flag, or one for each of the {len(self.neuron) + 1} layers")

    def _net(self, dim_descriptor: int) -> Net:
        extra = self.numb_fparam + (0 if self.use_aparam_as_mask else self.numb_aparam)
        return Net(dim_descriptor + extra, self.neuron, self.activation_function, self.resnet_dt, out_dim=1)

    def init(self, nets: int, ntypes: int, dim_descriptor: int, draw: Any, *, xp: Namespace) -> Params:
        """Fresh parameters of `nets` nets; `draw(seed_list)` returns a NumPy generator (spec core, section 13.3)."""
        seeds = [None if self.seed is None else [q, self.seed] for q in range(nets)]
        params: Params = {"nets": [init_net(self._net(dim_descriptor), seed, draw) for seed in seeds]}
        params["bias_atom_e"] = xp.zeros_like(draw([0]).normal(size=(ntypes, 1)))
        for name, size in (("fparam", self.numb_fparam), ("aparam", self.numb_aparam)):
            if size:
                params[f"{name}_avg"] = xp.zeros_like(draw([0]).normal(size=(size,)))
                params[f"{name}_inv_std"] = params[f"{name}_avg"] + 1.0
        return params

    def trainables(self) -> dict[str, Any]:
        """Which parameters training may change (see the descriptors)."""
        return {"nets": {"layers": list(self._flags())}}

    def apply(self, params: Params, features_ND: Array, dim_descriptor: int, pairs: Pairs, conditions: Conditions, *, xp: Namespace) -> Array:
        """Atomic energies (N, 1) in eV, without the model's bias."""
        dtype = dtype_of(self.precision, xp=xp)
        extra = []
        if self.numb_fparam:
            scaled = (xp.astype(conditions.fparam_FK, dtype) - params["fparam_avg"]) * params["fparam_inv_std"]
            extra.append(xp.take(scaled, pairs.frame_N, axis=0))
        if self.numb_aparam and not self.use_aparam_as_mask:
            extra.append((xp.astype(conditions.aparam_NK, dtype) - params["aparam_avg"]) * params["aparam_inv_std"])
        features_ND = xp.astype(features_ND, dtype)
        x_NK = xp.concat([features_ND, *extra], axis=1) if extra else features_ND
        net, nets = self._net(dim_descriptor), params["nets"]
        parts = []
        for number, (x, weights) in enumerate(zip(xp.split(x_NK, pairs.counts, axis=0) if len(nets) > 1 else [x_NK], nets, strict=True)):
            f = apply_net(net, weights, x, xp=xp)
            if self._subtracts_vacuum(number, len(nets)):
                vacuum = xp.concat([xp.zeros_like(x[:, :dim_descriptor]), x[:, dim_descriptor:]], axis=1)
                f = f - apply_net(net, weights, vacuum, xp=xp)
            parts.append(f)
        f_N1 = xp.concat(parts, axis=0)
        f_N1 = f_N1 + xp.astype(xp.take(params["bias_atom_e"], pairs.type_N, axis=0), dtype)
        for excluded in self.exclude_types:
            f_N1 = xp.where(xp.expand_dims(xp.equal(pairs.type_N, excluded), axis=-1), xp.zeros_like(f_N1), f_N1)
        return xp.astype(f_N1, xp.float64)

    def _subtracts_vacuum(self, number: int, nets: int) -> bool:
        assigned = [energy is not None for energy in self.atom_ener]
        return any(assigned) and (nets == 1 or number >= len(assigned) or assigned[number])

    def _flags(self) -> tuple[bool, ...]:
        return (self.trainable,) * (len(self.neuron) + 1) if isinstance(self.trainable, bool) else self.trainable

    # -- files ------------------------------------------------------------------------------------------------------

    def serialize(self, params: Params, type_map: tuple[str, ...], dim_descriptor: int, mixed: bool) -> dict[str, Any]:
        """Return the stored form (spec core, section 13.2)."""
        ntypes, net = len(type_map), self._net(dim_descriptor)
        nets: list[dict[str, Any] | None] = [serial.net_to_dict(net, p, self.precision, self._flags()) for p in params["nets"]]
        statistics = ("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")
        return {
            "@class": "Fitting",
            "@version": 4,
            "var_name": "energy",
            "ntypes": ntypes,
            "dim_descrpt": dim_descriptor,
            "neuron": list(self.neuron),
            "resnet_dt": self.resnet_dt,
            "numb_fparam": self.numb_fparam,
            "numb_aparam": self.numb_aparam,
            "dim_case_embd": 0,
            "default_fparam": None if self.default_fparam is None else list(self.default_fparam),
            "rcond": self.rcond,
            "activation_function": self.activation_function,
            "precision": PRECISIONS[self.precision],
            "mixed_types": mixed,
            "exclude_types": list(self.exclude_types),
            "nets": serial.collection(nets, 0 if mixed else 1, ntypes, "fitting_network"),
            "@variables": {"bias_atom_e": params["bias_atom_e"], "case_embd": None, **{key: params.get(key) for key in statistics}},
            "type_map": list(type_map),
            "tot_ener_zero": False,
            "trainable": list(self._flags()),
            "layer_name": None,
            "use_aparam_as_mask": self.use_aparam_as_mask,
            "spin": None,
            "type": "ener",
            "dim_out": 1,
            "atom_ener": list(self.atom_ener) or None,
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any]) -> tuple[EnergyFitting, Params]:
        """Return options and parameters from the stored form."""
        what = "fitting ener"
        serial.check_version(tree, 4, what)
        for key, accepted in (("spin", [None]), ("dim_case_embd", [None, 0]), ("tot_ener_zero", [None, False])):
            serial.require(tree, key, accepted, what)
        default = tree.get("default_fparam")
        flags = tree.get("trainable", True)
        config = cls(
            numb_fparam=tree.get("numb_fparam", 0),
            numb_aparam=tree.get("numb_aparam", 0),
            default_fparam=None if default is None else tuple(default),
            neuron=tuple(tree["neuron"]),
            activation_function=tree["activation_function"],
            precision=tree["precision"],
            resnet_dt=tree["resnet_dt"],
            trainable=flags if isinstance(flags, bool) else tuple(flags),
            rcond=tree.get("rcond"),
            atom_ener=tuple(tree.get("atom_ener") or ()),
            use_aparam_as_mask=tree.get("use_aparam_as_mask", False),
            exclude_types=tuple(tree.get("exclude_types", ())),
        )
        stored = tree["nets"]["networks"]
        net = config._net(tree["dim_descrpt"])
        nets = [serial.net_from_dict(net, item, f"{what}, net {k}") for k, item in enumerate(stored)]
        return config, {"nets": nets, **{key: value for key, value in tree["@variables"].items() if value is not None}}
