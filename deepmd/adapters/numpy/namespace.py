"""NumPy wrapped by the `autograd` package: the namespace that differentiates. Without derivatives: `deepmd.host`."""

from __future__ import annotations

import autograd.numpy as anp
import numpy as np
from autograd.extend import defvjp, primitive
from autograd.tracer import getval

from deepmd.host import numpy_namespace, segment_sum

# gather and scatter-add as primitives, each the adjoint of the other, in place of autograd's adjoint of indexing
_take_rows = primitive(lambda x, indices: np.take(x, indices, axis=0))
_segment_sum = primitive(segment_sum)
defvjp(_take_rows, lambda ans, x, indices: lambda g: _segment_sum(g, indices, x.shape[0]), argnums=(0,))
defvjp(_segment_sum, lambda ans, rows, segments, num: lambda g: _take_rows(g, segments), argnums=(0,))

# autograd's own derivative of tanh, 1 / cosh(x)^2, overflows for saturated nets
_tanh = primitive(np.tanh)
defvjp(_tanh, lambda ans, x: lambda g: g * (1.0 - ans * ans))

differentiable = numpy_namespace(
    anp,
    # autograd has derivatives of these functions under NumPy's older names only
    concat=anp.concatenate,
    matrix_transpose=lambda x: anp.swapaxes(x, -1, -2),
    unstack=lambda x, *, axis: [x[..., k] for k in range(x.shape[axis])],
    take=lambda x, indices, *, axis: _take_rows(x, indices),
    segment_sum=_segment_sum,
    equal=np.equal,
    logical_and=np.logical_and,
    logical_not=np.logical_not,
    sigmoid=lambda x: 0.5 * (1.0 + _tanh(0.5 * x)),
    stop_gradient=getval,
    tanh=_tanh,
)
