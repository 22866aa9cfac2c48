"""Type embedding: a learned vector for each element (docs/theory/networks.md#type-embedding)."""

from __future__ import annotations

from dataclasses import dataclass

from deepmd.array_model.contracts import Draw
from deepmd.array_model.electrons import configuration
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.networks import Net, apply_net, check_options, init_net


@dataclass(frozen=True)
class TypeEmbedding:
    """Options: one net that reads which element it is, or with `use_econf_tebd` the element's electron configuration.

    Its parameters are those of the net and its `inputs` (T, K), which are constants.
    """

    neuron: tuple[int, ...] = (8,)
    use_econf_tebd: bool = False
    use_tebd_bias: bool = False
    precision: str = "default"
    activation_function: str = "Linear"
    resnet_dt: bool = False
    trainable: bool = True
    seed: int | None = None
    """Of fresh parameters where the embedding is a section of its own."""

    __pydantic_config__ = {"extra": "forbid"}

    def __post_init__(self) -> None:
        check_options(self)
        if not self.neuron or min(self.neuron) < 1:
            raise ValueError(f"neuron is {list(self.neuron)}: needs positive widths")

    def net(self, ntypes: int) -> Net:
        """Shape of the net."""
        width = len(configuration("H")) if self.use_econf_tebd else ntypes
        return Net(width, self.neuron, self.activation_function, self.resnet_dt, bias=self.use_tebd_bias)

    def inputs(self, type_map: tuple[str, ...]) -> tuple[tuple[float, ...], ...]:
        """Input of each type; electron configurations need the names of elements.

        Raises
        ------
        InputError
            A name is not that of an element.
        """
        if self.use_econf_tebd:
            return tuple(configuration(name) for name in type_map)
        return tuple(tuple(float(row == column) for column in range(len(type_map))) for row in range(len(type_map)))

    def init(self, type_map: tuple[str, ...], seed: list[int] | None, draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters; seed list of a descriptor with seed s: [1, s] (docs/theory/networks.md#fresh-weights)."""
        return {**init_net(self.net(len(type_map)), seed, draw), "inputs": xp.asarray(self.inputs(type_map))}

    def table(self, params: Params, *, xp: Namespace) -> Array:
        """Return the vector of each type (T + 1, E); the last row, of zeros, is that of no atom."""
        # columns are counted, because sizes are tensors while torch traces; there are as many as types unless they are
        # electrons
        net = self.net(len(xp.unstack(params["inputs"], axis=-1)))
        table_TE = apply_net(net, params, params["inputs"], xp=xp)
        return xp.concat([table_TE, xp.zeros_like(table_TE[0:1, :])], axis=0)
