"""Pictures of `dp plot` and `dp test --plot`, and the report page: what they show, and errors."""

from __future__ import annotations

import html
import re

import numpy as np
import pytest
from support import require

from deepmd import cli
from deepmd.array_model.errors import InputError
from deepmd.infer.error_report import Comparison
from deepmd.report import curves, facts, panels, parity

LCURVE = """# step  rmse_val  rmse_trn  rmse_e_val  rmse_e_trn  rmse_v_val  rmse_v_trn  rmse_f_val  rmse_f_trn  lr
# If there is no available reference data, rmse_*_{val,trn} will print nan
      1  2.00e+01  1.90e+01   3.00e-02   4.00e-02   nan   nan   9.00e-01   8.00e-01    1.0e-03
    100  1.00e+01  0.90e+01   1.00e-03   2.00e-03   nan   nan   1.00e-01   2.00e-01    1.0e-04
"""


@pytest.fixture
def lcurve(tmp_path):
    (tmp_path / "lcurve.out").write_text(LCURVE)
    return tmp_path / "lcurve.out"


def test_curves_are_in_order_with_units_and_without_quantities_that_have_no_label(lcurve):
    columns = curves.read_lcurve(lcurve)
    np.testing.assert_array_equal(columns["step"], [1, 100])
    found = list(curves.curves_of(columns))
    assert [each.title for each in found] == ["RMSE of energy, meV/atom", "RMSE of force, eV/Å", "root of the loss"]
    np.testing.assert_allclose(found[0].sides["validation"], [30, 1])
    np.testing.assert_allclose(found[0].sides["training batch"], [40, 2])


def test_the_running_median_ignores_spikes_and_missing_labels():
    values = np.array([1.0, 1.0, 90.0, 1.0, np.nan, 1.0])
    np.testing.assert_array_equal(curves.smooth(values, 3), [1, 1, 1, 45.5, 1, 1])
    np.testing.assert_array_equal(curves.smooth(values, 1), values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "accepted: lcurve.out"),
        (LCURVE[: LCURVE.index("      1")], "has no rows yet"),
        (LCURVE + "    200      1.00e+01\n", "line 5: has 2 columns, and the header has 10"),
        (LCURVE.replace("9.00e-01", "energetic"), "energetic"),
    ],
)
def test_files_that_are_no_learning_curves(tmp_path, text, message):
    (tmp_path / "lcurve.out").write_text(text)
    with pytest.raises(InputError, match=message):
        curves.read_lcurve(tmp_path / "lcurve.out")


def comparison(path, scale, types=((0, 1, 1),), counted=((True, True, True),), energy=((-10.0,),)):
    """A system of frames whose predictions are the labels times (1 + scale)."""
    force = np.arange(1.0, 1 + 9 * len(types)).reshape(-1, 3, 3)
    energy = np.array(energy)
    pairs = {"energy/natoms": (energy, energy + scale), "force": (force, force * (1 + scale))}
    frames = np.arange(len(types)) + 5
    return Comparison(path, ("O", "H"), frames, np.array(types), np.array(counted), pairs, {})


def test_forces_are_shown_by_element_and_energies_by_system():
    first, second = comparison("data/a/water", 0.0), comparison("data/b/water", 0.1)
    energy, force = panels.panels_of([first, second])
    assert [each.name for each in energy.series] == ["a/water", "b/water"]
    assert energy.note == "relative to the mean label"
    np.testing.assert_allclose(energy.series[1].label, [0])
    np.testing.assert_allclose(energy.series[1].predicted, [100])  # meV
    oxygen, hydrogen = force.series
    assert (oxygen.name, hydrogen.name) == ("O", "H")
    np.testing.assert_array_equal(oxygen.label, [1, 2, 3, 1, 2, 3])
    np.testing.assert_allclose(hydrogen.errors[6:], np.arange(4, 10) / 10)
    np.testing.assert_array_equal(hydrogen.places[9], [1, 0, 2])


def test_energies_of_each_composition_have_a_zero_of_their_own():
    system = comparison("a", 0.0, types=((0, 1, 1), (0, 1, -1)), counted=((True,) * 3, (True, True, False)),
                        energy=((-10.0,), (-20.0,)))  # fmt: skip
    energy, force = panels.panels_of([system])
    assert energy.note == "relative to the mean label of each composition"
    np.testing.assert_array_equal(energy.series[0].label, [0, 0])
    assert sum(len(each.label) for each in force.series) == 15, "the virtual atom is not shown"


