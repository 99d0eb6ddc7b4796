"""f: images → R, convolutional and 1-Lipschitz: every matrix is a dense one, whatever stands between them.

A convolution is written as a map that moves pixels followed by one matrix at every place (a 1 × 1
convolution). The matrices are on the Stiefel manifold, so the optimiser, the bound and the rounding of dense
networks serve as they are. What stands between them does not enlarge distances, for any padding and stride:

- Padding with zeros, and *unshuffling* s × s pixels into channels (the stride), place every value once:
  isometries.
- *Shifting* a group of channels by one pixel, zeros coming in at the border, drops values and repeats none:
  ‖Sx‖ ≤ ‖x‖. Circular, it is a permutation.
- *Patches*, the k² shifts of x side by side, times 1/k: ‖(S₁x, …)‖² = Σ‖Sᵢx‖² ≤ k²‖x‖². The constant is
  stored rounded down, so that the proof is of what is computed. A kernel of k × k × c inputs is a matrix of
  these: the corrected, orthogonalised convolutions of the paper's library, which lose norm since most kernels
  reach less than the constant allows.
- *l2 pooling* takes the norm of each window and channel: |‖a‖ − ‖b‖| ≤ ‖a − b‖ in each window, and windows
  that share no value add their squares. *Average pooling*, the sum over √k for k values, is linear of norm 1.
- The same matrix at each place is block diagonal: its norm is the matrix's.

Where gradients are recorded, in training and walks, the kernels are run as the library's own convolution:
twice as fast on a core, and rounded as it pleases, by TF32 or Winograd's scheme on a GPU. Values that are to
be certified are computed without gradients, by the matrices of the proof.

With shifts and unshuffling alone the network is an isometry up to the borders until it narrows, hence keeps
‖∇f‖ = 1 where patches measure 0.3.

References
----------
Hu, Hu, Fredrikson, LipNeXt, ICLR 2026 (shifts and orthogonal 1 × 1: norm-preserving depthwise circular
convolutions are shifts). Serrurier et al., CVPR 2021 (corrective constant). Béthune et al., OCSDF, ICML 2023,
table 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import nn

from ocsdf3d.lipschitz.activations import ACTIVATIONS
from ocsdf3d.lipschitz.layers import bjorck
from ocsdf3d.lipschitz.network import Layer, Network, orthogonal, standard_normal

__all__ = ["ConvolutionConfig", "ConvolutionalNetwork", "patches", "shifted", "unshuffled"]

KERNEL = 3
# 1/3 in float32, rounded down: three times it, squared and summed, stays below 1, in float64 as well
CORRECTION = float(np.nextafter(np.float32(1.0 / KERNEL), np.float32(0.0)))
MOVES = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))  # of the five groups of channels


class Stage(NamedTuple):
    """Sizes of one stage."""

    places: int  # where its matrices are applied, along the height times along the width
    entry: tuple[int, int]  # shape of the first
    square: tuple[int, int]  # of each of the others
    depth: int


@dataclass(frozen=True)
class ConvolutionConfig:
    """Shape of a convolutional network.

    Attributes
    ----------
    height, width, channels : int
        Of the images.
    stages : tuple of (stride, channels, depth)
        Each: unshuffle stride × stride pixels, then `depth` convolutions of so many channels.
    mixing : str
        `"shift"`: shifts and 1 × 1, which keep gradients; `"patches"`: 3 × 3 kernels with the corrective
        constant, as in the paper.
    padding : str
        `"zeros"` or `"circular"`.
    pooling : str
        Between stages, instead of unshuffling, where the stride is above 1: `"unshuffle"` for none, `"l2"`
        (the paper's table 6) or `"average"` (the authors' code).
    head : str
        What f weighs: `"places"`, all values at all places; `"l2"` or `"average"`, each channel pooled over
        the image, as in the paper and in the authors' code.
    activation : str
        `"half_abs"`, `"max_min"` or `"full_sort"`, over channels.
    bias : float
        Standard deviation of the biases at birth, for images of norm about 1.
    """

    height: int
    width: int
    channels: int
    stages: tuple[tuple[int, int, int], ...] = ((4, 64, 4), (2, 128, 2))
    mixing: str = "shift"
    padding: str = "zeros"
    pooling: str = "unshuffle"
    head: str = "places"
    activation: str = "half_abs"
    bias: float = 0.01
    constraint: str = "stiefel"

    def __post_init__(self) -> None:
        for name in ("height", "width", "channels"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be a positive integer; got {getattr(self, name)!r}.")
        object.__setattr__(self, "stages", tuple(tuple(stage) for stage in self.stages))  # lists, from a file
        if not self.stages or any(len(stage) != 3 or min(stage) < 1 for stage in self.stages):
            raise ValueError(f"`stages` must be (stride, channels, depth), each ≥ 1; got {self.stages!r}.")
        choices = {
            "mixing": ("shift", "patches"),
            "padding": ("zeros", "circular"),
            "pooling": ("unshuffle", "l2", "average"),
            "head": ("places", "l2", "average"),
            "activation": tuple(ACTIVATIONS),
            "constraint": ("stiefel",),
        }
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(f"`{name}` must be one of {', '.join(known)}; got {getattr(self, name)!r}.")

    @property
    def inputs(self) -> int:
        """d, numbers in an image."""
        return self.height * self.width * self.channels

    @property
    def built(self) -> list[Stage]:
        """Sizes of the stages."""
        reach = KERNEL * KERNEL if self.mixing == "patches" else 1
        height, width, channels = self.height, self.width, self.channels
        found = []
        for number, (stride, own, depth) in enumerate(self.stages):
            height, width = -(-height // stride), -(-width // stride)
            if self.pooling == "unshuffle" or number == 0:
                channels *= stride * stride
            found.append(Stage(height * width, (own, channels * reach), (own, own * reach), depth))
            channels = own
        return found

    @property
    def head_size(self) -> int:
        """Values that f weighs."""
        last = self.built[-1]
        return last.entry[0] * (last.places if self.head == "places" else 1)

    @property
    def weights(self) -> int:
        """Numbers in its matrices, head included."""
        inner = sum(math.prod(one.entry) + (one.depth - 1) * math.prod(one.square) for one in self.built)
        return inner + self.head_size


def unshuffled(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Return (n, ⌈h/s⌉, ⌈w/s⌉, s²c) from (n, h, w, c): each s × s pixels side by side, padded with zeros."""
    n, height, width, channels = x.shape
    down, right = -height % stride, -width % stride
    if down or right:
        x = nn.functional.pad(x, (0, 0, 0, right, 0, down))
    rows, columns = (height + down) // stride, (width + right) // stride
    x = x.view(n, rows, stride, columns, stride, channels).transpose(2, 3)
    return x.reshape(n, rows, columns, stride * stride * channels)


