"""A `.pb` with a neighbour list of LAMMPS, without LAMMPS and DeePMD-kit: a list of ours in the place of the operator.

With the operator: tests/interop/test_lammps.py.
"""

from __future__ import annotations

import numpy as np
import pytest
from support import mark_slow
from tolerances import assert_close
from unit.native_inputs import GOLDEN, KEYS, golden, lower, session_of

from deepmd.array_model.errors import InputError
from deepmd.io import convert, load_model
from deepmd.train.main import freeze

tf = pytest.importorskip("tensorflow")

FUNCTION, NTYPES = "list_of_lammps", 2
CASES = ("se_e2_a_fparam", "se_e2_a_sel_overflow", "hybrid", "loc_frame")


def operator_of(graph):
    """The operator of DeePMD-kit in a graph, and the function around it."""
    (function,) = (each for each in graph.library.function if each.signature.name.startswith(FUNCTION))
    (node,) = (each for each in function.node_def if each.op.startswith("ProdEnvMat"))
    return function, node


@pytest.fixture(scope="module")
def graph_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists")

    def written(case):
        path = folder / f"{case}.pb"
        if not path.exists():
            convert(GOLDEN / case / "model.dp", path)
        return tf.compat.v1.GraphDef.FromString(path.read_bytes())

    return written


def as_operator(inputs, sections: list[int]) -> np.ndarray:
    """What the operator finds in a list: each section nearest first, cut to its size, -1 where empty."""
    coord, types, nlist = inputs["coord"][0], inputs["atype"][0], inputs["nlist"][0]
    out = np.full((len(nlist), sum(sections)), -1, dtype=np.int32)
    for i, row in enumerate(nlist):
        near = row[row >= 0]
        near = near[np.argsort(np.linalg.norm(coord[near] - coord[i], axis=1), kind="stable")]
        start = 0
        for kind, size in enumerate(sections):
            chosen = near[types[near] == kind][:size] if len(sections) > 1 else near[:size]
            out[i, start : start + len(chosen)] = chosen
            start += size
    return out


@pytest.mark.parametrize("case", mark_slow(CASES, ["se_e2_a_fparam", "loc_frame"]))
def test_a_list_of_lammps_gives_the_stored_results(graph_of, tmp_path, case):
    graph, inputs, wanted = graph_of(case), lower(case, "pbc"), golden(case, "pbc")
    function, node = operator_of(graph)
    nlist = as_operator(inputs, list(node.attr["sel_a"].list.i))
    node.Clear()
    node.name, node.op = "search", "Const"
    node.attr["dtype"].type = tf.int32.as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(nlist))
    function.ret["nlist"] = "search:output:0"
    (tmp_path / "model.pb").write_bytes(graph.SerializeToString())
    types, mapping = inputs["atype"][0], inputs["mapping"][0]
    natoms = len(wanted["type"])
    fed = {
        "t_coord": inputs["coord"].ravel(),
        "t_type": types,
        "t_natoms": [natoms, len(types), *np.bincount(types[:natoms], minlength=NTYPES)],
        "t_box": wanted["cell"].ravel(),
        "t_mesh": np.zeros(16, dtype=np.int32),
        **{f"t_{name}": inputs[name].ravel() for name in ("fparam", "aparam") if name in inputs},
    }
    with session_of(tmp_path / "model.pb") as session:
        found = session.run({key: f"o_{key}:0" for key in KEYS}, {f"{name}:0": value for name, value in fed.items()})
    for key in KEYS:
        values = found[key].reshape(-1, *wanted[key].shape[1:]) if key in ("force", "atom_virial") else found[key]
        if key in ("force", "atom_virial"):
            assert len(values) == len(types)
            folded = np.zeros(wanted[key].shape)
            np.add.at(folded, mapping, values)
            values = folded
        assert_close(values.reshape(wanted[key].shape), wanted[key], "golden", what=key)


@pytest.mark.parametrize(
    ("case", "operator"),
    [pytest.param("hybrid", "ProdEnvMatAMix", marks=pytest.mark.slow), ("loc_frame", "ProdEnvMatA")],
)
def test_the_operator_keeps_all_that_the_model_keeps(graph_of, case, operator):
    _, node = operator_of(graph_of(case))
    layout = load_model(GOLDEN / case / "model.dp").model.layout()
    assert node.op == operator
    assert sum(node.attr["sel_a"].list.i) >= sum(layout.sel)
    assert node.attr["rcut_r"].f >= layout.rcut


def test_two_files_in_one_graph(graph_of):
    """Prefixes keep nodes apart, but not functions, which therefore have names of their own in each file."""
    with tf.Graph().as_default() as graph:
        for case in ("se_e2_a_fparam", "se_e2_a_sel_overflow"):
            tf.compat.v1.import_graph_def(graph_of(case), name=case)
    assert graph.get_tensor_by_name("se_e2_a_fparam/o_energy:0") is not None


def test_freezing_message_passing_names_the_other_format(tmp_path):
    with pytest.raises(InputError, match=r"LAMMPS needs a \.pth: dp freeze -o .*m\.pth"):
        freeze(str(GOLDEN / "dpa3_charge_spin" / "model.dp"), str(tmp_path / "m.pb"))
    assert not list(tmp_path.iterdir())
