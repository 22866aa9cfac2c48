"""se_e2_a with the `type_embedding` section of a model: one net for all pairs of types, which reads type vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from deepmd.array_model.contracts import Draw, Features, Widths
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.networks import Net, apply_net
from deepmd.array_model.spectral import Expansion
from deepmd.array_model.type_embedding import TypeEmbedding


@dataclass(frozen=True)
class SeE2ATyped(SeE2A):
    """Options of se_e2_a, and of the type embedding.

    One fitting net serves all types, because the features end with the type vector of the centre.
    """

    kind = "se_e2_a_typed"

    types_per_net = 0
    types: TypeEmbedding = field(default_factory=lambda: TypeEmbedding(activation_function="tanh"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if PRECISIONS[self.types.precision] != PRECISIONS[self.precision]:
            raise ValueError(f"precision is {self.types.precision}; accepted: that of the descriptor, {self.precision}")

    @property
    def mixed_types(self) -> bool:
        """One fitting net serves all types, though neighbours come in sections."""
        return True

    @property
    def widths(self) -> Widths:
        """Widths of the features; the type vector of the centre comes last."""
        plain = super().widths
        return Widths(plain.invariant + self.types.neuron[-1], plain.equivariant)

    def init(self, type_map: tuple[str, ...], draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters; `draw(seed_list)` returns a NumPy generator.

        DeePMD-kit has this descriptor in TensorFlow only, which draws other random numbers.
        """
        vectors = self.types.init(type_map, None if self.types.seed is None else [1, self.types.seed], draw, xp=xp)
        return {**super().init(type_map, draw, xp=xp), "type_embedding": vectors}

    def flags(self) -> dict[str, Any]:
        """Trainable parameters: the type embedding has a flag of its own."""
        return {"embeddings": self.trainable, "type_embedding": self.types.trainable}

    def apply(
        self, params: Params, neighbours: Neighbours, expansion: Expansion | None = None, *, xp: Namespace
    ) -> Features:
        """Features of each centre: se_e2_a with G_j = Net([s_j, e_j, e_i]), followed by e_i.

        With `type_one_side` G_j = Net([s_j, e_j]).
        """
        features = super().apply(params, neighbours, expansion, xp=xp)
        own_NE = xp.take(
            xp.astype(self.types.table(params["type_embedding"], xp=xp), xp.float64), neighbours.type_N, axis=0
        )
        return replace(features, invariant_ND=xp.concat([features.invariant_ND, own_NE], axis=1))

    def net(self) -> Net:
        """Shape of the net, which reads s and one or two type vectors."""
        return replace(super().net(), in_dim=1 + self.types.neuron[-1] * (1 if self.type_one_side else 2))

    def _embeddings(self, params: Params, centre: int, *, xp: Namespace) -> list[Callable[[Array], Array]]:
        table_TE, (weights,) = self.types.table(params["type_embedding"], xp=xp), params["embeddings"]

        def function(neighbour: int) -> Callable[[Array], Array]:
            read = [neighbour] if self.type_one_side else [neighbour, centre]

            def embedding(s: Array) -> Array:
                vectors = [table_TE[number, :] + xp.zeros_like(s) for number in read]
                return apply_net(self.net(), weights, xp.concat([s, *vectors], axis=-1), xp=xp)

            return embedding

        return [function(neighbour) for neighbour in range(len(self.slots))]
