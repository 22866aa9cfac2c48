"""Models of DeePMD-kit: its stored files in every format, what old files lack, and what cannot be read."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import replace
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pytest
from support import FRAMEWORKS, mark_slow
from tolerances import assert_close

from deepmd import DeepPot
from deepmd.array_model.errors import InputError
from deepmd.array_model.tree import flatten
from deepmd.cli import main
from deepmd.io.formats import convert, load_model
from deepmd.io.model_file import from_tree, map_variables
from deepmd.io.pair_table import read_table

FOLDER = Path(__file__).parents[1] / "golden" / "se_e2_a"
PACKAGES = {".dp": "h5py", ".yaml": "yaml", ".pth": "torch", ".pb": "tensorflow"}
KEYS = ("energy", "force", "virial", "atom_energy", "atom_virial")

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.* is deprecated")


@pytest.fixture(params=PACKAGES)
def kit(request):
    """A model of DeePMD-kit in one of its formats."""
    pytest.importorskip(PACKAGES[request.param])
    return FOLDER / f"model{request.param}"


def assert_equals_stored(path, backend=None):
    stored = dict(np.load(FOLDER / "expected.npz"))
    potential = DeepPot(path, backend=backend)
    for boundary in ("pbc", "nopbc"):
        given = [stored.get(f"{boundary}/{name}") for name in ("coord", "cell", "type")]
        for key, values in zip(KEYS, potential.eval(*given, atomic=True), strict=True):
            expected = stored[f"{boundary}/{key}"]
            assert_close(values.reshape(expected.shape), expected, "golden", floor=0.0, what=f"{boundary}: {key}")


def assert_same_model(path, other):
    one, two = load_model(path), load_model(other)
    assert one.model == two.model
    leaves = flatten(two.params)
    for name, leaf in flatten(one.params).items():
        np.testing.assert_array_equal(leaf, leaves[name], err_msg=name)


@pytest.mark.parametrize(
    ("kit", "backend"),
    mark_slow(
        product(PACKAGES, FRAMEWORKS), [*((each, "numpy") for each in PACKAGES), (".pth", "torch"), (".pb", "tf")]
    ),
    indirect=["kit"],
)
def test_equals_what_deepmd_kit_computes(kit, backend):
    pytest.importorskip({"tf": "tensorflow"}.get(backend, backend))
    assert_equals_stored(kit, backend)


@pytest.mark.parametrize(
    ("kit", "suffix"),
    mark_slow(product(PACKAGES, repeat=2), [(".dp", ".yaml"), (".yaml", ".dp"), (".pth", ".pth"), (".pb", ".pb")]),
    indirect=["kit"],
)
def test_to_each_of_ours_and_back(tmp_path, kit, suffix):
    """What is read is the same whatever the format, so that quick tests read and write each of them once."""
    pytest.importorskip(PACKAGES[suffix])
    convert(kit, tmp_path / f"a{suffix}")
    convert(tmp_path / f"a{suffix}", tmp_path / "b.dp")
    assert_same_model(kit, tmp_path / f"a{suffix}")
    assert_same_model(kit, tmp_path / "b.dp")
    assert_same_model(kit, FOLDER / "model.dp")
    assert load_model(tmp_path / "b.dp").definition["descriptor"]["sel"] == [20, 22]


def test_commands_take_them(kit, capsys):
    assert main(["show", str(kit), "type-map", "descriptor", "fitting-net", "size", "observed-type"]) == 0
    assert "['O', 'H']" in capsys.readouterr().err


# -- .dp and .yaml of earlier versions ------------------------------------------------------------------------------


def tree_of_dp(name="se_e2_a"):
    with h5py.File(FOLDER.parent / name / "model.dp") as file:
        return map_variables(lambda place: file[place][...], json.loads(file.attrs["json"]))


def of_version_one(model):
    """The parts whose readers in DeePMD-kit 3.2 accept version 1, with it, and without what was added since."""
    descriptor, fitting = model["descriptor"], model["fitting"]
    for key in ("env_protection", "type_map", "set_davg_zero", "exclude_types"):
        del descriptor[key]
    for key in (
        "type_map",
        "dim_case_embd",
        "default_fparam",
        "tot_ener_zero",
        "layer_name",
        "use_aparam_as_mask",
        "numb_fparam",
        "numb_aparam",
    ):
        del fitting[key]
    nets = [*descriptor["embeddings"]["networks"], *fitting["nets"]["networks"]]
    for part in (descriptor, fitting, *nets, *(layer for net in nets for layer in net["layers"])):
        part["@version"] = 1


def without_version(model):
    def strip(tree):
        for part in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
            strip(part)
        if isinstance(tree, dict):
            tree.pop("@version", None)

    strip(model)


def of_default_precision(model):
    for part in ("descriptor", "fitting"):
        model[part]["precision"] = "default"


def in_version_three(model):
    model["descriptor"].update({"@version": 3, "compress": {"@variables": {"data": [np.zeros((4, 6))]}}})


@pytest.mark.parametrize("change", [of_version_one, without_version, of_default_precision, in_version_three])
def test_versions(change):
    tree, expected = tree_of_dp(), from_tree(tree_of_dp(), "file")
    change(tree["model"])
    actual = from_tree(tree, "file")
    for name, leaf in flatten(expected.params).items():
        np.testing.assert_array_equal(flatten(actual.params)[name], leaf, err_msg=name)


def test_a_file_from_before_the_outer_bias():
    tree = tree_of_dp()
    del tree["model"]["@variables"]
    assert not from_tree(tree, "file").params["out_bias"].any()


def test_compressed_without_networks():
    tree = tree_of_dp()
    in_version_three(tree["model"])
    tree["model"]["descriptor"]["embeddings"]["networks"] = []
    with pytest.raises(
        InputError,
        match=r"expected 2 embedding nets, the file has 0: a compressed model.*Needed: the model from before",
    ):
        from_tree(tree, "file")


# -- .pth and .pt ---------------------------------------------------------------------------------------------------


@pytest.fixture
def modules():
    """Attributes of the modules of the stored .pth."""
    from deepmd.io.torch_archive import attributes, read_archive

    return attributes(read_archive(FOLDER / "model.pth"))


def read_modules(values):
    from deepmd.kit.torch_modules import read_pth

    return read_pth(values, FOLDER / "model.pth")


def test_a_pth_without_its_definition(modules):
    modules["model_def_script"] = "{}"
    assert read_modules(modules).model == load_model(FOLDER / "model.dp").model


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"model_def_script": "{"}, "stored input is damaged"),
        ({"model_def_script": '{"type": "zbl", "descriptor": {"type": "se_e2_a"}}'}, "type 'zbl' cannot be read"),
        (
            {"model_def_script": '{"type_embedding": {"neuron": [8]}}'},
            "model/type_embedding: models with this option are not supported",
        ),
        ({"model_def_script": "{}", "atomic_model.descriptor.__class__": "DescrptSeAMask"}, "DescrptSeAMask"),
        (
            {"atomic_model.descriptor.__class__": "Other", "model_def_script": '{"descriptor": {"type": "se_e3"}}'},
            "se_e3",
        ),
        ({"atomic_model.descriptor.sea.neuron": [4, 8, 32]}, "has shape"),
        ({"atomic_model.descriptor.sea.neuron": [4, 8, 2**30]}, "far more parameters than are stored"),
        ({"atomic_model.descriptor.sea.sel": [2**40, 2**40]}, "far more parameters than are stored"),
        ({"atomic_model.type_map": ["O", "H", "C"]}, "type_map has 3"),
        ({"atomic_model.type_map": ["O"] * 2000, "atomic_model.descriptor.sea.sel": [1] * 2000}, "more than 1000"),
    ],
)
def test_a_pth_that_cannot_be_used(modules, changes, text):
    with pytest.raises(InputError, match=f"model.pth.*{text}"):
        read_modules({**modules, **changes})


@pytest.fixture
def table(tmp_path):
    """A table for two types as a text file, and as DeePMD-kit's module keeps it."""
    r = np.linspace(0.0, 4.0, 81)
    np.savetxt(tmp_path / "table.txt", np.stack([r, np.exp(-r), np.exp(-2.0 * r), np.cos(r)], axis=1))
    return read_table(tmp_path / "table.txt", 6.0, 20, ("O", "H"), "tab_file")


