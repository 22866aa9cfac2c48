"""DPA-2: repinit, a pair descriptor, then repformer layers that pass messages (docs/theory/dpa2.md#flow).

The layers are in `array_model/repformer.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from deepmd.array_model import repformer
from deepmd.array_model.contracts import STRICT, Draw, Features, Statistics, Widths
from deepmd.array_model.descriptors.base import Descriptor
from deepmd.array_model.descriptors.mixed import normalise_by_slot
from deepmd.array_model.descriptors.se_atten import SeAtten
from deepmd.array_model.descriptors.se_e3_tebd import SeE3Tebd
from deepmd.array_model.environment import environment_rows, switch
from deepmd.array_model.errors import InputError
from deepmd.array_model.messages import affine, init_factor, with_nested_slots
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.neighbours import Layout, Neighbours, excluded_slots, inner_neighbours, zero_rows
from deepmd.array_model.networks import init_affine, init_zeros
from deepmd.array_model.repformer import Repformer
from deepmd.array_model.type_embedding import TypeEmbedding


@dataclass(frozen=True)
class Repinit:
    """Options of the pair descriptor and of the three-body part.

    `nsel` and `three_body_sel` are numbers once neighbour statistics have resolved "auto".
    """

    rcut: float
    rcut_smth: float
    nsel: int | str
    neuron: tuple[int, ...] = (25, 50, 100)
    axis_neuron: int = 16
    tebd_dim: int = 8
    tebd_input_mode: str = "concat"
    set_davg_zero: bool = True
    activation_function: str = "tanh"
    resnet_dt: bool = False
    type_one_side: bool = False
    use_three_body: bool = False
    three_body_neuron: tuple[int, ...] = (2, 4, 8)
    three_body_sel: int | str = 40
    three_body_rcut: float = 4.0
    three_body_rcut_smth: float = 0.5

    __pydantic_config__ = STRICT


@dataclass(frozen=True)
class Dpa2(Descriptor):
    """Options of the descriptor."""

    kind = "dpa2"

    repinit: Repinit
    repformer: Repformer
    concat_output_tebd: bool = True
    precision: str = "default"
    smooth: bool = True
    exclude_types: tuple[tuple[int, int], ...] = ()
    env_protection: float = 0.0
    trainable: bool = True
    seed: int | None = None
    add_tebd_to_repinit_out: bool = False
    use_econf_tebd: bool = False
    use_tebd_bias: bool = False
    pair_descriptor: SeAtten = field(init=False, repr=False, compare=False, metadata={"derived": True})
    """Repinit: a `se_atten` without attention layers."""
    three_body_descriptor: SeE3Tebd | None = field(init=False, repr=False, compare=False, metadata={"derived": True})
    """Three-body part; None without `use_three_body`."""

    aliases: ClassVar[dict[str, str]] = {"repformer_add_type_ebd_to_seq": "add_tebd_to_repinit_out"}
    mixed: ClassVar[bool] = True
    needs_neighbour_features: ClassVar[bool] = True
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        init, block = self.repinit, self.repformer
        if init.rcut <= block.rcut:
            raise ValueError(f"repinit/rcut ({init.rcut}) must be larger than repformer/rcut ({block.rcut})")
        if isinstance(init.nsel, int) and isinstance(block.nsel, int) and init.nsel <= block.nsel:
            raise ValueError(f"repinit/nsel ({init.nsel}) must be larger than repformer/nsel ({block.nsel})")
        lists = [
            (init.rcut, init.nsel),
            (block.rcut, block.nsel),
            *([(init.three_body_rcut, init.three_body_sel)] if init.use_three_body else []),
        ]
        slots = [number for _, number in sorted(each for each in lists if isinstance(each[1], int))]
        if slots != sorted(slots):
            raise ValueError(f"a list with a longer cutoff must not have fewer slots; cutoffs and slots are {lists}")
        shared: dict[str, Any] = {
            **{name: getattr(self, name) for name in ("precision", "exclude_types", "env_protection", "trainable")},
            **{name: getattr(self, name) for name in ("use_econf_tebd", "use_tebd_bias")},
            **{
                name: getattr(init, name)
                for name in ("tebd_dim", "tebd_input_mode", "set_davg_zero", "activation_function", "resnet_dt")
            },
            "concat_output_tebd": False,
        }
        cuts: dict[str, Any] = {"sel": init.nsel, "rcut": init.rcut, "rcut_smth": init.rcut_smth, "neuron": init.neuron}
        pair = SeAtten(
            **cuts,
            axis_neuron=init.axis_neuron,
            attn_layer=0,
            smooth_type_embedding=self.smooth,
            type_one_side=init.type_one_side,
            **shared,
        )
        cuts = {
            "sel": init.three_body_sel,
            "rcut": init.three_body_rcut,
            "rcut_smth": init.three_body_rcut_smth,
            "neuron": init.three_body_neuron,
        }
        three_body = SeE3Tebd(**cuts, smooth=self.smooth, **shared)
        object.__setattr__(self, "pair_descriptor", pair)
        object.__setattr__(self, "three_body_descriptor", three_body if init.use_three_body else None)

    @property
    def rcut(self) -> float:  # type: ignore[override]
        """Cutoff of the pair descriptor, Angstrom."""
        return self.repinit.rcut

    @property
    def rcut_smth(self) -> float:  # type: ignore[override]
        """Onset of the switch of the pair descriptor, Angstrom."""
        return self.repinit.rcut_smth

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        block = self.repformer
        return Widths(block.g1_dim + (self.repinit.tebd_dim if self.concat_output_tebd else 0), block.g2_dim)

    @property
    def part_slots(self) -> tuple[int, ...]:
        """Slots of the pair descriptor, of the three-body part if there is one, and of the repformer."""
        if isinstance(self.repformer.nsel, str):
            raise InputError(
                f"model/descriptor/repformer/nsel: {self.repformer.nsel!r} "
                "has not been resolved by neighbour statistics"
            )
        three_body = self.three_body_descriptor
        return (*self.pair_descriptor.slots, *(three_body.slots if three_body else ()), self.repformer.nsel)

    def slot_options(self) -> dict[str, tuple[float, Any]]:
        """Slots of the three parts."""
        init, block = self.repinit, self.repformer
        return {
            "repinit/nsel": (init.rcut, init.nsel),
            "repinit/three_body_sel": (init.three_body_rcut, init.three_body_sel),
            "repformer/nsel": (block.rcut, block.nsel),
        }

    def with_slots(self, values: dict[str, Any]) -> Dpa2:
        """Return the descriptor with other slots."""
        return with_nested_slots(self, values)  # type: ignore[no-any-return]

    def layout(self) -> Layout:
        """Packing of the neighbours: the list of the pair descriptor, with inner lists of the other parts."""
        pair_slots, *inner_slots = self.part_slots
        cutoffs = (*((self.repinit.three_body_rcut,) if self.three_body_descriptor else ()), self.repformer.rcut)
        return Layout(
            self.rcut,
            (pair_slots,),
            mixed=True,
            inner=tuple(zip(cutoffs, inner_slots, strict=True)),
            needs_neighbour_features=True,
        )

    def init(self, type_map: tuple[str, ...], draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters for the types of `type_map` (docs/theory/networks.md#fresh-weights)."""
        block = self.repformer
        blocks: dict[str, Any] = {
            "repinit": self.pair_descriptor,
            **({"three_body": self.three_body_descriptor} if self.three_body_descriptor else {}),
        }
        params: Params = {"type_embedding": self.type_embedding().init(type_map, self.seeds(0), draw, xp=xp)}
        for number, (name, part) in enumerate(blocks.items()):
            # parts have seeds of their own, because their seed lists would coincide
            own = replace(part, seed=None if self.seed is None else self.seed + 1000 * (number + 1))
            params[name] = {
                key: value
                for key, value in own.init(type_map, draw, xp=xp).items()
                if key not in ("type_embedding", "attention")
            }
        if self.g1_shape:
            params["g1_shape_tranform"] = init_affine(self.g1_shape, draw(self.seeds(1)))
        if self.add_tebd_to_repinit_out:
            params["tebd_transform"] = init_affine((self.repinit.tebd_dim, block.g1_dim, False), draw(self.seeds(2)))
        zeros = init_zeros((len(type_map), self.part_slots[-1], 4), draw, xp=xp)
        layers = [self._fresh_layer(number, draw, xp=xp) for number in range(block.nlayers)]
        embedding = init_affine((1, block.g2_dim, True), draw(self.seeds(3)))
        return {**params, "repformers": {"davg": zeros, "dstd": zeros + 1.0, "g2_embd": embedding, "layers": layers}}

    def flags(self) -> Any:
        """Trainable parameters: all, the layer norms only with `trainable_ln`."""
        return self.trainable and (self.repformer.trainable_ln or ("attn2_lm",))

    def first_atom_matters(self, params: Params) -> bool:
        """Whether atom 0 matters in the pair or the three-body part; empty slots of the repformer have no weight."""
        return any(
            part.first_atom_matters(params[name])
            for name, part in (("repinit", self.pair_descriptor), ("three_body", self.three_body_descriptor))
            if part
        )

    def raw_rows(self, neighbours: Neighbours, *, xp: Namespace) -> list[Array]:
        """Sample of the statistics: environment rows of each part before normalisation."""
        out = self.pair_descriptor.raw_rows(neighbours, xp=xp)
        if self.three_body_descriptor:
            out += self.three_body_descriptor.raw_rows(self._three_body_neighbours(neighbours, xp=xp), xp=xp)
        near, block = self._repformer_neighbours(neighbours, xp=xp), self.repformer
        rows_NM4 = environment_rows(near.disp_NM3, block.rcut_smth, block.rcut, self.env_protection, xp=xp)
        return [*out, zero_rows(rows_NM4, excluded_slots(near, self.exclude_types, xp=xp), xp=xp)]

    def with_statistics(self, params: Params, statistics: list[Statistics], *, xp: Namespace) -> Params:
        """Store the deviation of each part, and its mean unless `set_davg_zero`."""
        first, *middle, (mean_T4, std_T4) = statistics
        params = {**params, "repinit": self.pair_descriptor.with_statistics(params["repinit"], [first], xp=xp)}
        if self.three_body_descriptor:
            params["three_body"] = self.three_body_descriptor.with_statistics(params["three_body"], middle, xp=xp)
        own = params["repformers"]
        zeros = xp.zeros_like(own["davg"])
        mean = zeros if self.repformer.set_davg_zero else zeros + xp.expand_dims(mean_T4, axis=1)
        return {**params, "repformers": {**own, "davg": mean, "dstd": zeros + xp.expand_dims(std_T4, axis=1)}}

    def apply(self, params: Params, neighbours: Neighbours, *, xp: Namespace) -> Features:
        """Features of each centre."""
        dtype, types, block = (
            dtype_of(self.precision, xp=xp),
            {"type_embedding": params["type_embedding"]},
            self.repformer,
        )
        start = [self.pair_descriptor.apply({**params["repinit"], **types}, neighbours, xp=xp).invariant_ND]
        if self.three_body_descriptor:
            start.append(
                self.three_body_descriptor.apply(
                    {**params["three_body"], **types}, self._three_body_neighbours(neighbours, xp=xp), xp=xp
                ).invariant_ND
            )
        g1_ND = xp.astype(xp.concat(start, axis=1), dtype)
        if self.g1_shape:
            g1_ND = affine(params["g1_shape_tranform"], g1_ND, xp=xp)
        table_TE = self.type_embedding().table(params["type_embedding"], xp=xp)
        type_NE = xp.take(table_TE, neighbours.type_N, axis=0)
        if self.add_tebd_to_repinit_out:
            g1_ND = g1_ND + affine(params["tebd_transform"], type_NE, xp=xp)

        near, own = self._repformer_neighbours(neighbours, xp=xp), params["repformers"]
        disp_NM3 = xp.astype(near.disp_NM3, dtype)
        rows_NM4 = environment_rows(disp_NM3, block.rcut_smth, block.rcut, self.env_protection, xp=xp)
        rows_NM4 = normalise_by_slot(rows_NM4, own, near, xp=xp)
        mask_NM = xp.logical_and(near.mask_NM, xp.logical_not(excluded_slots(near, self.exclude_types, xp=xp)))
        s_NM = switch(xp.sqrt(xp.sum(disp_NM3 * disp_NM3, axis=-1)), block.rcut_smth, block.rcut, xp=xp)
        s_NM = xp.where(mask_NM, s_NM, xp.zeros_like(s_NM))
        g1_ND, equivariant = repformer.apply_layers(
            block, own, g1_ND, rows_NM4, disp_NM3, mask_NM, s_NM, self.smooth, near, xp=xp
        )
        out_ND = xp.concat([g1_ND, type_NE], axis=1) if self.concat_output_tebd else g1_ND
        return Features(xp.astype(out_ND, xp.float64), xp.astype(equivariant, xp.float64))

    @property
    def g1_shape(self) -> tuple[int, int, bool] | None:
        """(in, out, has a bias) of the map from the output of repinit to node features; None if the widths agree."""
        width = self.pair_descriptor.widths.invariant + (
            self.three_body_descriptor.widths.invariant if self.three_body_descriptor else 0
        )
        return None if width == self.repformer.g1_dim else (width, self.repformer.g1_dim, False)

    def type_embedding(self) -> TypeEmbedding:
        """Options of the type embedding."""
        return TypeEmbedding(
            (self.repinit.tebd_dim,), self.use_econf_tebd, self.use_tebd_bias, self.precision, trainable=self.trainable
        )

    def _three_body_neighbours(self, neighbours: Neighbours, *, xp: Namespace) -> Neighbours:
        return inner_neighbours(neighbours, 0, self.repinit.three_body_rcut, xp=xp)

    def _repformer_neighbours(self, neighbours: Neighbours, *, xp: Namespace) -> Neighbours:
        return inner_neighbours(neighbours, len(neighbours.inner) - 1, self.repformer.rcut, xp=xp)

    def _fresh_layer(self, number: int, draw: Draw, *, xp: Namespace) -> Params:
        block, last = self.repformer, number + 1 >= self.repformer.nlayers
        layer: Params = {}
        for k, (path, shape) in enumerate(block.affine_shapes(last).items()):
            *section, name = path.split("/")
            place = layer.setdefault(section[0], {}) if section else layer
            place[name] = init_affine(shape, draw(self.seeds(k, number, 4)))
        if block.update_g2_has_attn and not last:
            zeros = init_zeros((block.g2_dim,), draw, xp=xp)
            layer["attn2_lm"] = {"w": zeros + 1.0, "b": zeros}
        for kind, (name, sizes) in enumerate(block.residuals(last).items()):
            how = block.update_residual, block.update_residual_init
            layer[name] = [
                init_factor(size, *how, draw(self.seeds(k, kind, number, 5))) for k, size in enumerate(sizes)
            ]
        return layer
