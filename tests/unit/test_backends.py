"""Which backend a command means, and which files it means then. No framework is needed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepmd import backends
from deepmd.array_model.errors import InputError
from deepmd.io.formats import find_frozen
from deepmd.train.checkpoints import locate
from deepmd.train.start import Continue, Fresh, Newest, Take, backend_of_start, resolve
from deepmd.world import ALONE

GOLDEN = Path(__file__).parents[1] / "golden" / "se_e2_a" / "model.dp"

BUILDS = {
    "torch": ("version.py", "__version__ = '2'\ncuda: Optional[str] = {}\nhip: Optional[str] = None\n"),
    "tensorflow": ("python/platform/build_info.py", "build_info = OrderedDict([('is_cuda_build', True), {}])\n"),
}
CPU = {"torch": "None", "tensorflow": "('is_rocm_build', False)"}
CUDA = {"torch": "'13.0'", "tensorflow": "('cuda_version', '12.5.1')"}


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Take these packages, with the given word about CUDA in their files, for all that is installed."""
    monkeypatch.delenv("DP_BACKEND", raising=False)
    monkeypatch.chdir(tmp_path)

    def write(**packages):
        for package, word in packages.items():
            name, text = BUILDS[package]
            path = tmp_path / "packages" / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.format(word))
        folders = {package: tmp_path / "packages" / package for package in packages}
        monkeypatch.setattr(backends, "package_folder", folders.get)

    return write


def test_tensorflow_is_the_default_where_it_is_installed(install):
    install(**CPU)
    assert backends.default_backend() == "tf"
    assert backends.default_backend("torch") == "torch"
    assert backends.default_backend("numpy") == "tf"
    install(torch="None")
    assert backends.default_backend() == "torch"
    install()
    with pytest.raises(InputError, match=r"deepmd\[tf\].*deepmd\[torch\]"):
        backends.default_backend()


def test_an_argument_comes_before_the_environment(install, monkeypatch):
    install()
    assert backends.asked_backend(None) is None
    monkeypatch.setenv("DP_BACKEND", "tensorflow")
    assert (backends.asked_backend(None), backends.asked_backend("pytorch")) == ("tf", "torch")


def test_a_gpu_that_only_the_other_backend_sees_is_told(install, tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(backends, "DEVICES", tmp_path)
    hint = "only torch sees the GPU of this machine: dp --pt"
    install(torch=CUDA["torch"], tensorflow=CPU["tensorflow"])
    assert hint not in backends.tell_choice("tf", True), "no GPU"
    (tmp_path / "nvidia0").touch()
    assert backends.tell_choice("tf", True).endswith(hint)
    assert hint not in backends.tell_choice("tf", False), "the user has chosen"
    assert "GPU" not in backends.tell_choice("torch", True)
    install(**CUDA)
    assert backends.tell_choice("tf", True).endswith(hint), "TensorFlow lacks its CUDA libraries"
    runtime = tmp_path / "packages/nvidia/cuda_runtime/lib/libcudart.so.12"
    runtime.parent.mkdir(parents=True)
    runtime.touch()
    assert "GPU" not in backends.tell_choice("tf", True)
    install(torch=CPU["torch"], tensorflow=CUDA["tensorflow"])
    assert backends.tell_choice("torch", True).endswith("only tf sees the GPU of this machine: dp --tf")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert "GPU" not in backends.tell_choice("torch", True)


def test_a_model_file_without_suffix(install, tmp_path, monkeypatch):
    """The file that is there; the backend decides between several, and says which is missing."""
    install(**CPU)
    names = [str(find_frozen("m")), str(find_frozen("m", "pt")), str(find_frozen("m.dp"))]
    (tmp_path / "m.pth").touch()
    names += [str(find_frozen("m")), str(find_frozen("m", "tf"))]
    (tmp_path / "m.pb").touch()
    names += [str(find_frozen("m")), str(find_frozen("m", "pt"))]
    monkeypatch.setenv("DP_BACKEND", "pt")
    names += [str(find_frozen("m"))]
    assert names == ["m.pb", "m.pth", "m.dp", "m.pth", "m.pb", "m.pb", "m.pth", "m.pth"]


def test_a_training_follows_its_checkpoint(install, tmp_path):
    """Of two backends with the same prefix the one asked for, or else the default one."""
    install(**CPU)
    (tmp_path / "input.json").write_text('{"training": {"save_ckpt": "c"}}')
    auto = Newest(Fresh())
    assert (backend_of_start(Fresh(), "input.json"), backend_of_start(auto, "input.json")) == (None, None)
    (tmp_path / "old.pb").touch()
    assert backend_of_start(Newest(Take("old.pb")), "input.json") == "tf"
    (tmp_path / "c.pt").touch()
    for start in (auto, Newest(Take("old.pb")), Continue("c"), Continue("c.pt")):
        assert backend_of_start(start, "input.json") == "torch"
    (tmp_path / "c.index").touch()
    assert [backend_of_start(start, "input.json") for start in (auto, Continue("c"), Continue("c.pt"))] == [
        "tf",
        "tf",
        "torch",
    ]
    assert [locate("c", backend).name for backend in (None, "tf", "pt", "np")] == ["c.index", "c.index", "c.pt", "c.pt"]


def test_the_newest_checkpoint_of_another_backend_is_not_passed_over(install, tmp_path):
    install(**CPU)
    (tmp_path / "c.pt").touch()
    tree = {"training": {"save_ckpt": "c"}}
    assert resolve(Newest(Fresh()), tree, "torch", ALONE) == Continue("c.pt")
    with pytest.raises(InputError, match=r"c\.pt is of the torch backend, and tf is asked for. To go on: dp --pt"):
        resolve(Newest(Fresh()), tree, "tf", ALONE)


def test_a_framework_that_is_broken(tmp_path):
    """It is there, so it is the default, and cannot be imported."""
    folder = tmp_path / "tensorflow"
    folder.mkdir()
    (folder / "__init__.py").write_text('raise ImportError("libcudart.so.12: cannot open shared object file")')
    (tmp_path / "input.json").write_text("{}")
    command = [sys.executable, "-m", "deepmd", "freeze", "-c", str(GOLDEN), "-o", str(tmp_path / "m.pb")]
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "cannot be loaded: libcudart.so.12" in done.stderr
    assert "Another backend: dp --pt" in done.stderr
    assert "Traceback" not in done.stderr
