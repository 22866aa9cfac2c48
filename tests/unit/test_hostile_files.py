"""Files made to harm: an InputError, nothing executed, memory bounded by the size of the file."""

from __future__ import annotations

import copy
import json
import os
import resource
import shutil
import warnings
import zipfile
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from pathlib import Path

import h5py
import numpy as np
import pytest
from support import mark_slow

from deepmd.array_model.errors import InputError
from deepmd.array_model.tree import flatten, replace_leaves
from deepmd.infer import DeepPot
from deepmd.infer.deep_pot import ExpansionWarning
from deepmd.io.formats import load_model, save_model
from deepmd.io.model_file import from_tree, map_variables

FOLDER = Path(__file__).parents[1] / "golden" / "se_e2_a"


@contextmanager
def refused(text, most=500):
    """Expect an InputError while the process may take no more than `most` MB of address space in addition."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + most * 2**20, before[1]))
    try:
        with pytest.raises(InputError, match=text):
            yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def test_the_limit_of_memory_is_one():
    """What takes more is no InputError."""
    with pytest.raises(MemoryError), refused("anything"):
        bytearray(10**10)


class Planted:
    """Unpickling this makes a folder."""

    def __reduce__(self):
        return os.mkdir, ("executed",)


class Claiming:
    """Unpickling this allocates."""

    def __reduce__(self):
        return bytearray, (10**10,)


# -- .dp ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def model_dp(tmp_path):
    return shutil.copy(FOLDER / "model.dp", tmp_path / "m.dp")


def replace_array(path, make):
    with h5py.File(path, "a") as file:
        del file["variable_0000"]
        make(file)


def virtual(file):
    layout = h5py.VirtualLayout(shape=(4,), dtype="f8")
    layout[:] = h5py.VirtualSource("other.dp", "secret", shape=(4,))
    file.create_virtual_dataset("variable_0000", layout)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (
            lambda file: file.__setitem__("variable_0000", h5py.ExternalLink("other.dp", "/secret")),
            "not an array of this file",
        ),
        (lambda file: file.__setitem__("variable_0000", h5py.SoftLink("/variable_0001")), "not an array of this file"),
        (virtual, "not an array of this file"),
        (
            lambda file: file.create_dataset("variable_0000", (4,), "f8", external=[("/etc/passwd", 0, 32)]),
            "not an array of this file",
        ),
        (lambda file: file.create_dataset("variable_0000", (10**10,), "f8", chunks=(2**16,)), "claim 80,0"),
        (lambda file: file.create_dataset("variable_0000", (2 * 10**7,), "f8", compression="gzip"), "claim 160,"),
        (lambda file: file.create_dataset("variable_0000", (4,), "S10"), "is not a parameter"),
        (lambda file: file.create_group("variable_0000"), "not an array of this file"),
    ],
)
def test_arrays_of_a_dp(model_dp, make, text):
    replace_array(model_dp, make)
    with refused(rf"m\.dp.*{text}"):
        load_model(model_dp)


@pytest.mark.parametrize(
    ("json_text", "text"),
    [
        ("[" * 100_000, "not a readable .dp file"),
        ('{"model": ' * 900 + "1" + "}" * 900, "m.dp"),
        ('{"model": {"@variables": ["/variable_0000", "/variable_0000"]}}', "names it twice"),
        ('{"model": {"@variables": ["/../../etc/passwd"]}}', "not an array of this file"),
        ('{"model": {"@variables": [["/"]]}}', "m.dp"),
        ("1" * 5000, "not a readable .dp file"),
        ("[]", "m.dp"),
        ("null", "m.dp"),
    ],
)
def test_description_of_a_dp(model_dp, json_text, text):
    with h5py.File(model_dp, "a") as file:
        file.attrs["json"] = json_text
    with refused(text):
        load_model(model_dp)


def test_a_description_that_is_no_text(model_dp):
    with h5py.File(model_dp, "a") as file:
        file.attrs["json"] = np.zeros(3)
    with refused("'json' is no text"):
        load_model(model_dp)


def test_options_that_ask_for_more_than_is_stored(model_dp):
    with h5py.File(model_dp, "a") as file:
        tree = json.loads(file.attrs["json"])
        tree["model"]["descriptor"]["sel"] = [10**9, 10**9]
        file.attrs["json"] = json.dumps(tree)
    with refused("far more parameters than are stored"):
        load_model(model_dp)


# -- .yaml ----------------------------------------------------------------------------------------------------------

LAUGHS = "a0: &a0 [1, 1]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]\n" for k in range(1, 60))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{k}: &a{k} {{<<: [*a{k - 1}, *a{k - 1}]}}\n" for k in range(1, 60))


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (LAUGHS, "repeats parts of itself"),
        (MERGES, "not a readable .yaml model"),
        ("a: &a [*a]\n", "repeats parts of itself"),
        (
            "[" * 100_000,
            "(nested more than 100 deep|not a readable .yaml model: while increasing flow level)",
        ),  # the latter: newer PyYAML
        ("- " * 100_000, "nested more than 100 deep"),
        ("{a: " * 100_000, "nested more than 100 deep"),
        ("model: !!python/object/apply:os.mkdir [executed]\n", "not a readable .yaml model"),
        ('model: {"@class": np.ndarray, dtype: S2000000000, value: [1]}\n', "is not a parameter"),
        ('model: {"@class": np.ndarray, dtype: float64, value: [[1], [1, 2]]}\n', "not a readable .yaml model"),
        ("a: " + "1" * 5000, "not a readable .yaml model"),
    ],
)
def test_yaml(tmp_path, monkeypatch, content, text):
    monkeypatch.chdir(tmp_path)
    Path("m.yaml").write_text(content)
    with refused(rf"m\.yaml.*{text}"):
        load_model("m.yaml")
    assert not Path("executed").exists()


def places_of(tree):
    """Every dict or list of a tree, with each of its keys."""
    for key, value in list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)):
        yield tree, key
        if isinstance(value, dict | list):
            yield from places_of(value)


@pytest.mark.parametrize("case", ["se_e2_a", "hybrid", "linear_pairtab"])
def test_descriptions_with_another_form(case):
    """A key that is missing, or has a value of another type, is told as such: nothing else is raised."""
    with h5py.File(FOLDER.parent / case / "model.dp") as file:
        tree = map_variables(lambda name: file[name][...], json.loads(file.attrs["json"]))
    rng = np.random.default_rng(7)
    values = [None, True, -1, 10**6, "x", [], {}, [[1, 2]], ["a"], {"a": 1}, 1.5, [None]]
    refusals = []
    for _ in range(60):
        damaged = copy.deepcopy(tree)
        places = list(places_of(damaged["model"]))
        inner, key = places[rng.integers(len(places))]
        if rng.random() < 0.3:
            del inner[key]
        else:
            inner[key] = copy.deepcopy(values[rng.integers(len(values))])
        try:
            from_tree(damaged, "m.dp")
        except InputError as error:
            refusals.append(str(error))
    assert len(refusals) > 15
    assert all(text.startswith("m.dp: ") for text in refusals)


# -- .pt and .pth ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".pt", ".pth"])
@pytest.mark.parametrize("planted", [Planted, Claiming])
def test_a_pickle_with_code(tmp_path, monkeypatch, suffix, planted):
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    torch.save({"deepmd_format": 1, "definition": planted()}, f"m{suffix}")
    with refused(rf"m\{suffix}.*asks for"):
        load_model(f"m{suffix}")
    with (
        zipfile.ZipFile(FOLDER / "model.pth") as archive,
        zipfile.ZipFile(f"m{suffix}") as pickled,
        zipfile.ZipFile(f"n{suffix}", "w") as out,
    ):
        name = next(name for name in pickled.namelist() if name.endswith("/data.pkl"))
        for member in archive.infolist():  # a model of DeePMD-kit with another pickle inside
            out.writestr(
                member.filename, pickled.read(name) if member.filename.endswith("/data.pkl") else archive.read(member)
            )
    with refused(rf"n\{suffix}.*asks for"):
        load_model(f"n{suffix}")
    assert not Path("executed").exists()


def rewritten(target, change):
    """Write the stored .pth with members changed: name and bytes to bytes, method of compression."""
    with zipfile.ZipFile(FOLDER / "model.pth") as archive, zipfile.ZipFile(target, "w") as out:
        for member in archive.infolist():
            data, method = change(member.filename, archive.read(member))
            out.writestr(member.filename, data, compress_type=method)


def test_a_zip_bomb(tmp_path):
    pytest.importorskip("torch")
    zeros = bytes(10**8)

    def bomb(name, data):
        return (zeros, zipfile.ZIP_DEFLATED) if name.endswith("/data/0") else (data, zipfile.ZIP_STORED)

    rewritten(tmp_path / "m.pth", bomb)
    with refused(r"m\.pth.*is compressed"):
        load_model(tmp_path / "m.pth")


def test_members_over_each_other(tmp_path):
    pytest.importorskip("torch")
    rewritten(tmp_path / "m.pth", lambda name, data: (data, zipfile.ZIP_STORED))
    with zipfile.ZipFile(tmp_path / "m.pth", "a") as archive:
        first = max(archive.infolist(), key=lambda member: member.file_size)
        for number in range(50):
            copy = zipfile.ZipInfo(f"copy{number}")
            copy.header_offset, copy.file_size, copy.compress_size, copy.CRC = (
                first.header_offset,
                first.file_size,
                first.file_size,
                first.CRC,
            )
            archive.filelist.append(copy)
        archive._didModify = True  # type: ignore[attr-defined]
    with refused(r"m\.pth.*members overlap"):
        load_model(tmp_path / "m.pth")


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_a_pth_that_is_cut_short(tmp_path, cut):
    pytest.importorskip("torch")
    data = (FOLDER / "model.pth").read_bytes()
    (tmp_path / "m.pth").write_bytes(data[: int(cut * len(data))])
    with refused(r"m\.pth.*cut short"):
        load_model(tmp_path / "m.pth")


def test_a_tensor_that_claims_too_much(tmp_path):
    torch = pytest.importorskip("torch")
    huge = torch.zeros(1, dtype=torch.float64).expand(10**10)
    torch.save({"deepmd_format": 1, "definition": "{}", "model": {"out_bias": huge}}, tmp_path / "m.pt")
    with refused(r"m\.pt.*claims more than is stored"):
        load_model(tmp_path / "m.pt")


def test_tensors_that_share_their_storage(tmp_path):
    torch = pytest.importorskip("torch")
    shared = torch.zeros(100_000, dtype=torch.float64)
    torch.save(
        {"deepmd_format": 1, "definition": "{}", "model": {str(k): shared[:] for k in range(1000)}}, tmp_path / "m.pt"
    )
    with refused(r"m\.pt.*arrays claim 800,000,000 bytes"):
        load_model(tmp_path / "m.pt")


def test_lists_that_repeat_themselves(tmp_path):
    torch = pytest.importorskip("torch")
    laughs: list = [1]
    for _ in range(60):
        laughs = [laughs, laughs]
    torch.save({"model": {"_extra_state": {"model_params": {"type_map": laughs}}}}, tmp_path / "m.pt")
    with refused("repeats parts of itself"):
        load_model(tmp_path / "m.pt")


# -- .pb ------------------------------------------------------------------------------------------------------------


def splat(tensor, sizes):
    import tensorflow as tf

    if 0 in sizes:
        tensor.CopyFrom(tf.make_tensor_proto(np.zeros(sizes)))
        return
    tensor.CopyFrom(tf.make_tensor_proto(1.0, tf.float64, [1]))
    del tensor.tensor_shape.dim[:]
    for size in sizes:
        tensor.tensor_shape.dim.add(size=size)


@pytest.mark.parametrize(
    ("name", "sizes", "text"),
    [
        ("descrpt_attr/t_avg", [10**5, 10**5], "arrays claim 80,0"),
        ("layer_0_type_0/matrix", [2**62, 2**62], "arrays claim"),
        ("descrpt_attr/t_avg", [10**9, 0], "statistics of 1000000000 types"),
        ("train_attr/min_nbor_dist", [10**10], "is not one number"),
        ("descrpt_attr/t_std", [-1], "is not a parameter"),
    ],
)
def test_graphs_with_huge_shapes(tmp_path, name, sizes, text):
    tf = pytest.importorskip("tensorflow")
    graph = tf.compat.v1.GraphDef.FromString((FOLDER / "model.pb").read_bytes())
    nodes = {node.name: node for node in graph.node}
    node = nodes[name] if name in nodes else graph.node.add(name=name, op="Const")
    splat(node.attr["value"].tensor, sizes)
    (tmp_path / "m.pb").write_bytes(graph.SerializeToString())
    with refused(rf"m\.pb.*{text}"):
        load_model(tmp_path / "m.pb")


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.99])
def test_a_pb_that_is_cut_short(tmp_path, cut):
    pytest.importorskip("tensorflow")
    data = (FOLDER / "model.pb").read_bytes()
    (tmp_path / "m.pb").write_bytes(data[: int(cut * len(data))])
    with refused(r"m\.pb.*cut short"):
        load_model(tmp_path / "m.pb")


# -- numbers that are none --------------------------------------------------------------------------------------------


def damaged(content, value):
    """A model with one of its parameters replaced."""
    leaves = flatten(content.params)
    path = "fitting/nets/0/layers/1/w"
    array = leaves[path].copy()
    array.flat[3] = value
    return replace(content, params=replace_leaves(content.params, {**leaves, path: array}))


@pytest.mark.parametrize(
    ("suffix", "value"),
    mark_slow(
        product([".dp", ".yaml", ".pth", ".pb"], [np.nan, -np.inf]),
        [(".dp", np.nan), (".dp", -np.inf), (".yaml", np.nan), (".pth", -np.inf)],
    ),
)
def test_parameters_that_are_no_numbers(tmp_path, suffix, value):
    path = tmp_path / f"m{suffix}"
    save_model(path, damaged(load_model(FOLDER / "model.dp"), value))
    with pytest.raises(InputError, match=rf"m\{suffix}: model/fitting.*/w: holds NaN or infinite"):
        load_model(path)


def test_parameters_beyond_their_precision(tmp_path):
    save_model(tmp_path / "m.dp", load_model(FOLDER.parent / "se_e2_a_float32" / "model.dp"))
    with h5py.File(tmp_path / "m.dp", "a") as file:
        name = next(name for name in file if file[name].dtype == np.float32)
        array = np.asarray(file[name], dtype=np.float64)
        del file[name]
        array.flat[0] = 1e200
        file[name] = array
    with (
        np.errstate(over="ignore"),
        pytest.raises(InputError, match=r"m\.dp: parameters/descriptor/.*: holds NaN or infinite"),
    ):
        load_model(tmp_path / "m.dp")


@pytest.mark.parametrize(
    ("option", "where"), [("rcut", "descriptor/rcut"), ("env_protection", "descriptor/env_protection")]
)
def test_options_that_are_no_numbers(model_dp, option, where):
    with h5py.File(model_dp, "a") as file:
        tree = json.loads(file.attrs["json"])
        tree["model"]["descriptor"][option] = float("nan")
        file.attrs["json"] = json.dumps(tree)
    with pytest.raises(InputError, match=rf"m\.dp: model/{where}: is NaN"):
        load_model(model_dp)


def test_a_checkpoint_whose_optimizer_holds_no_numbers(tmp_path):
    torch = pytest.importorskip("torch")
    from deepmd.adapters.torch.checkpoint import load_training, save_pt
    from deepmd.adapters.training import Progress

    moments = {"m/fitting": np.zeros(2), "v/fitting": np.ones(2)}
    save_pt(tmp_path / "m-1.pt", load_model(FOLDER / "model.dp"), Progress(1, 1, moments))
    load_training(tmp_path / "m-1.pt")
    tree = torch.load(tmp_path / "m-1.pt")
    tree["optimizer"]["v/fitting"][1] = np.inf
    torch.save(tree, tmp_path / "m-1.pt")
    with pytest.raises(InputError, match=r"m-1\.pt: .*optimizer/v/fitting: holds NaN or infinite"):
        load_training(tmp_path / "m-1.pt")


def test_no_damage_leads_to_energies_that_are_no_numbers(tmp_path):
    """Bits, bytes and integers of a file changed at random: it is refused, gives numbers, or says that it cannot."""
    whole = (FOLDER / "model.dp").read_bytes()
    data = np.load(FOLDER / "expected.npz")
    rng = np.random.default_rng(5)
    path = tmp_path / "m.dp"
    numbers = 0
    for _ in range(120):
        content = np.frombuffer(whole, dtype=np.uint8).copy()
        at = int(rng.integers(len(whole) - 8))
        if rng.random() < 0.5:
            content[at : at + 8] = np.frombuffer(
                np.float64(rng.choice([np.nan, np.inf, 1e300, -1e300, 1e-300])).tobytes(), dtype=np.uint8
            )
        else:
            content[rng.integers(len(whole), size=4)] ^= np.uint8(1 << int(rng.integers(8)))
        path.write_bytes(content.tobytes())
        try:
            with np.errstate(all="ignore"), warnings.catch_warnings():
                warnings.simplefilter("ignore", ExpansionWarning)
                results = DeepPot(path).eval(data["pbc/coord"][None], data["pbc/cell"][None], data["pbc/type"])
        except InputError:
            continue
        assert all(np.all(np.isfinite(result)) for result in results)
        numbers += 1
    assert 20 < numbers < 100


def test_parameters_that_overflow_when_they_are_used(tmp_path):
    save_model(tmp_path / "m.dp", damaged(load_model(FOLDER / "model.dp"), 1e308))
    content = load_model(tmp_path / "m.dp")
    params = {**content.params, "out_bias": np.full_like(content.params["out_bias"], 1e308)}
    save_model(tmp_path / "m.dp", replace(content, params=params))
    data = np.load(FOLDER / "expected.npz")
    with (
        np.errstate(all="ignore"),
        pytest.raises(InputError, match=r"m\.dp: energy of frame 0 is evaluated to NaN or infinity"),
    ):
        DeepPot(tmp_path / "m.dp").eval(data["pbc/coord"][None], data["pbc/cell"][None], data["pbc/type"])
