"""The CUDA operators: what they compute, in loops on the host; that they build, where nvcc is.

The host runs the very functions that a GPU's workers run (kernels.h): formulas, borders, strides,
tiles and gradients are tested here; launches are in the tests marked ``gpu``.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vidinv.generators import layers, ops
from vidinv.generators.filters import low_pass
from vidinv.generators.layers import LRELU_GAIN, LRELU_SLOPE, fir_kernel
from vidinv.generators.ops import build
from vidinv.generators.ops.library import Kernels
from vidinv.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from vidinv.generators.stylegan3 import StyleGAN3Config, StyleGAN3Generator

HOST = Path(__file__).with_name("ops_on_host.cpp")

needs_nvcc = pytest.mark.skipif(build.find_nvcc() is None, reason="nvcc is not found")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VIDINV_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield build.cache_folder()


@pytest.fixture(scope="module")
def host(cache: Path) -> Kernels:
    if shutil.which("c++") is None:
        pytest.skip("c++ is not found")
    return Kernels(build.build([], HOST))


@pytest.fixture
def gpu() -> Kernels:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    kernels = ops.kernels_for(torch.zeros(1, device="cuda"))
    assert kernels is not None
    return kernels


Function = Callable[..., Tensor]


def upfirdn_case(separable: bool, **options) -> tuple[Function, Function, list[Tensor]]:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    taps = taps if separable else fir_kernel()
    padding = options["padding"]
    both = {name: (options.get(name, 1),) * 2 for name in ("up", "down")}

    def with_kernels(kernels: Kernels, x: Tensor) -> Tensor:
        kernel = (torch.outer(taps, taps) if separable else taps).to(x.device)
        return ops.upfirdn(
            kernels, x, kernel, **both, padding=(padding, padding), gain=options.get("gain", 1.0)
        )

    def reference(x: Tensor) -> Tensor:
        return layers.upfirdn(x, taps.to(x.device), **options)

    return with_kernels, reference, [torch.randn(2, 3, 9, 7, dtype=torch.float64)]


def lrelu_case(
    scale: tuple[int, ...] | None, offset: tuple[int, ...], gain: float
) -> tuple[Function, Function, list[Tensor]]:
    def with_kernels(kernels: Kernels, x: Tensor, offset: Tensor, *scale: Tensor) -> Tensor:
        factor = scale[0] if scale else None
        return ops.scale_lrelu(kernels, x, factor, offset, slope=LRELU_SLOPE, gain=gain)

    def reference(x: Tensor, offset: Tensor, *scale: Tensor) -> Tensor:
        return layers.lrelu(x * (scale[0] if scale else 1.0) + offset, gain=gain)

    shapes = [(2, 3, 5, 4), offset, *([] if scale is None else [scale])]
    return with_kernels, reference, [torch.randn(shape, dtype=torch.float64) for shape in shapes]


def filtered_case(
    up: int, down: int, padding: tuple[int, int], *, radial: bool, side: int, clamp: float = 256.0
) -> tuple[Function, Function, list[Tensor]]:
    """As in StyleGAN3: six taps a sample of the lower rate."""
    band = {"cutoff": 3.0, "width": 4.0, "sampling_rate": 16.0 * up}
    up_taps, down_taps = low_pass(6 * up, **band), low_pass(6 * down, **band, radial=radial)
    options = {"up": up, "down": down, "padding": padding, "clamp": clamp}

    def with_kernels(kernels: Kernels, x: Tensor) -> Tensor:
        taps = up_taps.to(x.device), down_taps.to(x.device)
        values = {"slope": LRELU_SLOPE, "gain": LRELU_GAIN}
        return ops.filtered_lrelu(kernels, x, *taps, **options, **values)

    def reference(x: Tensor) -> Tensor:
        upper = layers.upfirdn(x, up_taps.to(x.device), up=up, padding=padding, gain=up**2)
        upper = layers.lrelu(upper).clamp(-clamp, clamp)
        return layers.upfirdn(upper, down_taps.to(x.device), down=down, padding=(0, 0))

    return with_kernels, reference, [torch.randn(2, 3, side, side - 1, dtype=torch.float64)]


CASES = {
    "blur": lambda: upfirdn_case(False, padding=(2, 1)),
    "up": lambda: upfirdn_case(False, up=2, padding=(2, 1), gain=4.0),
    "down": lambda: upfirdn_case(False, down=2, padding=(1, 1)),
    "crop": lambda: upfirdn_case(True, padding=(-1, 0)),
    "up and down": lambda: upfirdn_case(True, up=4, down=2, padding=(5, -2), gain=3.0),
    "bias": lambda: lrelu_case(None, (3, 1, 1), LRELU_GAIN),
    "noise": lambda: lrelu_case((2, 3, 1, 1), (3, 5, 4), 1.0),
    "scalar": lambda: lrelu_case((), (2, 3, 5, 4), 0.5),
    "filtered": lambda: filtered_case(2, 2, (7, 8), radial=False, side=19),
    "filtered up": lambda: filtered_case(4, 2, (13, 9), radial=False, side=9),
    "filtered radial": lambda: filtered_case(2, 2, (3, -2), radial=True, side=12),
    "filtered clamped": lambda: filtered_case(2, 2, (9, 8), radial=False, side=7, clamp=0.3),
    "filtered, large filters": lambda: filtered_case(8, 8, (40, 40), radial=False, side=8),
}


@pytest.mark.parametrize("channels_last", [False, True], ids=["rows", "channels last"])
@pytest.mark.parametrize("name", CASES)
def test_they_give_what_the_reference_gives(host, name, channels_last):
    with_kernels, reference, (x, *others) = CASES[name]()
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    expected = reference(x, *others)
    actual = with_kernels(host, x, *others)
    # Filters and constants are float32, as the generators store them.
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-7)
    single = with_kernels(host, x.float(), *(tensor.float() for tensor in others))
    torch.testing.assert_close(single, expected.float(), rtol=1e-5, atol=1e-5)
    if channels_last:
        assert actual.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", CASES)
def test_gradients_are_those_of_the_reference(host, name):
    with_kernels, reference, inputs = CASES[name]()
    inputs = [tensor.requires_grad_() for tensor in inputs]
    expected_y, actual_y = reference(*inputs), with_kernels(host, *inputs)
    weights = torch.randn_like(expected_y)
    expected = torch.autograd.grad((expected_y * weights).sum(), inputs)
    actual = torch.autograd.grad((actual_y * weights).sum(), inputs)
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", ["up and down", "noise", "filtered clamped"])
def test_gradients_of_gradients_are_those_of_the_reference(host, name):
    """As regularisers of discriminators ask for them."""
    with_kernels, reference, inputs = CASES[name]()
    inputs = [tensor.requires_grad_() for tensor in inputs]
    found = []
    weights = torch.randn_like(reference(*inputs)).requires_grad_()
    for y in (reference(*inputs), with_kernels(host, *inputs)):
        (first,) = torch.autograd.grad((y * weights).sum(), inputs[:1], create_graph=True)
        found.append(torch.autograd.grad(first.square().sum(), weights)[0])
    torch.testing.assert_close(found[1], found[0], rtol=1e-6, atol=1e-6)


def test_signals_with_strides_of_any_kind_are_read(host):
    with_kernels, reference, (x,) = CASES["filtered"]()
    x = x[:1].expand(4, -1, -1, -1).transpose(2, 3)[..., 1:]
    torch.testing.assert_close(with_kernels(host, x), reference(x), rtol=1e-6, atol=1e-7)


def test_tensors_of_other_types_and_sizes_are_for_the_reference(host):
    assert host.takes(torch.zeros(1), torch.zeros(1, dtype=torch.bfloat16))
    assert not host.takes(torch.zeros(1, dtype=torch.int32))
    assert not host.takes(torch.zeros(0))
    assert not host.takes(torch.empty(2, 2**30, device="meta"))


def test_nothing_is_built_for_tensors_on_the_cpu(cache):
    assert ops.kernels_for(torch.zeros(1, 1, 4, 4)) is None
    assert not list(cache.glob("ops-*.so"))


def test_processes_that_build_at_once_build_once(cache):
    built = []

    def compiler(source: Path, archs: list[str], folder: Path) -> Path:
        time.sleep(0.1)  # the second comes meanwhile
        built.append(folder / "made.so")
        built[-1].write_bytes(b"library")
        return built[-1]

    found: list[Path] = []
    threads = [
        threading.Thread(target=lambda: found.append(build.build(["1.0"], compiler=compiler)))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(built) == 1
    assert found[0] == found[1]
    assert found[0].read_bytes() == b"library"
    assert not list(cache.glob(".build-*"))


def test_a_build_that_fails_leaves_nothing_and_may_be_tried_again(cache):
    def compiler(source: Path, archs: list[str], folder: Path) -> Path:
        (folder / "half.so").touch()
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        build.build(["2.0"], compiler=compiler)
    assert not build.library_path(["2.0"]).exists()
    assert not list(cache.glob(".build-*"))


def test_the_name_depends_on_sources_and_gpus(cache):
    names = {build.library_path(archs) for archs in (["8.0"], ["9.0"], ["8.0", "9.0"])}
    assert len(names | {build.library_path(["9.0"], HOST)}) == 4


def test_without_nvcc_the_reference_works_after_one_line(cache, monkeypatch, capsys):
    monkeypatch.setenv("CUDA_HOME", os.devnull)
    assert ops.load_or_say(["5.0"]) is None
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("vidinv: note: no CUDA operators, generators run slower in plain torch")
    assert line.endswith("nvcc of the CUDA toolkit is not found")


@needs_nvcc
def test_a_failed_build_is_one_line_of_the_compilers(cache, tmp_path, capsys):
    broken = tmp_path / "broken.cu"
    broken.write_text("int f() { return missing; }\n")
    assert ops.load_or_say(["9.0"], broken) is None
    line = capsys.readouterr().err.splitlines()[-1]
    assert 'error: identifier "missing" is undefined' in line


@needs_nvcc
@pytest.mark.skipif(torch.version.cuda is None, reason="torch has no CUDA to link with")
def test_nvcc_builds_them_and_the_library_is_kept(cache, capsys):
    """Needs no GPU; loading it checks that its structures are those of library.py."""
    assert ops.load_or_say(["9.0"]) is not None
    assert "building CUDA operators" in capsys.readouterr().err
    assert ops.load_or_say(["9.0"]) is not None
    assert capsys.readouterr().err == ""


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("channels_last", [False, True], ids=["rows", "channels last"])
@pytest.mark.parametrize("name", CASES)
def test_a_gpu_gives_what_the_reference_gives(gpu, name, channels_last, dtype):
    with_kernels, reference, inputs = CASES[name]()
    inputs = [tensor.to(dtype) for tensor in inputs]
    if channels_last:
        inputs[0] = inputs[0].contiguous(memory_format=torch.channels_last)
    expected = reference(*(tensor.double() for tensor in inputs))
    actual = with_kernels(gpu, *(tensor.cuda() for tensor in inputs))
    tolerance = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(actual.cpu().double(), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
def test_gradients_on_a_gpu_are_those_of_the_reference(gpu, name):
    with_kernels, reference, inputs = CASES[name]()
    on_cpu = [tensor.requires_grad_() for tensor in inputs]
    on_gpu = [tensor.detach().cuda().requires_grad_() for tensor in inputs]
    expected_y = reference(*on_cpu)
    weights = torch.randn_like(expected_y)
    expected = torch.autograd.grad((expected_y * weights).sum(), on_cpu)
    actual = torch.autograd.grad((with_kernels(gpu, *on_gpu) * weights.cuda()).sum(), on_gpu)
    for one, other in zip(actual, expected, strict=True):
        torch.testing.assert_close(one.cpu(), other, rtol=1e-6, atol=1e-6)


@pytest.mark.gpu
@torch.no_grad()
def test_generators_give_the_same_pictures_on_a_gpu(gpu):
    for network in (
        StyleGAN2Generator(StyleGAN2Config(64, channel_base=1024)),
        StyleGAN3Generator(StyleGAN3Config(64, channel_base=1024)),
        StyleGAN3Generator(StyleGAN3Config(64, channel_base=1024, radial_filters=True)),
    ):
        w_ND = network.mapping(torch.randn(2, network.config.z_dim))
        latents = w_ND[:, None].repeat(1, network.config.num_ws, 1)
        expected = network.eval().synthesis(latents)
        actual = network.cuda().synthesis(latents.cuda())
        torch.testing.assert_close(actual.cpu(), expected, rtol=1e-3, atol=1e-3)