def test_thinning_keeps_the_largest_errors():
    errors = np.random.default_rng(1).normal(size=1000)
    series = panels.Series("O", np.zeros(1000), errors, np.zeros((1000, 3), int))
    few = panels.thin(series, 100)
    assert len(few.label) == 100
    assert set(np.sort(np.abs(errors))[-50:]) <= set(np.abs(few.errors))
    assert len(set(few.errors)) == 100


def test_the_worst_frames_come_first():
    frames = panels.worst_frames([comparison("a", 0.1), comparison("b", 0.2)], 5)
    assert [(each.path, each.frame, each.atom, each.element) for each in frames] == [("b", 5, 2, "H"), ("a", 5, 2, "H")]
    assert frames[0].energy == pytest.approx(200)
    assert frames[0].largest == pytest.approx(0.2 * np.sqrt(7**2 + 8**2 + 9**2))
    assert frames[0].force == pytest.approx(0.2 * np.sqrt(np.mean(np.arange(1, 10) ** 2)))
    assert parity.worst_lines([comparison("x/b", 0.2)])[0].startswith("b, frame 5: energy off by 200 meV/atom, force")


@pytest.mark.filterwarnings("ignore::deepmd.data.packing.SelWarning")
def test_commands_draw(place, lcurve, monkeypatch, capsys):
    require("matplotlib")
    monkeypatch.chdir(place)
    assert cli.main(["plot", str(lcurve), "-o", "curve.svg"]) == 0
    curve = (place / "curve.svg").read_text()
    assert "<svg" in curve
    assert cli.main(["test", "-m", "model.dp", "-s", "water", "-n", "1", "--plot"]) == 0
    assert (place / "parity.png").read_bytes().startswith(b"\x89PNG")
    assert "worst: water, frame " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "message"), [("curve.gif", "accepted: names that end with .png"), ("no/curve.png", "does not exist")]
)
def test_pictures_that_cannot_be_written(place, lcurve, capsys, name, message):
    require("matplotlib")
    for words in (["plot", str(lcurve), "-o", name], ["test", "-m", "model.dp", "-s", "water", "--plot", name]):
        assert cli.main(words) == 2
        assert message in capsys.readouterr().err


def test_a_missing_library_is_named_with_the_line_that_installs_it(lcurve, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib", None)
    with pytest.raises(InputError, match=r"matplotlib is not installed.*pip install 'deepmd\[plot\]'"):
        curves.plot_lcurve(lcurve, "curve.png")


# -- report -----------------------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::deepmd.data.packing.SelWarning")
def test_the_report_is_one_file_that_names_nothing_outside(place, monkeypatch, capsys):
    require("plotly")
    monkeypatch.chdir(place)
    (place / "water").rename(place / "<b>water&")
    (place / "lcurve.out").write_text(LCURVE)
    text = (place / "input.json").read_text().replace('["water"]', '["<b>water&"]')
    (place / "input.json").write_text(text)
    assert cli.main(["report", "input.json", "-m", "model.dp", "-n", "2"]) == 0
    page = (place / "report.html").read_text()
    from plotly.offline import get_plotlyjs

    own = page.replace(get_plotlyjs(), "")
    assert not re.search(r"""(src|href)=["'](?!#|data:)|url\(|@import|fetch\(""", own)
    assert "<b>water" not in re.sub(r"<script.*?</script>", "", own, flags=re.DOTALL)
    assert "<td>&lt;b&gt;water&amp;</td><td>training</td><td>2</td>" in own
    assert "The input has no validation data" in own
    for text in (
        "RMSE of force",
        "Forces by element",
        "Worst frames",
        'atoms.calc = DP("model.dp")',
        '"numb_steps": 1',
        "numpy",
    ):
        assert html.escape(text) in own or text in own, text
    assert "2 of 3 frames" in capsys.readouterr().err


def test_a_report_without_a_checkpoint_says_what_is_missing(place, monkeypatch, capsys):
    require("plotly")
    monkeypatch.chdir(place)
    assert cli.main(["report", "input.json"]) == 2
    assert "model.ckpt: no such checkpoint" in capsys.readouterr().err
    assert cli.main(["train", "input.json", "--report", "report.txt"]) == 2
    assert "accepted: names that end with .html" in capsys.readouterr().err
    assert not (place / "model.ckpt.pt").exists(), "the name is checked before the training"


def test_the_pace_is_the_median_between_rows():
    pace = facts.Pace(begin=0.0, rows=[(1, 10.0), (101, 11.0), (201, 12.0), (301, 33.0)])
    assert (pace.ms_per_step, pace.seconds) == (10.0, 33.0)
    assert [facts.duration(each) for each in (5.26, 83.2, 7290)] == ["5.3 s", "1 min 23 s", "2 h 1 min"]
