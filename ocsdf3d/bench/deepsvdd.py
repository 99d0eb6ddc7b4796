"""Deep SVDD in a few lines, as a peer: a network without biases learns to map one class near one point.

Its score is minus the squared distance to that point, which bounds nothing: the network's slope is free.

Three networks: the LeNets of the article for gray and for coloured images, with and without BatchNorm between
convolutions, and the network of one of our presets with every constraint lifted, which tells what the
architecture alone does. LeNets see images of one contrast, as the article's do. There is no pretraining by an
autoencoder, and fewer epochs at a larger rate.

References
----------
Ruff et al., Deep one-class classification, ICML 2018 (one-class objective). Béthune et al., OCSDF, ICML 2023,
table 7, on how its figures depend on the implementation: 79.8 to 94.0 on MNIST.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from ocsdf3d.images.estimator import network_of

__all__ = ["NETWORKS", "DeepSVDD"]

NETWORKS = ("lenet_bn", "lenet", "ours")
GRAY, COLOUR = ((8, 4), 32), ((32, 64, 128), 128)  # channels of the convolutions, features
KERNEL = 5
RATE, DECAY, BATCH = 1e-3, 1e-6, 200
SEEN = 128  # images at once on a CPU, so that what is between layers stays in its cache


class DeepSVDD(nn.Module):
    """One-class Deep SVDD on images in [0, 1], given as rows (n, h·w·c).

    Parameters
    ----------
    shape : (int, int, int)
        Height, width and channels of the images.
    seed : int
        Of weights and batches.
    network : str
        Of `NETWORKS`.
    preset : str
        Whose network `"ours"` is.

    Raises
    ------
    ValueError
        Another network, or images too small for two or three halvings.
    """

    def __init__(
        self, shape: Sequence[int], seed: int, *, network: str = "lenet_bn", preset: str = "cpu"
    ) -> None:
        super().__init__()
        if network not in NETWORKS:
            raise ValueError(f"`network` must be one of {', '.join(NETWORKS)}; got {network!r}.")
        self.draws = torch.Generator().manual_seed(seed)
        self.contrasted = network != "ours"
        self.trunk: nn.Module
        if network == "ours":
            self.trunk, features = _Unbound(shape, preset, self.draws), GRAY[1]
        else:
            channels, features = COLOUR if shape[2] > 1 else GRAY
            if min(shape[:2]) < 2 ** len(channels):
                raise ValueError(f"`shape` must be at least {2 ** len(channels)} pixels high; got {shape}.")
            self.trunk = _LeNet(shape, channels, features, network == "lenet_bn", self.draws)
        self.register_buffer("centre", torch.zeros(features))
        self.register_buffer("low", torch.zeros(()))  # of the class after `_contrast`
        self.register_buffer("high", torch.ones(()))
        self.register_buffer("mean", torch.zeros(shape[0] * shape[1] * shape[2]))
        self.register_buffer("unit", torch.ones(()))
        self.centre: torch.Tensor
        self.low: torch.Tensor
        self.high: torch.Tensor
        self.mean: torch.Tensor
        self.unit: torch.Tensor

    def learn(self, rows: torch.Tensor, epochs: int) -> DeepSVDD:
        """Map images, (n, h·w·c), near the mean feature of the first pass; return self, done learning."""
        contrasts = _contrast(rows)
        self.low, self.high = contrasts.min(), contrasts.max()
        self.mean = rows.mean(dim=0)
        self.unit = (rows - self.mean).square().sum(dim=1).mean().sqrt().clamp_min(1e-12)
        seen = self._seen(rows)
        self.train()
        with torch.no_grad():
            centre = torch.cat([self.trunk(part) for part in seen.split(BATCH) if len(part) > 1]).mean(dim=0)
            # a feature that is to be 0 could be made so by weights of 0
            self.centre = torch.where(centre.abs() < 0.1, 0.1 * torch.where(centre < 0.0, -1.0, 1.0), centre)
        optimizer = torch.optim.Adam(self.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        for _ in range(epochs):
            order = torch.randperm(len(seen), generator=self.draws).to(seen.device)
            for batch in order.split(BATCH):
                if len(batch) < 2:  # BatchNorm has nothing to compare
                    continue
                optimizer.zero_grad()
                (self.trunk(seen[batch]) - self.centre).square().sum(dim=1).mean().backward()
                optimizer.step()
            schedule.step()
        self.eval()
        return self.requires_grad_(False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return scores, (n,), larger for what looks normal, of images (n, h·w·c)."""
        parts = rows.split(SEEN if rows.device.type == "cpu" else 8 * SEEN)
        features = torch.cat([self.trunk(self._seen(part)) for part in parts])
        return -(features - self.centre).square().sum(dim=1)

    def _seen(self, rows: torch.Tensor) -> torch.Tensor:
        """Return images as the network sees them."""
        if self.contrasted:
            return (_contrast(rows) - self.low) / (self.high - self.low).clamp_min(1e-12)
        return (rows - self.mean) / self.unit


