"""Gated attention between the neighbours of an atom, with layer norm (docs/theory/mixed.md#gated-attention)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model.contracts import Draw
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params
from deepmd.array_model.networks import Net, apply_net, init_net

SHIFT = 20.0
"""Shift of smooth logits, (q k + SHIFT) w_s w_t - SHIFT: a slot with the switch 0 has the logit -SHIFT."""

FAR_BELOW = -3.0e4
"""Logit of masked entries, whose weight is 0; within the range of half precision (65504)."""


def layer_norm(x: Array, params: Params, eps: float, *, xp: Namespace) -> Array:
    """Layer norm over the last axis (..., K), with scale `w` and shift `b` (docs/theory/networks.md#layer-norm)."""
    width = xp.shape(params["w"])[0]
    centred = x - xp.sum(x, axis=-1, keepdims=True) / width
    variance = xp.sum(centred * centred, axis=-1, keepdims=True) / width
    return centred / xp.sqrt(variance + eps) * params["w"] + params["b"]


NORM_FLOORS = {**dict.fromkeys(("float64", "float32", "bfloat16"), 1e-12), "float16": 2.0**-12}
"""Floors of norms by precision (docs/theory/mixed.md#gated-attention): the square 1e-24 underflows in float16."""


def unit(x: Array, precision: str, length: Any = 1.0, *, xp: Namespace) -> Array:
    """Normalise the vectors of the last axis to a length (..., 1): x length / max(|x|, floor) (see `NORM_FLOORS`).

    Derivatives are finite at zero, because the root is taken of the floor there. Rows of neighbours just within the
    cutoff may be shorter than the floor: their directions fade out.
    """
    square, least = xp.sum(x * x, axis=-1, keepdims=True), NORM_FLOORS[PRECISIONS[precision]] ** 2
    return x * (length / xp.sqrt(xp.where(square > least, square, least * xp.ones_like(square))))


def composed_softmax(x: Array, *, xp: Namespace) -> Array:
    """Softmax along the last axis, for frameworks that have none. The maximum is subtracted against overflow."""
    raised = xp.exp(x - xp.stop_gradient(xp.expand_dims(xp.max(x, axis=-1), axis=-1)))
    return raised / xp.sum(raised, axis=-1, keepdims=True)


def presence(counts: Array, *, xp: Namespace) -> Array:
    """Return log(counts), and `FAR_BELOW` for count 0, to be added to the logits of entries that occur `counts` times.

    n exp(z) = exp(z + log n), so a softmax over one logit per entry equals the softmax over all copies.
    """
    there, one = counts > 0.0, xp.ones_like(counts)
    return xp.where(there, xp.log1p(xp.where(there, counts, one) - 1.0), FAR_BELOW * one)


@dataclass(frozen=True)
class GatedAttention:
    """Options of a stack of attention layers over the neighbours of an atom.

    Attributes
    ----------
    layers, width, hidden : number of layers, width G of the features, width of query, key and value
    slots : neighbour slots (stored in files)
    dotr : multiply weights by the cosine of the angle between neighbours
    smooth : fade logits and weights with the switch; otherwise only mask empty slots
    normalize : divide query, key and value of each slot by their norms
    temperature : factor of the logits; None: (hidden * scaling_factor)^(-1/2)
    ln_eps, trainable_ln : options of the layer norm
    """

    layers: int
    width: int
    hidden: int
    slots: int
    dotr: bool = True
    smooth: bool = True
    normalize: bool = True
    scaling_factor: float = 1.0
    temperature: float | None = None
    ln_eps: float = 1e-5
    trainable_ln: bool = True
    precision: str = "default"

    @property
    def nets(self) -> dict[str, Net]:
        """Affine maps from features to query, key and value, and back."""
        into, back = ((self.width, 3 * self.hidden), (self.hidden, self.width))
        return {
            name: Net(sizes[0], (), "none", False, out_dim=sizes[1])
            for name, sizes in (("in_proj", into), ("out_proj", back))
        }

    def init(self, seed: list[int] | None, draw: Draw, *, xp: Namespace) -> list[Params]:
        """Fresh parameters; seed list of layer i: [map, 0, i, *seed] (docs/theory/networks.md#fresh-weights)."""
        out = []
        for number in range(self.layers):
            layer: Params = {}
            for k, (name, net) in enumerate(self.nets.items()):
                layer[name] = init_net(net, None if seed is None else [0, number, *seed], draw, first=k)
            zeros = xp.zeros_like(layer["out_proj"]["layers"][0]["b"])
            layer["norm"] = {"w": zeros + 1.0, "b": zeros}
            out.append(layer)
        return out

    def apply(
        self, params: list[Params], g_NMG: Array, unit_NM3: Array, gate_NM: Array, counts_NM: Array, *, xp: Namespace
    ) -> Array:
        """Return (N, M, G) after all layers.

        Parameters
        ----------
        unit_NM3 : unit vector towards each neighbour
        gate_NM : with `smooth` the switch of each neighbour, otherwise 1; 0 in empty slots
        counts_NM : slots that each column stands for
        """
        pairs_NMM = xp.expand_dims(gate_NM, axis=-1) * xp.expand_dims(gate_NM, axis=-2)
        weights_NMM = pairs_NMM * xp.matmul(unit_NM3, xp.matrix_transpose(unit_NM3)) if self.dotr else pairs_NMM
        scale = (self.hidden * self.scaling_factor) ** -0.5 if self.temperature is None else self.temperature
        # logits (q_s.k_t + SHIFT) w_s w_t - SHIFT as (w_s q_s).(w_t k_t) + SHIFT (w_s w_t - 1): gates multiply vectors,
        # and `added` is the same in all layers, which takes fewer passes over the pairs (N, M, M)
        gate_NM1 = xp.expand_dims(gate_NM, axis=-1) if self.smooth else 1.0
        added = presence(xp.expand_dims(counts_NM if self.smooth else counts_NM * gate_NM, axis=1), xp=xp)
        if self.smooth:
            added = added + SHIFT * (pairs_NMM - 1.0)
        for layer in params:
            z = apply_net(self.nets["in_proj"], layer["in_proj"], g_NMG, xp=xp)
            q, k, v = xp.split(z, (self.hidden,) * 3, axis=2)
            if self.normalize:
                lengths = (scale * gate_NM1, gate_NM1, 1.0)
                q, k, v = (
                    unit(part, self.precision, length, xp=xp) for part, length in zip((q, k, v), lengths, strict=True)
                )
            else:
                q, k = q * (scale * gate_NM1), k * gate_NM1
            logits = xp.matmul(q, xp.matrix_transpose(k)) + added
            mixed = xp.matmul(xp.softmax(logits) * weights_NMM, v)
            g_NMG = layer_norm(
                g_NMG + apply_net(self.nets["out_proj"], layer["out_proj"], mixed, xp=xp),
                layer["norm"],
                self.ln_eps,
                xp=xp,
            )
        return g_NMG
