"""What descriptors share whose neighbours come in one section for each type (spec core, sections 3, 4 and 6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from deepmd.array_model import serial
from deepmd.array_model.descriptors.base import Descriptor, Statistics
from deepmd.array_model.environment import environment_rows, without_excluded
from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params, dtype_of
from deepmd.array_model.networks import Net, activation
from deepmd.array_model.pairs import Layout, Pairs, spans


@dataclass(frozen=True)
class Sectioned(Descriptor):
    """Options that all of them have. A kind gives `widths`, `init`, `apply`, and what its stored form has besides."""

    sel: tuple[int, ...] | str = "auto"
    rcut: float = 6.0
    rcut_smth: float = 0.5
    neuron: tuple[int, ...] = (10, 20, 40)
    activation_function: str = "tanh"
    resnet_dt: bool = False
    precision: str = "default"
    trainable: bool = True
    seed: int | None = None
    exclude_types: tuple[tuple[int, int], ...] = ()
    env_protection: float = 0.0
    set_davg_zero: bool = False

    columns: ClassVar[int] = 4
    """Columns of the environment rows that it uses, and has statistics of."""
    keys_of_nets: ClassVar[int]
    """Number of types that a net belongs to."""
    type_name: ClassVar[str]
    """Its `type` in files."""
    names = {"n_neuron": "neuron"}
    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        activation(self.activation_function)
        if self.precision not in PRECISIONS:
            raise ValueError(f"precision is {self.precision!r}; accepted: {', '.join(PRECISIONS)}")
        if not 0.0 <= self.rcut_smth < self.rcut:
            raise ValueError(f"rcut_smth ({self.rcut_smth}) must lie in [0, rcut), and rcut is {self.rcut}")
        if not self.neuron or min(self.neuron) < 1:
            raise ValueError(f"neuron is {list(self.neuron)}: needs positive widths")
        if not isinstance(self.sel, str) and (not self.sel or min(self.sel) < 0 or sum(self.sel) == 0):
            raise ValueError(f"sel is {list(self.sel)}: needs one number of slots >= 0 for each type, not all zero")
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
    def slot_totals(self) -> tuple[int, ...]:
        """All slots."""
        return (sum(self.slots),)

    def layout(self) -> Layout:
        """How neighbours are to be packed."""
        return Layout(self.rcut, self.slots)

    def raw_rows(self, pairs: Pairs, *, xp: Namespace) -> list[Array]:
        """Environment rows (N, M, 4) before normalisation, zero where empty or excluded: the sample of the statistics."""
        rows_NM4 = environment_rows(pairs.disp_NM3, self.rcut_smth, self.rcut, self.env_protection, xp=xp)
        return [without_excluded(rows_NM4, pairs, self.exclude_types, xp=xp)]

    def with_statistics(self, params: Params, statistics: list[Statistics], *, xp: Namespace) -> Params:
        """Store mean and deviation of each centre type in all slots; the mean is dropped under `set_davg_zero`."""
        ((mean_T4, std_T4),) = statistics
        like = xp.zeros_like(params["davg"])
        mean, std = (like + xp.expand_dims(values[:, : self.columns], axis=1) for values in (mean_T4, std_T4))
        return {**params, "davg": like if self.set_davg_zero else mean, "dstd": std}

    # -- parts ------------------------------------------------------------------------------------------------------

    def _net(self) -> Net:
        """Shape of the embedding nets: all read one number."""
        return Net(1, self.neuron, self.activation_function, self.resnet_dt)

    def with_nets(self, nets: list[Params], draw: Any, *, xp: Namespace) -> Params:
        """Parameters with statistics that change nothing."""
        zeros = xp.zeros_like(draw([0]).normal(size=(len(self.slots), sum(self.slots), self.columns)))
        return {"davg": zeros, "dstd": zeros + 1.0, "embeddings": nets}

    def rows(self, params: Params, pairs: Pairs, *, xp: Namespace) -> list[Array]:
        """Normalised environment rows of each section (N, width, columns), those of excluded neighbours zero."""
        disp_NM3 = xp.astype(pairs.disp_NM3, dtype_of(self.precision, xp=xp))
        rows_NMC = environment_rows(disp_NM3, self.rcut_smth, self.rcut, self.env_protection, xp=xp)[:, :, : self.columns]
        out = []
        for rows, width, (start, _) in zip(xp.split(rows_NMC, pairs.widths, axis=1), pairs.widths, spans(self.slots), strict=True):
            mean, std = (xp.take(params[name][:, start : start + width, :], pairs.type_N, axis=0) for name in ("davg", "dstd"))
            out.append((rows - mean) / std)
        return xp.split(without_excluded(xp.concat(out, axis=1), pairs, self.exclude_types, xp=xp), pairs.widths, axis=1)  # type: ignore[no-any-return]

    def rest(self, params: Params, pairs: Pairs) -> list[Array]:
        """Rows of the slots of each section beyond the width of the batch (T, sel - width, columns): empty for every atom."""
        empty_TSC = -params["davg"] / params["dstd"]
        return [empty_TSC[:, start + width : stop, :] for (start, stop), width in zip(spans(self.slots), pairs.widths, strict=True)]

    # -- files ------------------------------------------------------------------------------------------------------

    def extra_keys(self) -> dict[str, Any]:
        """Return what the stored form of this kind has besides the common keys."""
        return {}

    def serialize(self, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
        """Return the stored form (spec core, section 13.2)."""
        flags = [self.trainable] * len(self.neuron)
        nets: list[dict[str, Any] | None] = [serial.net_to_dict(self._net(), p, self.precision, flags) for p in params["embeddings"]]
        return {
            "@class": "Descriptor",
            "type": self.type_name,
            "@version": 2,
            "rcut": self.rcut,
            "rcut_smth": self.rcut_smth,
            "sel": list(self.slots),
            "neuron": list(self.neuron),
            "resnet_dt": self.resnet_dt,
            "set_davg_zero": self.set_davg_zero,
            "trainable": self.trainable,
            "exclude_types": [list(pair) for pair in self.exclude_types],
            "env_protection": self.env_protection,
            "activation_function": self.activation_function,
            "precision": PRECISIONS[self.precision],
            "env_mat": {"rcut": self.rcut, "rcut_smth": self.rcut_smth, "protection": self.env_protection, "use_exp_switch": False},
            "embeddings": serial.collection(nets, self.keys_of_nets, len(type_map), "embedding_network"),
            "@variables": {"davg": params["davg"], "dstd": params["dstd"]},
            "type_map": list(type_map),
            **self.extra_keys(),
        }

    @classmethod
    def deserialize(cls, tree: dict[str, Any]) -> tuple[Any, Params]:
        """Return options and parameters from the stored form."""
        what = f"descriptor {cls.kind}"
        serial.check_version(tree, 2, what)
        serial.require(tree, "spin", [None], what)
        serial.require(tree.get("env_mat", {}), "use_exp_switch", [None, False], what)
        config = cls(
            sel=tuple(tree["sel"]),
            rcut=tree["rcut"],
            rcut_smth=tree["rcut_smth"],
            neuron=tuple(tree["neuron"]),
            activation_function=tree["activation_function"],
            resnet_dt=tree["resnet_dt"],
            precision=tree["precision"],
            trainable=bool(tree.get("trainable", True)),
            exclude_types=tuple((a, b) for a, b in tree["exclude_types"]),
            env_protection=tree.get("env_protection", 0.0),
            set_davg_zero=tree.get("set_davg_zero", False),
        )
        stored = tree["embeddings"]["networks"]
        expected = len(config.slots) ** cls.keys_of_nets
        if len(stored) != expected or any(item is None for item in stored):
            raise InputError(f"{what}: expected {expected} embedding nets, the file has {sum(item is not None for item in stored)}")
        nets = [serial.net_from_dict(config._net(), item, f"{what}, net {k}") for k, item in enumerate(stored)]
        return config, {**tree["@variables"], "embeddings": nets}