def as_members(modules, table, weights):
    """Attributes of a sum of a model and a table; no input is stored."""
    model, params = table
    module = {
        "__class__": "PairTabAtomicModel",
        "type_map": ["O", "H"],
        "rcut": model.rcut,
        "sel": model.sel,
        "out_bias": np.ones((1, 2, 1)),
    }
    module |= {
        "tab_info": np.array(params["tab_info"]),
        "tab_data": np.reshape(params["tab_data"], (2, 2, -1, 4)),
    }
    inner = {
        name.removeprefix("atomic_model."): value for name, value in modules.items() if name.startswith("atomic_model.")
    }
    outer = {
        "__class__": "LinearEnergyAtomicModel",
        "type_map": ["O", "H"],
        "weights": weights,
        "out_bias": np.full((1, 2, 1), 3.0),
    }
    members = {f"models.{k}.{name}": value for k, each in enumerate((inner, module)) for name, value in each.items()}
    return {"model_def_script": "", **{f"atomic_model.{name}": value for name, value in {**outer, **members}.items()}}


def test_a_sum_of_a_model_and_a_table(modules, table):
    content, alone = read_modules(as_members(modules, table, [0.25, 2.0])), load_model(FOLDER / "model.dp")
    network, pairs = content.model.models
    assert (network, content.model.weights, content.model.kind) == (alone.model, (0.25, 2.0), "linear")
    assert replace(pairs, stop=table[0].stop) == table[0]  # how far the text went before it was continued is not stored
    found, expected = (
        flatten(content.params),
        flatten({"models": [alone.params, {**table[1], "out_bias": np.ones((1, 2, 1))}]}),
    )
    for path, array in {**expected, "out_bias": np.full((1, 2, 1), 3.0)}.items():
        np.testing.assert_allclose(found[path], array, rtol=1e-14, atol=1e-14, err_msg=path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"atomic_model.weights": [1.0]}, "weights is"),
        ({"atomic_model.weights": "median"}, "weights is 'median'"),
        ({"atomic_model.type_map": ["H", "O"]}, "need the same"),
        ({"atomic_model.models.1.tab_data": None}, "a pair table without tab_data"),
        ({"atomic_model.models.1.type_map": ["O", "H", "C"]}, "types: 3"),
        ({"atomic_model.models.3.type_map": ["O", "H"]}, "those of numbers"),
        ({"atomic_model.models.0.descriptor.__class__": "DescrptSeAMask"}, "DescrptSeAMask"),
        ({"model_def_script": '{"models": [1, 2]}'}, "must be a list of objects"),
    ],
)
def test_a_sum_that_cannot_be_used(modules, table, changes, text):
    with pytest.raises(InputError, match=f"model.pth.*{text}"):
        read_modules({**as_members(modules, table, "sum"), **changes})


