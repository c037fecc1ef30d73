"""Experiment files: values are converted by the type of their field, faults are one clear line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from training.adaptive import AdaptiveStage
from training.build_mapping import MappingConfig
from training.build_method import MethodConfig
from training.build_pack import PackConfig
from training.config import from_mapping, load_yaml
from training.feature_style import EncoderConfig
from training.gan import GanConfig
from training.hyper import HyperStage
from training.psp import PspStage
from training.rectifier import RectifierStage
from training.refit_directions import RefitConfig
from training.stylegan import StyleGanStage
from vidinv.errors import UnknownNameError, UsageError
from vidinv.generators.base import GeneratorConfig
from vidinv.generators.stylegan2 import StyleGAN2Config

CONFIGS = Path(__file__).parents[2] / "configs"


@dataclass(frozen=True)
class Inner:
    size: int = 1


@dataclass(frozen=True)
class Settings:
    rate: float = 1.0
    count: int = 1
    flag: bool = False
    name: str = ""
    mode: Literal["w", "w+", 3] = "w"
    sizes: tuple[int, int] = (1, 2)
    many: tuple[float, ...] = ()
    inner: Inner = field(default_factory=Inner)
    maybe: int | None = None
    generator: GeneratorConfig | None = None


def read(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "experiment.yaml"
    path.write_text(text)
    return load_yaml(Settings, path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rate: 1e-4", Settings(rate=1e-4)),
        ("rate: -2E+3", Settings(rate=-2000.0)),
        ("rate: .5e1", Settings(rate=5.0)),
        ("rate: 1.0e-4", Settings(rate=1e-4)),
        ("rate: 3", Settings(rate=3.0)),
        ("count: 1e5", Settings(count=100_000)),
        ("count: 2.0", Settings(count=2)),
        ("flag: true", Settings(flag=True)),
        ("name: face", Settings(name="face")),
        ("name: '1e-4'", Settings(name="1e-4")),
        ("mode: w+", Settings(mode="w+")),
        ("mode: 3", Settings(mode=3)),
        ("sizes: [3, 4]", Settings(sizes=(3, 4))),
        ("many: [1, 2e-1, 3.5]", Settings(many=(1.0, 0.2, 3.5))),
        ("inner: {size: 4}", Settings(inner=Inner(4))),
        ("maybe: null", Settings()),
        ("maybe: 7", Settings(maybe=7)),
        ("generator: {resolution: 32}", Settings(generator=StyleGAN2Config(32))),
        (
            "generator: {kind: stylegan2, resolution: 32, w_dim: 64}",
            Settings(generator=StyleGAN2Config(32, w_dim=64)),
        ),
    ],
)
def test_values_are_converted_by_the_type_of_their_field(tmp_path, text, expected):
    settings = read(tmp_path, text)
    assert settings == expected
    assert type(settings.rate) is float
    assert type(settings.count) is int


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rate: fast", "rate: expected a number, got 'fast'"),
        ("rate: true", "rate: expected a number, got True"),
        ("rate: '3'", "rate: expected a number, got '3'"),
        ("rate: .nan", "rate: expected a number, got nan"),
        ("rate: 1e999", "rate: expected a number, got '1e999'"),
        ("rate: null", "rate: expected a number, got None"),
        ("rate: [1]", "rate: expected a number, got [1]"),
        ("count: 1.5", "count: expected a whole number, got 1.5"),
        ("count: 1e-4", "count: expected a whole number, got '1e-4'"),
        ("count: true", "count: expected a whole number, got True"),
        ("flag: 1", "flag: expected true or false, got 1"),
        ("flag: 'yes'", "flag: expected true or false, got 'yes'"),
        ("name: 64", "name: expected text, got 64"),
        ("mode: z", "mode: expected one of 'w', 'w+', 3, got 'z'"),
        ("mode: 3.0", "mode: expected one of 'w', 'w+', 3, got 3.0"),
        ("sizes: 3", "sizes: expected a list, got 3"),
        ("sizes: [3]", "sizes: expected a list of 2, got [3]"),
        ("sizes: [3, x]", "sizes.1: expected a whole number, got 'x'"),
        ("inner: 3", "inner: expected key: value lines, got 3"),
        ("inner: {size: big}", "inner.size: expected a whole number, got 'big'"),
        ("generator: 32", "generator: expected key: value lines, got 32"),
        ("generator: {kind: 3}", "generator.kind: expected text, got 3"),
        ("generator: {w_dim: 8}", "generator lacks: resolution"),
        ("generator: {resolution: 65}", "resolution must be a power of two"),
    ],
)
def test_a_wrong_value_is_one_line_with_file_key_expected_and_given(tmp_path, text, message):
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert str(caught.value).startswith(f"{tmp_path / 'experiment.yaml'}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["inner: {siz: 3}", "rats: 3", "1: 3", "on: 3"])
def test_an_unknown_key_names_the_nearest(tmp_path, text):
    with pytest.raises(UnknownNameError, match=r"experiment\.yaml") as caught:
        read(tmp_path, text)
    assert caught.value.known[0] in ("size", "rate", "name", "count", "many", "maybe", "inner")


def test_an_unknown_generator_kind_lists_those_there_are(tmp_path):
    with pytest.raises(UnknownNameError, match=r"'stylegan4'; there are: stylegan"):
        read(tmp_path, "generator: {kind: stylegan4}")


@pytest.mark.parametrize("text", ["- 1", "", "a: [", "a: \x00"])
def test_what_is_no_mapping_is_one_line(tmp_path, text):
    with pytest.raises(UsageError, match=r"experiment\.yaml") as caught:
        read(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_unknown_key_of_an_experiment_names_the_nearest():
    with pytest.raises(UnknownNameError, match="there are: learning_rate,"):
        from_mapping(EncoderConfig, {"lerning_rate": 1})


def test_missing_values_are_named():
    with pytest.raises(UsageError, match="lacks: generator, encoder, loop"):
        from_mapping(EncoderConfig, {"train_resolution": 64})


EXPERIMENTS = {
    "faces_w64": GanConfig,
    "faces_w128": GanConfig,
    "faces_fse128": EncoderConfig,
    "faces_editor128": EncoderConfig,
    "faces_encoder128": GanConfig,
    "faces_encoder128_f": EncoderConfig,
    "faces_encoder128_judged": EncoderConfig,
    "faces_encoder128_editor": EncoderConfig,
    "faces_joint128": EncoderConfig,
    "faces_joint128_sharp": EncoderConfig,
    "faces_joint128_editor": EncoderConfig,
    "faces128_fse": MethodConfig,
    "faces_adaptive128": AdaptiveStage,
    "faces_adaptive128_latents": AdaptiveStage,
    "faces128_adaptive": MethodConfig,
    "faces_hyper128": HyperStage,
    "faces_hyper128_judged": HyperStage,
    "faces_rectify128": RectifierStage,
    "faces_stylegan128": StyleGanStage,
    "faces_mapping128": StyleGanStage,
    "faces_psp128": PspStage,
    "faces128_pack": PackConfig,
    "faces128_joint": PackConfig,
    "faces128_mapping": MappingConfig,
    "faces128_refit": RefitConfig,
    "faces128_hyper": MethodConfig,
    "faces128_psp": MethodConfig,
    "faces128_rectify": MethodConfig,
}


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.yaml")), ids=lambda path: path.name)
def test_the_experiments_of_this_repository_are_read(path):
    assert load_yaml(EXPERIMENTS[path.stem], path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_resolution": 48}, r"train_resolution: resolution must be one of .*, got 48"),
        ({"train_resolution": 128}, r"train_resolution: resolution must be one of .*, got 128"),
        ({"init_resolution": 3}, r"init_resolution: resolution must be one of .*, got 3"),
        (
            {"encoder": {"feature_layer": 10}},
            r"encoder\.feature_layer: layer must be in 1\.\.9, got 10",
        ),
        ({"encoder": {"feature_resolution": 16}}, r"unknown key .*'feature_resolution'"),
    ],
)
def test_sizes_that_do_not_go_together_are_refused(changes, message):
    mapping = {
        "generator": {"resolution": 64},
        "encoder": {},
        "loop": {"total_images": 64},
        "train_resolution": 64,
    }
    assert from_mapping(EncoderConfig, mapping).train_resolution == 64
    with pytest.raises(UsageError, match=message):
        from_mapping(EncoderConfig, {**mapping, **changes})
