"""What descriptors share whose neighbours come in one section for each type (docs/theory/sectioned.md)."""

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
from deepmd.array_model.environment import environment_adjoint, environment_columns, environment_rows
from deepmd.array_model.namespace import Array, Namespace, Params, dtype_of
from deepmd.array_model.neighbours import Layout, Neighbours, spans
from deepmd.array_model.networks import Net, apply_net, init_net


@dataclass(frozen=True)
class Sectioned(Local, Expandable):
    """`sel` is a list with one number of slots for each type once neighbour statistics have resolved "auto"."""

    sel: tuple[int, ...] | str = "auto"
    evaluation: str | int = "auto"
    """Wish for the evaluation of the embedding nets: "direct", "spectral" (by expansions), "auto".

    A number stands for "spectral" with at least so many terms in training.
    """

    keys_of_nets: ClassVar[int] = 1
    """Number of types that a net belongs to: the neighbour; before it the centre or another neighbour."""

    slots = Local.numbers
    """Slots of each neighbour type, once resolved."""

    def layout(self) -> Layout:
        """How neighbours are to be packed."""
        return Layout(self.rcut, self.slots)

    def init(self, type_map: tuple[str, ...], draw: Draw, *, xp: Namespace) -> Params:
        """Fresh parameters; order of nets and of seeds differ (docs/theory/networks.md#fresh-weights)."""
        ntypes = len(type_map)
        numbers = [
            sum(t * ntypes**k for k, t in enumerate(types))
            for types in product(range(ntypes), repeat=self.keys_of_nets)
        ]
        nets = [init_net(self.net(), self.seeds(number), draw) for number in numbers]
        return {**self.no_statistics(ntypes, draw, xp=xp), "embeddings": nets}

    def net(self) -> Net:
        """Shape of the embedding nets: all read one number."""
        return Net(1, self.neuron, self.activation_function, self.resnet_dt)

    def rows(self, params: Params, neighbours: Neighbours, *, xp: Namespace) -> list[Array]:
        """Normalised environment rows of each section (N, width, columns), those of excluded neighbours zero."""
        disp_NM3 = xp.astype(neighbours.disp_NM3, dtype_of(self.precision, xp=xp))
        rows_NMC = environment_rows(disp_NM3, self.rcut_smth, self.rcut, self.env_protection, xp=xp)[
            :, :, : self.columns
        ]
        used = [
            slice(start, start + width) for (start, _), width in zip(spans(self.slots), neighbours.widths, strict=True)
        ]
        mean_TMC, std_TMC = (
            xp.concat([params[name][:, part, :] for part in used], axis=1) for name in ("davg", "dstd")
        )
        rows_NMC = self.without_excluded(
            (rows_NMC - xp.take(mean_TMC, neighbours.type_N, axis=0)) / xp.take(std_TMC, neighbours.type_N, axis=0),
            neighbours,
            xp=xp,
        )
        return xp.split(rows_NMC, neighbours.widths, axis=1)  # type: ignore[no-any-return]

    def rest(self, params: Params, neighbours: Neighbours) -> list[Array]:
        """Rows (T, sel - width, columns) of the slots of each section beyond the width of the batch: empty ones."""
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
        columns: Any,
        by_rows: Any,
        rest: list[Array],
        *,
        xp: Namespace,
    ) -> Array:
        """Sum R (x) G(s) over all slots (N, C, G) from moments.

        Parameters
        ----------
        columns : function from environment rows (N, 4, M) before normalisation to R (N, C, M)
        by_rows : function from a gradient of R to that of the rows; None where R does not depend on them
        rest : R of the slots of each section beyond the width of the batch (T, sel - width, C)
        """
        scale, disp_NM3 = expansion.tables["scale"], xp.astype(neighbours.disp_NM3, dtype_of(self.precision, xp=xp))
        both = [self.contractions(params, expansion, centre, xp=xp) for centre in range(len(self.slots))]
        how = neighbours.widths, neighbours.counts, [coefficients for coefficients, _ in both], expansion.terms
        switched = self.rcut_smth, self.rcut, self.env_protection

        def differentiated(disp_NM3: Array) -> tuple[Array, Any]:
            rows_N4M, to_disp = environment_adjoint(disp_NM3, *switched, xp=xp)
            sums_NCG, to_columns = spectral.contract_with_adjoint(
                spectral.abscissa(rows_N4M[:, 0, :], scale), columns(rows_N4M), *how, xp=xp
            )

            def adjoint(grad_NCG: Array) -> Array:
                by_x_NM, by_columns_NCM = to_columns(grad_NCG)
                return to_disp(by_x_NM * scale, by_rows(by_columns_NCM) if by_rows else None)

            return sums_NCG, adjoint

        if xp.with_adjoint is not None:
            sums_NCG = xp.with_adjoint(differentiated, disp_NM3)
        else:
            each = environment_columns(disp_NM3, *switched, xp=xp)
            sums_NCG = spectral.contract_moments(
                spectral.abscissa(each[0], scale), columns(xp.stack(each, axis=1)), *how, xp=xp
            )
        rests = []
        for centre, (_, start_JG) in enumerate(both):
            rest_CJ = xp.stack([xp.sum(rest_TSC[centre, :, :], axis=0) for rest_TSC in rest], axis=1)
            rests.append(xp.matmul(rest_CJ, start_JG))
        return sums_NCG + xp.take(xp.stack(rests, axis=0), neighbours.type_N, axis=0)


