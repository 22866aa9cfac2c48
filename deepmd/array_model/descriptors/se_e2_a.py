"""se_e2_a: radial and angular information of all neighbours (Zhang et al., NeurIPS 2018; spec core, section 6.1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model import spectral
from deepmd.array_model.descriptors.expandable import Expandable
from deepmd.array_model.descriptors.features import Features, Widths
from deepmd.array_model.descriptors.sectioned import Sectioned
from deepmd.array_model.environment import environment_adjoint, environment_columns, environment_rows, without_excluded
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.networks import init_net
from deepmd.array_model.pairs import Pairs, spans
from deepmd.array_model.registry import register


@register("descriptor", "se_e2_a", aliases=("se_a",))
@dataclass(frozen=True)
class SeE2A(Sectioned, Expandable):
    """Options of the descriptor; `sel` is a list of numbers once neighbour statistics have resolved "auto"."""

    axis_neuron: int = 4
    type_one_side: bool = False
    evaluation: str | int = "auto"
    """How the embedding nets are evaluated: "direct", "spectral", "auto"; the number of terms once an expansion is planned."""

    type_name = "se_e2_a"
    newest = 3  # which adds the tables of a compressed model, that are not needed
    stored = ("axis_neuron", "type_one_side")
    names = {"n_axis_neuron": "axis_neuron", "n_neuron": "neuron"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.axis_neuron <= self.neuron[-1]:
            raise ValueError(f"axis_neuron is {self.axis_neuron}: needs 1 <= axis_neuron <= neuron[-1], and neuron is {list(self.neuron)}")

    # -- what the rest of the package asks of a descriptor ---------------------------------------------------------

    @property
    def widths(self) -> Widths:
        """Widths of the features."""
        return Widths(self.neuron[-1] * self.axis_neuron, self.neuron[-1])

    def init(self, ntypes: int, draw: Any, *, xp: Namespace) -> Params:
        """Fresh parameters; `draw(seed_list)` returns a NumPy generator (spec core, section 13.3)."""
        seeds = range(ntypes) if self.type_one_side else [first * ntypes + second for second in range(ntypes) for first in range(ntypes)]
        nets = [init_net(self._net(), None if self.seed is None else [q, self.seed], draw) for q in seeds]
        return {**self.no_statistics(ntypes, draw, xp=xp), "embeddings": nets}

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
            invariant_ND=xp.astype(xp.reshape(d_NGX, (-1, self.neuron[-1] * self.axis_neuron)), xp.float64),
            equivariant_NG3=xp.astype(g_NG4[:, :, 1:], xp.float64),
        )

    # -- parts ------------------------------------------------------------------------------------------------------

    @property
    def keys_of_nets(self) -> int:
        """Number of types that a net belongs to: the neighbour, or centre and neighbour."""
        return 1 if self.type_one_side else 2

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

        def total(centre: int, sections: list[Array]) -> Array:
            each = zip(self._embeddings(params, centre, xp=xp), sections, strict=True)
            terms = [xp.matmul(xp.matrix_transpose(x), embedding(x[:, :, 0:1])) for embedding, x in each]
            return sum(terms[1:], terms[0])

        if self.type_one_side:
            empty = [empty_TS4[:, part, :] for part in self._unused(pairs)]
            return total(0, xp.split(rows_NM4, pairs.widths, axis=1)) + xp.take(total(0, empty), pairs.type_N, axis=0)
        parts = []
        for centre, rows in enumerate(xp.split(rows_NM4, pairs.counts, axis=0)):
            empty = [empty_TS4[centre : centre + 1, part, :] for part in self._unused(pairs)]
            parts.append(total(centre, xp.split(rows, pairs.widths, axis=1)) + total(centre, empty))
        return xp.concat(parts, axis=0)

    def _spectral(self, params: Params, pairs: Pairs, *, xp: Namespace) -> Array:
        """Sum of R (x) G(s) over all slots (N, 4, G) from moments; mean and deviation are those of the first slot, as of all."""
        scale, disp_NM3 = params["tables"]["scale"], xp.astype(pairs.disp_NM3, dtype_of(self.precision, xp=xp))
        both = [self._expansion(params, centre, xp=xp) for centre in range(len(self.slots))]
        how = pairs.widths, pairs.counts, [coefficients for coefficients, _ in both], int(self.evaluation)
        switched = self.rcut_smth, self.rcut, self.env_protection
        inverse_N41 = xp.expand_dims(xp.take(1.0 / params["dstd"][:, 0, :], pairs.type_N, axis=0), axis=-1)
        shift_N41 = xp.expand_dims(xp.take(params["davg"][:, 0, :], pairs.type_N, axis=0), axis=-1) * inverse_N41

        def differentiated(disp_NM3: Array) -> tuple[Array, Any]:
            rows_N4M, to_disp = environment_adjoint(disp_NM3, *switched, xp=xp)
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
            rows_N4M = xp.stack(columns, axis=1) * inverse_N41 - shift_N41
            if self.exclude_types:
                rows_N4M = xp.matrix_transpose(without_excluded(xp.matrix_transpose(rows_N4M), pairs, self.exclude_types, xp=xp))
            sums_N4G = spectral.contracted(spectral.abscissa(columns[0], scale), rows_N4M, *how, xp=xp)
        empty_TS4 = -params["davg"] / params["dstd"]
        rests = []
        for centre, (_, start_JG) in enumerate(both):
            rest_4J = xp.stack([xp.sum(empty_TS4[centre, part, :], axis=0) for part in self._unused(pairs)], axis=1)
            rests.append(xp.matmul(rest_4J, start_JG))
        return sums_N4G + xp.take(xp.stack(rests, axis=0), pairs.type_N, axis=0)

    # -- files ------------------------------------------------------------------------------------------------------

    def stored_parts(self, params: Params, type_map: tuple[str, ...]) -> dict[str, Any]:
        """Return the nets, and no spin."""
        return {**super().stored_parts(params, type_map), "spin": None}
