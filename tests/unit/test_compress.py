"""`dp compress`: content and values of a compressed file, the domain of its expansions, what cannot be compressed."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from support import mark_slow, options
from tolerances import TOLERANCES, assert_close

from deepmd import DeepPot
from deepmd.array_model.components import change_descriptors, descriptors_of, in_precision
from deepmd.array_model.descriptors.hybrid import Hybrid
from deepmd.array_model.descriptors.se_atten import SeAtten
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.descriptors.se_e2_r import SeE2R
from deepmd.array_model.descriptors.se_e3_tebd import SeE3Tebd
from deepmd.array_model.errors import InputError
from deepmd.array_model.fittings.dipole import DipoleFitting
from deepmd.array_model.fittings.dos import DosFitting
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.fittings.polar import PolarFitting
from deepmd.array_model.fittings.property import PropertyFitting
from deepmd.array_model.models.linear import LinearModel
from deepmd.array_model.models.pairtab import PairTabModel
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.tree import flatten, map_leaves
from deepmd.data.neighbours import Structure, find_neighbours
from deepmd.host import plain
from deepmd.infer.compress import compress_model, measure_deviations
from deepmd.infer.deep_pot import DeepEval, ExpansionWarning
from deepmd.io import convert, load_model, save_model
from deepmd.io.model_file import ModelFile, from_json, from_tree, plan_evaluation, to_json, to_tree
from deepmd.plan.plans import count_terms, domain_start, map_tables
from deepmd.testing import ModelConformance
from deepmd.testing.conformance import REALISTIC

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden"
WATER = ROOT / "examples" / "water" / "data" / "water_330a"
CASES = [
    *sorted(path.name for path in GOLDEN.glob("se_e2_a*")),
    "se_atten",
    "se_atten_strip",
    "se_e3",
    "typed_se_e2_a",
    "hybrid",
    "linear",
    "zbl",
]
PACKAGES = {".pth": "torch", ".pb": "tensorflow", ".savedmodel": "tensorflow"}
BACKENDS = {"numpy": "numpy", "torch": "torch", "tf": "tensorflow"}

# torch says of TorchScript as a whole that it is deprecated; C++ programs read no other format yet
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated"),
    pytest.mark.filterwarnings("ignore:an atom has more neighbours:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*depend on the type of the first atom:UserWarning"),
]


def inputs(case):
    """Arguments of `DeepPot.eval` and the shortest distance between the atoms."""
    stored = np.load(GOLDEN / case / "expected.npz")
    coord, cell, types = (stored[f"pbc/{key}"] for key in ("coord", "cell", "type"))
    options = {key: stored[f"pbc/{key}"] for key in ("fparam", "aparam") if f"pbc/{key}" in stored.files}
    return (
        (coord[None], cell[None], types),
        options,
        float(find_neighbours([Structure(coord, cell, types)], 4.0).dist.min()),
    )


def source(folder, case="se_e2_a_two_side", **descriptor):
    """Save a model that knows the shortest distance; return its path."""
    content = load_model(GOLDEN / case / "model.dp")
    model = change_descriptors(content.model, lambda own: replace(own, **descriptor))
    save_model(
        folder / "m.dp",
        replace(
            content, model=model, params=in_precision(model, content.params, xp=plain), min_nbor_dist=inputs(case)[2]
        ),
    )
    return folder / "m.dp"


@cache
def compressed_once(case, **options):
    """A model before and after, as bytes; compressing it takes a while."""
    with TemporaryDirectory() as name:
        before = source(Path(name), case)
        return before.read_bytes(), compress_model(before, Path(name) / "c.dp", **options).read_bytes()


def compressed(folder, case="se_e2_a_two_side", **options):
    """Save a model as `m.dp` and compressed as `c.dp`; return the path of the latter."""
    for name, content in zip(("m.dp", "c.dp"), compressed_once(case, **options), strict=True):
        (folder / name).write_bytes(content)
    return folder / "c.dp"


def terms_of(path):
    """Terms of each part of a compressed model, None where the nets are evaluated."""
    return [count or None for count in count_terms(load_model(path).plan)]


def precision_of(path):
    return next(part.precision for part in descriptors_of(load_model(path).model))


def altered(path, factor):
    """Scale the stored coefficients of a compressed file, so that its expansions are no longer those of its nets."""
    content = load_model(path)
    scaled = ("coefficients", "starts")

    def scale(tables):
        return {
            name: map_leaves(lambda leaf: factor * leaf, each) if name in scaled else each
            for name, each in tables.items()
        }

    save_model(path, replace(content, plan=map_tables(scale, content.plan)))
    return path


def same(content, other):
    assert (content.model, content.definition, content.min_nbor_dist) == (
        other.model,
        other.definition,
        other.min_nbor_dist,
    )
    assert count_terms(content.plan) == count_terms(other.plan)
    for tree, wanted in ((content.arrays, other.arrays),):
        before, after = ({path: np.asarray(leaf) for path, leaf in flatten(each).items()} for each in (wanted, tree))
        assert after.keys() == before.keys()
        for path, leaf in before.items():
            assert (after[path].dtype, after[path].shape, after[path].tobytes()) == (
                leaf.dtype,
                leaf.shape,
                leaf.tobytes(),
            ), path


# -- numbers ----------------------------------------------------------------------------------------------------------


QUICK = [
    *((case, "numpy") for case in CASES if case.startswith("se_e2_a") or case in ("hybrid", "linear")),
    *(("se_e2_a_float32", "torch"), ("hybrid", "torch"), ("se_e2_a_fparam", "tf")),
]
"""The others: tests/golden/test_golden_compression.py, by NumPy, and the rows of test_golden.py with expansions."""


@pytest.mark.parametrize(("case", "backend"), mark_slow(product(CASES, BACKENDS), QUICK))
def test_numbers_are_those_of_the_networks(tmp_path, case, backend):
    pytest.importorskip(BACKENDS[backend])
    (coord, cell, types), options, _ = inputs(case)
    path = compressed(tmp_path, case)
    results = []
    for evaluation in (None, "direct"):
        with DeepPot(path, backend=backend, evaluation=evaluation) as potential:
            assert potential.evaluation == ("direct" if evaluation else max(terms_of(path)))
            results.append(potential.eval(coord, cell, types, atomic=True, **options))
            assert potential.outside == 0
    for value, wanted in zip(*results, strict=True):
        assert_close(value, wanted, "spectral", precision_of(path))


@pytest.mark.parametrize("backend", mark_slow(BACKENDS, ["numpy", "torch"]))
def test_the_stored_coefficients_are_what_is_evaluated(tmp_path, backend):
    pytest.importorskip(BACKENDS[backend])
    arguments, _, _ = inputs("se_e2_a_two_side")
    path = compressed(tmp_path)
    before = DeepPot(path, backend="numpy").eval_descriptor(*arguments)
    path = altered(path, 1.5)
    for evaluation, factor in (
        (None, 2.25),
        ("spectral", 2.25),
        ("auto", 2.25),
        ("direct", 1.0),
    ):  # features are quadratic in the nets
        got = DeepPot(path, backend=backend, evaluation=evaluation).eval_descriptor(*arguments)
        assert_close(got, factor * before, "spectral", what=str(evaluation))


def test_an_input_that_asked_for_direct_evaluation(tmp_path):
    path = source(tmp_path)
    content = load_model(path)
    save_model(path, replace(content, definition={"descriptor": {"evaluation": "direct"}}))
    assert DeepPot(path).evaluation == "direct"
    assert [DeepPot(compress_model(path, tmp_path / "c.dp")).evaluation] == terms_of(tmp_path / "c.dp")


# -- files ------------------------------------------------------------------------------------------------------------


FORMATS = (".yaml", ".pth", ".pb", ".savedmodel", ".dp")
FEW = (".yaml", ".pth", ".dp")
"""tests/unit/test_native_files.py has a compressed `.pb`, test_savedmodel.py a compressed SavedModel."""
KEPT = [
    *((case, FORMATS) for case in ("se_e2_a_fparam", "se_e2_a_float32", "se_e2_a_two_side", "hybrid", "linear", "zbl")),
    ("se_e2_a_float32", FEW),
]


@pytest.mark.parametrize(("case", "formats"), mark_slow(KEPT, [("se_e2_a_float32", FEW)]))
def test_every_format_keeps_the_expansion(tmp_path, case, formats):
    """Around formats, with tables that could not be made again from the networks."""
    path = altered(compressed(tmp_path, case), 1.25)
    arguments, options, _ = inputs(case)
    first, wanted = load_model(path), DeepPot(path).eval(*arguments, **options)
    for suffix in formats:
        if suffix in PACKAGES:
            pytest.importorskip(PACKAGES[suffix])
        convert(path, tmp_path / f"next{suffix}")
        path = tmp_path / f"next{suffix}"
        same(load_model(path), first)
        for value, reference in zip(DeepPot(path).eval(*arguments, **options), wanted, strict=True):
            assert_close(value, reference, "golden", precision_of(path), what=suffix)


@pytest.mark.parametrize("suffix", mark_slow([".dp", ".yaml", ".pth", ".pb"], [".dp", ".pth"]))
def test_each_format_is_compressed_to_the_same(tmp_path, suffix):
    if suffix in PACKAGES:
        pytest.importorskip(PACKAGES[suffix])
    wanted = load_model(compressed(tmp_path))
    convert(tmp_path / "m.dp", tmp_path / f"in{suffix}")
    made = compress_model(tmp_path / f"in{suffix}", tmp_path / "out")
    assert made == tmp_path / f"out{suffix}"
    same(load_model(made), wanted)


def test_compressing_again_starts_from_the_networks(tmp_path):
    path = compressed(tmp_path)
    wanted = load_model(path)
    same(load_model(compress_model(altered(path, 2.0), tmp_path / "again.dp")), wanted)


def test_other_readers_find_the_same_model(tmp_path):
    """What DeePMD-kit reads, `model`, does not know of the expansion beside it."""

    def described(tree):
        return {key: described(value) for key, value in tree.items()} if isinstance(tree, dict) else str(tree)

    trees = [to_tree(load_model(path), "numpy") for path in (compressed(tmp_path), tmp_path / "m.dp")]
    assert described(trees[0]["model"]) == described(trees[1]["model"])
    assert {*trees[0]} - {*trees[1]} == {"expansion"}


def test_new_parameters_drop_the_expansion(tmp_path):
    content = load_model(compressed(tmp_path))
    assert content.with_params(content.params).plan is None


def test_the_layout_of_one_descriptor_is_still_read(tmp_path):
    content = load_model(compressed(tmp_path))
    tree = to_tree(content, "numpy")
    (part,) = tree["expansion"]["parts"]
    tree["expansion"] = {"@class": "Expansion", "@version": 2, **part}
    same(from_tree(tree, "somewhere"), content)


def no_coefficients(tree):
    del tree["@variables"]["coefficients"]


def fewer_coefficients(tree):
    tree["@variables"]["coefficients"][1] = tree["@variables"]["coefficients"][1][:-1]


def of_part(change):
    return lambda tree: change(tree["parts"][0])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.update({"@version": 9}), "expansion: stored with @version = 9"),
        (lambda tree: tree.update({"@version": 1}), "expansion: stored with @version = 1"),
        (lambda tree: tree.update(parts=[]), "expansion: stored for 0 descriptors, the model has 1"),
        (of_part(lambda tree: tree.update(terms="many")), "expansion: descriptor: stored with 'many' terms"),
        (of_part(lambda tree: tree.update(terms=True)), "stored with True terms"),
        (of_part(lambda tree: tree.update(terms=0)), "stored with 0 terms"),
        (of_part(lambda tree: tree.update(terms=tree["terms"] + 1)), "stored with .* even number"),
        (of_part(lambda tree: tree.update(terms=tree["terms"] + 2)), "expansion: descriptor: coefficients/0 has shape"),
        (of_part(lambda tree: tree.pop("terms")), "'terms' is missing"),
        (of_part(lambda tree: tree.pop("@variables")), "'@variables' is missing"),
        (of_part(lambda tree: tree["@variables"].update(scale=np.ones(2))), r"scale has shape \(2,\), expected \(\)"),
        (of_part(lambda tree: tree["@variables"].update(bias=np.ones(2))), r"bias has shape \(2,\), expected none"),
        (of_part(no_coefficients), "coefficients/0 has shape none"),
        (of_part(fewer_coefficients), "coefficients/1 has shape"),
    ],
)
def test_damaged_expansions_are_refused(tmp_path, change, message):
    tree = to_tree(load_model(compressed(tmp_path)), "numpy")
    change(tree["expansion"])
    with pytest.raises(InputError, match=rf"^somewhere: .*{message}"):
        from_tree(tree, "somewhere")


# -- domain -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("extrapolate", "share"), [(None, 0.9), (1.0, 1.0), (2.0, 0.5)])
def test_how_far_the_expansions_reach(tmp_path, extrapolate, share):
    """To `share` of the shortest distance; below it a warning, and the nets themselves."""
    distance = inputs("se_e2_a_two_side")[2]
    path = compressed(tmp_path, extrapolate=extrapolate)
    potentials = [DeepPot(path), DeepPot(path, evaluation="direct")]

    def dimers(r):
        return [potential.eval([[[0.0, 0.0, 0.0], [r, 0.0, 0.0]]], None, [0, 1])[0] for potential in potentials]

    assert_close(*dimers(1.001 * share * distance), "spectral")
    assert potentials[0].outside == 0
    with pytest.warns(ExpansionWarning, match="nearer than the expansions"):
        beyond = dimers(0.5 * share * distance)
    assert_close(*beyond, "spectral")
    assert potentials[0].outside == 2


def test_reaching_further_costs_terms(tmp_path):
    terms = [max(terms_of(compressed(tmp_path, extrapolate=e))) for e in (None, 2.0, 5.0)]
    assert terms == sorted(set(terms))


def test_the_distance_comes_from_the_data_where_the_file_has_none(tmp_path):
    content = load_model(GOLDEN / "se_e2_a" / "model.dp")
    systems = {"training": {"training_data": {"systems": [str(WATER)]}}}
    (tmp_path / "input.json").write_text(json.dumps(systems))
    coord, box = (
        np.load(WATER / "set.000" / f"{name}.npy").reshape(-1, *shape)
        for name, shape in (("coord", (96, 3)), ("box", (3, 3)))
    )
    types = np.loadtxt(WATER / "type.raw", dtype=int)
    shortest = min(find_neighbours([Structure(c, b, types)], 4.0).dist.min() for c, b in zip(coord, box, strict=True))
    for number, unknown in enumerate((None, 100.0)):  # the second says only that no pair was seen
        save_model(tmp_path / f"m{number}.dp", replace(content, min_nbor_dist=unknown))
        assert (DeepPot(tmp_path / f"m{number}.dp").evaluation,) == count_terms(plan_evaluation(content)[0])
        made = load_model(
            compress_model(tmp_path / f"m{number}.dp", tmp_path / "c.dp", training_script=tmp_path / "input.json")
        )
        assert made.min_nbor_dist == shortest
        assert domain_start(made.plan) == pytest.approx(0.9 * shortest)


# -- what is told -----------------------------------------------------------------------------------------------------


def test_what_is_logged(tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="deepmd"):
        path = compress_model(source(tmp_path), tmp_path / "c.dp")
    (terms,), distance = terms_of(path), inputs("se_e2_a_two_side")[2]
    assert f"descriptor (se_e2_a): number of terms: {terms}" in caplog.text
    assert (
        f"shortest distance of the data: {distance:.3f} Angstrom; "
        f"the expansions hold from {0.9 * distance:.3f} Angstrom" in caplog.text
    )
    assert "largest deviation from the networks, relative to the largest value: " in caplog.text
    assert f"Saved compressed model to {path}" in caplog.text


def test_deviations_are_measured(tmp_path):
    """Small for what was made; what is added to a coefficient is found again, in values and in slopes."""
    content = load_model(compressed(tmp_path))
    given, (expansion,) = (options(content.model).descriptor, content.params["descriptor"]), content.plan
    assert expansion is not None
    values, slopes = measure_deviations(*given, expansion)
    assert 0.0 < values < TOLERANCES["float64"]["spectral"]
    assert 0.0 < slopes < TOLERANCES["float64"]["spectral"] * expansion.terms**2
    for row, which in ((0, 0), (expansion.terms, 1)):  # T_0 of the first net: of its values, of its slopes
        found = []
        for added in (1e-3, 2e-3):
            coefficients = [leaf.copy() for leaf in expansion.tables["coefficients"]]
            coefficients[0][row] += added
            changed = replace(expansion, tables={**expansion.tables, "coefficients": coefficients})
            found.append(measure_deviations(*given, changed))
        assert found[1][which] == pytest.approx(2.0 * found[0][which], rel=1e-4)
        assert found[0][1 - which] == (values, slopes)[1 - which]


# -- several descriptors ----------------------------------------------------------------------------------------------

TABLE = PairTabModel(("O", "H"), rcut=4.0, sel=40, start=0.1, stop=3.9, step=0.1, intervals=38)
NEAR = SeE2A(sel=(20, 22), rcut=3.5, rcut_smth=0.5, neuron=(3, 6), axis_neuron=2)
FAR = SeE2R(sel=(20, 22), rcut=4.0, rcut_smth=0.5, neuron=(4,), type_one_side=True)
KINKED = replace(FAR, activation_function="relu")
TYPED = SeE3Tebd(sel=42, rcut=3.0, rcut_smth=0.5, neuron=(2, 4), tebd_dim=2)


class Realistic(ModelConformance):
    deviations = REALISTIC


def several(folder, *descriptors):
    """Save the sum of energy models with these descriptors and of a table; return its path."""
    networks = [StandardModel(("O", "H"), descriptor, EnergyFitting(neuron=(6, 6))) for descriptor in descriptors]
    model = LinearModel(("O", "H"), (*networks, TABLE), weights="sum")
    params = model.init(lambda _: np.random.default_rng(7), xp=plain)
    params["models"] = [*map(Realistic.parameters, networks), params["models"][-1]]
    save_model(folder / "m.dp", ModelFile(model, params, {}, inputs("hybrid")[2]))
    return folder / "m.dp"


NONE = {
    "kinks": (KINKED, "the embedding nets need more than 512 terms"),
    "mixed": (TYPED, "descriptors of type se_e3_tebd are not stored as expansions"),
}


@pytest.mark.parametrize(
    ("suffix", "name"),
    mark_slow(
        [(".dp", "kinks"), (".dp", "mixed"), (".pth", "mixed"), (".pb", "mixed")], [(".dp", "kinks"), (".dp", "mixed")]
    ),
)
def test_parts_without_expansion_stay_as_they_are(tmp_path, caplog, suffix, name):
    """In a sum of a hybrid with one member that has none, a descriptor that has one, and a table."""
    without, reason = NONE[name]
    if suffix in PACKAGES:
        pytest.importorskip(PACKAGES[suffix])
    convert(several(tmp_path, Hybrid((NEAR, without)), FAR), tmp_path / f"in{suffix}")
    with caplog.at_level(logging.INFO, logger="deepmd"):
        path = compress_model(tmp_path / f"in{suffix}", tmp_path / "c")
    near, none, far = terms_of(path)
    assert (near > far > 0, none) == (True, None)  # each as many as it needs
    for text in (
        f"models/0/descriptor/list/0 (se_e2_a): number of terms: {near}",
        f"models/0/descriptor/list/1: its networks are evaluated as they are: {reason}",
        f"models/1/descriptor (se_e2_r): number of terms: {far}",
    ):
        assert text in caplog.text
    arguments, wanted = inputs("hybrid")[0], {}
    for evaluation in (None, "direct"):
        wanted[evaluation] = DeepPot(path, evaluation=evaluation).eval(*arguments, atomic=True)
    for value, reference in zip(wanted[None], wanted["direct"], strict=True):
        assert_close(value, reference, "spectral")
    content, where = load_model(path), "as native files store it"
    same(from_json(to_json(content, "torch"), flatten(content.arrays), where), content)
    changed = DeepPot(altered(path, 1.5)).eval(*arguments)[0]
    assert abs(changed - wanted["direct"][0]).max() > 1e-3 * abs(wanted["direct"][0]).max()


ATTENTIVE = SeAtten(sel=42, rcut=3.5, rcut_smth=0.5, neuron=(2, 4), axis_neuron=2, tebd_dim=2, attn_layer=0)
FITTINGS = {
    "dipole": DipoleFitting(neuron=(5,)),
    "polar": PolarFitting(neuron=(5,)),
    "dos": DosFitting(neuron=(5,), numb_dos=3),
    "property": PropertyFitting(neuron=(5,), property_name="gap", task_dim=2),
}


OTHERS = {"se_atten": ATTENTIVE, "both": Hybrid((NEAR, ATTENTIVE)), "hybrid": Hybrid((NEAR, FAR))}


@pytest.mark.parametrize(
    ("fitting", "descriptor"),
    mark_slow(
        product(FITTINGS, OTHERS),
        [("dipole", "both"), ("polar", "hybrid"), ("dos", "se_atten"), ("property", "hybrid")],
    ),
)
def test_every_fitting_net_with_other_descriptors_than_its_golden_case(tmp_path, fitting, descriptor):
    model = StandardModel(("O", "H"), OTHERS[descriptor], FITTINGS[fitting])
    save_model(tmp_path / "m.dp", ModelFile(model, Realistic.parameters(model), {}, inputs("hybrid")[2]))
    path = compress_model(tmp_path / "m.dp", tmp_path / "c.dp")
    assert all(terms_of(path))
    arguments, _, _ = inputs("hybrid")
    models: list[Any] = [DeepEval(path, evaluation=evaluation) for evaluation in (None, "direct")]
    results = [model.eval(*arguments) for model in models]
    for value, wanted in zip(*(out if isinstance(out, (list, tuple)) else (out,) for out in results), strict=True):
        assert_close(value, wanted, "spectral")


def test_no_part_has_an_expansion(tmp_path):
    message = "list/0: the embedding nets need more than .*models/1/descriptor: descriptors of type se_e3_tebd"
    path = several(tmp_path, Hybrid((replace(NEAR, activation_function="relu"),)), TYPED)
    with pytest.raises(InputError, match=message):
        compress_model(path, tmp_path / "c.dp")


def test_what_the_input_says_of_each_part(tmp_path):
    """The option `evaluation` of members of sums and hybrids holds in inference, as in training."""
    path = several(tmp_path, Hybrid((NEAR, FAR)), FAR)
    sections = [
        {"descriptor": {"list": [{"evaluation": "direct"}, {}]}},
        {"descriptor": {"evaluation": "spectral"}},
        {"tab_file": "t"},
    ]
    content = replace(load_model(path), definition={"type": "linear_ener", "models": sections})
    near, far, other = count_terms(plan_evaluation(content)[0])
    assert near == 0
    assert min(far, other) > 0


# -- what cannot be compressed ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation_function": "relu"}, r"more than 512 terms \(activation function relu, distances from "),
        ({"precision": "float16"}, "the precision is float16"),
        ({"precision": "bfloat16"}, "the precision is bfloat16"),
    ],
)
def test_models_without_expansion(tmp_path, options, message):
    path = source(tmp_path, **options)
    with pytest.raises(InputError, match=rf"m\.dp: cannot be compressed: .*{message}"):
        compress_model(path, tmp_path / "c.dp")
    assert [each.name for each in tmp_path.iterdir()] == ["m.dp"]


def test_statistics_that_differ_between_slots(tmp_path):
    path = source(tmp_path)
    content = load_model(path)
    content.params["descriptor"]["davg"][0, 1, 0] += 0.1
    save_model(path, content)
    with pytest.raises(InputError, match="cannot be compressed: davg differs between the slots of a type"):
        compress_model(path, tmp_path / "c.dp")


@pytest.mark.parametrize("extrapolate", [0.0, 0.5, -3.0, float("nan"), float("inf")])
def test_wrong_range(tmp_path, extrapolate):
    with pytest.raises(InputError, match=rf"extrapolate is {extrapolate}; accepted: a number of at least 1"):
        compress_model(tmp_path / "m.dp", tmp_path / "c.dp", extrapolate=extrapolate)


def test_a_range_that_no_expansion_covers(tmp_path):
    with pytest.raises(InputError, match=r"more than 512 terms .*distances from 0\.001 Angstrom"):
        compressed(tmp_path, extrapolate=1e3)


def test_an_evaluation_that_does_not_exist(tmp_path):
    content = replace(load_model(source(tmp_path)), definition={"descriptor": {"evaluation": "spektral"}})
    with pytest.raises(
        InputError, match="model/descriptor: evaluation is 'spektral'; accepted: auto, direct, spectral"
    ):
        plan_evaluation(content)
