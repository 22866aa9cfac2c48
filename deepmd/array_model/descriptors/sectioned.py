"""Base classes of sectioned descriptors: a section of slots for each neighbour type (docs/theory/sectioned.md).

Kinds: `se_e2_a.py`, `se_e2_r.py` (class OfPairs), `se_e3.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any, ClassVar

from deepmd.array_model import spectral
from deepmd.array_model.contracts import Draw
from deepmd.array_model.descriptors.expandable import Expandable
from deepmd.array_model.descriptors.local import Local
from deepmd.array_model.environment import environment_adjoint, environment_columns, environment_rows, normalise_rows
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.neighbours import Layout, Neighbours, spans
from deepmd.array_model.networks import Net, apply_net, init_net


@dataclass(frozen=True)
class Sectioned(Local, Expandable):
    """Options of sectioned descriptors. `sel` has the slots of each type once statistics have resolved "auto"."""

    sel: tuple[int, ...] | str = "auto"
    evaluation: str | int = "auto"
    """Requested evaluation of the embedding nets: "direct", "spectral" (by expansions) or "auto" (the cheaper).

    A number means "spectral" with at least this number of terms in training.
    """

    types_per_net: ClassVar[int] = 1
    """Number of types that select a net: 1 for the neighbour, 2 with the centre or another neighbour before it."""

    def layout(self) -> Layout:
        """Packing of the neighbours: a section per type."""
        return Layout(self.rcut, self.slots)

    def init(self, type_map: tuple[str, ...], draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters; the order of nets and of seeds differ (docs/theory/networks.md#fresh-weights)."""
        ntypes = len(type_map)
        # nets are stored with the first type fastest, seeds are numbered with the first type slowest
        numbers = [
            sum(t * ntypes**k for k, t in enumerate(types))
            for types in product(range(ntypes), repeat=self.types_per_net)
        ]
        nets = [init_net(self.net(), self.seeds(number), draw) for number in numbers]
        return {**self.no_statistics(ntypes, draw, xp=xp), "embeddings": nets}

    def net(self) -> Net:
        """Shape of the embedding nets, which read one scalar."""
        return Net(1, self.neuron, self.activation_function, self.resnet_dt)

    def rows(self, params: Params, neighbours: Neighbours, *, xp: Namespace) -> list[Array]:
        """Normalised environment rows of each section (N, width, C), 0 for excluded neighbours."""
        disp_NM3 = xp.astype(neighbours.disp_NM3, dtype_of(self.precision, xp=xp))
        rows_NMC = environment_rows(disp_NM3, self.rcut_smth, self.rcut, self.env_protection, xp=xp)[
            :, :, : self.num_columns
        ]
        used = [
            slice(start, start + width) for (start, _), width in zip(spans(self.slots), neighbours.widths, strict=True)
        ]
        mean_TMC, std_TMC = (
            xp.concat([params[name][:, part, :] for part in used], axis=1) for name in ("davg", "dstd")
        )
        rows_NMC = normalise_rows(rows_NMC, mean_TMC, std_TMC, neighbours.type_N, xp=xp)
        rows_NMC = self.zero_excluded_rows(rows_NMC, neighbours, xp=xp)
        return xp.split(rows_NMC, neighbours.widths, axis=1)  # type: ignore[no-any-return]

    def rest(self, params: Params, neighbours: Neighbours) -> list[Array]:
        """Return the rows -davg/dstd (T, sel - width, C) of the empty slots of each section beyond its width."""
        empty_TSC = -params["davg"] / params["dstd"]
        return [
            empty_TSC[:, start + width : stop, :]
            for (start, stop), width in zip(spans(self.slots), neighbours.widths, strict=True)
        ]

    def sum_moments(
        self,
        params: Params,
        neighbours: Neighbours,
        expansion: spectral.Expansion,
        left_factor: Any,
        left_adjoint: Any,
        rest: list[Array],
        *,
        xp: Namespace,
    ) -> Array:
        """Return sum_j R_j (x) G(s_j) over all slots (N, C, G) from moments.

        Parameters
        ----------
        left_factor : function from environment rows (N, 4, M) before normalisation to R (N, C, M)
        left_adjoint : function from a gradient by R to the gradient by the rows; None if R does not depend on the rows
        rest : R of the slots of each section beyond the width of the batch (T, sel - width, C)
        """
        scale, disp_NM3 = expansion.tables["scale"], xp.astype(neighbours.disp_NM3, dtype_of(self.precision, xp=xp))
        contractions = [self.contractions(params, expansion, centre, xp=xp) for centre in range(len(self.slots))]
        how = neighbours.widths, neighbours.counts, [coefficients for coefficients, _ in contractions], expansion.terms
        switched = self.rcut_smth, self.rcut, self.env_protection

        def differentiated(disp_NM3: Array) -> tuple[Array, Any]:
            rows_N4M, to_disp = environment_adjoint(disp_NM3, *switched, xp=xp)
            sums_NCG, to_x_and_r = spectral.contract_with_adjoint(
                spectral.abscissa(rows_N4M[:, 0, :], scale), left_factor(rows_N4M), *how, xp=xp
            )

            def adjoint(grad_NCG: Array) -> Array:
                by_x_NM, by_r_NCM = to_x_and_r(grad_NCG)  # x = s scale - 1
                return to_disp(by_x_NM * scale, left_adjoint(by_r_NCM) if left_adjoint else None)

            return sums_NCG, adjoint

        if xp.with_adjoint is not None:
            sums_NCG = xp.with_adjoint(differentiated, disp_NM3)
        else:
            columns = environment_columns(disp_NM3, *switched, xp=xp)
            sums_NCG = spectral.contract_moments(
                spectral.abscissa(columns[0], scale), left_factor(xp.stack(columns, axis=1)), *how, xp=xp
            )
        # slots beyond the width: s = 0, so G is the function at x = -1, and R sums over the slots
        rests = []
        for centre, (_, start_JG) in enumerate(contractions):
            rest_CJ = xp.stack([xp.sum(rest_TSC[centre, :, :], axis=0) for rest_TSC in rest], axis=1)
            rests.append(xp.matmul(rest_CJ, start_JG))
        return sums_NCG + xp.take(xp.stack(rests, axis=0), neighbours.type_N, axis=0)


