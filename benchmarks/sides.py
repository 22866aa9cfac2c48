"""The two programs: where they live, how their processes are started, and what they run on."""

import contextlib
import dataclasses
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

NOT_INHERITED = (
    "MALLOC_",
    "GLIBC_TUNABLES",
    "OMP_",
    "OPENBLAS_",
    "MKL_",
    "KMP_",
    "TF_",
    "XLA_",
    "DP_",
    "TORCH",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "DEVICE",
    "LOCAL_RANK",
)
"""Variables of the shell that would change what is measured."""

ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": str(2**32), "MALLOC_TRIM_THRESHOLD_": str(2**33), "MALLOC_TOP_PAD_": str(2**28)}
"""glibc keeps freed memory for the next array; our program asks for this itself."""

VERSIONS = """
import importlib.metadata as metadata, json, platform
found = {"python": platform.python_version()}
for name in ("deepmd-kit", "numpy", "torch", "tensorflow", "tensorflow-cpu"):
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""

POLL_SECONDS = 0.005
DEVICE_POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Side:
    """One program: `ours` or `theirs`, its Python, its `dp`, and what its processes need in their environment.

    They run on the processor, unless these variables name a CUDA device in CUDA_VISIBLE_DEVICES.
    """

    name: str
    python: str
    dp: tuple[str, ...]
    variables: dict[str, str]

    def environment(self, threads: int, allocator: bool = False) -> dict[str, str]:
        """Environment of a process: nothing of the shell's that matters, the same for both sides except for paths."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(NOT_INHERITED)}
        names = ("OMP_NUM_THREADS", "DP_INTRA_OP_PARALLELISM_THREADS", "DP_INTER_OP_PARALLELISM_THREADS")
        return (
            kept
            | dict.fromkeys(names, str(threads))
            | {"CUDA_VISIBLE_DEVICES": ""}
            | self.variables
            | (ALLOCATOR if allocator else {})
        )

    def on(self, device: dict[str, str]) -> "Side":
        """Return this program on the device that variables name."""
        return dataclasses.replace(self, variables=self.variables | device)

    def versions(self) -> dict[str, str]:
        """Versions of Python and of the packages that do the work."""
        run = subprocess.run(
            [self.python, "-c", VERSIONS], env=self.environment(1), capture_output=True, text=True, check=True, cwd="/"
        )
        versions: dict[str, str] = json.loads(run.stdout)
        return versions


def ours() -> Side:
    """Return this checkout, run by the Python that runs the benchmarks."""
    return Side("ours", sys.executable, (sys.executable, "-m", "deepmd"), {"PYTHONPATH": str(ROOT)})


def theirs() -> Side | None:
    """DeePMD-kit in the environment that DEEPMD_KIT_ENV names; None without one, or with BENCH_OURS_ONLY=1."""
    folder = os.environ.get("DEEPMD_KIT_ENV", "")
    if os.environ.get("BENCH_OURS_ONLY") == "1" or not folder:
        return None
    home = Path(folder).absolute()
    if not (home / "bin/dp").exists():
        raise SystemExit(
            f"DEEPMD_KIT_ENV is {folder!r}, but there is no {home}/bin/dp; "
            "BENCH_OURS_ONLY=1 measures without DeePMD-kit"
        )
    cuda = next(
        home.glob("lib/python*/site-packages/nvidia/cuda_runtime/lib/libcudart.so.12"), None
    )  # its torch operators are linked to it
    return Side(
        "theirs",
        str(home / "bin/python"),
        (str(home / "bin/dp"),),
        {"LD_LIBRARY_PATH": str(cuda.parent)} if cuda else {},
    )


def run(
    command: list[str], environment: dict[str, str], folder: Path, limit: float, tick: Callable[[], None] = lambda: None
) -> tuple[float, int]:
    """Run a process to its end, calling `tick` meanwhile; its output goes to folder/log.

    Return seconds and peak memory in bytes.

    Raises
    ------
    RuntimeError
        It failed or took longer than `limit` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log"
    with log.open("w") as output:
        begin = time.perf_counter()
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
        with contextlib.suppress(
            OSError
        ):  # where memory runs out, this process has to go, and nothing else on the machine
            Path(f"/proc/{process.pid}/oom_score_adj").write_text("1000")
        try:
            while True:
                pid, status, usage = os.wait4(process.pid, os.WNOHANG)
                seconds = time.perf_counter() - begin
                tick()
                if pid:
                    break
                if seconds > limit:
                    raise RuntimeError(f"longer than {limit:.0f} s")
                time.sleep(POLL_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(_reason(process.returncode, log.read_text(errors="replace")))
    return seconds, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextlib.contextmanager
def watch_device(side: Side) -> Iterator[dict[str, int]]:
    """Fill what is yielded with `peak_device_memory`: bytes that are held of the CUDA device of a side meanwhile.

    What was held before is subtracted. nvidia-smi counts every framework alike, and what its allocator keeps. On the
    processor, and where nvidia-smi tells no number, nothing is filled.
    """
    peak: dict[str, int] = {}
    device = side.variables.get("CUDA_VISIBLE_DEVICES", "")
    before = _device_memory(device) if device and shutil.which("nvidia-smi") else None
    if before is None:
        yield peak
        return
    used, done = [before], threading.Event()

    def poll() -> None:
        while not done.wait(DEVICE_POLL_SECONDS):
            used.append(_device_memory(device) or 0)

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
        peak["peak_device_memory"] = max(used) - before


def _device_memory(device: str) -> int | None:
    """Return bytes of a CUDA device that are held by all processes, or None if nvidia-smi does not tell."""
    query = ["nvidia-smi", f"--id={device}", "--query-gpu=memory.used", "--format=csv,noheader,nounits"]
    text = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
    return int(text) * 2**20 if text.isdecimal() else None


def _reason(code: int, text: str) -> str:
    """Return why a process failed, in a line."""
    if code == -signal.SIGKILL:
        return "killed by the system (out of memory)"
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    named = [line for line in lines if "Error" in line.split(":")[0] or line.startswith("dp: error")]
    return (named or lines or [f"exit code {code}"])[-1][:200]


def machine(own: Side, other: Side | None) -> dict[str, Any]:
    """Describe the machine and the programs."""
    cpuinfo = Path("/proc/cpuinfo")
    models = (
        [line.split(":")[1].strip() for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        if cpuinfo.exists()
        else []
    )
    return {
        "cpu": (models or [platform.processor() or platform.machine()])[0],
        "cores": os.cpu_count(),
        "memory": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(),
        "ours": own.versions(),
        "theirs": other.versions() if other else None,
    }
