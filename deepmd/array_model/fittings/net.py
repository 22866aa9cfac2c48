"""What all fitting nets share: inputs beside the features, nets per type, what is subtracted and added (spec core, section 11)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from deepmd.array_model import serial
from deepmd.array_model.descriptors.features import Features, Widths
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params, dtype_of
from deepmd.array_model.networks import Net, activation, apply_net, init_net
from deepmd.array_model.outputs import Output
from deepmd.array_model.pairs import Conditions, Pairs

STATISTICS = ("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std")


@dataclass(frozen=True)
class Fitting:
    """Options that every fitting net has. A kind gives its own, its `output`, and what differs: `net_width`, `finish`, `stored`."""

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
    use_aparam_as_mask: bool = False
    exclude_types: tuple[int, ...] = ()

    kind: ClassVar[str]
    names: ClassVar[dict[str, str]] = {"n_neuron": "neuron"}
    version: ClassVar[int] = 4
    needs_equivariant: ClassVar[bool] = False
    """It reads the equivariant features of the descriptor, which must have some."""
    stored: ClassVar[dict[str, str]] = {}
    """Keys of its stored form besides the common ones, and the option that each holds."""
    fixed: ClassVar[dict[str, Any]] = {}
    """Likewise, those that always have the same value."""
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

    # -- what a kind says about itself ------------------------------------------------------------------------------

    @property
    def output(self) -> Output:
        """What it predicts."""
        raise NotImplementedError

    def net_width(self, widths: Widths) -> int:
        """Width of the last layer of its nets."""
        return self.output.width

    def isolated(self, nets: int) -> tuple[bool, ...]:
        """Which nets have their value at an isolated atom, with features of zero, subtracted."""
        return (False,) * nets

    def finish(self, params: Params, f_NK: Array, features: Features, bias_Td: Array, std_Td: Array, pairs: Pairs, *, xp: Namespace) -> Array:
        """Atomic values (N, d), float64, from the nets' (N, K) and the model's bias and scale of each type; most kinds add the bias."""
        return f_NK + xp.take(bias_Td, pairs.type_N, axis=0)

    def extra_init(self, ntypes: int, like_T1: Array, *, xp: Namespace) -> Params:
        """Return fresh parameters besides nets and statistics; `like_T1` (T, 1) holds zeros."""
        return {}

    # -- parameters -------------------------------------------------------------------------------------------------

    def net(self, widths: Widths) -> Net:
        """Shape of the nets."""
        extra = self.numb_fparam + (0 if self.use_aparam_as_mask else self.numb_aparam)
        return Net(widths.invariant + extra, self.neuron, self.activation_function, self.resnet_dt, out_dim=self.net_width(widths))

    def init(self, nets: int, ntypes: int, widths: Widths, draw: Any, *, xp: Namespace) -> Params:
        """Fresh parameters of `nets` nets; `draw(seed_list)` returns a NumPy generator (spec core, section 13.3)."""
        seeds = [None if self.seed is None else [q, self.seed] for q in range(nets)]
        params: Params = {"nets": [init_net(self.net(widths), seed, draw) for seed in seeds]}
        params["bias_atom_e"] = xp.zeros_like(draw([0]).normal(size=(ntypes, self.net_width(widths))))
        for name, size in (("fparam", self.numb_fparam), ("aparam", self.numb_aparam)):
            if size:
                params[f"{name}_avg"] = xp.zeros_like(draw([0]).normal(size=(size,)))
                params[f"{name}_inv_std"] = params[f"{name}_avg"] + 1.0
        return {**params, **self.extra_init(ntypes, params["bias_atom_e"][:, 0:1], xp=xp)}

    def trainables(self) -> dict[str, Any]:
        """Which parameters training may change (see the descriptors)."""
        return {"nets": {"layers": list(self.layer_flags())}}

    def layer_flags(self) -> tuple[bool, ...]:
        """Whether each layer is trained."""
        return (self.trainable,) * (len(self.neuron) + 1) if isinstance(self.trainable, bool) else self.trainable

    # -- evaluation -------------------------------------------------------------------------------------------------

    def apply(
        self,
        params: Params,
        features: Features,
        widths: Widths,
        pairs: Pairs,
        conditions: Conditions,
        bias_Td: Array,
        std_Td: Array,
        *,
        xp: Namespace,
    ) -> Array:
        """Atomic values (N, d), float64; `bias_Td` and `std_Td` are those of the model."""
        f_NK = self._values(params, features.invariant_ND, widths, pairs, conditions, xp=xp)
        f_NK = f_NK + xp.astype(xp.take(params["bias_atom_e"], pairs.type_N, axis=0), dtype_of(self.precision, xp=xp))
        for excluded in self.exclude_types:
            f_NK = xp.where(xp.expand_dims(xp.equal(pairs.type_N, excluded), axis=-1), xp.zeros_like(f_NK), f_NK)
        return self.finish(params, xp.astype(f_NK, xp.float64), features, bias_Td, std_Td, pairs, xp=xp)

    def _values(self, params: Params, features_ND: Array, widths: Widths, pairs: Pairs, conditions: Conditions, *, xp: Namespace) -> Array:
        """Values of the nets (N, K)."""
        dtype = dtype_of(self.precision, xp=xp)
        extra = []
        if self.numb_fparam:
            scaled = (xp.astype(conditions.fparam_FK, dtype) - params["fparam_avg"]) * params["fparam_inv_std"]
            extra.append(xp.take(scaled, pairs.frame_N, axis=0))
        if self.numb_aparam and not self.use_aparam_as_mask:
            extra.append((xp.astype(conditions.aparam_NK, dtype) - params["aparam_avg"]) * params["aparam_inv_std"])
        x_NK = xp.concat([xp.astype(features_ND, dtype), *extra], axis=1)
        net, nets = self.net(widths), params["nets"]
        parts, isolated = [], self.isolated(len(nets))
        for number, (x, weights) in enumerate(zip(xp.split(x_NK, pairs.counts, axis=0) if len(nets) > 1 else [x_NK], nets, strict=True)):
            f = apply_net(net, weights, x, xp=xp)
            if isolated[number]:
                vacuum = xp.concat([xp.zeros_like(x[:, : widths.invariant]), x[:, widths.invariant :]], axis=1)
                f = f - apply_net(net, weights, vacuum, xp=xp)
            parts.append(f)
        return xp.concat(parts, axis=0)

    # -- files ------------------------------------------------------------------------------------------------------

    def serialize(self, params: Params, type_map: tuple[str, ...], widths: Widths, mixed: bool) -> dict[str, Any]:
        """Return the stored form (spec core, section 13.2)."""
        ntypes, net = len(type_map), self.net(widths)
        nets: list[dict[str, Any] | None] = [serial.net_to_dict(net, p, self.precision, self.layer_flags()) for p in params["nets"]]
        own = {"embedding_width": widths.equivariant} if self.needs_equivariant else {"dim_out": self.output.width, "atom_ener": None}
        return {
            "@class": "Fitting",
            "@version": self.version,
            "ntypes": ntypes,
            "dim_descrpt": widths.invariant,
            **serial.options_to_dict(self, STORED),
            "dim_case_embd": 0,
            "mixed_types": mixed,
            "nets": serial.collection(nets, 0 if mixed else 1, ntypes, "fitting_network"),
            "@variables": {**dict.fromkeys(("case_embd", *STATISTICS)), **{key: value for key, value in params.items() if key != "nets"}},
            "type_map": list(type_map),
            "tot_ener_zero": False,
            "trainable": list(self.layer_flags()),
            "layer_name": None,
            "spin": None,
            "type": self.kind,
            "var_name": self.output.name,
            **own,
            **self.fixed,
            **{key: getattr(self, option) for key, option in self.stored.items()},
        }

    @classmethod
    def options(cls, tree: dict[str, Any]) -> dict[str, Any]:
        """Return the options that a stored form holds; what it does not has its default."""
        return serial.options_from_dict(tree, {**{name: name for name in STORED}, **cls.stored})

    @classmethod
    def deserialize(cls, tree: dict[str, Any]) -> tuple[Any, Params]:
        """Return options and parameters from the stored form."""
        what = f"fitting {cls.kind}"
        serial.check_version(tree, cls.version, what)
        for key, accepted in (("spin", [None]), ("dim_case_embd", [None, 0]), ("tot_ener_zero", [None, False])):
            serial.require(tree, key, accepted, what)
        config = cls(**cls.options(tree))
        widths = Widths(tree["dim_descrpt"], tree.get("embedding_width") or 0)
        stored = tree["nets"]["networks"]
        nets = [serial.net_from_dict(config.net(widths), item, f"{what}, net {k}") for k, item in enumerate(stored)]
        return config, {"nets": nets, **{key: value for key, value in tree["@variables"].items() if value is not None}}


STORED = tuple(each.name for each in fields(Fitting) if each.name != "seed")
"""Options that every stored form has."""