def shifted(x: torch.Tensor, move: tuple[int, int], padding: str) -> torch.Tensor:
    """Return x (n, h, w, c) moved down and right by `move` pixels; zeros come in, or the far border."""
    if move == (0, 0):
        return x
    if padding == "circular":
        return x.roll(move, (1, 2))
    down, right = move
    height, width = x.shape[1:3]
    x = nn.functional.pad(x, (0, 0, max(right, 0), max(-right, 0), max(down, 0), max(-down, 0)))
    return x[:, max(-down, 0) :][:, :height, max(-right, 0) :][:, :, :width]


def patches(x: torch.Tensor, padding: str) -> torch.Tensor:
    """Return (n, h, w, 9c), the nine shifts of x (n, h, w, c) by up to a pixel, times 1/3."""
    x = CORRECTION * x
    reach = range(-(KERNEL // 2), KERNEL // 2 + 1)
    return torch.cat([shifted(x, (down, right), padding) for down in reach for right in reach], dim=3)


def convolved(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, padding: str) -> torch.Tensor:
    """Return `patches(x, padding)` of x (n, h, w, c) times weight (own, 9c), plus bias, (n, h, w, own)."""
    kernel = CORRECTION * weight.view(len(weight), KERNEL, KERNEL, -1).flip(1, 2).permute(0, 3, 1, 2)
    planes, border = x.permute(0, 3, 1, 2), KERNEL // 2
    if padding == "circular":
        planes, border = nn.functional.pad(planes, (border,) * 4, mode="circular"), 0
    return nn.functional.conv2d(planes, kernel, bias, padding=border).permute(0, 2, 3, 1)


def _mixed(x: torch.Tensor, padding: str) -> torch.Tensor:
    """Return x with a fifth of its channels moved each way."""
    groups = x.tensor_split(len(MOVES), dim=3)
    return torch.cat([shifted(part, move, padding) for part, move in zip(groups, MOVES, strict=True)], dim=3)


def _pooled(x: torch.Tensor, stride: int, kind: str) -> torch.Tensor:
    """Return (n, ⌈h/s⌉, ⌈w/s⌉, c): norms, or scaled sums, of windows of s × s pixels."""
    windows = unshuffled(x, stride)
    windows = windows.view(*windows.shape[:3], stride * stride, x.shape[3])
    return _gathered(windows, kind)


def _gathered(values: torch.Tensor, kind: str) -> torch.Tensor:
    """Return the norm or the scaled sum over the last dimension but one."""
    if kind == "l2":
        return torch.linalg.vector_norm(values, dim=-2)
    return values.sum(dim=-2) * _scale_of_sum(values.shape[-2])


def _scale_of_sum(count: int) -> float:
    """Return a float32 number of which it is certain that its square times `count` is at most 1."""
    return float(np.nextafter(np.float32(count**-0.5), np.float32(0.0)))


class ConvolutionalNetwork(Network):
    """Convolutional 1-Lipschitz network, images as rows (n, h·w·c) → (n,).

    Parameters
    ----------
    config : ConvolutionConfig
        Its shape.
    generator : torch.Generator
        Randomness of the initial weights, on the CPU so that a seed means the same on every device.
    """

    def __init__(self, config: ConvolutionConfig, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        entries, squares, biases = [], [], []
        self.sizes = [stage.places for stage in config.built]
        for _, entry, square, depth in config.built:
            entries.append(nn.Parameter(orthogonal(*entry, generator)))
            layers = [orthogonal(*square, generator) for _ in range(depth - 1)]
            squares.append(
                nn.Parameter(
                    torch.stack(layers) if layers else torch.zeros((0, *square), dtype=torch.float32)
                )
            )
            biases.append(nn.Parameter(config.bias * standard_normal((depth, entry[0]), generator)))
        self.entries = nn.ParameterList(entries)
        self.squares = nn.ParameterList(squares)
        self.biases = nn.ParameterList(biases)
        head = standard_normal((config.head_size,), generator)
        self.head = nn.Parameter(head / head.norm())
        self.offset = nn.Parameter(torch.zeros((), dtype=torch.float32))

    def turned(self) -> list[nn.Parameter]:
        """Return the stacks of square weights, one a stage; none of kernels, which are wide."""
        return list(self.squares) if self.config.mixing == "shift" else []

    def first(self) -> nn.Parameter:
        """Return the weights of the first layer."""
        return self.entries[0]

    def layers(self) -> list[Layer]:
        """Return the affine layers in order, head included."""
        found = []
        scale = CORRECTION if self.config.mixing == "patches" else 1.0
        stages = list(
            zip(self.config.stages, self.entries, self.squares, self.biases, self.sizes, strict=True)
        )
        for number, (_, entry, square, biases, places) in enumerate(stages):
            following = self.config.stages[number + 1][0] ** 2 if number + 1 < len(stages) else 0
            pooled = following if self.config.pooling != "unshuffle" else 1
            if number + 1 == len(stages):
                pooled = 1 if self.config.head == "places" else places
            for index, (weight, bias) in enumerate(zip((entry, *square), biases, strict=True)):
                last = index + 1 == len(biases)
                found.append(
                    Layer(weight, bias, places, self.config.activation, scale, pooled if last else 1)
                )
        return [*found, Layer(self.head[None], self.offset[None])]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return f(x), (n,), for x (n, h·w·c)."""
        config = self.config
        x = x.view(-1, config.height, config.width, config.channels)
        for number, (stride, own, _) in enumerate(config.stages):
            if config.pooling == "unshuffle" or number == 0:
                x = unshuffled(x, stride)
            elif stride > 1:
                x = _pooled(x, stride, config.pooling)
            weights = (self.entries[number], *self.squares[number].unbind())
            for weight, bias in zip(weights, self.biases[number].unbind(), strict=True):
                shape = (*x.shape[:3], own)
                if config.mixing == "patches" and torch.is_grad_enabled():
                    rows = convolved(x, weight, bias, config.padding).reshape(-1, own)
                else:
                    x = (
                        patches(x, config.padding)
                        if config.mixing == "patches"
                        else _mixed(x, config.padding)
                    )
                    rows = torch.addmm(bias, x.reshape(-1, x.shape[3]), weight.mT)
                x = ACTIVATIONS[config.activation](rows).view(shape)
        if config.head == "places":
            return x.flatten(1) @ self.head + self.offset
        return _gathered(x.flatten(1, 2), config.head) @ self.head + self.offset

    @torch.no_grad()
    def bake(self) -> Self:
        """Return a copy; the stored weights are the effective ones already."""
        baked = type(self)(self.config, torch.Generator().manual_seed(0)).to(
            self.head.device, self.head.dtype
        )
        baked.load_state_dict(self.state_dict())
        return baked.requires_grad_(False)

    @torch.no_grad()
    def retract(self) -> None:
        """Bring weights that an optimiser moved back to norm at most 1, near orthogonal."""
        for weight in (*self.entries, *self.squares):
            if math.prod(weight.shape):
                weight.copy_(bjorck(weight, 1))
        self.head.div_(self.head.norm().clamp_min(1e-12))
