"""Type embedding: a learned vector for each element (docs/theory/networks.md#type-embedding)."""

from __future__ import annotations

from dataclasses import dataclass

from deepmd.array_model.contracts import STRICT, Draw
from deepmd.array_model.electrons import configuration
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.networks import Net, apply_net, check_options, init_net


@dataclass(frozen=True)
class TypeEmbedding:
    """Options of a type embedding: a net that reads the one-hot type, or with `use_econf_tebd` electron configurations.

    Parameters are those of the net and its constant `inputs` (T, K).
    """

    neuron: tuple[int, ...] = (8,)
    use_econf_tebd: bool = False
    use_tebd_bias: bool = False
    precision: str = "default"
    activation_function: str = "Linear"
    resnet_dt: bool = False
    trainable: bool = True
    seed: int | None = None
    """Seed of fresh parameters if the embedding has a section of its own in the input."""

    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        check_options(self)
        if not self.neuron or min(self.neuron) < 1:
            raise ValueError(f"neuron is {list(self.neuron)}: needs positive widths")

    def net(self, ntypes: int) -> Net:
        """Shape of the net."""
        width = len(configuration("H")) if self.use_econf_tebd else ntypes
        return Net(width, self.neuron, self.activation_function, self.resnet_dt, bias=self.use_tebd_bias)

    def inputs(self, type_map: tuple[str, ...]) -> tuple[tuple[float, ...], ...]:
        """Input of the net for each type; electron configurations need the names of elements."""
        if self.use_econf_tebd:
            return tuple(configuration(name) for name in type_map)
        return tuple(tuple(float(row == column) for column in range(len(type_map))) for row in range(len(type_map)))

    def init(self, type_map: tuple[str, ...], seed: list[int] | None, draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters; seed list of a descriptor with seed s: [1, s] (docs/theory/networks.md#fresh-weights)."""
        return {**init_net(self.net(len(type_map)), seed, draw), "inputs": xp.asarray(self.inputs(type_map))}

    def table(self, params: Params, *, xp: Namespace) -> Array:
        """Return the vector of each type (T + 1, E); the last row, of zeros, stands for no atom."""
        # number of types by counting columns, because sizes are tensors in a torch trace; electron configurations have
        # another number of columns, but then `net` does not read it
        net = self.net(len(xp.unstack(params["inputs"], axis=-1)))
        table_TE = apply_net(net, params, params["inputs"], xp=xp)
        return xp.concat([table_TE, xp.zeros_like(table_TE[0:1, :])], axis=0)
