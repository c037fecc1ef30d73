"""The generator families: kind, as a pack or an experiment names it -> configuration and builders.

A further family needs its own file and its line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vidinv.errors import UnknownNameError
from vidinv.generators.base import Discriminator, GeneratorConfig, GeneratorNetwork
from vidinv.generators.biggan import BigGANConfig, BigGANGenerator
from vidinv.generators.discriminator import StyleGAN2Discriminator
from vidinv.generators.pggan import PGGANConfig, PGGANGenerator
from vidinv.generators.stylegan1 import StyleGAN1Config, StyleGAN1Generator
from vidinv.generators.stylegan2 import StyleGAN2Config, StyleGAN2Generator
from vidinv.generators.stylegan3 import StyleGAN3Config, StyleGAN3Generator

DEFAULT_KIND = "stylegan2"


@dataclass(frozen=True)
class GeneratorFamily:
    """One family.

    Attributes:
        config: its frozen dataclass, a ``GeneratorConfig``.
        build: makes the network from a configuration, with random weights.
        discriminator: makes the ``Discriminator`` that is trained against it; None: there is none.
    """

    config: type[Any]
    build: Callable[[Any], GeneratorNetwork]
    discriminator: Callable[[Any], Discriminator] | None = None


FAMILIES = {
    StyleGAN2Config.kind: GeneratorFamily(
        StyleGAN2Config, StyleGAN2Generator, StyleGAN2Discriminator
    ),
    StyleGAN1Config.kind: GeneratorFamily(StyleGAN1Config, StyleGAN1Generator),
    PGGANConfig.kind: GeneratorFamily(PGGANConfig, PGGANGenerator),
    BigGANConfig.kind: GeneratorFamily(BigGANConfig, BigGANGenerator),
    StyleGAN3Config.kind: GeneratorFamily(StyleGAN3Config, StyleGAN3Generator),
}


def find_family(kind: str) -> GeneratorFamily:
    """The family of a kind; UnknownNameError lists those there are, nearest first."""
    if kind not in FAMILIES:
        raise UnknownNameError("generator kind", kind, FAMILIES)
    return FAMILIES[kind]


def build_generator(config: GeneratorConfig) -> GeneratorNetwork:
    """The network of a configuration, with random weights."""
    return find_family(config.kind).build(config)
