"""Descriptors with type vectors in DeePMD-kit's TensorFlow graphs, and the model's type embedding (docs/interop.md).

These graphs have one type embedding for the whole model, and the fitting net reads the vector of the centre behind all
features. In other formats each descriptor has its own type embedding, and appends the vector to its features.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from deepmd.array_model.errors import InputError
from deepmd.array_model.namespace import Params
from deepmd.array_model.networks import Net
from deepmd.array_model.type_embedding import TypeEmbedding
from deepmd.host import plain
from deepmd.io.checking import build
from deepmd.kit.model_section import LEAVES, Section
from deepmd.kit.tf_descriptors import (
    SE_E2_A,
    STATISTICS_NAMES,
    GraphNames,
    environment_stated,
    refuse_to_guess,
    with_used_steps,
    without_mean,
)
from deepmd.kit.tf_fittings import first_layers
from deepmd.kit.tf_nodes import Arrays, GraphNodes, required

TYPE_EMBEDDING_SCOPE = "type_embed_net/"
TYPE_EMBEDDING_PATH = "type_embedding/"
"""Path of the type embedding below a descriptor."""

AXIS_NEURON = 4
"""Default of `axis_neuron`."""


def has_types(graph: GraphNodes) -> bool:
    """Return whether a model has a type embedding."""
    return any(name.startswith(TYPE_EMBEDDING_SCOPE) for name in graph.arrays)


# -- the type embedding ---------------------------------------------------------------------------------------------


def _vector(match: re.Match[str], graph: GraphNodes) -> str:
    leaf, layer = match.groups()
    return f"{TYPE_EMBEDDING_PATH}layers/{int(layer) - 1}/{LEAVES[leaf]}"


TYPE_EMBEDDING_NAMES = {rf"{TYPE_EMBEDDING_SCOPE}(matrix|bias|idt)_(\d{{1,3}})": _vector}


def embedding_options(graph: GraphNodes, given: Section) -> Section:
    """Return the options of the type embedding; `given` is its section of the input."""
    layers = sorted(
        (int(match[1]), array)
        for name, array in graph.arrays.items()
        if (match := re.fullmatch(rf"{TYPE_EMBEDDING_SCOPE}matrix_(\d+)", name))
    )
    if not layers or any(array.ndim != 2 for _, array in layers):
        raise InputError(
            f"the weights {TYPE_EMBEDDING_SCOPE}matrix_... of the type embedding are missing or no matrices"
        )
    bent = any(name.startswith(TYPE_EMBEDDING_SCOPE) and node.op == "Tanh" for name, node in graph.nodes.items())
    return {
        "neuron": [array.shape[1] for _, array in layers],
        "use_econf_tebd": bool(given.get("use_econf_tebd", False)),
        "use_tebd_bias": any(name.startswith(f"{TYPE_EMBEDDING_SCOPE}bias_") for name in graph.arrays),
        "activation_function": given.get("activation_function", "tanh") if given or bent else "Linear",
        "resnet_dt": any(name.startswith(f"{TYPE_EMBEDDING_SCOPE}idt_") for name in graph.arrays),
        "precision": layers[0][1].dtype.name,
    }


def type_arrays(graph: GraphNodes) -> Arrays:
    """Return the parameters of the type embedding, by our paths below a descriptor."""
    pattern, path_of = next(iter(TYPE_EMBEDDING_NAMES.items()))
    return {
        path_of(match, graph): array for name, array in graph.arrays.items() if (match := re.fullmatch(pattern, name))
    }


def table(options: Section, arrays: Arrays, type_map: tuple[str, ...]) -> np.ndarray:
    """Return the vector of each type (T, E).

    Parameters
    ----------
    arrays : arrays that include the parameters of the type embedding
    """
    layers: list[dict[str, np.ndarray]] = [{} for _ in options["neuron"]]
    types = build(TypeEmbedding, options, "model/type_embedding")
    for path, array in arrays.items():
        if path.startswith(TYPE_EMBEDDING_PATH):
            _, _, layer, leaf = path.split("/")
            if int(layer) >= len(layers):
                raise InputError(f"the layer {layer} of the type embedding has no weights")
            layers[int(layer)][leaf] = array if leaf == "w" else array.reshape(-1)
    for own, (before, after, _) in zip(layers, types.net(len(type_map)).widths(), strict=True):
        shapes = {leaf: array.shape for leaf, array in own.items()}
        if shapes != {"w": (before, after), **{leaf: (after,) for leaf in shapes if leaf != "w"}}:
            raise InputError(f"a layer of the type embedding has the shapes {shapes}; expected: {before} to {after}")
    out: np.ndarray = types.table({"layers": layers, "inputs": np.asarray(types.inputs(type_map))}, xp=plain)
    return out[: len(type_map)]


def fold_into_one_layer(vectors: np.ndarray) -> Arrays:
    """Return the parameters of a type embedding of one linear layer without bias that gives these vectors (T, E).

    Inputs are one-hot, so that w is the vectors, minus the identity (two copies for E = 2T) if the layer has a
    shortcut.
    """
    ntypes, width = vectors.shape
    ((_, _, shortcut),) = Net(ntypes, (width,), "Linear", False).widths()
    one = np.eye(ntypes)
    return {
        f"{TYPE_EMBEDDING_PATH}layers/0/w": vectors
        - (np.concatenate([one, one], axis=1)[:, :width] if shortcut else 0.0)
    }


# -- se_atten -------------------------------------------------------------------------------------------------------


def _net(match: re.Match[str], graph: GraphNodes) -> str:
    leaf, layer, of_types = match.groups()
    return f"embeddings{'_strip' if of_types else ''}/0/layers/{int(layer) - 1}/{LEAVES[leaf]}"


def _map(match: re.Match[str], graph: GraphNodes) -> str:
    layer, name, leaf = match.groups()
    return f"attention/{layer}/{'out_proj/layers/0' if name == 'out' else name}/{LEAVES[leaf]}"


def _norm(match: re.Match[str], graph: GraphNodes) -> str:
    layer, name = match.groups()
    return f"attention/{layer}/norm/{ {'gamma': 'w', 'beta': 'b'}[name] }"


ATTENTION_NAMES = {
    r"attention_layer_(\d{1,3})/c_(query|key|value|out)/(matrix|bias)": _map,
    r"attention_layer_(\d{1,3})/layer_normalization/(gamma|beta)": _norm,
}
EMBEDDING_NET_NAMES = {r"filter_type_all/(matrix|bias|idt)_(\d{1,3})(_two_side_ebd|_one_side_ebd)?": _net}
STATISTICS_SIZES = {"davg": (-1, 4), "dstd": (-1, 4)}


def _stated(graph: GraphNodes) -> Section:
    strip = any(name.endswith("_side_ebd") for name in graph.arrays)
    out = {
        **environment_stated(graph),
        "tebd_input_mode": "strip" if strip else "concat",
        "stripped_type_embedding": None,
    }
    eps = graph.number("attention_layer_0/layer_normalization/add/y")
    return out if eps is None else {**out, "ln_eps": eps, "temperature": _temperature(graph)}


def _temperature(graph: GraphNodes) -> float:
    """Return the factor of the attention logits: graphs divide queries by the square root of a constant."""
    division = graph.nodes.get("attention_layer_0/truediv")
    node = None if division is None else graph.source(division, 1)
    if node is None or node.op != "Sqrt":
        raise InputError("the logits of the attention layers have a factor that is not known here")
    for _ in range(10):  # a damaged graph may have cycles
        if node.op in ("Sqrt", "Cast", "Identity"):
            node = graph.source(node, 0)
    return float((graph.number(node.name) or 1.0) ** -0.5)


def _refuse_smooth_types(arrays: Arrays, section: Section, graph: GraphNodes) -> Arrays:
    """Raise InputError: the switch of smooth type embeddings differs in other formats."""
    raise InputError(
        "model/descriptor: smooth_type_embedding (se_atten_v2 has it always). In these graphs what it turns off at the "
        "cutoff goes with 1 - (1 - rcut_smth s)^3, in all other formats with the switch itself, so the model "
        "cannot be carried over"
    )


def _completed(arrays: Arrays, section: Section, graph: GraphNodes) -> Arrays:
    """Join the query, key and value maps of each attention layer to `in_proj`."""
    if section.get("smooth_type_embedding"):
        _refuse_smooth_types(arrays, section, graph)
    out = with_used_steps(arrays, section, graph)
    if section.get("attn_dotr", True) and any(path.startswith("attention/") for path in out):
        raise InputError(
            "model/descriptor/attn_dotr: true with attention layers. These graphs do not bring rows shorter than 1e-6 "
            "(neighbours about 0.01 Angstrom from the cutoff) to length 1, all other formats do, so the model "
            "cannot be carried over"
        )
    for number in {path.split("/")[1] for path in out if path.startswith("attention/")}:
        for leaf in ("w", "b"):
            paths = [f"attention/{number}/{name}/{leaf}" for name in ("query", "key", "value")]
            parts = [required(out, path) for path in paths]
            if len({part.shape[:-1] for part in parts}) > 1:
                raise InputError(f"the attention layer {number} has parameters {leaf} of different shapes")
            out = {path: array for path, array in out.items() if path not in paths}
            out[f"attention/{number}/in_proj/layers/0/{leaf}"] = np.concatenate(parts, axis=-1)
    return out


def _finished(descriptor: Any, params: Params) -> Params:
    """Raise InputError if empty slots contribute (davg != 0).

    In these graphs an empty slot has the vector of no type, in other formats the vector of the first atom's type.
    """
    if params["davg"].any():
        raise InputError(
            "model/descriptor: trained with set_davg_zero false, so that empty slots count. In these graphs they "
            "have the "
            "type of no atom, in all other formats that of the first atom, so the model cannot be carried over"
        )
    return params


SE_ATTEN = GraphNames(
    "se_atten",
    {**EMBEDDING_NET_NAMES, **STATISTICS_NAMES, **ATTENTION_NAMES, **TYPE_EMBEDDING_NAMES},
    STATISTICS_SIZES,
    _stated,
    refuse_to_guess,
    _completed,
    _finished,
)
SE_ATTEN_V2 = GraphNames(
    "se_atten_v2", SE_ATTEN.arrays, STATISTICS_SIZES, _stated, refuse_to_guess, _refuse_smooth_types
)


# -- se_e2_a --------------------------------------------------------------------------------------------------------


SE_E2_A_TYPED = GraphNames(
    "se_e2_a_typed",
    {**EMBEDDING_NET_NAMES, **STATISTICS_NAMES, **TYPE_EMBEDDING_NAMES},
    STATISTICS_SIZES,
    environment_stated,
    refuse_to_guess,
    with_used_steps,
    without_mean,
)

MIXED = (SE_ATTEN, SE_ATTEN_V2)


def with_vectors(names: GraphNames, graph: GraphNodes) -> GraphNames:
    """Return `SE_E2_A_TYPED` in place of se_e2_a if the model has a type embedding: one net reads type vectors then."""
    return SE_E2_A_TYPED if names is SE_E2_A and has_types(graph) else names


def read_types(
    names: GraphNames, section: Section, arrays: Arrays, options: Section, type_map: tuple[str, ...]
) -> tuple[Section, Arrays]:
    """Return section and arrays of a descriptor with its own type embedding.

    The type embedding of se_atten is one linear layer. Other type embeddings are replaced by one linear layer with the
    same vectors (`fold_into_one_layer`).
    """
    width = options["neuron"][-1]
    strip = "embeddings_strip/0/layers/0/w"
    first = required(arrays, strip if strip in arrays else "embeddings/0/layers/0/w")
    section = {**section, "type_one_side": len(first) in (width, 1 + width)}
    if names is SE_E2_A_TYPED:
        return {**section, "types": options}, arrays
    own = {
        "tebd_dim": width,
        "concat_output_tebd": True,
        **{name: options[name] for name in ("use_econf_tebd", "use_tebd_bias")},
    }
    if len(options["neuron"]) > 1 or options["activation_function"] != "Linear" or options["resnet_dt"]:
        kept = {path: array for path, array in arrays.items() if not path.startswith(TYPE_EMBEDDING_PATH)}
        one = fold_into_one_layer(table(options, arrays, type_map))
        arrays, own = (
            {**kept, **{path: array.astype(first.dtype) for path, array in one.items()}},
            {**own, "use_econf_tebd": False, "use_tebd_bias": False},
        )
    return {**section, **own}, arrays


def check_cutoffs(descriptors: list[tuple[GraphNames, Section, Arrays]]) -> None:
    """Raise InputError for a member of a hybrid with attention layers and a shorter cutoff than another member."""
    farthest = max(section["rcut"] for _, section, _ in descriptors)
    for number, (names, section, arrays) in enumerate(descriptors):
        if names in MIXED and section["rcut"] < farthest and any(path.startswith("attention/") for path in arrays):
            raise InputError(
                f"model/descriptor/list/{number}/rcut: its attention layers see atoms up to {section['rcut']:.6g} "
                f"Angstrom "
                f"in these graphs, in all other formats up to the longest cutoff of the hybrid, {farthest:.6g}, "
                "so the model cannot be carried over"
            )


# -- what the fitting net reads -------------------------------------------------------------------------------------


def has_one_fitting_net(members: list[tuple[GraphNames, Section]]) -> bool:
    """Return whether other formats have one fitting net for all types; these graphs do with any type embedding."""
    return any(names in (*MIXED, SE_E2_A_TYPED) for names, _ in members)


def refuse_assigned_energies(fitting: Section, members: list[tuple[GraphNames, Section]]) -> None:
    """Raise InputError for energies in `atom_ener` if the fitting net reads type vectors."""
    if has_one_fitting_net(members) and any(energy is not None for energy in fitting.get("atom_ener") or ()):
        raise InputError(
            "model/fitting_net/atom_ener: with a type embedding. What these graphs subtract for an isolated atom "
            "has the "
            "vector of its type, in all other formats zeros, so the model cannot be carried over"
        )


def rearrange_fitting(
    fitting: Arrays, members: list[tuple[GraphNames, Section]], widths: list[int], vectors: np.ndarray
) -> tuple[Arrays, list[Section]]:
    """Rearrange the fitting nets for features in the order of all other formats; return also the descriptors' sections.

    In other formats every member of kind `SE_E2_A_TYPED` appends the type vector; if there is none, the last member of
    `MIXED` does. The first vector takes the weights of the vector in the graph, and weights of further vectors are
    zero. Without members of these kinds other formats have one fitting net for each type: weights times vector go into
    its bias.

    Parameters
    ----------
    members : names and section of each member of a hybrid, or of the descriptor
    widths : widths of the features of each member, without type vectors
    vectors : vectors of all types (T, E); in these graphs the vector of the centre follows the features of all members
    """
    typed = [names is SE_E2_A_TYPED for names, _ in members]
    last = max((number for number, (names, _) in enumerate(members) if names in MIXED), default=-1)
    appends = [typed[number] or (number == last and not any(typed)) for number in range(len(members))]
    single = has_one_fitting_net(members)
    sections = [
        {**section, "concat_output_tebd": appends[k]} if names in MIXED else section
        for k, (names, section) in enumerate(members)
    ]
    w, width, features = required(fitting, "nets/0/layers/0/w"), vectors.shape[1], sum(widths)
    if len(w) < features + width or len(first_layers(fitting)) != 1:
        raise InputError(f"the fitting net reads {len(w)} numbers; expected: one net, {features} features and {width}")
    # rows of the first layer: features of all members, type vector, then fparam and aparam
    own, of_vector, rest = np.split(w, [features, features + width])
    parts, remaining = [], of_vector if single else 0.0 * of_vector
    for block, append in zip(np.split(own, np.cumsum(widths)[:-1]), appends, strict=True):
        parts.append(block)
        if append:
            parts.append(remaining)
            remaining = 0.0 * of_vector
    out = {**fitting, "nets/0/layers/0/w": np.concatenate([*parts, rest])}
    if single:
        return out, sections
    each: Arrays = {path: array for path, array in out.items() if not path.startswith("nets/")}
    for number, vector in enumerate(vectors):
        each |= {
            path.replace("nets/0/", f"nets/{number}/"): array for path, array in out.items() if path.startswith("nets/")
        }
        each[f"nets/{number}/layers/0/b"] = required(out, "nets/0/layers/0/b") + (vector @ of_vector).astype(w.dtype)
    return each, sections


def width_of(names: GraphNames, section: Section, arrays: Arrays) -> int:
    """Return the width of the features of a descriptor, without type vectors."""
    nets = [int(match[1]) for path in arrays if (match := re.fullmatch(r"embeddings/\d+/layers/(\d+)/w", path))]
    pattern = rf"embeddings/\d+/layers/{max(nets, default=0)}/w"
    path = min((path for path in arrays if re.fullmatch(pattern, path)), default="embeddings/0/layers/0/w")
    last = required(arrays, path).shape[1]
    return int(
        last * (section.get("axis_neuron", section.get("n_axis_neuron")) or AXIS_NEURON)
        if names in (*MIXED, SE_E2_A_TYPED, SE_E2_A)
        else last
    )