class OfPairs(Sectioned):
    """Sectioned descriptors with a net for each pair of types, or with `type_one_side` for each neighbour type.

    A kind defines `sum_section`.
    """

    type_one_side: bool

    @property
    def types_per_net(self) -> int:  # type: ignore[override]
        """Number of types that select a net: 1 (neighbour) or 2 (centre, neighbour)."""
        return 1 if self.type_one_side else 2

    def _embeddings(self, params: Params, centre: int, *, xp: Namespace) -> list[Callable[[Array], Array]]:
        """Functions from normalised s (..., 1) to (..., G) of a centre type, one per neighbour type."""
        nets, count = params["embeddings"], len(self.slots)
        numbers = [neighbour if self.type_one_side else centre + neighbour * count for neighbour in range(count)]
        return [partial(apply_net, self.net(), nets[number], xp=xp) for number in numbers]

    def values(self, params: Params, centre: int, s_K: Array, *, xp: Namespace) -> list[Array]:
        """Functions of a centre type, (K, G) each, at values of s before normalisation."""
        s_K1 = self._normalise(params, centre, s_K, xp=xp)
        return [embedding(s_K1) for embedding in self._embeddings(params, centre, xp=xp)]

    def sum_section(self, rows: Array, embedding: Callable[[Array], Array], *, xp: Namespace) -> Array:
        """Return the contribution of a section (N, ...) from its rows (N, width, C) and its net."""
        raise NotImplementedError

    def _direct(self, params: Params, neighbours: Neighbours, *, xp: Namespace) -> Array:
        """Return the sum of the terms of all slots (N, ...), with the nets evaluated for every slot."""
        rows, rest = self.rows(params, neighbours, xp=xp), self.rest(params, neighbours)

        def total(centre: int, sections: Sequence[Array]) -> Array:
            each = zip(sections, self._embeddings(params, centre, xp=xp), strict=True)
            terms = [self.sum_section(x, embedding, xp=xp) for x, embedding in each]
            return sum(terms[1:], terms[0])

        if self.type_one_side:
            return total(0, rows) + xp.take(total(0, rest), neighbours.type_N, axis=0)
        by_centre = zip(*(xp.split(section, neighbours.counts, axis=0) for section in rows), strict=True)
        parts = [
            total(centre, own) + total(centre, [empty[centre : centre + 1, :, :] for empty in rest])
            for centre, own in enumerate(by_centre)
        ]
        return xp.concat(parts, axis=0)
