"""Chebyshev expansions of functions of one scalar per neighbour: sums over neighbours become moments.

`se_e2_a` needs the sum over neighbours sum_j G(s_j) (x) R_j of an embedding net G. With G(s) = sum_k c_k T_k(x(s)),
k < K, the sum is sum_k c_k (x) [sum_j T_k(x_j) R_j]: a neighbour costs K polynomial values instead of a net, and the
net is evaluated at K nodes per pair of types. The coefficients c_k are linear in the values at the nodes, so
derivatives with respect to parameters pass through the nodes. `deepmd/plan/` chooses K and the nodes.

Even and odd terms are separated: T_2m(x) = T_m(y) with y = 2x^2 - 1, and T_2m+1(x) is x times a polynomial in y. So
G = sum_m (a_m + x b_m) T_m(y), m < K/2, and a neighbour costs K/2 polynomial values, each used for R and for x R.

Derivatives with respect to positions go through a first-order Taylor step about a point that is cut off from
differentiation: G(x) = G(x0) + (x - x0) G'(x0), x0 = min(x, 1). Within the domain x - x0 is zero and only the
derivative of x - x0 counts, so neither the Chebyshev recurrence nor its adjoint is differentiated. Beyond the domain
the formula is a linear continuation, for distances that rounding moves past the end; callers evaluate the nets
themselves for pairs outside the domain. Energies, forces and their derivatives with respect to parameters are exact.
Second derivatives with respect to positions need direct evaluation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model.namespace import Array, Namespace, Params

Sizes = tuple[Any, ...]
"""Sizes of consecutive parts of an axis, ints or scalar tensors."""

CHOICES = ("auto", "direct", "spectral")
"""Accepted values of the option `evaluation`."""

DOMAIN_START = "closest"
"""Key of the start of the domain among the tables of an expansion, as files store it."""


@dataclass(frozen=True)
class Expansion:
    """Chebyshev expansion in place of the embedding nets of one descriptor.

    Attributes
    ----------
    terms : number of terms K, even
    tables : arrays. `DOMAIN_START`: start of the domain, Angstrom. `scale`: 2 / end of the domain, in units of the
        argument. In training `nodes` (K,) and `transform` (2K, K), because coefficients follow the nets. At fixed
        parameters, for each group of J functions, `coefficients` (J * 2K, G) and `starts` (J, G), the functions at
        x = -1
    """

    terms: int
    tables: Params


Plan = tuple[Expansion | None, ...]
"""Expansion of each of `components.descriptors_of`; None: direct evaluation of the nets."""


def abscissa(s: Array, scale: Array) -> Array:
    """Return x = s scale - 1: -1 where s = 0 (beyond the cutoff, empty slots), 1 at the end of the domain."""
    return s * scale - 1.0


def moments(x_NM: Array, rows_NCM: Array, count: int, *, xp: Namespace) -> Array:
    """Sum R, x0 R, (x - x0) R and (x - x0) x0 R, times T_m(2 x0^2 - 1) with m < K/2, over the neighbours of a section.

    One array holds all C components of R, so the number of arrays that the derivative adds does not grow with C.

    Parameters
    ----------
    x_NM : abscissas
    rows_NCM : R
    count : number of terms K, even

    Returns
    -------
    (N, C, 2K): the four sums, K/2 columns each, one after the other
    """
    x0_NM = xp.stop_gradient(xp.minimum(x_NM, xp.ones_like(x_NM)))
    y_NM = 2.0 * (x0_NM * x0_NM) - 1.0
    basis_NMK = xp.matrix_transpose(xp.chebyshev_rows(xp.ones_like(y_NM), y_NM, 2.0 * y_NM, count // 2))
    doubled_NCM = xp.concat([rows_NCM, rows_NCM * xp.expand_dims(x0_NM, axis=1)], axis=1)
    stepped_NCM = doubled_NCM * xp.expand_dims(x_NM - x0_NM, axis=1)
    sums = [xp.matmul(rows, basis_NMK) for rows in (doubled_NCM, stepped_NCM)]
    halves_ = [xp.split(each_NCK, (xp.shape(rows_NCM)[1],) * 2, axis=1) for each_NCK in sums]
    return xp.concat([half for each in halves_ for half in each], axis=2)


def contract_moments(
    x_NM: Array,
    rows_NCM: Array,
    widths: Sizes,
    counts: Sizes,
    coefficients: list[list[Array]],
    count: int,
    *,
    xp: Namespace,
) -> Array:
    """Return sum_j R_j (x) G(x_j) (N, C, G) in the form that frameworks differentiate (see `contract_with_adjoint`).

    Parameters
    ----------
    x_NM, rows_NCM : see `moments`
    widths : slots of each section
    counts : atoms of each centre type
    coefficients : (2K, G) of each section, for each centre type, to contract the moments with
    count : number of terms K, even
    """
    sections = zip(xp.split(x_NM, widths, axis=1), xp.split(rows_NCM, widths, axis=2), strict=True)
    by_centre = zip(*(xp.split(moments(x, rows, count, xp=xp), counts, axis=0) for x, rows in sections), strict=True)
    parts = []
    for each, matrices in zip(by_centre, coefficients, strict=True):
        terms = [xp.matmul(moments_NCK, c_KG) for moments_NCK, c_KG in zip(each, matrices, strict=True)]
        parts.append(sum(terms[1:], terms[0]))
    return xp.concat(parts, axis=0)


def contract_with_adjoint(
    x_NM: Array,
    rows_NCM: Array,
    widths: Sizes,
    counts: Sizes,
    coefficients: list[list[Array]],
    count: int,
    *,
    xp: Namespace,
) -> tuple[Array, Any]:
    """Return `contract_moments` for fixed coefficients, and its adjoint.

    The adjoint maps the gradient by the value (N, C, G) to those by x (N, M) and by the rows (N, C, M).

    Value: within the domain the K sums of R and x R suffice. Beyond the domain x0 = 1 and all T_m(y) are 1, so one more
    sum, of (x - x0) R, contracts with the sum of all slope coefficients. Adjoint: the gradient contracted with the
    coefficients gives each atom and component c a polynomial P_c and its slope P'_c. The gradient
    by R_cj is P_c(x0_j) + (x_j - x0_j) P'_c(x0_j), the gradient by x_j is sum_c R_cj P'_c(x0_j).
    """
    atoms, components, width = xp.shape(rows_NCM)
    x0_NM = xp.minimum(x_NM, xp.ones_like(x_NM))
    x0_N1M, step_N1M = xp.expand_dims(x0_NM, axis=1), xp.expand_dims(x_NM - x0_NM, axis=1)
    # R and x0 R of a component beside each other: K/2 even and K/2 odd sums become the K columns of the component
    doubled_NCM = xp.reshape(xp.stack([rows_NCM, rows_NCM * x0_N1M], axis=2), (atoms, 2 * components, width))
    ys = xp.split(2.0 * (x0_NM * x0_NM) - 1.0, widths, axis=1)
    bases = [xp.chebyshev_rows(xp.ones_like(y), y, 2.0 * y, count // 2) for y in ys]
    rows, steps, x0s = (xp.split(array, widths, axis=2) for array in (rows_NCM, step_N1M, x0_N1M))
    sums = []
    for basis_NKM, doubled, row, step in zip(bases, xp.split(doubled_NCM, widths, axis=2), rows, steps, strict=True):
        inner = xp.matmul(doubled, xp.matrix_transpose(basis_NKM))
        sums += [xp.reshape(inner, (-1, components, count)), xp.matmul(row, xp.matrix_transpose(step))]
    parts = []
    for each, matrices in zip(xp.split(xp.concat(sums, axis=2), counts, axis=0), coefficients, strict=True):
        ends = [part for c_KG in matrices for part in (c_KG[:count, :], xp.sum(c_KG[count:, :], axis=0, keepdims=True))]
        parts.append(xp.matmul(each, xp.concat(ends, axis=0)))

    def adjoint(grad_NCG: Array) -> tuple[Array, Array]:
        parts = [
            xp.matmul(grad, xp.matrix_transpose(xp.concat(matrices, axis=0)))
            for grad, matrices in zip(xp.split(grad_NCG, counts, axis=0), coefficients, strict=True)
        ]
        by_x, by_rows = [], []
        each = xp.split(xp.concat(parts, axis=0), (2 * count,) * len(bases), axis=2)
        # rows of the 2K coefficients: even and odd part of P, even and odd part of P', each times T_m(y)
        for sums_NCK, basis_NKM, row, step, x0 in zip(each, bases, rows, steps, x0s, strict=True):
            halves_NKM = xp.matmul(xp.reshape(sums_NCK, (-1, 4 * components, count // 2)), basis_NKM)
            halves_NC4M = xp.reshape(halves_NKM, (atoms, components, 4, xp.shape(row)[2]))
            even, odd, even_slope, odd_slope = (halves_NC4M[:, :, k, :] for k in range(4))
            slope = even_slope + x0 * odd_slope
            by_x.append(xp.sum(row * slope, axis=1))
            by_rows.append(even + x0 * odd + step * slope)
        return xp.concat(by_x, axis=1), xp.concat(by_rows, axis=2)

    return xp.concat(parts, axis=0), adjoint


BEND = 2.0
"""Scalar product t at which the abscissa x = asinh(t / BEND) / asinh(end / BEND) turns from linear to logarithmic.

