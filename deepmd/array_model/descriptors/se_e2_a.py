"""se_e2_a: radial and angular information of all neighbours (Zhang et al., NeurIPS 2018; spec core, section 6.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model import serial, spectral
from deepmd.array_model.descriptors.base import Statistics
from deepmd.array_model.descriptors.expandable import Expandable
from deepmd.array_model.descriptors.features import Features, Widths
from deepmd.array_model.environment import environment_adjoint, environment_columns, environment_rows, without_excluded
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params, dtype_of
from deepmd.array_model.networks import Net, activation, apply_net, init_net
from deepmd.array_model.pairs import Layout, Pairs, spans
from deepmd.array_model.registry import register


@register("descriptor", "se_e2_a", aliases=("se_a",))
@dataclass(frozen=True)
class SeE2A(Expandable):
    """Options of the descriptor; `sel` is a list of numbers once neighbour statistics have resolved "auto"."""

    sel: tuple[int, ...] | str = "auto"
    rcut: float = 6.0
    rcut_smth: float = 0.5
    neuron: tuple[int, ...] = (10, 20, 40)
    axis_neuron: int = 4
    activation_function: str = "tanh"
    resnet_dt: bool = False
    type_one_side: bool = False
    precision: str = "default"
    trainable: bool = True
    seed: int | None = None
    exclude_types: tuple[tuple[int, int], ...] = ()
    env_protection: float = 0.0
    set_davg_zero: bool = False
    evaluation: str | int = "auto"
    """How the embedding nets are evaluated: "direct", "spectral", "auto"; the number of terms once an expansion is planned."""

    names = {"n_axis_neuron": "axis_neuron", "n_neuron": "neuron"}
    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        activation(self.activation_function)
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; accepted: {', '.join(PRECISIONS)}")
        if not 0.0 <= self.rcut_smth < self.rcut:
            raise ValueError(f"rcut_smth ({self.rcut_smth}) must lie in [0, rcut), and rcut is {self.rcut}")
        if not self.neuron or min(self.neuron) < 1 or not 1 <= self.axis_neuron <= self.neuron[-1]:
            raise ValueError(
                f"neuron is {list(self.neuron)}, axis_neuron {self.axis_neuron}: needs positive widths and 1 <= axis_neuron <= neuron[-1]"
            )
        if not isinstance(self.sel, str) and (not self.sel or min(self.sel) < 0 or sum(self.sel) == 0):
            raise ValueError(f"sel is {list(self.sel)}: needs one number of slots >= 0 for each type, not all zero")
        if isinstance(self.evaluation, str) and self.evaluation not in spectral.CHOICES:
            raise ValueError(f"evaluation is {self.evaluation!r}; accepted: {', '.join(spectral.CHOICES)}")
        if self.env_protection < 0.0:
            raise ValueError(f"env_protection is {self.env_protection}; it must not be negative")

    # -- what the rest of the package asks of a descriptor ---------------------------------------------------------

    @property
    def slots(self) -> tuple[int, ...]:
        """Slots per neighbour type, once resolved."""
        if isinstance(self.sel, str):
            raise InputError(f"model/descriptor/sel: {self.sel!r} has not been resolved by neighbour statistics")
        return self.sel

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        return Widths(self.neuron[-1] * self.axis_neuron, self.neuron[-1])

    @property
    def slot_totals(self) -> tuple[int, ...]:
        """All slots."""
        return (sum(self.slots),)

    def layout(self) -> Layout:
        """How neighbours are to be packed."""
        return Layout(self.rcut, self.slots)

    def init(self, ntypes: int, draw: Any, *, xp: Namespace) -> Params:
        """Fresh parameters; `draw(seed_list)` returns a NumPy generator (spec core, section 13.3)."""
        seeds = range(ntypes) if self.type_one_side else [first * ntypes + second for second in range(ntypes) for first in range(ntypes)]
        nets = [init_net(self._net(), None if self.seed is None else [q, self.seed], draw) for q in seeds]
        zeros = xp.zeros_like(draw([0]).normal(size=(ntypes, sum(self.slots), 4)))
        return {"davg": zeros, "dstd": zeros + 1.0, "embeddings": nets}

    def trainables(self) -> dict[str, Any]:
        """Which parameters training may change: a tree of flags, one for everything below it."""
        return {"embeddings": self.trainable}

    def raw_rows(self, pairs: Pairs, *, xp: Namespace) -> list[Array]:
        """Environment rows (N, M, 4) before normalisation, zero where empty or excluded: the sample of the statistics."""
        rows_NM4 = environment_rows(pairs.disp_NM3, self.rcut_smth, self.rcut, self.env_protection, xp=xp)
        return [without_excluded(rows_NM4, pairs, self.exclude_types, xp=xp)]

    def with_statistics(self, params: Params, statistics: list[Statistics], *, xp: Namespace) -> Params:
        """Store mean and deviation of each centre type in all slots; the mean is dropped under `set_davg_zero`."""
        ((mean_T4, std_T4),) = statistics
        like = xp.zeros_like(params["davg"])
        mean, std = like + xp.expand_dims(mean_T4, axis=1), like + xp.expand_dims(std_T4, axis=1)
        return {**params, "davg": like if self.set_davg_zero else mean, "dstd": std}

    def apply(self, params: Params, pairs: Pairs, *, xp: Namespace) -> Features:
        """Features of each centre.

        g_i = (1/S) sum_j G(s_ij) (x) R_ij over all S slots, D_i = g_i g_i^T cut to `axis_neuron` columns. Slots beyond the
        widths of the batch are empty for every atom and depend on the centre type only: they are summed once per type.
        """
        evaluate = self._spectral if isinstance(self.evaluation, int) else self._direct
        g_N4G = evaluate(params, pairs, xp=xp) / float(sum(self.slots))
        g_NG4 = xp.matrix_transpose(g_N4G)
        d_NGX = xp.matmul(g_NG4, g_N4G[:, :, : self.axis_neuron])
        return Features(
            invariant_ND=xp.astype(xp.reshape(d_NGX, (-1, self.widths.invariant)), xp.float64),
            equivariant_NG3=xp.astype(g_NG4[:, :, 1:], xp.float64),
        )

    # -- parts ------------------------------------------------------------------------------------------------------

    def _net(self) -> Net:
        return Net(1, self.neuron, self.activation_function, self.resnet_dt)

    def _unused(self, pairs: Pairs) -> list[slice]:
        """Slots of each section beyond the widths of the batch."""
        return [slice(start + width, stop) for (start, stop), width in zip(spans(self.slots), pairs.widths, strict=True)]

    def _nets(self, params: Params, centre: int) -> list[Params]:
        """Nets of a centre type, by neighbour type."""
        count = len(self.slots)
        return [params["embeddings"][neighbour if self.type_one_side else centre + neighbour * count] for neighbour in range(count)]

    def _direct(self, params: Params, pairs: Pairs, *, xp: Namespace) -> Array:
        """Sum of R (x) G(s) over all slots (N, 4, G), every net evaluated for every slot."""
        disp_NM3 = xp.astype(pairs.disp_NM3, dtype_of(self.precision, xp=xp))
        rows_NM4 = environment_rows(disp_NM3, self.rcut_smth, self.rcut, self.env_protection, xp=xp)
        used = [slice(start, start + width) for (start, _), width in zip(spans(self.slots), pairs.widths, strict=True)]
        mean_TM4 = xp.concat([params["davg"][:, part, :] for part in used], axis=1)
        std_TM4 = xp.concat([params["dstd"][:, part, :] for part in used], axis=1)
        rows_NM4 = (rows_NM4 - xp.take(mean_TM4, pairs.type_N, axis=0)) / xp.take(std_TM4, pairs.type_N, axis=0)
        rows_NM4 = without_excluded(rows_NM4, pairs, self.exclude_types, xp=xp)
        empty_TS4 = -params["davg"] / params["dstd"]

        def total(nets: list[Params], sections: list[Array]) -> Array:
            each = zip(nets, sections, strict=True)
            terms = [xp.matmul(xp.matrix_transpose(x), apply_net(self._net(), net, x[:, :, 0:1], xp=xp)) for net, x in each]
            return sum(terms[1:], terms[0])

        if self.type_one_side:
            nets, empty = self._nets(params, 0), [empty_TS4[:, part, :] for part in self._unused(pairs)]
            return total(nets, xp.split(rows_NM4, pairs.widths, axis=1)) + xp.take(total(nets, empty), pairs.type_N, axis=0)
        parts = []
        for centre, rows in enumerate(xp.split(rows_NM4, pairs.counts, axis=0)):
            nets, empty = self._nets(params, centre), [empty_TS4[centre : centre + 1, part, :] for part in self._unused(pairs)]
            parts.append(total(nets, xp.split(rows, pairs.widths, axis=1)) + total(nets, empty))
        return xp.concat(parts, axis=0)

    def _spectral(self, params: Params, pairs: Pairs, *, xp: Namespace) -> Array:
        """Sum of R (x) G(s) over all slots (N, 4, G) from moments; mean and deviation are those of the first slot, as of all."""
        scale, disp_NM3 = params["tables"]["scale"], xp.astype(pairs.disp_NM3, dtype_of(self.precision, xp=xp))
        both = [self._expansion(params, centre, xp=xp) for centre in range(len(self.slots))]
        how = pairs.widths, pairs.counts, [coefficients for coefficients, _ in both], int(self.evaluation)
        switched = self.rcut_smth, self.rcut, self.env_protection
        inverse_N4 = xp.take(1.0 / params["dstd"][:, 0, :], pairs.type_N, axis=0)
        shift_N4 = xp.take(params["davg"][:, 0, :], pairs.type_N, axis=0) * inverse_N4

        def differentiated(disp_NM3: Array) -> tuple[Array, Any]:
            rows_N4M, to_disp = environment_adjoint(disp_NM3, *switched, xp=xp)
            inverse_N41, shift_N41 = xp.expand_dims(inverse_N4, axis=-1), xp.expand_dims(shift_N4, axis=-1)
            x_NM = spectral.abscissa(rows_N4M[:, 0, :], scale)
            sums_N4G, to_rows = spectral.contracted_adjoint(x_NM, rows_N4M * inverse_N41 - shift_N41, *how, xp=xp)

            def adjoint(grad_N4G: Array) -> Array:
                by_x_NM, by_rows_N4M = to_rows(grad_N4G)
                by_rows_N4M = by_rows_N4M * inverse_N41
                radial_N1M = by_rows_N4M[:, :1, :] + xp.expand_dims(by_x_NM * scale, axis=1)
                return to_disp(xp.concat([radial_N1M, by_rows_N4M[:, 1:, :]], axis=1))

            return sums_N4G, adjoint

        if xp.with_adjoint is not None and not self.exclude_types:
            sums_N4G = xp.with_adjoint(differentiated, disp_NM3)
        else:
            columns = environment_columns(disp_NM3, *switched, xp=xp)
            x_NM = spectral.abscissa(columns[0], scale)
            columns = [column * inverse_N4[:, c : c + 1] - shift_N4[:, c : c + 1] for c, column in enumerate(columns)]
            if self.exclude_types:
                columns = xp.unstack(without_excluded(xp.stack(columns, axis=-1), pairs, self.exclude_types, xp=xp), axis=-1)
            sums_N4G = spectral.contracted(x_NM, columns, *how, xp=xp)
        empty_TS4 = -params["davg"] / params["dstd"]
        rests = []
        for centre, (_, start_JG) in enumerate(both):
            rest_4J = xp.stack([xp.sum(empty_TS4[centre, part, :], axis=0) for part in self._unused(pairs)], axis=1)
            rests.append(xp.matmul(rest_4J, start_JG))
        return sums_N4G + xp.take(xp.stack(rests, axis=0), pairs.type_N, axis=0)

    # -- files ------------------------------------------------------------------------------------------------------

    def serialize(self, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
        """Return the stored form (spec core, section 13.2)."""
        ntypes, net = len(type_map), self._net()
        flags = [self.trainable] * len(self.neuron)
        nets: list[dict[str, Any] | None] = [serial.net_to_dict(net, p, self.precision, flags) for p in params["embeddings"]]
        return {
            "@class": "Descriptor",
            "type": "se_e2_a",
            "@version": 2,
            "rcut": self.rcut,
            "rcut_smth": self.rcut_smth,
            "sel": list(self.slots),
            "neuron": list(self.neuron),
            "axis_neuron": self.axis_neuron,
            "resnet_dt": self.resnet_dt,
            "set_davg_zero": self.set_davg_zero,
            "trainable": self.trainable,
            "type_one_side": self.type_one_side,
            "exclude_types": [list(pair) for pair in self.exclude_types],
            "env_protection": self.env_protection,
            "activation_function": self.activation_function,
            "precision": PRECISIONS[self.precision],
            "spin": None,
            "env_mat": {"rcut": self.rcut, "rcut_smth": self.rcut_smth, "protection": self.env_protection, "use_exp_switch": False},
            "embeddings": serial.collection(nets, 1 if self.type_one_side else 2, ntypes, "embedding_network"),
            "@variables": {"davg": params["davg"], "dstd": params["dstd"]},
            "type_map": list(type_map),
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any]) -> tuple[SeE2A, Params]:
        """Return options and parameters from the stored form."""
        what = "descriptor se_e2_a"
        serial.check_version(tree, 3, what)  # 3 adds the tables of a compressed model, which are not needed
        serial.require(tree, "spin", [None], what)
        serial.require(tree.get("env_mat", {}), "use_exp_switch", [None, False], what)
        config = cls(
            sel=tuple(tree["sel"]),
            rcut=tree["rcut"],
            rcut_smth=tree["rcut_smth"],
            neuron=tuple(tree["neuron"]),
            axis_neuron=tree["axis_neuron"],
            activation_function=tree["activation_function"],
            resnet_dt=tree["resnet_dt"],
            type_one_side=tree["type_one_side"],
            precision=tree["precision"],
            trainable=bool(tree.get("trainable", True)),
            exclude_types=tuple((a, b) for a, b in tree.get("exclude_types", ())),
            env_protection=tree.get("env_protection", 0.0),
            set_davg_zero=tree.get("set_davg_zero", False),
        )
        stored = tree["embeddings"]["networks"]
        expected = len(config.slots) ** (1 if config.type_one_side else 2)
        if len(stored) != expected or any(item is None for item in stored):
            present = sum(item is not None for item in stored)
            reason = "" if present else ": a compressed model, with tables in their place. Needed: the model from before the compression"
            raise InputError(f"{what}: expected {expected} embedding nets, the file has {present}{reason}")
        nets = [serial.net_from_dict(config._net(), item, f"{what}, net {k}") for k, item in enumerate(stored)]
        return config, {**tree["@variables"], "embeddings": nets}
