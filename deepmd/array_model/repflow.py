"""The repflow block of DPA-3: nodes, edges and angles that update each other (docs/theory/dpa3.md#layer)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from deepmd.array_model.contracts import STRICT
from deepmd.array_model.environment import environment_rows, switch
from deepmd.array_model.messages import add_updates, affine, check_updates, first_slots, symmetrise, take_features
from deepmd.array_model.namespace import Array, Namespace, Params
from deepmd.array_model.neighbours import Neighbours
from deepmd.array_model.networks import activation


@dataclass(frozen=True)
class Repflow:
    """Options of the block; `e_sel` and `a_sel` are numbers once neighbour statistics have resolved "auto"."""

    e_rcut: float
    e_rcut_smth: float
    e_sel: int | str
    a_rcut: float
    a_rcut_smth: float
    a_sel: int | str
    n_dim: int = 128
    e_dim: int = 64
    a_dim: int = 64
    nlayers: int = 6
    a_compress_rate: int = 0
    a_compress_e_rate: int = 1
    a_compress_use_split: bool = False
    n_multi_edge_message: int = 1
    axis_neuron: int = 4
    update_angle: bool = True
    update_style: str = "res_residual"
    update_residual: float = 0.1
    update_residual_init: str = "const"
    fix_stat_std: float = 0.3
    skip_stat: bool = False
    optim_update: bool = True
    smooth_edge_update: bool = False
    edge_init_use_dist: bool = False
    use_exp_switch: bool = False
    use_dynamic_sel: bool = False
    sel_reduce_factor: float = 10.0
    sequential_update: bool = False

    aliases: ClassVar[dict[str, str]] = {"edge_use_dist": "edge_init_use_dist", "use_env_envelope": "use_exp_switch"}
    __pydantic_config__ = STRICT

    def __post_init__(self) -> None:
        for name, rcut, smooth in (("e", self.e_rcut, self.e_rcut_smth), ("a", self.a_rcut, self.a_rcut_smth)):
            if not 0.0 <= smooth < rcut:
                raise ValueError(f"{name}_rcut_smth ({smooth}) must lie in [0, {name}_rcut), and {name}_rcut is {rcut}")
        if self.use_exp_switch and not min(self.e_rcut_smth, self.a_rcut_smth) > 0.0:
            raise ValueError("use_exp_switch needs e_rcut_smth and a_rcut_smth larger than 0")
        if self.e_rcut < self.a_rcut:
            raise ValueError(f"e_rcut ({self.e_rcut}) must not be smaller than a_rcut ({self.a_rcut})")
        if isinstance(self.e_sel, int) and isinstance(self.a_sel, int) and not 0 < self.a_sel <= self.e_sel:
            raise ValueError(f"a_sel ({self.a_sel}) must lie in [1, e_sel], and e_sel is {self.e_sel}")
        if min(self.n_dim, self.e_dim, self.a_dim, self.nlayers, self.n_multi_edge_message) < 1:
            raise ValueError("n_dim, e_dim, a_dim, nlayers and n_multi_edge_message must be positive")
        if not 1 <= self.axis_neuron <= min(self.n_dim, self.e_dim):
            raise ValueError(f"axis_neuron ({self.axis_neuron}) must lie in [1, min(n_dim, e_dim)]")
        check_updates(self)
        if self.a_compress_rate < 0 or (
            self.a_compress_rate and self.a_dim * self.a_compress_e_rate % (2 * self.a_compress_rate)
        ):
            raise ValueError(
                f"a_dim * a_compress_e_rate must be divisible by 2 a_compress_rate ({self.a_compress_rate})"
            )
        if self.use_dynamic_sel and not self.smooth_edge_update:
            raise ValueError("use_dynamic_sel needs smooth_edge_update")
        if self.sequential_update and not (self.update_style == "res_residual" and self.update_angle):
            raise ValueError("sequential_update needs update_style res_residual and update_angle")
        if self.sel_reduce_factor <= 0.0:
            raise ValueError(f"sel_reduce_factor is {self.sel_reduce_factor}; it must be positive")

    @property
    def norms(self) -> tuple[float, float]:
        """Divisors of sums over edges and over angles (docs/theory/dpa3.md#edges-and-angles)."""
        reduce = self.sel_reduce_factor if self.use_dynamic_sel else 1.0
        return float(self.e_sel) / reduce, float(self.a_sel) / reduce

    @property
    def angle_inputs(self) -> tuple[int, int, int, int]:
        """Widths of the parts of I_jk, the input of the angle update: angle, node, edge k, edge j."""
        rate = self.a_compress_rate
        if rate == 0:
            return self.a_dim, self.n_dim, self.e_dim, self.e_dim
        edge = self.a_dim // (2 * rate) * self.a_compress_e_rate
        return self.a_dim, self.a_dim // rate, edge, edge

    def affine_shapes(self) -> dict[str, tuple[int, int, bool]]:
        """(in, out, has a bias) of the affine maps of a layer, in the order of seeds and of files."""
        n, e, a = self.n_dim, self.e_dim, self.a_dim
        out = {
            "node_self_mlp": (n, n, True),
            "node_sym_linear": (self.axis_neuron * (e + n), n, True),
            "node_edge_linear": (2 * n + e, self.n_multi_edge_message * n, True),
            "edge_self_linear": (2 * n + e, e, True),
        }
        if self.update_angle:
            width = sum(self.angle_inputs)
            out.update(
                edge_angle_linear1=(width, e, True), edge_angle_linear2=(e, e, True), angle_self_linear=(width, a, True)
            )
            if self.a_compress_rate and not self.a_compress_use_split:
                out.update(
                    a_compress_n_linear=(n, self.angle_inputs[1], False),
                    a_compress_e_linear=(e, self.angle_inputs[2], False),
                )
        return out

    def residuals(self) -> dict[str, list[int]]:
        """Widths of the learned factors of the updates of nodes, edges and angles."""
        if self.update_style != "res_residual":
            return {}
        return {
            "n_residual": [self.n_dim] * (2 + self.n_multi_edge_message),
            "e_residual": [self.e_dim] * (2 if self.update_angle else 1),
            "a_residual": [self.a_dim] if self.update_angle else [],
        }


@dataclass(frozen=True)
class Graph:
    """Quantities that all layers share.

    Attributes
    ----------
    neighbours : edges, of which the first W slots of a row may be angle neighbours
    h_NM3 : directional part of the normalised rows of the edges
    s_NM : switch of each edge, 0 in empty slots
    angle_slots : W
    alpha_NW : switch of the angle neighbours, 0 for other edges
    inside_NW : 1 for an angle neighbour, else 0
    """

    neighbours: Neighbours
    h_NM3: Array
    s_NM: Array
    angle_slots: Any
    alpha_NW: Array
    inside_NW: Array


def decay(r: Array, rcut_smth: float, rcut: float, exponential: bool, *, xp: Namespace) -> Array:
    """Switch of distances r (Angstrom), polynomial or exponential (docs/theory/environment.md#switch)."""
    if not exponential:
        return switch(r, rcut_smth, rcut, xp=xp)
    within = xp.minimum(r, xp.zeros_like(r) + rcut)
    exponent = 20.0 * (within - rcut_smth) / rcut_smth
    # exp(-exp(7)) is 0 already; a larger exponent overflows in exp, and the derivative becomes 0 times infinity
    return xp.exp(-xp.exp(xp.minimum(exponent, xp.zeros_like(r) + 30.0)))


def edge_rows(block: Repflow, disp_NM3: Array, protection: float, *, xp: Namespace) -> Array:
    """Environment rows (N, M, 4) of displacements (Angstrom) with the switch of the block.

    The exponential switch leaves rows of empty slots different from 0: mask them.
    """
    if not block.use_exp_switch:
        return environment_rows(disp_NM3, block.e_rcut_smth, block.e_rcut, protection, xp=xp)
    r_NM1 = xp.sqrt(xp.sum(disp_NM3 * disp_NM3, axis=-1, keepdims=True))
    radial_NM1 = decay(r_NM1, block.e_rcut_smth, block.e_rcut, True, xp=xp) / (r_NM1 + protection)
    return xp.concat([radial_NM1, radial_NM1 / (r_NM1 + protection) * disp_NM3], axis=-1)


def apply_layers(
    block: Repflow,
    act: str,
    params: Params,
    node_Nn: Array,
    rows_NM4: Array,
    disp_NM3: Array,
    mask_NM: Array,
    neighbours: Neighbours,
    *,
    xp: Namespace,
) -> tuple[Array, Array]:
    """Run all layers; return node features (N, n_dim) and equivariant features H^T (N, e_dim, 3).

    Parameters
    ----------
    act : name of the activation function
    node_Nn : node features before the block, already activated
    rows_NM4 : normalised environment rows
    disp_NM3 : displacements in the precision of the block, Angstrom
    mask_NM : True for an edge
    """
    phi = activation(act)
    one_NM = xp.ones_like(disp_NM3[:, :, 0])
    zero_NM = xp.zeros_like(one_NM)
    r_NM = xp.sqrt(xp.sum(disp_NM3 * disp_NM3, axis=-1))
    s_NM = xp.where(mask_NM, decay(r_NM, block.e_rcut_smth, block.e_rcut, block.use_exp_switch, xp=xp), zero_NM)
    if block.edge_init_use_dist:
        edge_NMe = affine(params["edge_embd"], xp.expand_dims(r_NM, axis=-1), xp=xp)
    else:
        edge_NMe = phi(affine(params["edge_embd"], rows_NM4[:, :, 0:1], xp=xp), xp=xp)
    angle_slots = neighbours.inner[0]
    near_NW = first_slots(xp.logical_and(mask_NM, r_NM < block.a_rcut), angle_slots, neighbours, xp=xp)
    r_NW, one_NW = (first_slots(x, angle_slots, neighbours, xp=xp) for x in (r_NM, one_NM))
    alpha_NW = xp.where(
        near_NW, decay(r_NW, block.a_rcut_smth, block.a_rcut, block.use_exp_switch, xp=xp), xp.zeros_like(r_NW)
    )
    graph = Graph(
        neighbours, rows_NM4[:, :, 1:], s_NM, angle_slots, alpha_NW, xp.where(near_NW, one_NW, xp.zeros_like(one_NW))
    )
    angle = None
    if block.update_angle:
        # a_jk = (1/sqrt(pi)) (u_j . u_k) (1 - 1e-6) W
        unit_NW3 = first_slots(disp_NM3, angle_slots, neighbours, xp=xp) / xp.expand_dims(r_NW + 1e-6, axis=-1)
        cosine_NWW = xp.matmul(unit_NW3, xp.matrix_transpose(unit_NW3)) * ((1.0 - 1e-6) / math.sqrt(math.pi))
        angle = xp.expand_dims(cosine_NWW, axis=-1) * params["angle_embd"]["w"]
    for layer in params["layers"]:
        node_Nn, edge_NMe, angle = _layer(block, phi, layer, node_Nn, edge_NMe, angle, graph, xp=xp)
    _, equivariant = symmetrise(edge_NMe, graph.h_NM3, s_NM, block.norms[0] ** -0.5, block.axis_neuron, xp=xp)
    return node_Nn, equivariant


def _layer(
    block: Repflow,
    phi: Any,
    layer: Params,
    node: Array,
    edge: Array,
    angle: Array | None,
    graph: Graph,
    *,
    xp: Namespace,
) -> tuple[Array, Array, Array | None]:
    """One layer, in parallel (docs/theory/dpa3.md#layer) or sequential (docs/theory/dpa3.md#sequential-updates)."""
    style, e_factors = block.update_style, layer.get("e_residual", [])
    if block.sequential_update:
        edge = add_updates(style, edge, [_edge_self(block, phi, layer, node, edge, graph, xp=xp)], e_factors[:1])
        from_angles = _angles(block, layer, "angle_self_linear", angle, node, edge, graph, xp=xp)
        angle = add_updates(style, angle, [phi(from_angles, xp=xp)], layer["a_residual"])
        edge = add_updates(
            style, edge, [_edge_angle(block, phi, layer, angle, node, edge, graph, xp=xp)], e_factors[1:]
        )
        node = add_updates(style, node, _node(block, phi, layer, node, edge, graph, xp=xp), layer["n_residual"])
        return node, edge, angle
    edges, angles = [_edge_self(block, phi, layer, node, edge, graph, xp=xp)], []
    if block.update_angle:
        edges.append(_edge_angle(block, phi, layer, angle, node, edge, graph, xp=xp))
        angles.append(phi(_angles(block, layer, "angle_self_linear", angle, node, edge, graph, xp=xp), xp=xp))
    nodes = _node(block, phi, layer, node, edge, graph, xp=xp)
    new_node = add_updates(style, node, nodes, layer.get("n_residual", []))
    return (
        new_node,
        add_updates(style, edge, edges, e_factors),
        add_updates(style, angle, angles, layer.get("a_residual", [])),
    )


def _pairwise(layer: Params, block: Repflow, node: Array, edge: Array, graph: Graph, *, xp: Namespace) -> Array:
    """Return [n_i, n_j, e_j] W + b (N, M, out). W is split, so that nodes have one product per node, not per edge."""
    centre_w, neighbour_w, edge_w = xp.split(layer["w"], (block.n_dim, block.n_dim, block.e_dim), axis=0)
    of_centre = xp.expand_dims(xp.matmul(node, centre_w) + layer["b"], axis=1)
    return of_centre + take_features(xp.matmul(node, neighbour_w), graph.neighbours, xp=xp) + xp.matmul(edge, edge_w)


def _node(
    block: Repflow, phi: Any, layer: Params, node: Array, edge: Array, graph: Graph, *, xp: Namespace
) -> list[Array]:
    """Return the updates of the nodes: `node_self_mlp`, symmetrisation, and a message for each head."""
    norm = block.norms[0]
    own = phi(affine(layer["node_self_mlp"], node, xp=xp), xp=xp)
    around = take_features(node, graph.neighbours, xp=xp)
    invariants = [
        symmetrise(g, graph.h_NM3, graph.s_NM, norm**-0.5, block.axis_neuron, xp=xp)[0] for g in (edge, around)
    ]
    symmetric = phi(affine(layer["node_sym_linear"], xp.concat(invariants, axis=1), xp=xp), xp=xp)
    message = phi(_pairwise(layer["node_edge_linear"], block, node, edge, graph, xp=xp), xp=xp)
    total = xp.sum(message * xp.expand_dims(graph.s_NM, axis=-1), axis=1) / norm
    return [own, symmetric, *xp.split(total, (block.n_dim,) * block.n_multi_edge_message, axis=1)]


def _edge_self(
    block: Repflow, phi: Any, layer: Params, node: Array, edge: Array, graph: Graph, *, xp: Namespace
) -> Array:
    return phi(_pairwise(layer["edge_self_linear"], block, node, edge, graph, xp=xp), xp=xp)


def _angles(
    block: Repflow,
    layer: Params,
    name: str,
    angle: Array | None,
    node: Array,
    edge: Array,
    graph: Graph,
    *,
    xp: Namespace,
) -> Array:
    """Return [a_jk, n_i, e_k, e_j] W + b (N, W, W, out), axes j and k.

    W is split, so that nodes and edges have one product per node or edge, not per angle.
    """
    w = layer[name]
    edge_NWe = first_slots(edge, graph.angle_slots, graph.neighbours, xp=xp)
    _, n_width, e_width, _ = block.angle_inputs
    if block.a_compress_rate:
        if block.a_compress_use_split:
            node, edge_NWe = node[:, :n_width], edge_NWe[:, :, :e_width]
        else:
            node, edge_NWe = (
                affine(layer["a_compress_n_linear"], node, xp=xp),
                affine(layer["a_compress_e_linear"], edge_NWe, xp=xp),
            )
    angle_w, node_w, k_w, j_w = xp.split(w["w"], block.angle_inputs, axis=0)
    of_node = xp.expand_dims(xp.expand_dims(xp.matmul(node, node_w) + w["b"], axis=1), axis=1)
    of_k, of_j = xp.expand_dims(xp.matmul(edge_NWe, k_w), axis=1), xp.expand_dims(xp.matmul(edge_NWe, j_w), axis=2)
    return xp.matmul(angle, angle_w) + of_node + of_k + of_j


def _edge_angle(
    block: Repflow,
    phi: Any,
    layer: Params,
    angle: Array | None,
    node: Array,
    edge: Array,
    graph: Graph,
    *,
    xp: Namespace,
) -> Array:
    """Message of the angles to each edge, phi(b_j W + b) (docs/theory/dpa3.md#layer).

    b_j sums the angles of an angle neighbour j. For other edges b_j = 0 with `smooth_edge_update`, else e_j.
    """
    message = phi(_angles(block, layer, "edge_angle_linear1", angle, node, edge, graph, xp=xp), xp=xp)
    alpha = graph.alpha_NW  # b_j = sum_k alpha_j alpha_k message_jk / sqrt(divisor of angles)
    weights_NWW = xp.expand_dims(alpha, axis=2) * xp.expand_dims(alpha, axis=1) * block.norms[1] ** -0.5
    inner = xp.sum(message * xp.expand_dims(weights_NWW, axis=-1), axis=2)
    near, rest = xp.split(edge, (graph.angle_slots, graph.neighbours.widths[0] - graph.angle_slots), axis=1)
    if block.smooth_edge_update:
        filled = xp.concat([inner, xp.zeros_like(rest)], axis=1)
    else:
        inside = xp.expand_dims(graph.inside_NW, axis=-1)
        filled = xp.concat([inner * inside + near * (1.0 - inside), rest], axis=1)
    return phi(affine(layer["edge_angle_linear2"], filled, xp=xp), xp=xp)
