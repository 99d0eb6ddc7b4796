"""Deep SVDD in a few lines, as a peer: a LeNet without biases learns to map one class near one point.

Its score is minus the squared distance to that point, which bounds nothing: the network's slope is free.

References
----------
Ruff et al., Deep one-class classification, ICML 2018 (one-class objective, no pretraining here). Béthune et
al., OCSDF, ICML 2023, table 7, on how its figures depend on the implementation.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["DeepSVDD"]

FEATURES, CHANNELS, KERNEL = 32, (8, 4), 5
RATE, DECAY, BATCH = 1e-3, 1e-6, 200


class DeepSVDD(nn.Module):
    """One-class Deep SVDD on images (n, c, h, w) in [0, 1].

    Parameters
    ----------
    channels, height, width : int
        Of the images.
    seed : int
        Of weights and batches.
    """

    def __init__(self, channels: int, height: int, width: int, seed: int) -> None:
        super().__init__()
        self.draws = torch.Generator().manual_seed(seed)
        self.shape = (channels, height, width)
        first, second = CHANNELS
        self.trunk = nn.Sequential(
            nn.Conv2d(channels, first, KERNEL, padding=2, bias=False),
            nn.BatchNorm2d(first, affine=False),
            nn.LeakyReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(first, second, KERNEL, padding=2, bias=False),
            nn.BatchNorm2d(second, affine=False),
            nn.LeakyReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(second * (height // 4) * (width // 4), FEATURES, bias=False),
        )
        for parameter in self.parameters():
            nn.init.kaiming_uniform_(parameter, a=0.1, generator=self.draws)
        self.register_buffer("centre", torch.zeros(FEATURES))
        self.centre: torch.Tensor

    def learn(self, rows: torch.Tensor, epochs: int) -> DeepSVDD:
        """Map images, (n, c·h·w), near the mean feature of the first pass; return self, done learning."""
        images = rows.view(-1, *self.shape)
        self.train()
        with torch.no_grad():
            centre = torch.cat([self.trunk(part) for part in images.split(BATCH) if len(part) > 1]).mean(
                dim=0
            )
            # a feature that is to be 0 could be made so by weights of 0
            self.centre = torch.where(centre.abs() < 0.1, 0.1 * torch.where(centre < 0.0, -1.0, 1.0), centre)
        optimizer = torch.optim.Adam(self.parameters(), lr=RATE, weight_decay=DECAY)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
        for _ in range(epochs):
            order = torch.randperm(len(images), generator=self.draws)
            for batch in order.split(BATCH):
                if len(batch) < 2:  # BatchNorm has nothing to compare
                    continue
                optimizer.zero_grad()
                (self.trunk(images[batch]) - self.centre).square().sum(dim=1).mean().backward()
                optimizer.step()
            schedule.step()
        self.eval()
        return self.requires_grad_(False)

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """Return scores, (n,), larger for what looks normal, of images (n, c·h·w)."""
        return -(self.trunk(rows.view(-1, *self.shape)) - self.centre).square().sum(dim=1)
