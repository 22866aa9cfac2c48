"""Charge and spin of a frame, embedded and added to the initial node features (docs/theory/dpa3.md#charge-and-spin)."""

from __future__ import annotations

from deepmd.array_model.conditions import CONDITIONS
from deepmd.array_model.contracts import Draw
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.networks import activation, apply_net, init_affine
from deepmd.array_model.type_embedding import TypeEmbedding

LIMITS = CONDITIONS["charge_spin"].limits

TABLES = {"chg_embedding": LIMITS["charge"], "spin_embedding": LIMITS["spin"]}
"""Smallest and largest value of each table; every integer between them has a vector."""


def names_of(limits: tuple[int, int]) -> tuple[str, ...]:
    """Return the integers between the limits as names, which stand for the types of a type embedding."""
    return tuple(str(value) for value in range(limits[0], limits[1] + 1))


def init(embedding: TypeEmbedding, seed: list[int] | None, draw: Draw, *, xp: Namespace) -> Params:
    """Fresh parameters; `embedding` has the width and the precision of the vectors of charges and spins."""

    def seed_of(part: int) -> list[int] | None:
        return None if seed is None else [part, *seed]

    tables = {
        name: embedding.init(names_of(limits), seed_of(k), draw, xp=xp)
        for k, (name, limits) in enumerate(TABLES.items())
    }
    (width,) = embedding.neuron
    return {**tables, "mix_cs_mlp": init_affine((2 * width, width, True), draw(seed_of(2)))}


def embed_charge_spin(
    embedding: TypeEmbedding, act: str, params: Params, charge_spin_F2: Array, *, xp: Namespace
) -> Array:
    """Return phi([C(charge), S(spin)] W + b) of each frame (F, K); digits behind the decimal point are dropped."""
    index_F2 = xp.astype(charge_spin_F2, xp.int64)
    rows = []
    for column, (name, limits) in enumerate(TABLES.items()):
        # inputs are one-hot: the row of a value selects its vector
        inputs_FI = xp.take(params[name]["inputs"], index_F2[:, column] - limits[0], axis=0)
        rows.append(apply_net(embedding.net(limits[1] - limits[0] + 1), params[name], inputs_FI, xp=xp))
    mix = params["mix_cs_mlp"]
    return activation(act)(xp.matmul(xp.concat(rows, axis=1), mix["w"]) + mix["b"], xp=xp)
