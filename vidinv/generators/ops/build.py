"""Build the CUDA operators at their first use, once for each torch, CUDA and GPU.

ninja and nvcc do it through ``torch.utils.cpp_extension``. Libraries are kept below
``$VIDINV_CACHE``, or ``vidinv`` in the user's cache folder, under a name that is made of all that
they depend on. Processes that need one at the same time wait for the first of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from vidinv.files import put_in_place

HERE = Path(__file__).parent
SOURCE = HERE / "ops.cu"
ARCHITECTURES = "TORCH_CUDA_ARCH_LIST"  # of cpp_extension: "8.6;9.0+PTX"


def cache_folder() -> Path:
    """Where libraries are kept."""
    if chosen := os.environ.get("VIDINV_CACHE"):
        return Path(chosen) / "cuda_ops"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "vidinv/cuda_ops"


def architectures() -> list[str]:
    """Compute capabilities to build for: those asked for in the environment, else of the GPUs.

    A GPU that is newer than torch takes PTX of the newest that torch knows.
    """
    if chosen := os.environ.get(ARCHITECTURES):
        return chosen.replace(" ", ";").split(";")
    known = [arch.removeprefix("sm_").rstrip("af") for arch in torch.cuda.get_arch_list()]
    newest = max((int(a[:-1]), int(a[-1])) for a in known if a.isdigit())
    gpus = range(torch.cuda.device_count())
    found = sorted({min(newest, torch.cuda.get_device_capability(gpu)) for gpu in gpus})
    return [f"{major}.{minor}" for major, minor in found]


def library_path(archs: Sequence[str], source: Path = SOURCE) -> Path:
    """The name of the library of these sources, torch, CUDA and architectures."""
    parts = [torch.__version__, str(torch.version.cuda), *archs]
    digest = hashlib.sha256("\n".join(parts).encode())
    for file in (HERE / "kernels.h", source):
        digest.update(file.read_bytes())
    return cache_folder() / f"{source.stem}-{digest.hexdigest()[:16]}.so"


def find_nvcc() -> Path | None:
    """The CUDA compiler, where cpp_extension looks for it."""
    for home in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")):
        if home:
            return nvcc if (nvcc := Path(home) / "bin" / "nvcc").is_file() else None
    found = shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    return Path(found) if found else None


def build(
    archs: Sequence[str],
    source: Path = SOURCE,
    *,
    compiler: Callable[[Path, Sequence[str], Path], Path] | None = None,
) -> Path:
    """The library, made if there is none yet.

    Args:
        archs: compute capabilities, "9.0" or "9.0+PTX"; none for a source that is not CUDA.
        compiler: (source, archs, folder) -> a library in the folder; None: cpp_extension.

    Raises:
        OSError, RuntimeError: it cannot be built; the message may be many lines of a compiler.
    """
    path = library_path(archs, source)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(path.with_suffix(".lock")):
        if not path.is_file():
            # On the cache's own file system, so that the library gets its name in one step.
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".build-") as folder:
                put_in_place((compiler or _compile)(source, archs, Path(folder)), path)
    return path


def _compile(source: Path, archs: Sequence[str], folder: Path) -> Path:
    from torch.utils import cpp_extension

    name = f"vidinv_{source.stem}"
    with _ninja_on_path():
        cpp_extension.load(
            name,
            [str(source)],
            extra_include_paths=[str(HERE)],
            extra_cflags=["-O2"],
            extra_cuda_cflags=["-O3", *_gencode(archs)],
            extra_ldflags=_cuda_libraries() if archs else ["-pthread"],
            build_directory=str(folder),
            is_python_module=False,
        )
    return folder / f"{name}.so"


def _cuda_libraries() -> list[str]:
    """The linker's flags for CUDA's runtime, where nvcc itself says that its toolkit is.

    cpp_extension takes the folder above nvcc's for it, which is wrong where nvcc is a script
    elsewhere that calls it.
    """
    nvcc = find_nvcc()
    if nvcc is None:
        return []
    command = [str(nvcc), "-dryrun", "-E", "-x", "cu", os.devnull]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    homes = [Path(line.partition("TOP=")[2]) for line in said.splitlines() if "TOP=" in line]
    return [f"-L{home.resolve() / 'lib64'}" for home in homes]


def _gencode(archs: Sequence[str]) -> list[str]:
    """nvcc's flags: machine code for each, and PTX of the last for GPUs to come."""
    numbers = [arch.removesuffix("+PTX").replace(".", "") for arch in archs]
    flags = [f"-gencode=arch=compute_{n},code=sm_{n}" for n in numbers]
    return [*flags, *(f"-gencode=arch=compute_{n},code=compute_{n}" for n in numbers[-1:])]


@contextlib.contextmanager
def _one_at_a_time(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process, however it ends."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _ninja_on_path() -> Iterator[None]:
    """cpp_extension looks for ninja on PATH; that of the package may not be on it."""
    before = os.environ.get("PATH", "")
    with contextlib.suppress(ImportError):
        import ninja

        os.environ["PATH"] = os.pathsep.join([ninja.BIN_DIR, before])
    try:
        yield
    finally:
        os.environ["PATH"] = before