class OfPairs(Sectioned):
    """A net for each pair of types, or with `type_one_side` for the type of the neighbour alone.

    A kind gives `term`.
    """

    type_one_side: bool

    @property
    def keys_of_nets(self) -> int:  # type: ignore[override]
        """Number of types that a net belongs to: the neighbour, or centre and neighbour."""
        return 1 if self.type_one_side else 2

    def _embeddings(self, params: Params, centre: int, *, xp: Namespace) -> list[Callable[[Array], Array]]:
        """Functions from s as the nets read it (..., 1) to (..., G), of a centre type, by neighbour type."""
        nets, count = params["embeddings"], len(self.slots)
        numbers = [neighbour if self.type_one_side else centre + neighbour * count for neighbour in range(count)]
        return [partial(apply_net, self.net(), nets[number], xp=xp) for number in numbers]

    def values(self, params: Params, centre: int, s_K: Array, *, xp: Namespace) -> list[Array]:
        """Functions of a centre type, (K, G) at some s before normalisation."""
        s_K1 = self._normalise(params, centre, s_K, xp=xp)
        return [embedding(s_K1) for embedding in self._embeddings(params, centre, xp=xp)]

    def term(self, rows: Array, embedding: Callable[[Array], Array], *, xp: Namespace) -> Array:
        """Return what a section adds (N, ...): from the rows of its neighbours (N, width, columns) and the net."""
        raise NotImplementedError

    def _direct(self, params: Params, neighbours: Neighbours, *, xp: Namespace) -> Array:
        """Sum over all slots (N, ...), every net evaluated for every slot."""
        rows, rest = self.rows(params, neighbours, xp=xp), self.rest(params, neighbours)

        def total(centre: int, sections: Sequence[Array]) -> Array:
            each = zip(sections, self._embeddings(params, centre, xp=xp), strict=True)
            terms = [self.term(x, embedding, xp=xp) for x, embedding in each]
            return sum(terms[1:], terms[0])

        if self.type_one_side:
            return total(0, rows) + xp.take(total(0, rest), neighbours.type_N, axis=0)
        by_centre = zip(*(xp.split(section, neighbours.counts, axis=0) for section in rows), strict=True)
        parts = [
            total(centre, own) + total(centre, [empty[centre : centre + 1, :, :] for empty in rest])
            for centre, own in enumerate(by_centre)
        ]
        return xp.concat(parts, axis=0)
