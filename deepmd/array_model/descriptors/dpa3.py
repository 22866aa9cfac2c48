"""DPA-3: message passing between nodes, edges and angles (docs/theory/dpa3.md#flow).

The layers are in `array_model/repflow.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from deepmd.array_model import charge_spin, repflow
from deepmd.array_model.conditions import Conditions, find_problem
from deepmd.array_model.contracts import STRICT, Draw, Features, Statistics, Widths
from deepmd.array_model.descriptors.base import Descriptor
from deepmd.array_model.descriptors.mixed import normalise_by_slot
from deepmd.array_model.environment import environment_rows
from deepmd.array_model.errors import InputError
from deepmd.array_model.messages import init_factor, with_nested_slots
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.neighbours import Layout, Neighbours, excluded_slots, zero_rows
from deepmd.array_model.networks import activation, check_options, init_affine, init_zeros
from deepmd.array_model.repflow import Repflow
from deepmd.array_model.spectral import Plan
from deepmd.array_model.type_embedding import TypeEmbedding


@dataclass(frozen=True)
class Dpa3(Descriptor):
    """Options of the descriptor."""

    kind = "dpa3"

    repflow: Repflow
    concat_output_tebd: bool = False
    activation_function: str = "silu"
    precision: str = "default"
    exclude_types: tuple[tuple[int, int], ...] = ()
    env_protection: float = 0.0
    trainable: bool = True
    seed: int | None = None
    use_econf_tebd: bool = False
    use_tebd_bias: bool = False
    use_loc_mapping: bool = True
    add_chg_spin_ebd: bool = False
    default_chg_spin: tuple[float, float] | None = None

    mixed: ClassVar[bool] = True
    needs_neighbour_features: ClassVar[bool] = True
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        check_options(self)
        if self.env_protection < 0.0:
            raise ValueError(f"env_protection is {self.env_protection}; it must not be negative")
        if self.default_chg_spin is not None and (text := find_problem("charge_spin", self.default_chg_spin)):
            raise ValueError(f"default_chg_spin: {text}")

    @property
    def rcut(self) -> float:  # type: ignore[override]
        """Cutoff of the edges, Angstrom."""
        return self.repflow.e_rcut

    @property
    def rcut_smth(self) -> float:  # type: ignore[override]
        """Onset of the switch of the edges, Angstrom."""
        return self.repflow.e_rcut_smth

    @property
    def edge_and_angle_slots(self) -> tuple[int, int]:
        """Slots for edges and for angle neighbours, once resolved."""
        block = self.repflow
        if isinstance(block.e_sel, str) or isinstance(block.a_sel, str):
            raise InputError(
                f"model/descriptor/repflow: e_sel {block.e_sel!r}, a_sel {block.a_sel!r} "
                "have not been resolved by neighbour statistics"
            )
        return block.e_sel, block.a_sel

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        return Widths(self.repflow.n_dim * (2 if self.concat_output_tebd else 1), self.repflow.e_dim)

    @property
    def dim_chg_spin(self) -> int:  # type: ignore[override]
        """Number of values that the descriptor asks of each frame: 2 (charge and spin) or 0."""
        return 2 if self.add_chg_spin_ebd else 0

    @property
    def part_slots(self) -> tuple[int, ...]:
        """Slots for edges."""
        return self.edge_and_angle_slots[:1]

    def slot_options(self) -> dict[str, tuple[float, Any]]:
        """Slots for edges and for angle neighbours."""
        block = self.repflow
        return {"repflow/e_sel": (block.e_rcut, block.e_sel), "repflow/a_sel": (block.a_rcut, block.a_sel)}

    def with_slots(self, values: dict[str, Any]) -> Dpa3:
        """Return the descriptor with other slots."""
        return with_nested_slots(self, values)  # type: ignore[no-any-return]

    def layout(self) -> Layout:
        """Packing of the neighbours: the list of the edges, with an inner list of the angle neighbours."""
        edge_slots, angle_slots = self.edge_and_angle_slots
        return Layout(
            self.rcut,
            (edge_slots,),
            mixed=True,
            inner=((self.repflow.a_rcut, angle_slots),),
            needs_neighbour_features=True,
        )

    def init(self, type_map: tuple[str, ...], draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters for the types of `type_map` (docs/theory/networks.md#fresh-weights)."""
        block = self.repflow
        layers: list[Params] = []
        for number in range(block.nlayers):
            layer: Params = {
                name: init_affine(shape, draw(self.seeds(k, number, 2)))
                for k, (name, shape) in enumerate(block.affine_shapes().items())
            }
            for kind, (name, sizes) in enumerate(block.residuals().items()):
                how = block.update_residual, block.update_residual_init
                layer[name] = [
                    init_factor(size, *how, draw(self.seeds(k, kind, number, 3))) for k, size in enumerate(sizes)
                ]
            layers.append(layer)
        zeros = init_zeros((len(type_map), self.edge_and_angle_slots[0], 4), draw, xp=xp)
        return {
            "davg": zeros,
            "dstd": zeros + (self.fixed_std or 1.0),
            "type_embedding": self.type_embedding().init(type_map, self.seeds(0), draw, xp=xp),
            "edge_embd": init_affine((1, block.e_dim, True), draw(self.seeds(0, 1))),
            "angle_embd": init_affine((1, block.a_dim, False), draw(self.seeds(1, 1))),
            "layers": layers,
            **(charge_spin.init(self.frame_embedding(), self.seeds(4), draw, xp=xp) if self.add_chg_spin_ebd else {}),
        }

    def first_atom_matters(self, params: Params) -> bool:
        """Atom 0 never matters, because empty slots have no weight."""
        return False

    def raw_rows(self, neighbours: Neighbours, *, xp: Namespace) -> list[Array]:
        """Sample of the statistics: environment rows (N, M, 4) before normalisation."""
        rows_NM4 = environment_rows(neighbours.disp_NM3, self.rcut_smth, self.rcut, self.env_protection, xp=xp)
        return [zero_rows(rows_NM4, excluded_slots(neighbours, self.exclude_types, xp=xp), xp=xp)]

    def with_statistics(self, params: Params, statistics: list[Statistics], *, xp: Namespace) -> Params:
        """Store the deviation of each centre type, unless the options fix it; the mean is always 0."""
        if self.fixed_std:
            return params
        ((_, std_T4),) = statistics
        return {**params, "dstd": xp.zeros_like(params["dstd"]) + xp.expand_dims(std_T4, axis=1)}

    def apply_under(
        self, params: Params, neighbours: Neighbours, conditions: Conditions, plan: Plan, *, xp: Namespace
    ) -> Features:
        """Features of each centre; with `add_chg_spin_ebd` charge and spin of its frame change them."""
        dtype = dtype_of(self.precision, xp=xp)
        disp_NM3 = xp.astype(neighbours.disp_NM3, dtype)
        rows_NM4 = repflow.edge_rows(self.repflow, disp_NM3, self.env_protection, xp=xp)
        rows_NM4 = normalise_by_slot(rows_NM4, params, neighbours, xp=xp)
        mask_NM = xp.logical_and(
            neighbours.mask_NM, xp.logical_not(excluded_slots(neighbours, self.exclude_types, xp=xp))
        )
        table_TE = self.type_embedding().table(params["type_embedding"], xp=xp)
        start_Nn = xp.take(table_TE, neighbours.type_N, axis=0)
        if self.add_chg_spin_ebd:
            vector_Fn = charge_spin.embed_charge_spin(
                self.frame_embedding(), self.activation_function, params, conditions["charge_spin"], xp=xp
            )
            start_Nn = start_Nn + xp.take(vector_Fn, neighbours.frame_N, axis=0)
        act = activation(self.activation_function)
        node_Nn, equivariant = repflow.apply_layers(
            self.repflow,
            self.activation_function,
            params,
            act(start_Nn, xp=xp),
            rows_NM4,
            disp_NM3,
            mask_NM,
            neighbours,
            xp=xp,
        )
        out = xp.concat([node_Nn, start_Nn], axis=1) if self.concat_output_tebd else node_Nn
        return Features(xp.astype(out, xp.float64), xp.astype(equivariant, xp.float64))

    @property
    def fixed_std(self) -> float:
        """Deviation of the rows that the options fix; 0: the data decide."""
        return 0.3 if self.repflow.skip_stat else self.repflow.fix_stat_std

    def type_embedding(self) -> TypeEmbedding:
        """Options of the type embedding."""
        return TypeEmbedding(
            (self.repflow.n_dim,), self.use_econf_tebd, self.use_tebd_bias, self.precision, trainable=self.trainable
        )

    def frame_embedding(self) -> TypeEmbedding:
        """Options of the embedding of charges and spins."""
        return TypeEmbedding((self.repflow.n_dim,), precision=self.precision, trainable=self.trainable)
