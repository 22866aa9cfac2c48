"""se_e3_tebd: angles between all pairs of neighbours, whose types are embedded (spec core, section 9)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model import serial
from deepmd.array_model.descriptors import mixed
from deepmd.array_model.descriptors.base import Descriptor, Statistics
from deepmd.array_model.descriptors.features import Features, Widths
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params
from deepmd.array_model.networks import Net, activation, apply_net, init_net
from deepmd.array_model.pairs import Layout, Pairs
from deepmd.array_model.registry import register
from deepmd.array_model.type_embedding import TypeEmbedding

MODES = ("concat", "strip")


@register("descriptor", "se_e3_tebd")
@dataclass(frozen=True)
class SeE3Tebd(Descriptor):
    """Options of the descriptor; `sel` counts neighbours of all types together, a list is summed."""

    sel: int | tuple[int, ...] | str = "auto"
    rcut: float = 6.0
    rcut_smth: float = 0.5
    neuron: tuple[int, ...] = (10, 20, 40)
    tebd_dim: int = 8
    tebd_input_mode: str = "concat"
    resnet_dt: bool = False
    set_davg_zero: bool = True
    activation_function: str = "tanh"
    smooth: bool = True
    concat_output_tebd: bool = True
    use_econf_tebd: bool = False
    use_tebd_bias: bool = False
    precision: str = "default"
    trainable: bool = True
    seed: int | None = None
    exclude_types: tuple[tuple[int, int], ...] = ()
    env_protection: float = 0.0

    mixed = True
    names = {"n_neuron": "neuron"}
    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        if isinstance(self.sel, int):
            object.__setattr__(self, "sel", (self.sel,))
        activation(self.activation_function)
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; accepted: {', '.join(PRECISIONS)}")
        if self.tebd_input_mode not in MODES:
            raise ValueError(f"tebd_input_mode is {self.tebd_input_mode!r}; accepted: {', '.join(MODES)}")
        if not 0.0 <= self.rcut_smth < self.rcut:
            raise ValueError(f"rcut_smth ({self.rcut_smth}) must lie in [0, rcut), and rcut is {self.rcut}")
        if not self.neuron or min(*self.neuron, self.tebd_dim) < 1:
            raise ValueError(f"neuron is {list(self.neuron)}, tebd_dim {self.tebd_dim}: widths must be positive")
        if not isinstance(self.sel, str) and self.slots < 1:
            raise ValueError(f"sel is {self.sel}: needs at least one slot")
        if self.env_protection < 0.0:
            raise ValueError(f"env_protection is {self.env_protection}; it must not be negative")

    # -- what the rest of the package asks of a descriptor ---------------------------------------------------------

    @property
    def slots(self) -> int:
        """Slots for neighbours of any type, once resolved."""
        return sum(self._sel())

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        return Widths(self.neuron[-1] + (self.tebd_dim if self.concat_output_tebd else 0), 0)

    @property
    def slot_totals(self) -> tuple[int, ...]:
        """All slots."""
        return (self.slots,)

    def layout(self) -> Layout:
        """How neighbours are to be packed."""
        return Layout(self.rcut, (self.slots,), mixed=True)

    def fresh(self, type_map: tuple[str, ...], draw: Any, *, xp: Namespace) -> Params:
        """Fresh parameters; `draw(seed_list)` returns a NumPy generator (spec core, section 13.3)."""

        def seed(*numbers: int) -> list[int] | None:
            return None if self.seed is None else [*numbers, self.seed]

        zeros = xp.zeros_like(draw([0]).normal(size=(len(type_map), self.slots, 4)))
        params = {"davg": zeros, "dstd": zeros + 1.0, "embeddings": [init_net(self._net(), seed(0, 0), draw)]}
        if self.tebd_input_mode == "strip":
            params["embeddings_strip"] = [init_net(self._strip(), seed(1, 0), draw)]
        return {**params, "type_embedding": self._types().init(type_map, seed(1), draw, xp=xp)}

    def trainables(self) -> dict[str, Any]:
        """Which parameters training may change."""
        names = ("embeddings", "embeddings_strip") if self.tebd_input_mode == "strip" else ("embeddings",)
        return {**dict.fromkeys(names, self.trainable), "type_embedding": self._types().trainables()}

    def raw_rows(self, pairs: Pairs, *, xp: Namespace) -> list[Array]:
        """Environment rows (N, M, 4) before normalisation, zero where empty or excluded: the sample of the statistics."""
        return [mixed.raw_rows(self, pairs, xp=xp)]

    def with_statistics(self, params: Params, statistics: list[Statistics], *, xp: Namespace) -> Params:
        """Store mean and deviation of each centre type in all slots; the mean is dropped under `set_davg_zero`."""
        ((mean_T4, std_T4),) = statistics
        like = xp.zeros_like(params["davg"])
        mean, std = like + xp.expand_dims(mean_T4, axis=1), like + xp.expand_dims(std_T4, axis=1)
        return {**params, "davg": like if self.set_davg_zero else mean, "dstd": std}

    def apply(self, params: Params, pairs: Pairs, *, xp: Namespace) -> Features:
        """Features of each centre.

        D_i = 1/S^2 sum_jk t_jk G(t_jk, e_j, e_k) over all ordered pairs of the S slots, with t_jk the scalar product of the directional
        parts of their rows and e the vectors of their types. In strip mode G = Gs(t_jk) (1 + k_jk Gt(e_j, e_k)), with k_jk the
        product of their switches if `smooth`, otherwise 1.
        """
        found = mixed.rows_of(self, self.slots, params, pairs, xp=xp)
        table_TE = self._types().table(params["type_embedding"], xp=xp)
        rows_NM3 = found.rows_NM4[:, :, 1:]
        t_NMM = xp.matmul(rows_NM3, xp.matrix_transpose(rows_NM3))
        weighted_NM3 = rows_NM3 * xp.expand_dims(found.count_NM, axis=-1)
        weight_NMM = xp.matmul(weighted_NM3, xp.matrix_transpose(weighted_NM3))
        t_P1, types = xp.reshape(t_NMM, (-1, 1)), len(pairs.counts) + 1  # a vector for no atom comes last
        both_Q = xp.reshape(xp.expand_dims(found.type_NM * types, axis=2) + xp.expand_dims(found.type_NM, axis=1), (-1,))
        first = xp.expand_dims(table_TE, axis=1) + xp.zeros_like(xp.expand_dims(table_TE, axis=0))
        second = xp.expand_dims(table_TE, axis=0) + xp.zeros_like(xp.expand_dims(table_TE, axis=1))
        pairs_QE = xp.reshape(xp.concat([first, second], axis=-1), (-1, 2 * self.tebd_dim))
        net, (weights,) = self._net(), params["embeddings"]
        if self.tebd_input_mode == "concat":
            g_PD = apply_net(net, weights, xp.concat([t_P1, xp.take(pairs_QE, both_Q, axis=0)], axis=1), xp=xp)
        else:
            g_PD = apply_net(net, weights, t_P1, xp=xp)
            gate_PD = xp.take(apply_net(self._strip(), params["embeddings_strip"][0], pairs_QE, xp=xp), both_Q, axis=0)
            if self.smooth:
                w_N1M = xp.expand_dims(found.switch_NM, axis=1)
                gate_PD = gate_PD * xp.reshape(xp.matrix_transpose(w_N1M) * w_N1M, (-1, 1))
            g_PD = g_PD * (1.0 + gate_PD)
        d_ND = self._summed(weight_NMM, g_PD, xp=xp) / float(self.slots) ** 2
        parts = [d_ND, xp.take(table_TE, pairs.type_N, axis=0)] if self.concat_output_tebd else [d_ND]
        return Features(xp.astype(xp.concat(parts, axis=1), xp.float64), None)

    # -- parts ------------------------------------------------------------------------------------------------------

    def _sel(self) -> tuple[int, ...]:
        if not isinstance(self.sel, tuple):
            raise InputError(f"model/descriptor/sel: {self.sel!r} has not been resolved by neighbour statistics")
        return self.sel

    def _net(self) -> Net:
        width = 1 if self.tebd_input_mode == "strip" else 1 + 2 * self.tebd_dim
        return Net(width, self.neuron, self.activation_function, self.resnet_dt)

    def _strip(self) -> Net:
        return Net(2 * self.tebd_dim, self.neuron, self.activation_function, self.resnet_dt)

    def _types(self) -> TypeEmbedding:
        return TypeEmbedding((self.tebd_dim,), self.use_econf_tebd, self.use_tebd_bias, self.precision, trainable=self.trainable)

    def _summed(self, weight_NMM: Array, g_PD: Array, *, xp: Namespace) -> Array:
        """Sum over all pairs of slots (N, D) of weights times functions, whose rows are all pairs of all centres."""
        rows, first, second = xp.shape(weight_NMM)
        g_NMMD = xp.reshape(g_PD, (rows, first, second, self.neuron[-1]))
        return xp.sum(xp.sum(xp.expand_dims(weight_NMM, axis=-1) * g_NMMD, axis=2), axis=1)

    # -- files ------------------------------------------------------------------------------------------------------

    def serialize(self, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
        """Return the stored form (spec core, section 13.2)."""
        ntypes, flags = len(type_map), [self.trainable] * len(self.neuron)

        def stored(net: Net, weights: list[Params]) -> dict[str, Any]:
            return serial.collection([serial.net_to_dict(net, w, self.precision, flags) for w in weights], 0, ntypes, "embedding_network")

        strip = {"embeddings_strip": stored(self._strip(), params["embeddings_strip"])} if self.tebd_input_mode == "strip" else {}
        return {
            "@class": "Descriptor",
            "type": "se_e3_tebd",
            "@version": 1,
            "rcut": self.rcut,
            "rcut_smth": self.rcut_smth,
            "sel": list(self._sel()),
            "ntypes": ntypes,
            "neuron": list(self.neuron),
            "tebd_dim": self.tebd_dim,
            "tebd_input_mode": self.tebd_input_mode,
            "set_davg_zero": self.set_davg_zero,
            "activation_function": self.activation_function,
            "resnet_dt": self.resnet_dt,
            "concat_output_tebd": self.concat_output_tebd,
            "use_econf_tebd": self.use_econf_tebd,
            "type_map": list(type_map),
            "precision": PRECISIONS[self.precision],
            "embeddings": stored(self._net(), params["embeddings"]),
            "env_mat": {"rcut": self.rcut, "rcut_smth": self.rcut_smth, "protection": self.env_protection, "use_exp_switch": False},
            "type_embedding": self._types().serialize(params["type_embedding"], type_map),
            "exclude_types": [list(pair) for pair in self.exclude_types],
            "env_protection": self.env_protection,
            "smooth": self.smooth,
            "@variables": {"davg": params["davg"], "dstd": params["dstd"]},
            "trainable": self.trainable,
            **strip,
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any]) -> tuple[SeE3Tebd, Params]:
        """Return options and parameters from the stored form."""
        what = "descriptor se_e3_tebd"
        serial.check_version(tree, 1, what)
        serial.require(tree.get("env_mat", {}), "use_exp_switch", [None, False], what)
        mixed.check_uniform(tree, what)
        types, type_params = TypeEmbedding.deserialize(tree["type_embedding"], tuple(tree["type_map"]))
        config = cls(
            sel=tuple(tree["sel"]),
            rcut=tree["rcut"],
            rcut_smth=tree["rcut_smth"],
            neuron=tuple(tree["neuron"]),
            tebd_dim=tree["tebd_dim"],
            tebd_input_mode=tree["tebd_input_mode"],
            resnet_dt=tree["resnet_dt"],
            set_davg_zero=tree["set_davg_zero"],
            activation_function=tree["activation_function"],
            smooth=tree["smooth"],
            concat_output_tebd=tree["concat_output_tebd"],
            use_econf_tebd=types.use_econf_tebd,
            use_tebd_bias=types.use_tebd_bias,
            precision=tree["precision"],
            trainable=bool(tree.get("trainable", True)),
            exclude_types=tuple((a, b) for a, b in tree["exclude_types"]),
            env_protection=tree.get("env_protection", 0.0),
        )
        shapes = {"embeddings": config._net()}
        if config.tebd_input_mode == "strip":
            shapes["embeddings_strip"] = config._strip()
        nets = {name: [serial.net_from_dict(net, item, f"{what}, {name}") for item in tree[name]["networks"]] for name, net in shapes.items()}
        return config, {**tree["@variables"], **nets, "type_embedding": type_params}