def test_a_compressed_pth(modules):
    bare = {name: value for name, value in modules.items() if "sea.filter_layers" not in name}
    bare["atomic_model.descriptor.sea.compress_data.0"] = np.zeros((10, 6))
    with pytest.raises(InputError, match=r"compressed model.*Needed: the model from before the compression"):
        read_modules(bare)
    with pytest.raises(InputError, match=r"descriptor/embeddings/0/layers/0/w' is missing"):
        read_modules({name: value for name, value in modules.items() if "sea.filter_layers" not in name})


def save_kit_checkpoint(path, modules, definition):
    import torch

    tensors = {
        f"model.Default.{name}": torch.tensor(value) for name, value in modules.items() if isinstance(value, np.ndarray)
    }
    state = OrderedDict({"_extra_state": {"model_params": definition, "train_infos": {"lr": 0}}, **tensors})
    torch.save({"model": state, "optimizer": {"state": {}}}, path)


def test_a_pt_checkpoint(tmp_path, modules):
    save_kit_checkpoint(tmp_path / "model.ckpt-1.pt", modules, json.loads(modules["model_def_script"]))
    assert_equals_stored(tmp_path / "model.ckpt-1.pt")
    assert_same_model(tmp_path / "model.ckpt-1.pt", FOLDER / "model.dp")
    from deepmd.adapters.torch.checkpoint import load_training

    with pytest.raises(InputError, match=r"not a checkpoint of this program.*--init-model"):
        load_training(tmp_path / "model.ckpt-1.pt")


def test_a_pt_checkpoint_of_several_models(tmp_path, modules):
    save_kit_checkpoint(tmp_path / "model.pt", modules, {"model_dict": {"water": {}, "metal": {}}})
    with pytest.raises(InputError, match=r"model\.pt: a checkpoint of several models \(water, metal\)"):
        load_model(tmp_path / "model.pt")


# -- .pb and TensorFlow checkpoints ---------------------------------------------------------------------------------


@pytest.fixture
def graph():
    tf = pytest.importorskip("tensorflow")
    return tf.compat.v1.GraphDef.FromString((FOLDER / "model.pb").read_bytes())