Nets vary where their input is about 1, and the domain is much longer: a linear abscissa takes several times the terms.
"""


def _asinh(t: Array, *, xp: Namespace) -> Array:
    # asinh|t| = log1p(|t| + t^2/(1 + sqrt(1 + t^2))) keeps all digits near 0
    size = xp.log1p(xp.abs(t) + t * t / (1.0 + xp.sqrt(1.0 + t * t)))
    return xp.where(t < 0.0, -size, size)


def product_at(x: Array, scale: Array, *, xp: Namespace) -> Array:
    """Return the scalar product at an abscissa, BEND sinh(x asinh(end / BEND)); the domain ends at 2 / scale."""
    angle = x * _asinh(2.0 / (BEND * scale), xp=xp)
    return 0.5 * BEND * (xp.exp(angle) - xp.exp(-angle))


def product_moments(t_NP: Array, share_P: Array, scale: Array, count: int, *, xp: Namespace) -> Array:
    """Sum t, x t, (t - t0) x'(t0) t and (t - t0) x'(t0) x t, times T_m(2 x^2 - 1), m < K/2, over pairs of neighbours.

    x = x(t0), where t0 is t clipped to the domain [-2 / scale, 2 / scale] and cut off from differentiation.

    Parameters
    ----------
    t_NP : scalar products
    share_P : number of pairs that each scalar product stands for
    scale, count : see `product_at`; number of terms K, even

    Returns
    -------
    (N, 2K): the four sums, K/2 columns each, one after the other
    """
    end_NP = 2.0 / scale * xp.ones_like(t_NP)
    t0_NP = xp.stop_gradient(xp.maximum(xp.minimum(t_NP, end_NP), -end_NP))
    span = _asinh(2.0 / (BEND * scale), xp=xp)
    x0_NP = _asinh(t0_NP / BEND, xp=xp) / span
    # (t - t0) x'(t0) with x' = 1/(span sqrt(BEND^2 + t^2))
    step_NP = (t_NP - t0_NP) / (span * xp.sqrt(BEND**2 + t0_NP * t0_NP))
    y_NP = 2.0 * (x0_NP * x0_NP) - 1.0
    basis_NPK = xp.matrix_transpose(xp.chebyshev_rows(xp.ones_like(y_NP), y_NP, 2.0 * y_NP, count // 2))
    row_NP = t_NP * share_P
    rows_N2P = xp.stack([row_NP, row_NP * x0_NP], axis=1)
    sums = [xp.matmul(rows, basis_NPK) for rows in (rows_N2P, rows_N2P * xp.expand_dims(step_NP, axis=1))]
    return xp.concat([xp.reshape(each_N2K, (-1, count)) for each_N2K in sums], axis=1)


def at_start(c_KG: Array, *, xp: Namespace) -> Array:
    """Return a function at s = 0 (1, G) from its coefficients (2K, G): sum_m (a_m - b_m), as x = -1 and T_m(y) = 1."""
    count = xp.shape(c_KG)[0] // 4
    return xp.sum(c_KG[:count, :], axis=0, keepdims=True) - xp.sum(c_KG[count : 2 * count, :], axis=0, keepdims=True)
