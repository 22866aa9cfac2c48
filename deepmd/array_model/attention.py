"""Gated attention between the neighbours of an atom, with layer norm (docs/theory/mixed.md#gated-attention)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from deepmd.array_model.contracts import Draw
from deepmd.array_model.namespace import PRECISIONS, Array, Namespace, Params
from deepmd.array_model.networks import Net, apply_net, init_net

SHIFT = 20.0
"""Logit of what the switch turns off is minus this."""

FAR_BELOW = -3.0e4
"""Logit of what is masked, below all others, within the range of half precision."""


def layer_norm(x: Array, params: Params, eps: float, *, xp: Namespace) -> Array:
    """Normalise the last axis (..., K) to mean 0 and variance 1, then scale by `w` and shift by `b`."""
    width = xp.shape(params["w"])[0]
    centred = x - xp.sum(x, axis=-1, keepdims=True) / width
    variance = xp.sum(centred * centred, axis=-1, keepdims=True) / width
    return centred / xp.sqrt(variance + eps) * params["w"] + params["b"]


SHORTEST = {"float16": 2.0**-12}
"""Floor of a norm: 1e-12 (docs/theory/mixed.md#gated-attention); in float16, where 1e-12 has no square, 2^-12."""


def unit(x: Array, precision: str, length: Any = 1.0, *, xp: Namespace) -> Array:
    """Return the vectors of the last axis over their norms, at least `SHORTEST`, at a length (..., 1).

    Derivatives are finite at zero too.

    The floor is no formality: rows of neighbours just within the cutoff are as short, and below it their directions
    fade out.
    """
    square, least = xp.sum(x * x, axis=-1, keepdims=True), SHORTEST.get(PRECISIONS[precision], 1e-12) ** 2
    return x * (length / xp.sqrt(xp.where(square > least, square, least * xp.ones_like(square))))


def composed_softmax(x: Array, *, xp: Namespace) -> Array:
    """Return exp(x) over its sum along the last axis, for frameworks that have no such function."""
    raised = xp.exp(x - xp.stop_gradient(xp.expand_dims(xp.max(x, axis=-1), axis=-1)))
    return raised / xp.sum(raised, axis=-1, keepdims=True)


def presence(counts: Array, *, xp: Namespace) -> Array:
    """Return what to add to the logits of entries that are present `counts` times, `FAR_BELOW` for none.

    A softmax over one logit of each entry is then the softmax over all of them.
    """
    there, one = counts > 0.0, xp.ones_like(counts)
    return xp.where(there, xp.log1p(xp.where(there, counts, one) - 1.0), FAR_BELOW * one)


@dataclass(frozen=True)
class GatedAttention:
    """Options of a stack of attention layers over the neighbours of an atom.

    Attributes
    ----------
    layers, width, hidden : number of layers, width G of what they change, width of query, key and value
    slots : neighbour slots (stored in files)
    dotr : gate the weights by the angle between neighbours
    smooth : gate logits and weights by the switch; otherwise only mask what is empty
    temperature : factor of the logits; None: (hidden * scaling_factor)^(-1/2)
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
        """Linear maps into query, key and value, and back."""
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
        unit_NM3 : direction of each neighbour
        gate_NM : switch of each neighbour, or with `smooth` off 1; 0 in empty slots
        counts_NM : slots that each column stands for
        """
        pairs_NMM = xp.expand_dims(gate_NM, axis=-1) * xp.expand_dims(gate_NM, axis=-2)
        weights_NMM = pairs_NMM * xp.matmul(unit_NM3, xp.matrix_transpose(unit_NM3)) if self.dotr else pairs_NMM
        scale = (self.hidden * self.scaling_factor) ** -0.5 if self.temperature is None else self.temperature
        # (q k + SHIFT) gate gate - SHIFT: gates are factors of the vectors, which takes fewer passes over the pairs
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
