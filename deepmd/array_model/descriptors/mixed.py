"""Base class of mixed descriptors: one section of neighbours, nets that read type vectors (docs/theory/mixed.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from deepmd.array_model.contracts import Draw
from deepmd.array_model.descriptors.local import Local
from deepmd.array_model.environment import environment_columns, normalise_rows, switch
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.neighbours import Layout, Neighbours, excluded_slots, slot_counts, zero_rows
from deepmd.array_model.networks import Net, init_net
from deepmd.array_model.type_embedding import TypeEmbedding

MODES = ("concat", "strip")
"""concat: one net reads the scalar and the type vectors. strip: type vectors have a net of their own, as a factor."""


@dataclass(frozen=True)
class Rows:
    """Environment of each centre, slot by slot. The last slot of a row stands for all that are not stored of `sel`.

    Attributes
    ----------
    rows_NM4 : normalised environment rows, 0 for excluded neighbours
    s_NM : radial column before normalisation and exclusion
    switch_NM : switch, 0 in empty and excluded slots
    type_NM : type of the neighbour; in empty and excluded slots the type of atom 0 of the frame
    count_NM : number of slots that each slot stands for
    seen_NM : True for a neighbour, not for an empty or excluded slot
    """

    rows_NM4: Array
    s_NM: Array
    switch_NM: Array
    type_NM: Array
    count_NM: Array
    seen_NM: Array


def normalise_by_slot(rows_NM4: Array, params: Params, neighbours: Neighbours, *, xp: Namespace) -> Array:
    """Return (row - davg) / dstd with the statistics of the centre type and the slot.

    The last slot of a row takes the statistics of the last slot of `sel`.
    """
    parts = []
    for table in (params["davg"], params["dstd"]):
        sizes: tuple[Any, ...] = (neighbours.widths[0] - 1, xp.shape(table)[1] - neighbours.widths[0] + 1)
        parts.append(xp.concat([xp.split(table, sizes, axis=1)[0], table[:, -1:, :]], axis=1))
    return normalise_rows(rows_NM4, parts[0], parts[1], neighbours.type_N, xp=xp)


@dataclass(frozen=True)
class Mixed(Local):
    """Options of mixed descriptors.

    `sel` is the number of slots for neighbours of all types; a list is summed.
    """

    sel: tuple[int, ...] | int | str = "auto"
    tebd_dim: int = 8
    tebd_input_mode: str = "concat"
    concat_output_tebd: bool = True
    use_econf_tebd: bool = False
    use_tebd_bias: bool = False
    set_davg_zero: bool = True

    mixed: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if isinstance(self.sel, int):
            object.__setattr__(self, "sel", (self.sel,))
        super().__post_init__()
        if self.tebd_input_mode not in MODES:
            raise ValueError(f"tebd_input_mode is {self.tebd_input_mode!r}; accepted: {', '.join(MODES)}")
        if self.tebd_dim < 1:
            raise ValueError(f"tebd_dim is {self.tebd_dim}: needs a positive width")

    @property
    def slots(self) -> tuple[int, ...]:
        """Slots of the one section, for neighbours of all types, once resolved."""
        return (sum(super().slots),)

    @property
    def num_types_read(self) -> int:
        """Number of types whose vectors the nets read."""
        return 2

    def layout(self) -> Layout:
        """Packing of the neighbours: one section."""
        return Layout(self.rcut, self.slots, mixed=True)

    def init(self, type_map: tuple[str, ...], draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters; `draw(seed_list)` returns a NumPy generator (docs/theory/networks.md#fresh-weights)."""
        nets = {name: [init_net(net, self.seeds(k, 0), draw)] for k, (name, net) in enumerate(self.nets().items())}
        types = self.type_embedding().init(type_map, self.seeds(1), draw, xp=xp)
        return {**self.no_statistics(len(type_map), draw, xp=xp), **nets, "type_embedding": types}

    def rows(self, params: Params, neighbours: Neighbours, *, xp: Namespace) -> Rows:
        """Return the environment of each centre; `davg` and `dstd` (T, S, 4) agree in all slots, so slot 0 is read."""
        disp_NM3 = xp.astype(neighbours.disp_NM3, dtype_of(self.precision, xp=xp))
        columns = environment_columns(disp_NM3, self.rcut_smth, self.rcut, self.env_protection, xp=xp)
        rows_NM4 = normalise_rows(
            xp.stack(columns, axis=-1),
            params["davg"][:, 0:1, :],
            params["dstd"][:, 0:1, :],
            neighbours.type_N,
            xp=xp,
        )
        switch_NM = switch(xp.sqrt(xp.sum(disp_NM3 * disp_NM3, axis=-1)), self.rcut_smth, self.rcut, xp=xp)
        type_NM, seen_NM = neighbours.type_NM, neighbours.mask_NM
        if self.exclude_types:
            hidden_NM = excluded_slots(neighbours, self.exclude_types, xp=xp)
            rows_NM4 = zero_rows(rows_NM4, hidden_NM, xp=xp)
            switch_NM = xp.where(hidden_NM, xp.zeros_like(switch_NM), switch_NM)
            seen_NM = xp.logical_and(seen_NM, xp.logical_not(hidden_NM))
            type_NM = xp.where(hidden_NM, xp.zeros_like(type_NM) + type_NM[:, -1:], type_NM)
        return Rows(rows_NM4, columns[0], switch_NM, type_NM, slot_counts(switch_NM, sum(self.slots), xp=xp), seen_NM)

    def nets(self) -> dict[str, Net]:
        """Embedding nets: one that reads scalar and types (concat), or one for each (strip)."""
        types = self.tebd_dim * self.num_types_read
        widths = (
            {"embeddings": 1 + types}
            if self.tebd_input_mode == "concat"
            else {"embeddings": 1, "embeddings_strip": types}
        )
        return {
            name: Net(width, self.neuron, self.activation_function, self.resnet_dt) for name, width in widths.items()
        }

    def concat_type_vectors(self, types_TE: Array, *, xp: Namespace) -> Array:
        """Return [e_neighbour, e_other] of all pairs of types (T * T, 2E), neighbour slowest.

        If the nets read the neighbour only, return the table (T, E) itself.
        """
        if self.num_types_read == 1:
            return types_TE
        neighbour, other = xp.expand_dims(types_TE, axis=1), xp.expand_dims(types_TE, axis=0)
        like = xp.zeros_like(neighbour + other)
        return xp.reshape(xp.concat([neighbour + like, other + like], axis=-1), (-1, 2 * self.tebd_dim))

    def type_embedding(self) -> TypeEmbedding:
        """Options of the type embedding."""
        return TypeEmbedding(
            (self.tebd_dim,), self.use_econf_tebd, self.use_tebd_bias, self.precision, trainable=self.trainable
        )
