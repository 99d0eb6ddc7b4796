"""One-class classification of images with a certificate in the l2 of their pixels: the paper's section 5.3.

Images are rows of numbers in [0, 1], moved by their mean and divided by one number, so that f stays
1-Lipschitz in the pixels themselves: a radius of 36/255 is a distance between images with pixels in [0, 1].
The paper trains on [−1, 1], twice as large, and moves its scores by 2ε for a radius of ε; divided by two,
that is the radius meant here.

Which seeds, margin, steps and width the preset cpu has was chosen on images held out of MNIST's training set
(digits 2, 5, 8, one setting for all; the other digits' labels measured it, so those are development figures),
and measured once on the test set. Development, mean AUROC of the three and certified at 72/255, 300 steps:
uniform seeds 73.9 and 49.2, low-frequency noise 91.8 and 81.4, turned images 93.9 and 88.0, elastic ones 96.4
and 90.5, pasted ones 96.3 and 89.7, the last two together 97.9 and 93.0, about the mean image 98.0 and 93.7.
Walks from them change nothing (97.8 and 92.8), so there are none; λ = 100 costs robustness (97.8 and 90.0), a
width of 256 both (97.2 and 90.4); shifts and convolutions learn more slowly at five times the cost of a step.

References
----------
Béthune et al., OCSDF, ICML 2023, sections 4 and 5.3, appendix H, tables 3 and 6.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from numbers import Integral
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.utils import check_random_state

from ocsdf3d import __version__
from ocsdf3d.complement import WalkConfig
from ocsdf3d.devices import resolve_device
from ocsdf3d.images.negatives import NEGATIVES, seeds_of
from ocsdf3d.images.room import refuse_beyond
from ocsdf3d.lipschitz.bound import certify
from ocsdf3d.lipschitz.certificate import issue
from ocsdf3d.lipschitz.convolution import ConvolutionalNetwork, ConvolutionConfig
from ocsdf3d.lipschitz.network import LipschitzNetwork, Network, NetworkConfig
from ocsdf3d.oneclass.estimator import OneClassSDF
from ocsdf3d.resume import EVERY, Keeper, Standing, digest_of, hash_of_arrays
from ocsdf3d.sources import Surface
from ocsdf3d.train import History, TrainConfig, learn

__all__ = ["PRESETS", "OneClassImageSDF", "config_of", "network_of", "pixels_of"]

Floats = NDArray[np.float64]
Progress = Callable[[int, int, dict[str, float]], None]

MARGIN = 0.1  # m of the preset cpu [root mean square distance of the images from their mean]
PAPER_MARGIN = 0.01 * 2.0**0.5  # m of the paper, halved since pixels are in [0, 1] [√(h·w·c)]

EPOCHS = (70, 10)  # of the paper, in all and without walks

_BASE = TrainConfig(
    steps=2000, batch=256, lam=10.0, lam_start=1.0, warm=0, walk=WalkConfig(steps=0), report=25
)
PRESETS = {
    "cpu": _BASE,
    "conv": _BASE,
    "paper": TrainConfig(
        batch=128,
        lam=200.0,
        lam_start=200.0,
        optimizer="rmsprop",
        rate=1e-3,
        half=0.8,
        walk=WalkConfig(steps=16, multiplier=1.0, level=-1.0),
    ),
}
SEEDS = {"cpu": ("elastic", "paste"), "conv": ("elastic", "paste"), "paper": ("uniform",)}
DENSE: dict[str, Any] = {"width": 128, "depth": 4}
CONVOLUTIONAL: dict[str, dict[str, Any]] = {
    "conv": {"stages": ((4, 32, 3), (2, 128, 2))},
    # Table 6: 64 × 4, pool, 128 × 4, pool, 256 × 3, pooled over the image; pairs sorted.
    "paper": {
        "stages": ((1, 64, 4), (2, 128, 4), (2, 256, 3)),
        "mixing": "patches",
        "pooling": "l2",
        "head": "l2",
        "activation": "max_min",
        "bias": 0.0,
    },
}


class OneClassImageSDF(OneClassSDF):
    """Detector of images that are none of a class, with a bounded slope.

    Parameters
    ----------
    preset : str
        `"cpu"`: a dense network on the pixels, minutes for a class of MNIST; `"conv"`: convolutions that keep
        gradients; `"paper"`: the paper's network, seeds and steps, for a GPU.
    margin : float or "auto"
        m [l2 of pixels in [0, 1]]: images of the class are to score above it, negatives below −m; the
        preset's for "auto".
    lam : float or "auto"
        λ at the end of training; the preset's for "auto". A larger one is sharper, and less robust.
    steps : int or "auto"
        Of the optimiser; the preset's for "auto".
    negatives : sequence of str or "auto"
        Kinds of seeds, names of `negatives.NEGATIVES`; the preset's for "auto".
    contamination : float or "auto"
        Share of the training images to call outliers, in (0, 0.5]; "auto" accepts what scores above 0.
    device : str
        `"auto"`, `"cpu"` or `"cuda"`: where it learns; it scores there as well, where there is such a device.
    random_state : int, RandomState or None
        As in scikit-learn; an int makes fit repeatable on the CPU.
    progress : callable, optional
        (done, total, figures) → None, every few steps.

    Attributes
    ----------
    shape_ : tuple of int
        (h, w) or (h, w, c) of one image.
    mean_, scale_ : (h·w·c,) arrays
        The mean image, and ones: all pixels count alike.
    unit_ : float
        Root mean square distance of the training images from their mean, one unit of the network [l2 of
        pixels in [0, 1]].
    margin_ : float
        m that was used [l2 of pixels in [0, 1]].
    level_ : float
        Mean score of the training images, where synthesis ends.
    offset_, certificate_, history_, n_iter_
        As of `OneClassSDF`.

    Notes
    -----
    Scores, margins and radii are in l2 of pixels in [0, 1], whatever the dtype of the images given.
    """

    tile = 256  # a convolutional network keeps maps of all its channels

    def __init__(
        self,
        preset: str = "cpu",
        *,
        margin: float | str = "auto",
        lam: float | str = "auto",
        steps: int | str = "auto",
        negatives: Sequence[str] | str = "auto",
        contamination: float | str = "auto",
        device: str = "auto",
        random_state: Any = None,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(
            margin,
            lam=lam,
            steps=steps,
            preset=preset,
            contamination=contamination,
            device=device,
            random_state=random_state,
            progress=progress,
        )
        self.negatives = negatives

    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        stop: Callable[[], bool] | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
        every: float = EVERY,
        resume: bool = False,
    ) -> OneClassImageSDF:
        """Learn the images of one class.

        Parameters
        ----------
        X : (n, h, w) or (n, h, w, c) array_like
            uint8, or floating in [0, 1].
        y : ignored
        stop : callable, optional
            Asked every few steps; True ends the training with what was learnt so far, which is certified
            like any other.
        checkpoint : path, optional
            Keep the training in this file (`.safetensors`), its end too. A file that cannot be written is a
            warning.
        every : float
            Seconds between two writings of it; looked at every few steps.
        resume : bool
            Go on from `checkpoint` if it is there, to the detector that the whole run would have given, bit
            for bit on a CPU. Begins anew where there is no such file.

        Raises
        ------
        ValueError
            Fewer than two images, values that are not pixels, more of them than memory holds, or an option
            that is none.
        CheckpointError
            `checkpoint` is damaged, or of other images or other options.
        """
        self._check_options()
        if resume and checkpoint is None:
            raise ValueError("`resume` needs a `checkpoint` to go on from.")
        if checkpoint is not None and not isinstance(self.random_state, Integral):
            raise ValueError(
                f"`random_state` must be an int where there is a `checkpoint`; got {self.random_state!r}. No "
                "other training draws the same numbers, so none could go on."
            )
        kinds = self.kinds()
        device = resolve_device(self.device)
        given = _shaped(X, least=2)
        config = config_of(self.preset, (*given.shape[1:], 1)[:3])
        refuse_beyond(len(given), config, PRESETS[self.preset].batch, device)
        images = _in_range(given)
        self._forget()
        self.shape_ = tuple(int(size) for size in images.shape[1:])
        rows = images.reshape(len(images), -1)
        self.n_features_in_ = rows.shape[1]
        self.columns_ = None
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        self.mean_ = rows.mean(axis=0)
        self.scale_ = np.ones_like(self.mean_)
        centred = rows - self.mean_
        # images that are all the same have no spread; then a pixel's range is the unit
        alike = bool((rows == rows[0]).all())
        self.unit_ = 1.0 if alike else float(np.sqrt((centred**2).sum(axis=1).mean()))
        self.margin_ = self._margin()
        keeper = None
        if checkpoint is not None:
            options = {"preset": self.preset, "negatives": kinds, "seed": seed, "device": device.type}
            options |= {"train": asdict(self._config(len(rows))), "network": asdict(config)}
            identity = {"input": hash_of_arrays(given), "version": __version__, **options}
            keeper = Keeper(checkpoint, identity, every)
        start = keeper.found() if keeper is not None and resume else None
        history = self._learn(images, centred, kinds, seed, device, stop, keeper, start)
        radius = float(np.sqrt((np.maximum(self.mean_, 1.0 - self.mean_) ** 2).sum())) / self.unit_
        self.certificate_ = issue(self.network_, radius)
        self.level_ = float(self._scores(centred).mean())
        self.history_ = asdict(history) | ({} if start is None else {"resumed": start.steps})
        self.n_iter_ = history.steps
        self.offset_ = self._offset(centred)
        return self

    def box(self) -> tuple[Floats, Floats]:
        """Return the corners, (h·w·c,) each, of all images, in the space of `standardised`: for attacks."""
        return -self.mean_, 1.0 - self.mean_

    def images_of(self, rows: Floats) -> Floats:
        """Return rows of the space of `standardised`, (n, h·w·c), as images in [0, 1], (n, h, w[, c])."""
        return np.clip(rows + self.mean_, 0.0, 1.0).reshape(len(rows), *self.shape_)

    # ------------------------------------------------------------------------------------------- details

    def _learn(
        self,
        images: Floats,
        centred: Floats,
        kinds: Sequence[str],
        seed: int,
        device: torch.device,
        stop: Callable[[], bool] | None,
        keeper: Keeper | None,
        start: Standing | None,
    ) -> History:
        """Train `network_`, and certify it."""
        generator = torch.Generator(device=device).manual_seed(seed)
        mean = torch.as_tensor(self.mean_, dtype=torch.float32, device=device)
        data = torch.as_tensor(centred / self.unit_, dtype=torch.float32, device=device)
        flat = images.reshape(len(images), *self.shape_[:2], -1)
        own = seeds_of(torch.as_tensor(flat, dtype=torch.float32, device=device), kinds, generator)

        def seeds(count: int) -> torch.Tensor:
            return (own(count).flatten(1) - mean) / self.unit_

        network = network_of(self.preset, flat.shape[1:], torch.Generator().manual_seed(seed)).to(device)
        lower, upper = -mean / self.unit_, (1.0 - mean) / self.unit_
        source = Surface(data, seeds, generator)
        if keeper is not None:
            keeper.require(digest_of(source.fixed))
        history = learn(
            network,
            source,
            self._config(len(data)),
            lower,
            upper,
            generator,
            report=self.progress,
            stop=stop,
            keep=keeper,
            start=start,
        )
        self.network_ = cast(Any, certify(network.cpu())[0])
        return history

    def _validated(self, X: Any, *, reset: bool) -> Floats:
        images = pixels_of(X)
        if images.shape[1:] != self.shape_:
            had, got = _said(self.shape_), _said(images.shape[1:])
            raise ValueError(f"`X` must hold images of {had}, as fit had; got {got}.")
        return images.reshape(len(images), -1)

    def _check_options(self) -> None:
        if self.preset not in PRESETS:
            raise ValueError(f"`preset` must be one of {', '.join(PRESETS)}; got {self.preset!r}.")
        self._check_numbers()

    def kinds(self) -> tuple[str, ...]:
        """Return the names of the negatives that it learns against; ValueError where one is unknown."""
        if isinstance(self.negatives, str) and self.negatives == "auto":
            return SEEDS[self.preset]
        kinds = (self.negatives,) if isinstance(self.negatives, str) else tuple(self.negatives)
        unknown = [kind for kind in kinds if kind not in NEGATIVES]
        if unknown or not kinds:
            raise ValueError(f"`negatives` must be auto or some of {', '.join(NEGATIVES)}; got {kinds}.")
        return kinds

    def _margin(self) -> float:
        """m [l2 of pixels in [0, 1]]."""
        if self.margin != "auto":
            return float(self.margin)
        if self.preset == "paper":
            return float(PAPER_MARGIN * self.n_features_in_**0.5)
        return MARGIN * self.unit_

    def _config(self, rows: int) -> TrainConfig:
        """The preset with its margin in the units of the network, and what else was asked for."""
        preset = PRESETS[self.preset]
        margin = self.margin_ / self.unit_
        lam = preset.lam if self.lam == "auto" else float(self.lam)
        steps, warm = preset.steps, preset.warm
        if self.preset == "paper":
            steps, warm = (epochs * -(-rows // preset.batch) for epochs in EPOCHS)
        return replace(
            preset,
            margin=margin,
            margin_start=margin,
            lam=lam,
            lam_start=min(lam, preset.lam_start),
            steps=steps if self.steps == "auto" else int(self.steps),
            warm=warm,
        )


def config_of(preset: str, shape: Sequence[int]) -> NetworkConfig | ConvolutionConfig:
    """Return the shape of the network of a preset for images of shape (h, w, c)."""
    height, width, channels = (int(size) for size in shape)
    if preset in CONVOLUTIONAL:
        return ConvolutionConfig(height, width, channels, **CONVOLUTIONAL[preset])
    return NetworkConfig(inputs=height * width * channels, **DENSE)


def network_of(preset: str, shape: Sequence[int], generator: torch.Generator) -> Network:
    """Return the network of a preset for images of shape (h, w, c), not yet trained."""
    config = config_of(preset, shape)
    if isinstance(config, ConvolutionConfig):
        return ConvolutionalNetwork(config, generator)
    return LipschitzNetwork(config, generator)


def pixels_of(X: Any, *, least: int = 1) -> Floats:
    """Return images as float64 in [0, 1], of the shape given.

    Parameters
    ----------
    X : (n, h, w) or (n, h, w, c) array_like
        uint8, or floating in [0, 1].
    least : int
        Images that there must be.

    Raises
    ------
    ValueError
        Another shape, dtype or range, too few images, or values that are not finite.
    """
    return _in_range(_shaped(X, least))


def _shaped(X: Any, least: int) -> NDArray[np.generic]:
    """Return images as an array, not yet converted, of a shape and a dtype that images have."""
    array = X.detach().cpu().numpy() if isinstance(X, torch.Tensor) else np.asarray(X)
    if array.ndim not in (3, 4) or 0 in array.shape[1:]:
        raise ValueError(f"`X` must be images, (n, h, w) or (n, h, w, c); got shape {array.shape}.")
    if len(array) < least:
        raise ValueError(f"`X` must hold at least {least} image{'s' * (least > 1)}; got {len(array)}.")
    if array.ndim == 4 and array.shape[3] not in (1, 3, 4):
        raise ValueError(
            f"`X` must have 1, 3 or 4 channels, last; got shape {array.shape}."
            + (" Channels come first here: transpose them." if array.shape[1] in (1, 3, 4) else "")
        )
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise ValueError(f"`X` must be uint8, or floating in [0, 1]; got {array.dtype}.")
    return array


def _in_range(given: NDArray[np.generic]) -> Floats:
    """Return images as float64 in [0, 1]."""
    if given.dtype == np.uint8:
        return np.asarray(given, np.uint8) / 255.0
    array = given.astype(np.float64)
    if not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[0])
        raise ValueError(f"`X` must be finite; image {bad} holds NaN or infinity.")
    if array.min() < 0.0 or array.max() > 1.0:
        raise ValueError(
            f"`X` must lie in [0, 1] where it is floating; got [{array.min():g}, {array.max():g}]."
            " Give uint8, or divide by 255."
        )
    return array


def _said(shape: Sequence[int]) -> str:
    return " × ".join(str(size) for size in shape)
