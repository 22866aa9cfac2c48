"""Statistics of the data against DeePMD-kit's numbers and against loops."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from deepmd.array_model.descriptors.dpa2 import Dpa2, Repinit
from deepmd.array_model.descriptors.dpa3 import Dpa3
from deepmd.array_model.descriptors.se_e2_a import SeE2A
from deepmd.array_model.errors import InputError
from deepmd.array_model.fittings.energy import EnergyFitting
from deepmd.array_model.fittings.property import PropertyFitting
from deepmd.array_model.models.standard import StandardModel
from deepmd.array_model.repflow import Repflow
from deepmd.array_model.repformer import Repformer
from deepmd.data import output_statistics, statistics
from deepmd.data.sampling import Sampler, make_rule
from deepmd.data.systems import System, load_system
from deepmd.host import plain
from deepmd.plan.slots import count_slots

WATER = Path(__file__).parents[2] / "examples" / "water" / "data"
REPRODUCED = 1e-12

# DeePMD-kit 3.2.0, torch backend, for the seven frames of `systems`
MEAN = [0.039701802139718856, 0.04961818268631244]
STD = [
    [0.1360947931618541, 0.08184806031635664, 0.08184806031635664, 0.08184806031635664],
    [0.12429109921480651, 0.07726590725373698, 0.07726590725373698, 0.07726590725373698],
]
BIAS = [-125.88820238521905, -15.694912557396382]


@pytest.fixture
def systems(tmp_path):
    """Four frames of water, and three of water that lost its last atom, 13 eV higher."""
    out = []
    for number, (name, frames) in enumerate([("water_330a", 4), ("water_600", 3)]):
        folder = tmp_path / name / "set.000"
        folder.mkdir(parents=True)
        shutil.copy(WATER / name / "type_map.raw", folder.parent)
        types = np.loadtxt(WATER / name / "type.raw", dtype=int)[: 96 - number]
        np.savetxt(folder.parent / "type.raw", types, fmt="%d")
        for label in ("box", "coord", "energy", "force"):
            array = np.load(WATER / name / "set.000" / f"{label}.npy")[:frames]
            if label in ("coord", "force"):
                array = array[:, : 3 * len(types)]
            np.save(folder / f"{label}.npy", array + 13.0 * number if label == "energy" else array)
        out.append(load_system(folder.parent, ["O", "H"]))
    return out


def model(**options):
    descriptor = SeE2A(sel=(46, 92), rcut=6.0, rcut_smth=0.5, neuron=(4, 8), axis_neuron=2, exclude_types=((0, 0),))
    return StandardModel(("O", "H"), descriptor, EnergyFitting(neuron=(8,), **options))


def frames(systems):
    return [(system, frame) for system in systems for frame in range(system.num_frames)]


def test_statistics_are_those_of_deepmd_kit(systems):
    """The numbers of DeePMD-kit 3.2.0 (torch backend) for these seven frames."""
    ((mean, std),) = statistics.environment_statistics(model(), frames(systems))
    bias = output_statistics.energy_bias(model(), frames(systems))
    np.testing.assert_allclose(mean[:, 0], MEAN, rtol=REPRODUCED)
    np.testing.assert_allclose(std, STD, rtol=REPRODUCED)
    np.testing.assert_allclose(bias, BIAS, rtol=1e-9)  # the least-squares system is nearly singular
    assert not mean[:, 1:].any()


def test_environment_statistics_of_three_atoms_by_hand():
    """Every slot counts, empty ones as zeros; x, y and z are one population."""
    coord = np.array([[[0.0, 0, 0], [1.0, 0.2, 0], [0, 0.3, 1.5]]])
    system = System("s", np.array([0, 1, 1]), coord, None, {}, (1,))
    descriptor = SeE2A(sel=(3, 4), rcut=6.0, rcut_smth=5.0, neuron=(4,), axis_neuron=2)
    ((mean, std),) = statistics.environment_statistics(
        StandardModel(("O", "H", "X"), replace(descriptor, sel=(3, 4, 1)), EnergyFitting()), [(system, 0)]
    )
    for kind, centres in ((0, [0]), (1, [1, 2])):
        radial, angular = [], []
        for i in centres:
            for j in (k for k in range(3) if k != i):
                d = coord[0, j] - coord[0, i]
                radial.append(float(1 / np.linalg.norm(d)))
                angular += list(d / (d @ d))
        slots = 8 * len(centres)
        radial += [0.0] * (slots - len(radial))
        angular += [0.0] * (3 * slots - len(angular))
        assert mean[kind, 0] == pytest.approx(np.mean(radial))
        np.testing.assert_allclose(std[kind], [np.std(radial), *[np.std(angular)] * 3])
    np.testing.assert_array_equal(std[2], 0.1)  # a type that the data lack
    assert mean[2, 0] == 0.0


def test_deviations_have_a_floor():
    system = System("s", np.array([0]), np.zeros((1, 1, 3)), None, {}, (1,))
    ((_, std),) = statistics.environment_statistics(
        StandardModel(("O",), SeE2A(sel=(2,), neuron=(4,)), EnergyFitting()), [(system, 0)]
    )
    np.testing.assert_array_equal(std, 0.01)


def labelled(counts, energies):
    types = [np.repeat([0, 1], count) for count in counts]
    each = [
        System("s", t, np.zeros((1, len(t), 3)), None, {"energy": np.array([e])}, (1,))
        for t, e in zip(types, energies, strict=True)
    ]
    return [(system, 0) for system in each]


def test_energy_bias_is_least_squares():
    sample = labelled([(1, 2), (2, 2), (1, 4)], [-17.0, -27.0, -31.0])
    bias = output_statistics.energy_bias(model(), sample)
    a = np.array([[1, 2], [2, 2], [1, 4.0]])
    expected = np.linalg.lstsq(a, [-17.0, -27.0, -31.0], rcond=None)[0]
    np.testing.assert_allclose(bias, expected)


def test_assigned_energies_are_kept():
    sample = labelled([(1, 2), (2, 2)], [-16.0, -28.0])
    assert output_statistics.energy_bias(model(atom_ener=(-12.0, None)), sample).tolist() == pytest.approx(
        [-12.0, -2.0]
    )
    preset = replace(model(), preset_out_bias={"energy": [None, -4.0]})
    assert output_statistics.energy_bias(preset, sample).tolist() == pytest.approx([-48 / 5, -4.0])


COUNTS = np.array([(1, 2), (2, 2), (1, 4), (3, 1)], dtype=np.float64)
"""Atoms of both types in four frames."""
GAPS = np.array([[2.0, -1.0], [3.5, 0.5], [1.0, 4.0], [7.0, 2.0]])
"""Two components of a property of each of them."""


def property_statistics(without=(), **options):
    """Bias and scale that the four frames give."""
    types = [np.repeat([0, 1], count.astype(int)) for count in COUNTS]
    systems = [
        System("s", each, np.zeros((1, len(each), 3)), None, {"gap": gap[None]}, (1,))
        for each, gap in zip(types, GAPS, strict=True)
    ]
    fitting = PropertyFitting(property_name="gap", task_dim=2, neuron=(4,), **options)
    kind = replace(model(), fitting=fitting, atom_exclude_types=without)
    return output_statistics.output_statistics(kind, frames(systems))


@pytest.mark.parametrize("without", [(), (0,)])
@pytest.mark.parametrize("intensive", [True, False])
def test_statistics_of_a_property_are_those_of_all_atoms_alike(without, intensive):
    """Outputs that are sums over atoms: the mean per atom with an output. Outputs that are means: the mean."""
    bias, std = property_statistics(without, intensive=intensive, distinguish_types=False)
    counted = COUNTS[:, 1:] if without else COUNTS
    values = GAPS if intensive else GAPS / counted.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(bias, [values.mean(axis=0)] * 2)
    np.testing.assert_allclose(std, [values.std(axis=0)] * 2)


@pytest.mark.parametrize("without", [(), (0,)])
@pytest.mark.parametrize("intensive", [True, False])
def test_statistics_of_a_property_by_type_are_least_squares(without, intensive):
    bias, std = property_statistics(without, intensive=intensive)
    shares = COUNTS[:, 1:] if without else COUNTS
    shares = shares / shares.sum(axis=1, keepdims=True) if intensive else shares
    fitted = np.linalg.solve(shares.T @ shares, shares.T @ GAPS)
    np.testing.assert_allclose(bias[len(without) :], fitted)
    np.testing.assert_allclose(bias[: len(without)], 0.0, atol=1e-12)
    np.testing.assert_allclose(std, [np.sqrt(np.mean((GAPS - shares @ fitted) ** 2, axis=0))] * 2)


def test_statistics_of_each_part_of_dpa2_are_those_of_its_cutoff_and_slots(systems):
    """They equal those of a descriptor with one part, which are known by hand, and each part keeps its own."""
    parts = ((4.0, 1.0, (14, 26)), (3.0, 0.5, (8, 12)))
    descriptor = Dpa2(
        Repinit(rcut=4.0, rcut_smth=1.0, nsel=40, neuron=(2,), axis_neuron=1, tebd_dim=2, set_davg_zero=False),
        Repformer(rcut=3.0, rcut_smth=0.5, nsel=20, nlayers=1, g1_dim=2, g2_dim=2, axis_neuron=1, set_davg_zero=False),
    )
    kind = StandardModel(("O", "H"), descriptor, EnergyFitting(neuron=(2,)))
    sample = frames(systems)[-2:]
    params = statistics.apply_statistics(kind, kind.init(np.random.default_rng, xp=plain), sample, 0.01)
    for name, (rcut, rcut_smth, sel) in zip(("repinit", "repformers"), parts, strict=True):
        local = SeE2A(sel=sel, rcut=rcut, rcut_smth=rcut_smth, neuron=(2,), axis_neuron=1)
        ((mean, std),) = statistics.environment_statistics(replace(model(), descriptor=local), sample)
        stored = params["descriptor"][name]
        np.testing.assert_allclose(stored["davg"], np.repeat(mean[:, None, :], sum(sel), axis=1), rtol=REPRODUCED)
        np.testing.assert_allclose(stored["dstd"], np.repeat(std[:, None, :], sum(sel), axis=1), rtol=REPRODUCED)


@pytest.mark.parametrize(
    ("options", "expected"),
    [({"skip_stat": True, "fix_stat_std": 0.7}, 0.3), ({"fix_stat_std": 0.7}, 0.7), ({"fix_stat_std": 0.0}, 0.2)],
    ids=["skipped", "fixed", "of the data"],
)
def test_deviations_of_dpa3(options, expected):
    """DeePMD-kit fixes them at 0.3 where `skip_stat` is on, whatever `fix_stat_std` says."""
    cutoffs = {"e_rcut": 3.0, "e_rcut_smth": 0.5, "e_sel": 4, "a_rcut": 2.0, "a_rcut_smth": 0.5, "a_sel": 2}
    flow = Repflow(**cutoffs, n_dim=2, e_dim=2, a_dim=2, nlayers=1, axis_neuron=1, **options)
    kind = StandardModel(("O", "H"), Dpa3(flow), EnergyFitting(neuron=(2,)))
    params = kind.init(np.random.default_rng, xp=plain)["descriptor"]
    params = kind.descriptor.with_statistics(params, [(np.ones((2, 4)), np.full((2, 4), 0.2))], xp=plain)
    np.testing.assert_array_equal(params["dstd"], np.full((2, 4, 4), expected))
    assert not params["davg"].any()


def test_no_energies_no_bias():
    system = System("s", np.array([0, 1]), np.zeros((1, 2, 3)), None, {}, (1,))
    assert output_statistics.energy_bias(model(), [(system, 0)]).tolist() == [0.0, 0.0]


def test_set_davg_zero_and_parameter_statistics(systems):
    rng = np.random.default_rng(0)
    given = [
        replace(
            s,
            data={
                **s.data,
                "fparam": rng.normal(3, 2, (s.num_frames, 2)),
                "aparam": rng.normal(1, 1e-5, (s.num_frames, s.num_atoms, 1)),
            },
        )
        for s in systems
    ]
    kind = model(numb_fparam=2, numb_aparam=1)
    kind = replace(kind, descriptor=replace(kind.descriptor, set_davg_zero=True))
    params = statistics.apply_statistics(kind, kind.init(np.random.default_rng, xp=plain), frames(given), 0.01)
    fparam = np.concatenate([s.data["fparam"] for s in given])
    np.testing.assert_allclose(params["fitting"]["fparam_avg"], fparam.mean(axis=0))
    np.testing.assert_allclose(params["fitting"]["fparam_inv_std"], 1 / fparam.std(axis=0))
    np.testing.assert_allclose(params["fitting"]["aparam_inv_std"], 100.0)  # floor
    assert not params["descriptor"]["davg"].any()
    assert (params["descriptor"]["dstd"] > 0.0).all()


def test_a_sample_has_each_frame_once(systems):
    sampler = Sampler(make_rule(systems, 2, "prob_uniform", None, "x"), 0)
    assert len(statistics.sample(sampler, 1)) == 4
    chosen = statistics.sample(sampler, 10)  # several epochs of both systems
    assert sorted((system.num_atoms, frame) for system, frame in chosen) == sorted(
        (system.num_atoms, frame) for system, frame in frames(systems)
    )


def test_neighbour_statistics_by_loops(systems):
    system = replace(systems[1], coord=systems[1].coord[:1], cell=systems[1].cell[:1])
    distance, most = statistics.neighbour_statistics([system], [3.0, 4.0], 2)
    images = np.array([(a, b, c) for a in (-1, 0, 1) for b in (-1, 0, 1) for c in (-1, 0, 1)]) @ system.cell[0]
    counts, shortest = {rcut: np.zeros((95, 2), dtype=int) for rcut in (3.0, 4.0)}, np.inf
    for i, centre in enumerate(system.coord[0]):
        for image in images:
            gaps = np.linalg.norm(system.coord[0] + image - centre, axis=1)
            for j in np.flatnonzero((gaps <= 4.0) & (gaps > 1e-9)):
                for rcut in counts:
                    counts[rcut][i, system.types[j]] += gaps[j] <= rcut
                shortest = min(shortest, gaps[j])
    assert most == {rcut: each.max(axis=0).tolist() for rcut, each in counts.items()}
    assert distance == pytest.approx(shortest)


@pytest.mark.parametrize(("text", "expected"), [("auto", (44, 84)), ("auto:1.5", (60, 112)), ("auto:1", (40, 76))])
def test_automatic_sel(text, expected):
    assert count_slots(text, [38, 75]) == expected


@pytest.mark.parametrize("text", ["aut", "auto:x", "auto:-1"])
def test_malformed_sel(text):
    with pytest.raises(InputError, match="auto:RATIO"):
        count_slots(text, [1])
