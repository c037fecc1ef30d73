"""Loss terms that judge a picture against its source, behind one interface, and what they share.

A term has a ``name``, which the log of a run gives, and a ``distance`` of two views. A ``View`` is
a batch of pictures with what networks made of it, each once: the perceptual term and the adversary
read the same features.

Perceptual: LPIPS where a backbone of it is in torch's cache, at three scales (FSE eq. 3, its own
choice), else EfficientNet-lite0. Identity: dlib's recognition network in the place of ArcFace (FSE
eq. 6). Face parsing (FSE eq. 7): the network of a pack that one was imported into; none is to be
had offline.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from vidinv.errors import UsageError
from vidinv.faces.dlib_chips import CHIP_PX
from vidinv.faces.dlib_recognition import load_recognition
from vidinv.metrics.efficientnet import EfficientNetLite0, feature_network
from vidinv.metrics.lpips import BACKBONES, LPIPS, lpips_absent, usable_backbone
from vidinv.metrics.structure import pixel_structure_distance
from vidinv.networks.bisenet import BiSeNet
from vidinv.packs import load_pack

Distance = Callable[[Tensor, Tensor], Tensor]
PixelChoice = Literal["l1+ssim", "l2", "none"]
PerceptualChoice = Literal["auto", "none", "efficientnet-lite0", "alex", "vgg", "squeeze"]
LPIPS_SCALES = 3  # FSE eq. 3
MIN_FEATURE_PX = 32  # below it EfficientNet-lite0's deepest kernels find nothing
# dlib's chip in a tight crop: the mean landmarks of the training faces put it nearly on the crop.
# Centre (edges of the crop are -1 and 1) and side, in sides of the crop; turned by less than 0.01
# degrees.
CHIP_CENTRE, CHIP_SIDE = (0.0137, 0.0160), 0.9810


class FeatureNetwork(Protocol):
    """A frozen network: pictures in [-1, 1] -> features, from fine to coarse."""

    name: str

    def __call__(self, images_N3RR: Tensor) -> tuple[Tensor, ...]: ...


@cache
def frozen_features(device: torch.device) -> EfficientNetLite0:
    """EfficientNet-lite0 on a device, one for all who look at pictures in this process.

    In float32 also where a run computes in bfloat16, which gains it nothing and costs 2 to 6 % of
    its features (docs/LOG.md).
    """
    network = feature_network()
    return network if device.type == "cpu" else copy.deepcopy(network).to(device)


class View:
    """Pictures ``[N, 3, R, R]`` in [-1, 1], float32, and the features that networks saw in them."""

    def __init__(self, images_N3RR: Tensor) -> None:
        self.images = images_N3RR.float()
        self._features: dict[str, tuple[Tensor, ...]] = {}
        self._half: View | None = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, part: slice) -> View:
        """The pictures ``part`` with the features that are there already."""
        view = View(self.images[part])
        view._features = {k: tuple(f[part] for f in v) for k, v in self._features.items()}
        return view

    def features(self, network: FeatureNetwork) -> tuple[Tensor, ...]:
        if network.name not in self._features:
            self._features[network.name] = network(self.images)
        return self._features[network.name]

    def half(self) -> View:
        """At half the size."""
        if self._half is None:
            self._half = View(F.avg_pool2d(self.images, 2))
        return self._half

    def detach(self) -> View:
        view = View(self.images.detach())
        view._features = {k: tuple(f.detach() for f in v) for k, v in self._features.items()}
        return view


def join(views: Sequence[View], network: FeatureNetwork | None) -> View:
    """One view of all pictures, with the features of ``network``."""
    view = View(torch.cat([v.images for v in views]))
    if network is not None:
        levels = zip(*(v.features(network) for v in views), strict=True)
        view._features[network.name] = tuple(torch.cat(level) for level in levels)
    return view


class Term(Protocol):
    """A distance for gradients."""

    name: str

    def distance(self, view: View, source: View, weight_N1HW: Tensor | None = None) -> Tensor:
        """``[N]`` distances; ``weight`` says how much each place counts, where a term can."""


class PixelTerm:
    """L1 and SSIM over three scales, in the place of FSE eq. 2."""

    name = "L1 + SSIM at three scales"

    def distance(self, view: View, source: View, weight_N1HW: Tensor | None = None) -> Tensor:
        return pixel_structure_distance(view.images, source.images, weight_N1HW)


class SquareTerm:
    """Mean square, the L2 of FSE eq. 2 and of pSp."""

    name = "L2"

    def distance(self, view: View, source: View, weight_N1HW: Tensor | None = None) -> Tensor:
        squared = (view.images - source.images).square()
        if weight_N1HW is not None:
            squared = squared * F.adaptive_avg_pool2d(weight_N1HW, squared.shape[-1])
        return squared.mean(dim=(1, 2, 3))


class FeatureTerm:
    """Squared difference of channel-normalised features, mean of levels: LPIPS unweighted.

    Zhang et al. 2018, eq. 1 with w = 1.

    Args:
        scales: halvings of the picture that it is the mean of, the whole size included.
    """

    def __init__(self, network: FeatureNetwork, *, scales: int = 1) -> None:
        self.network, self.scales = network, scales
        self.name = network.name if scales == 1 else f"{network.name} at {scales} scales"

    def distance(self, view: View, source: View, weight_N1HW: Tensor | None = None) -> Tensor:
        distances = [self._distance(view, source, weight_N1HW)]
        for _ in range(self.scales - 1):
            view, source = view.half(), source.half()
            if view.images.shape[-1] < MIN_FEATURE_PX:
                break
            distances.append(self._distance(view, source, weight_N1HW))
        return torch.stack(distances).mean(dim=0)

    def _distance(self, view: View, source: View, weight_N1HW: Tensor | None) -> Tensor:
        levels = []
        pairs = zip(view.features(self.network), source.features(self.network), strict=True)
        for ours, theirs in pairs:
            squared = (_unit(ours) - _unit(theirs)).square().sum(dim=1, keepdim=True)
            if weight_N1HW is not None:
                squared = squared * F.adaptive_avg_pool2d(weight_N1HW, squared.shape[-1])
            levels.append(squared.mean(dim=(1, 2, 3)))
        return torch.stack(levels).mean(dim=0)


class LpipsTerm:
    """LPIPS averaged over three halvings (FSE eq. 3 divided by its number of scales).

    Every place counts the same: LPIPS averages over the picture itself.

    Args:
        scales: how many; 1 is LPIPS as it is published.
        load: the network of a backbone.
    """

    def __init__(
        self,
        backbone: str,
        *,
        scales: int = LPIPS_SCALES,
        load: Callable[[str], Distance] = LPIPS,
    ) -> None:
        self.name = f"LPIPS ({backbone})" + (
            "" if scales == LPIPS_SCALES else f" at {scales} scales"
        )
        self.scales = scales
        self._min_px = BACKBONES[backbone].min_px
        self._lpips = load(backbone)

    def distance(self, view: View, source: View, weight_N1HW: Tensor | None = None) -> Tensor:
        x, y = view.images, source.images
        scales = []
        for _ in range(self.scales):
            if x.shape[-1] >= self._min_px:
                scales.append(self._lpips(x, y))
            x, y = F.avg_pool2d(x, 2), F.avg_pool2d(y, 2)
        return torch.stack(scales).mean(dim=0)


class IdentityTerm:
    """Distance of embeddings, plus 1 - cosine of inner feature maps (FSE eq. 6), by dlib's network.

    Pictures are tight crops (``vidinv.faces.align.TIGHT``) of any side.
    """

    name = "dlib_face_recognition_resnet_v1"

    def __init__(self, device: torch.device | None = None) -> None:
        self._network = load_recognition().to(device or torch.device("cpu"))

    def __call__(self, images_N3RR: Tensor) -> tuple[Tensor, ...]:
        """The inner maps, then the embedding: a view computes them once (``FeatureNetwork``)."""
        maps, embedding = self._network.features(recognition_chips(images_N3RR))
        return (*maps, embedding)

    def distance(self, view: View, source: View, weight_N1HW: Tensor | None = None) -> Tensor:
        *ours, embedding = view.features(self)
        *theirs, wanted = source.features(self)
        pairs = zip(ours, theirs, strict=True)
        inner = [1 - F.cosine_similarity(a.flatten(1), b.flatten(1)) for a, b in pairs]
        return (embedding - wanted).norm(dim=1) + torch.stack(inner).mean(dim=0)

    def embedding(self, view: View) -> Tensor:
        """``[N, 128]``."""
        return view.features(self)[-1]

    def embedding_distance(self, view: View, source: View) -> Tensor:
        """``[N]``; dlib calls two pictures the same person below 0.6."""
        return (self.embedding(view) - self.embedding(source)).norm(dim=1)


class ParsingTerm:
    """1 - cosine of five inner maps of a face-parsing network, summed (FSE eq. 7).

    The network sees the pack's own crop, enlarged. Parsing is trained on FFHQ's, which shows more
    around the face (``vidinv.occlusion``): with a tighter crop the maps are of another scale, in
    both pictures alike.

    Args:
        pack: name or folder of one with an imported network (docs/IMPORT.md).

    Raises:
        UnknownNameError: there is no such pack, or no network in it.
        UsageError: one without inner maps.
    """

    def __init__(self, pack: str, device: torch.device | None = None) -> None:
        network = load_pack(pack).network("parsing").to(device or torch.device("cpu"))
        if not isinstance(network, BiSeNet):
            raise UsageError(f"pack {pack}: the parsing term needs a BiSeNet")
        self._network, self.name = network, f"BiSeNet of {pack}"

    def distance(self, view: View, source: View, weight_N1HW: Tensor | None = None) -> Tensor:
        pairs = zip(self._maps(view), self._maps(source), strict=True)
        cosines = [F.cosine_similarity(a.flatten(1), b.flatten(1)) for a, b in pairs]
        return (1 - torch.stack(cosines)).sum(dim=0)

    def _maps(self, view: View) -> tuple[Tensor, ...]:
        side = self._network.input_px
        enlarged = F.interpolate(view.images, (side, side), mode="bilinear")
        return self._network.maps(self._network.normalise(enlarged))


def recognition_chips(crops_N3RR: Tensor) -> Tensor:
    """dlib's chips ``[N, 3, 150, 150]`` in 0..255 of tight crops in [-1, 1], with gradients.

    One similarity for all faces, since crops are aligned already.
    """
    x, y = CHIP_CENTRE
    theta = crops_N3RR.new_tensor([[CHIP_SIDE, 0, x], [0, CHIP_SIDE, y]])
    shape = [len(crops_N3RR), 3, CHIP_PX, CHIP_PX]
    grid = F.affine_grid(theta.expand(len(crops_N3RR), 2, 3), shape, align_corners=False)
    chips = F.grid_sample(crops_N3RR, grid, align_corners=False, padding_mode="border")
    return (chips + 1) * 127.5


def pixel_term(choice: PixelChoice) -> Term | None:
    """The pixel term; None for ``"none"``."""
    terms: dict[PixelChoice, Callable[[], Term]] = {"l1+ssim": PixelTerm, "l2": SquareTerm}
    return terms[choice]() if choice in terms else None


def perceptual_term(
    choice: PerceptualChoice,
    resolution: int,
    device: torch.device | None = None,
    *,
    scales: int | None = None,
    absent: Callable[[int, str], str] = lpips_absent,
    load: Callable[[str], Distance] | None = None,
) -> Term | None:
    """The perceptual term; ``"auto"`` takes LPIPS where a backbone is there, else EfficientNet.

    Args:
        scales: halvings of the picture; None: three of LPIPS, the whole picture of EfficientNet,
            whose levels are scales themselves.
        absent: why a backbone does not serve at a resolution; empty where it does.
        load: its LPIPS; by default on the device.

    Raises:
        MissingDependencyError: neither, or not the one that was asked for.
    """
    if choice == "none":
        return None
    device = device or torch.device("cpu")
    network: str = choice
    if choice == "auto":
        network = usable_backbone(resolution, absent=absent) or "efficientnet-lite0"
    if network in BACKBONES:
        return LpipsTerm(
            network, scales=scales or LPIPS_SCALES, load=load or partial(LPIPS, device=device)
        )
    return FeatureTerm(frozen_features(device), scales=scales or 1)


def _unit(features_NCHW: Tensor) -> Tensor:
    return features_NCHW / (features_NCHW.square().sum(dim=1, keepdim=True) + 1e-6).sqrt()