def drop(graph, *starts):
    for node in [node for node in graph.node if node.name.startswith(starts)]:
        graph.node.remove(node)


def save_graph(graph, path):
    path.write_bytes(graph.SerializeToString())
    return path


def test_a_graph_without_its_input(tmp_path, graph):
    drop(graph, "train_attr/training_script")
    path = save_graph(graph, tmp_path / "old.pb")
    assert_equals_stored(path)
    (tmp_path / "input.json").write_text(json.dumps({"model": json.loads((FOLDER / "model.json").read_text())}))
    assert main(["convert-backend", str(path), str(tmp_path / "new.dp"), "--input", str(tmp_path / "input.json")]) == 0
    assert_same_model(tmp_path / "new.dp", FOLDER / "model.dp")
    assert load_model(path).model == load_model(FOLDER / "model.dp").model
    assert main(["convert-from", "1.3", "-i", str(path), "-o", str(tmp_path / "from.dp")]) == 0
    assert_same_model(tmp_path / "from.dp", FOLDER / "model.dp")


def test_an_input_for_a_file_that_needs_none(capsys):
    assert main(["convert-backend", str(FOLDER / "model.dp"), "new.yaml", "--input", "input.json"]) == 2
    assert "takes no input" in capsys.readouterr().err


def first_of(operator):
    def change(graph):
        next(node for node in graph.node if node.op == operator).op = "Identity"

    return change


def tables(graph):
    drop(graph, "filter_type_all/")
    graph.node.add(name="tabulated", op="TabulateFusionSeA")


def another_activation(graph):
    for node in graph.node:
        if node.op == "Tanh" and node.name.startswith("layer_"):
            node.op = "Sigmoid"


def of_type(kind):
    def change(graph):
        next(node for node in graph.node if node.name == "model_attr/model_type").attr["value"].tensor.string_val[0] = (
            kind
        )

    return change


def doubled(graph):
    import tensorflow as tf

    for node in graph.node:
        if node.name == "layer_1_type_0/matrix":
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(np.zeros((12, 24))))


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (tables, "compressed model.*Needed: the model from before the compression"),
        (of_type(b"wfc"), "type 'wfc', which is not supported"),
        (first_of("ProdEnvMatA"), "no operator ProdEnvMatA"),
        (another_activation, r"activation of the nets layer_\*. Give the input .*--input"),
        (doubled, "goes from width 12 to 24"),
        (lambda graph: drop(graph, "descrpt_attr/t_avg"), "t_avg are missing"),
        (lambda graph: drop(graph, "layer_1_type_1/bias"), "layers/1/b' is missing"),
        (lambda graph: drop(graph, "layer_", "final_"), "no fitting_net that is known"),
        (lambda graph: drop(graph, "filter_type_all/matrix", "filter_type_all/bias"), "no descriptor that is known"),
    ],
)
def test_a_graph_that_cannot_be_used(tmp_path, graph, change, text):
    drop(graph, "train_attr/training_script")
    change(graph)
    with pytest.raises(InputError, match=rf"m\.pb.*{text}"):
        load_model(save_graph(graph, tmp_path / "m.pb"))


def test_a_tf_checkpoint(tmp_path, graph):
    import tensorflow as tf

    from deepmd.kit.tf_graph import is_parameter

    constants = {node.name: node.attr["value"].tensor for node in graph.node if node.op == "Const"}
    values = {name: tf.make_ndarray(tensor) for name, tensor in constants.items() if is_parameter(name)}
    values["filter_type_all/idt_1_0"] = np.zeros(4)  # training makes time steps that it does not use
    prefix = str(tmp_path / "model.ckpt-20")
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        session.run(
            tf.raw_ops.SaveV2(
                prefix=prefix,
                tensor_names=list(values),
                shape_and_slices=[""] * len(values),
                tensors=list(values.values()),
            )
        )
    (tmp_path / "model.ckpt-20.meta").write_bytes(tf.compat.v1.MetaGraphDef(graph_def=graph).SerializeToString())
    assert_equals_stored(prefix)
    assert_same_model(prefix, FOLDER / "model.dp")
    from deepmd.adapters.tf.checkpoint import load_training

    with pytest.raises(InputError, match=r"not a checkpoint of this program.*--init-model"):
        load_training(Path(prefix))
    (tmp_path / "model.ckpt-20.meta").unlink()
    with pytest.raises(InputError, match="the graph of the checkpoint cannot be read"):
        load_model(prefix)
