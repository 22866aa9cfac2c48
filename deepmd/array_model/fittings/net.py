"""Base class of fitting nets: inputs, nets by type, vacuum subtraction, bias (docs/theory/fitting_nets.md#inputs)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from deepmd.array_model.conditions import Conditions
from deepmd.array_model.contracts import STRICT, Draw, Features, Widths
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.networks import Net, apply_net, check_options, init_net, init_zeros
from deepmd.array_model.outputs import Output


@dataclass(frozen=True)
class Fitting:
    """Options of all fitting nets.

    A kind adds its own options and defines `output`; it may override `net_width` and `finish`.
    """

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

    role: ClassVar[str] = "fitting_net"
    kind: ClassVar[str]
    children: ClassVar[tuple[str, ...]] = ()
    sections: ClassVar[dict[str, str]] = {}
    float64_params: ClassVar[tuple[str, ...]] = ("bias_atom_e",)
    aliases: ClassVar[dict[str, str]] = {"n_neuron": "neuron"}
    needs_equivariant: ClassVar[bool] = False
    """True: the fitting net reads equivariant features, so the descriptor must have some."""
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        check_options(self)
        if any(width < 1 for width in self.neuron) or self.numb_fparam < 0 or self.numb_aparam < 0:
            raise ValueError(
                f"neuron is {list(self.neuron)}, numb_fparam {self.numb_fparam}, numb_aparam {self.numb_aparam}: "
                "widths must be positive"
            )
        if self.default_fparam is not None and len(self.default_fparam) != self.numb_fparam:
            raise ValueError(f"default_fparam has {len(self.default_fparam)} values, numb_fparam is {self.numb_fparam}")
        if not isinstance(self.trainable, bool) and len(self.trainable) != len(self.neuron) + 1:
            raise ValueError(
                f"trainable has {len(self.trainable)} flags; "
                f"give one flag, or one for each of the {len(self.neuron) + 1} layers"
            )

    @property
    def output(self) -> Output:
        """Predicted quantity."""
        raise NotImplementedError

    def net_width(self, widths: Widths) -> int:
        """Width K of the last layer of the nets."""
        return self.output.width

    def isolated(self, nets: int) -> tuple[bool, ...]:
        """Return the flags of nets with vacuum subtraction (docs/theory/fitting_nets.md#isolated-atoms)."""
        return (False,) * nets

    def finish(
        self,
        params: Params,
        f_NK: Array,
        features: Features,
        bias_Td: Array,
        std_Td: Array,
        neighbours: Neighbours,
        *,
        xp: Namespace,
    ) -> Array:
        """Atomic values (N, d), float64, from outputs f_NK of the nets, and bias and scale of the model by type.

        Default: add the bias.
        """
        return f_NK + xp.take(bias_Td, neighbours.type_N, axis=0)

    def extra_init(self, ntypes: int, like_T1: Array, *, xp: Namespace) -> Params:
        """Return further fresh parameters of the kind; `like_T1` (T, 1) holds zeros."""
        return {}

    def net(self, widths: Widths) -> Net:
        """Shape of the nets."""
        extra = self.numb_fparam + (0 if self.use_aparam_as_mask else self.numb_aparam)
        return Net(
            widths.invariant + extra,
            self.neuron,
            self.activation_function,
            self.resnet_dt,
            out_dim=self.net_width(widths),
        )

    def init(self, nets: int, ntypes: int, widths: Widths, draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters of `nets` nets (docs/theory/networks.md#fresh-weights)."""
        seeds = [None if self.seed is None else [q, self.seed] for q in range(nets)]
        params: Params = {"nets": [init_net(self.net(widths), seed, draw) for seed in seeds]}
        params["bias_atom_e"] = init_zeros((ntypes, self.net_width(widths)), draw, xp=xp)
        for name, size in (("fparam", self.numb_fparam), ("aparam", self.numb_aparam)):
            if size:
                params[f"{name}_avg"] = init_zeros((size,), draw, xp=xp)
                params[f"{name}_inv_std"] = params[f"{name}_avg"] + 1.0
        return {**params, **self.extra_init(ntypes, params["bias_atom_e"][:, 0:1], xp=xp)}

    def flags(self) -> dict[str, Any]:
        """Trainable parameters: a flag for each layer, equal in all nets."""
        return {"nets": {"layers": list(self.layer_flags())}}

    def layer_flags(self) -> tuple[bool, ...]:
        """Return the flags of the layers: True for a trainable layer."""
        return (self.trainable,) * (len(self.neuron) + 1) if isinstance(self.trainable, bool) else self.trainable

    def apply(
        self,
        params: Params,
        features: Features,
        widths: Widths,
        neighbours: Neighbours,
        conditions: Conditions,
        bias_and_scale: tuple[Array, Array],
        *,
        xp: Namespace,
    ) -> Array:
        """Atomic values (N, d), float64; `bias_and_scale` holds bias and scale (T, d) of the model."""
        f_NK = self._values(params, features.invariant_ND, widths, neighbours, conditions, xp=xp)
        f_NK = f_NK + xp.astype(
            xp.take(params["bias_atom_e"], neighbours.type_N, axis=0), dtype_of(self.precision, xp=xp)
        )
        for excluded in self.exclude_types:
            f_NK = xp.where(xp.expand_dims(xp.equal(neighbours.type_N, excluded), axis=-1), xp.zeros_like(f_NK), f_NK)
        return self.finish(params, xp.astype(f_NK, xp.float64), features, *bias_and_scale, neighbours, xp=xp)

    def _values(
        self,
        params: Params,
        features_ND: Array,
        widths: Widths,
        neighbours: Neighbours,
        conditions: Conditions,
        *,
        xp: Namespace,
    ) -> Array:
        """Return the outputs of the nets (N, K), less Net(x) at features 0 where vacuum subtraction is on."""
        dtype = dtype_of(self.precision, xp=xp)
        extra = []
        if self.numb_fparam:
            scaled = (xp.astype(conditions["fparam"], dtype) - params["fparam_avg"]) * params["fparam_inv_std"]
            extra.append(xp.take(scaled, neighbours.frame_N, axis=0))
        if self.numb_aparam and not self.use_aparam_as_mask:
            extra.append((xp.astype(conditions["aparam"], dtype) - params["aparam_avg"]) * params["aparam_inv_std"])
        x_NK = xp.concat([xp.astype(features_ND, dtype), *extra], axis=1)
        net, nets = self.net(widths), params["nets"]
        parts, isolated = [], self.isolated(len(nets))
        for number, (x, weights) in enumerate(
            zip(xp.split(x_NK, neighbours.counts, axis=0) if len(nets) > 1 else [x_NK], nets, strict=True)
        ):
            f = apply_net(net, weights, x, xp=xp)
            if isolated[number]:
                vacuum = xp.concat([xp.zeros_like(x[:, : widths.invariant]), x[:, widths.invariant :]], axis=1)
                f = f - apply_net(net, weights, vacuum, xp=xp)
            parts.append(f)
        return xp.concat(parts, axis=0)