def _contrast(rows: torch.Tensor) -> torch.Tensor:
    """Return images about their own mean, of mean absolute value 1: the article's global contrast."""
    about = rows - rows.mean(dim=1, keepdim=True)
    return about / about.abs().mean(dim=1, keepdim=True).clamp_min(1e-6)


class _LeNet(nn.Module):
    """Convolutions, each pooled to half, and one dense layer, all without biases: (n, h·w·c) → features."""

    def __init__(
        self,
        shape: Sequence[int],
        channels: Sequence[int],
        features: int,
        normalised: bool,
        draws: torch.Generator,
    ) -> None:
        super().__init__()
        self.shape = tuple(shape)
        height, width, count = shape
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        for own in channels:
            self.convolutions.append(nn.Conv2d(count, own, KERNEL, padding=KERNEL // 2, bias=False))
            self.norms.append(nn.BatchNorm2d(own, affine=False) if normalised else nn.Identity())
            height, width, count = height // 2, width // 2, own
        self.dense = nn.Linear(count * height * width, features, bias=False)
        for parameter in self.parameters():
            nn.init.kaiming_uniform_(parameter, a=0.1, generator=draws)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return features; for speed channels come last in memory, and pooling before the monotone ReLU."""
        x = rows.view(-1, *self.shape).permute(0, 3, 1, 2)
        even = self.shape[0] % 2 == self.shape[1] % 2 == 0
        for index, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            if index == 0 and even and not self.training:  # learnt, the norm is monotone as well
                x = norm(_pooled(x, convolution))
            else:
                x = norm(convolution(x).contiguous(memory_format=torch.channels_last))
                x = functional.max_pool2d(x, 2)
            x = functional.leaky_relu(x)
        return self.dense(x.flatten(1))


def _pooled(x: torch.Tensor, convolution: nn.Module) -> torch.Tensor:
    """Return the convolution of images and the largest of each 2 × 2 places, at half the resolution.

    Pixels become channels, and the four places four kernels: of few channels, three times as fast with its
    gradient in x, which is what an attack waits for.
    """
    (weight,) = convolution.parameters()
    places = ((i, j) for i in range(2) for j in range(2))
    padded = [functional.pad(weight, (j, 1 - j, i, 1 - i)) for i, j in places]
    kernels = torch.cat([functional.pixel_unshuffle(kernel, 2) for kernel in padded])
    four = functional.conv2d(functional.pixel_unshuffle(x, 2), kernels, padding=(KERNEL + 1) // 4)
    return four.unflatten(1, (4, -1)).amax(dim=1)


class _Unbound(nn.Module):
    """The network of a preset, its weights free and its biases 0, with features in the place of its head."""

    def __init__(self, shape: Sequence[int], preset: str, draws: torch.Generator) -> None:
        super().__init__()
        self.network = network_of(preset, shape, draws)
        wide = len(self.network.head)
        # f is x @ head + offset: a matrix in the place of the head gives as many numbers as it has columns
        self.network.head = nn.Parameter(torch.randn((wide, GRAY[1]), generator=draws) / wide**0.5)
        for name, parameter in self.network.named_parameters():
            if name.startswith(("biases", "offset")):
                parameter.requires_grad_(False).zero_()

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return features, (n, 32)."""
        found: torch.Tensor = self.network(rows)
        return found
