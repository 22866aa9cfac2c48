"""Closed namespace `xp`: every name of a framework that physics may use. Dimension key of shape suffixes.

Dimension key of the whole package: F frames, N centre atoms of the batch (ordered by type), A atoms that the
neighbour indices refer to (A >= N, centres first), M neighbour slots of the batch, T types, S slots of a
descriptor (the sum of `sel`), G embedding width, X axis width, D descriptor width, K a feature width,
3 Cartesian, 4 environment row, 9 flattened 3x3. Other letters are explained in the file that uses them.

N, A, M and F may be unknown while a graph is built, so physics never branches on a size of an array.
"""

from __future__ import annotations

from typing import Any

Array = Any
"""Array of the framework that the namespace belongs to."""

Namespace = Any
"""A module or object that has every name of `REQUIRED`."""

Params = dict[str, Any]
"""Parameters: nested dicts and lists with arrays as leaves."""

STANDARD = (
    *(
        "abs",
        "astype",
        "concat",
        "equal",
        "exp",
        "expand_dims",
        "float32",
        "float64",
        "floor",
        "int64",
        "log1p",
        "logical_and",
    ),
    *(
        "logical_not",
        "matmul",
        "matrix_transpose",
        "max",
        "maximum",
        "minimum",
        "ones_like",
        "reshape",
        "sqrt",
        "square",
        "stack",
        "sum",
    ),
    *("take", "tanh", "unstack", "where", "zeros_like"),
)
"""Names of the array API standard, with the meaning that the standard gives them."""

EXTRAS = {
    "float16": "precision option of DeePMD inputs that the standard does not know",
    "bfloat16": "likewise; a namespace without it maps it to float32",
    "halo_exchange": "features of all local and ghost atoms from those of the centres: identity in Python; MPI "
    "communication in files run by LAMMPS",
    "chebyshev_rows": "y_{k+1} = f y_k - y_{k-1}, all terms in a new axis before the last; derivatives do not see it, "
    "so nothing keeps the steps",
    "shape": "sizes as Python ints where known and scalar tensors elsewhere; in TensorFlow graphs `.shape` has None",
    "segment_sum": "scatter-add of rows, the adjoint of take; the standard has no scatter",
    "softmax": "exp(x) over its sum along the last axis (attention.composed_softmax); "
    "made of others it takes several passes over all pairs",
    "split": "runs of given sizes along an axis; "
    "the adjoint of many slices is many sums of padded arrays, that of a split one concat",
    "stop_gradient": "a value that derivatives do not see; the standard knows no derivatives",
    "with_adjoint": "with_adjoint(f, x) is y, where f(x) = (y, function from a gradient of y to that of x): "
    "first derivatives only; "
    "None where a framework has to differentiate by itself: in training, in traces",
    "sigmoid": "stable in every framework, and its derivatives too",
    "silut": "activation of two branches (networks.composed_silut); "
    "differentiated twice as written, it is most of a step and of its memory",
}
"""Names beyond the standard, each with its reason."""

REQUIRED = (*STANDARD, *EXTRAS)

PLANNING = {
    "asarray": "of the standard; constants of a type embedding from Python numbers",
}
"""Further names, for functions `init` only: these run on the host, before evaluation."""

PRECISIONS = {
    "default": "float64",
    "float64": "float64",
    "double": "float64",
    "float32": "float32",
    "single": "float32",
    "float16": "float16",
    "half": "float16",
    "bfloat16": "bfloat16",
}
"""Accepted precision names and the canonical name of each (docs/theory/networks.md#precision)."""


def dtype_of(precision: str, *, xp: Namespace) -> Any:
    """Return the framework's dtype for a precision name."""
    return {"float64": xp.float64, "float32": xp.float32, "float16": xp.float16, "bfloat16": xp.bfloat16}[
        PRECISIONS[precision]
    ]
