"""The command line: what reaches the functions behind it, what users read on errors, and how fast help is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from deepmd import cli, cli_options
from deepmd.backends import BACKENDS, backend_name
from deepmd.data.label_keys import LabelKeys
from deepmd.io.meanings import MEANINGS
from deepmd.version import __version__

GOLDEN = Path(__file__).parent.parent / "golden"
MODEL = str(GOLDEN / "se_e2_a" / "model.dp")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Replace what commands call; what they were called with is in the list."""
    made: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def record(name: str) -> Any:
        return lambda *args, **kwargs: made.append((name, args, kwargs))

    training = SimpleNamespace(train=record("train"), freeze=record("freeze"))
    monkeypatch.setitem(sys.modules, "deepmd.train.main", training)  # type: ignore[arg-type]
    monkeypatch.setattr("deepmd.infer.measure_errors", record("test"))
    monkeypatch.setattr("deepmd.infer.compress.compress_model", record("compress"))
    return made


def failing(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(argv) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dp: error: ")
    assert err.count("\n") == 1, "one message, no traceback"
    return err


def test_help_is_fast_and_loads_no_array_package() -> None:
    """Nor does the choice of a backend."""
    heavy = ("numpy", "h5py", "yaml", "pydantic", "vesin", "ase", "rich", "scipy", "torch", "tensorflow", "autograd")
    loaded = f"', '.join(set({heavy}) & set(sys.modules))"
    choice = "from deepmd.backends import default_backend, tell_choice; tell_choice(default_backend('torch'), True)"
    program = f"import sys; from deepmd.cli import main; code = main(['-h']); {choice}; sys.exit(code or {loaded} or 0)"
    times = []
    for _ in range(3):
        before = sum(os.times()[2:4])
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        times.append(sum(os.times()[2:4]) - before)  # of the child, whatever else the machine does
        assert (done.returncode, done.stderr) == (0, "")
        assert "neighbor-stat" in done.stdout
    assert min(times) < 0.3


def test_the_module_is_the_program() -> None:
    done = subprocess.run([sys.executable, "-m", "deepmd", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"deepmd v{__version__}\n", "the form of DeePMD-kit's"


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_command_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "-h"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: dp {command}")


def test_backend_flags_are_the_names_of_backends() -> None:
    for name, backend in BACKENDS.items():
        for flag in backend.names:
            assert cli_options.common().parse_args([f"--{flag}"]).backend == backend_name(flag) == name


@pytest.mark.parametrize(
    ("argv", "backend"),
    [
        (["train", "in.json"], None),
        (["--tf", "train", "in.json"], "tf"),
        (["-b", "tensorflow", "train", "in.json"], "tensorflow"),
        (["train", "in.json", "--backend", "pytorch"], "pytorch"),
        (["train", "--np", "in.json"], "numpy"),
    ],
)
def test_the_backend_may_stand_anywhere(calls: list[Any], argv: list[str], backend: str | None) -> None:
    assert cli.main(argv) == 0
    name, args, kwargs = calls[0]
    assert (name, args, kwargs["backend"]) == ("train", ("in.json",), backend)


def test_train_options(calls: list[Any]) -> None:
    assert (
        cli.main(["train", "in.json", "-r", "model.ckpt", "-o", "all.json", "--skip-neighbor-stat", "-m", "workers"])
        == 0
    )
    expected = {
        **{
            "init_model": None,
            "restart": "model.ckpt",
            "init_frz_model": None,
            "finetune": None,
            "use_pretrain_script": False,
        },
        **{"output": "all.json", "skip_neighbor_stat": True},
    }
    assert calls == [("train", ("in.json",), {"backend": None, **expected})]


def test_compress_options(calls: list[Any]) -> None:
    defaults = {"training_script": None, "extrapolate": None, "backend": None}
    assert cli.main(["compress"]) == 0
    assert calls.pop() == ("compress", ("frozen_model", "frozen_model_compressed"), defaults)
    ignored = ["-s", "0.001", "-f", "10", "-c", "folder"]
    assert cli.main(["--tf", "compress", "-i", "a.pb", "-o", "b.pth", "-t", "in.json", "-e", "5", *ignored]) == 0
    assert calls.pop() == (
        "compress",
        ("a.pb", "b.pth"),
        {"training_script": "in.json", "extrapolate": 5.0, "backend": "tf"},
    )


def test_freeze_and_test_options(calls: list[Any]) -> None:
    assert cli.main(["freeze", "-c", "here", "-o", "model.pth"]) == 0
    assert calls.pop() == ("freeze", ("here", "model.pth", None), {})
    data = ["-f", "list.txt", "--energy-key", "REF_energy", "-n", "7", "-r", "3", "--shuffle-test"]
    assert cli.main(["test", "-m", "m.pth", *data, "-d", "out", "-a", "--head", "h", "--tf"]) == 0
    assert calls.pop()[2] == {
        "system": None,
        "datafile": "list.txt",
        "train_data": None,
        "valid_data": None,
        "numb_test": 7,
        "keys": LabelKeys(energy="REF_energy"),
        "rand_seed": 3,
        "shuffle_test": True,
        "detail_file": "out",
        "atomic": True,
        "head": "h",
        "backend": "tf",
    }


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "which command? Known: init, train, "),
        (["--tf"], "which command? Known: init, train, "),
        (["trian", "in.json"], "unknown command 'trian' ... Did you mean 'train'?"),
        (["compres"], "unknown command 'compres' ... Did you mean 'compress'?"),
        (["gui"], "the command 'gui' of DeePMD-kit is not supported yet. Supported: init, train, "),
        (["transfer", "-O", "a.pb"], "dp convert-backend OLD.pb NEW.pb"),
        (["convert-from", "3.0"], "invalid choice: '3.0'"),
        (["convert-from"], "frozen_model.pb: no such model file"),
        (["embed", "-s", "nowhere"], "nowhere: no such folder"),
        (["model-devi", "-m", MODEL], "1 model(s) are given; a deviation needs at least two"),
        (["model-devi", "-m", MODEL, MODEL, "-s", "nowhere"], "nowhere: no such folder"),
        (["change-bias", MODEL, "-b", "1.0"], "one number for each of the types ['O', 'H']"),
        (["change-bias", MODEL, "-s", "a", "-b", "1.0"], "not allowed with argument"),
        (["eval-desc", "-m", MODEL, "-s", "nowhere"], "nowhere: no such folder"),
        (["doc-train-input", "--out-type", "xml"], "invalid choice: 'xml'"),
        (["compress", "--head", "h"], "the option --head of DeePMD-kit is not supported yet"),
        (["compress", "-e", "far"], "argument -e/--extrapolate: invalid float value: 'far'"),
        (["compress", "-i", "a.pb"], "a.pb: no such model file"),
        (["test", "--sytem", "x"], "dp test: unknown argument '--sytem'. Did you mean '--system'?"),
        (["test", "-n", "all"], "argument -n/--numb-test: invalid int value: 'all'"),
        (["test", "-s", "a", "-f", "b"], "not allowed with argument"),
        (["train"], "the following arguments are required: INPUT"),
        (["train", "in.json", "-t", "m.pt", "-r", "m.pt"], "not allowed with argument"),
        (["train", "in.json", "--force-load"], "the option --force-load of DeePMD-kit is not supported yet"),
        (["freeze", "--hessian"], "the option --hessian of DeePMD-kit is not supported yet"),
        (["-b", "abacus", "train", "in.json"], "unknown backend 'abacus'"),
        (["--tf", "--pt", "train", "in.json"], "not allowed with argument"),
        (["-v", "LOUD", "train", "in.json"], "invalid choice: 'LOUD'"),
        (["test", "-m", "nothing.dp", "-s", "nowhere", "-d", "x"], "nowhere: no such folder"),
        (["show", "nothing.dp", "size"], "nothing.dp: no such model file"),
        (["test", "-m", MODEL, "-s", "nowhere"], "nowhere: no such folder"),
        (["test", "-m", MODEL, "-l", "nowhere/log.txt"], "nowhere/log.txt: No such file or directory"),
        (["show", MODEL, "typemap"], "unknown attribute 'typemap' ... Did you mean 'type-map'?"),
        (["show", MODEL, "model-branch"], "has no model-branch"),
        (["neighbor-stat", "-r", "-1"], "rcut is -1.0"),
        (["convert-backend", MODEL, "model.xyz"], "cannot be written as '.xyz'"),
    ],
)
def test_errors_are_one_clear_message(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(GOLDEN)
    err = failing(argv, capsys)
    assert all(part in err for part in message.split(" ... "))


def test_interrupts_and_bugs(
    calls: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    def fail(*args: Any, **kwargs: Any) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(sys.modules["deepmd.train.main"], "train", interrupt)
    assert cli.main(["train", "in.json"]) == 130
    assert capsys.readouterr().err == "dp: error: interrupted\n"
    monkeypatch.setattr(sys.modules["deepmd.train.main"], "train", fail)
    with pytest.raises(ZeroDivisionError):
        cli.main(["train", "in.json"])


def test_debugging_shows_where_it_failed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["-v", "DEBUG", "show", "nothing.dp", "size"]) == 2
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert err.splitlines()[-1] == "dp: error: nothing.dp: no such model file"


def test_show(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert (
        cli.main(
            [
                "show",
                MODEL,
                "type-map",
                "descriptor",
                "fitting-net",
                "size",
                "observed-type",
                "-l",
                str(tmp_path / "log.txt"),
            ]
        )
        == 0
    )
    lines = [line.partition("DEEPMD INFO    ")[2] for line in capsys.readouterr().err.splitlines()]
    assert lines[:2] == ["This is a singletask model", "The type_map is ['O', 'H']"]
    assert lines[2].startswith("The descriptor parameter is {'rcut': 4.0")
    assert lines[3].startswith("The fitting_net parameter is {'type': 'ener'")
    assert lines[4:8] == [
        "Parameter counts:",
        "Parameters in descriptor: 384",
        "Parameters in fitting-net: 1,922",
        "Parameters in total: 2,306",
    ]
    assert lines[8:] == [
        "The observed types for this model: ",
        "Number of observed types: 2 ",
        "Observed types: ['H', 'O'] ",
    ]
    assert [
        line.partition("deepmd.infer.show")[2].strip() for line in (tmp_path / "log.txt").read_text().splitlines()
    ] == [x.strip() for x in lines]


def test_converting(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The last line names the file, its size and what it holds."""
    assert cli.main(["convert-backend", MODEL, str(tmp_path / "model.yaml"), "--atomic-virial"]) == 0
    size = (tmp_path / "model.yaml").stat().st_size / 1e6
    told = f"wrote {tmp_path / 'model.yaml'}, {size:.1f} MB: energy of O H, se_e2_a, cutoff 4 Å, 2,306 parameters"
    assert told in capsys.readouterr().err.splitlines()[-1]


def test_neighbour_statistics(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "set.000"
    folder.mkdir()
    (tmp_path / "type.raw").write_text("0 1 1\n")
    (tmp_path / "type_map.raw").write_text("O H\n")
    (tmp_path / "nopbc").touch()
    np.save(folder / "coord.npy", [[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.5, 0.0]])
    for options, counts in (([], "[1 2]"), (["-t", "H", "O"], "[2 1]"), (["--mixed-type"], "[2]")):
        assert cli.main(["neighbor-stat", "-s", str(tmp_path), "-r", "2.0", *options]) == 0
        lines = capsys.readouterr().err.splitlines()
        assert lines[-2].endswith("min_nbor_dist: 1.000000")
        assert lines[-1].endswith(f"max_nbor_size: {counts}")


def test_warnings_are_log_lines(
    calls: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def warn(*args: Any, **kwargs: Any) -> None:
        warnings.simplefilter("always")
        warnings.warn("be careful", UserWarning, stacklevel=2)

    monkeypatch.setattr(sys.modules["deepmd.train.main"], "train", warn)
    assert cli.main(["train", "in.json"]) == 0
    assert capsys.readouterr().err.endswith("DEEPMD WARNING be careful\n")


def test_every_key_has_a_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    from deepmd.io.input_doc import keys_of, sections_of_input

    keys = [(where, kind, key) for where, kind, cls in sections_of_input() for key in keys_of(where, cls)]
    assert [(where, kind, key["name"]) for where, kind, key in keys if not key["doc"]] == []
    assert MEANINGS.keys() <= {key["name"] for _, _, key in keys}
    assert cli.main(["doc-train-input", "n_neuron"]) == 0  # an alias
    out = capsys.readouterr().out
    assert "Widths of the layers" in out
    assert "in model/fitting_net, type ener" in out
    assert cli.main(["doc-train-input", "nuron"]) == 2
    assert "Did you mean 'neuron'?" in capsys.readouterr().err


def test_documentation_of_the_input(capsys: pytest.CaptureFixture[str]) -> None:
    for out_type in ("rst", "json", "json_schema"):
        assert cli.main(["doc-train-input", "--out-type", out_type]) == 0
        out = capsys.readouterr().out
        assert "decay_phase_ratio" in out
        if out_type != "rst":
            tree = json.loads(out)
    assert tree["properties"]["training"]["properties"]["training_data"]["properties"]["systems"]
    for section, key, kinds in (
        ("loss", "pref", {"ener", "tensor", "dos", "property"}),
        ("model", "tab_file", {"standard", "pairtab", "frozen", "linear_ener", "linear"}),
    ):
        choices = tree["properties"][section]["anyOf"]
        assert {choice["properties"]["type"]["const"] for choice in choices} == kinds
        assert any(key in choice["properties"] for choice in choices)
