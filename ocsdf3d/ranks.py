"""One training on several processes, as `torchrun` starts them: each computes its share of every batch.

All ranks make the same pools and draw the same batches from the same seed, then each takes the forward and
backward passes of its rows; gradients are summed, and every rank takes the same step. So the parameters are
equal on all ranks without being sent, which is checked at every report, and the result is that of one process
with the same batch, up to the order of a sum: two ranks of one thread add what two threads of one process
add, to the same bits.

References
----------
Li et al., PyTorch Distributed: Experiences on Accelerating Data Parallel Training, VLDB 2020.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import distributed

__all__ = ["Ranks", "joined"]


class Ranks:
    """The processes that train together: those of torch's process group, or this one alone.

    Attributes
    ----------
    index, count : int
        Which this is, from 0, and how many there are.
    """

    def __init__(self) -> None:
        together = distributed.is_available() and distributed.is_initialized()
        self.index = distributed.get_rank() if together else 0
        self.count = distributed.get_world_size() if together else 1

    def own(self, parts: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Return this rank's rows of each part of a batch, views; as many as others have, up to one.

        Raises
        ------
        ValueError
            There are more ranks than rows.
        """
        fewest = min(len(part) for part in parts)
        if fewest < self.count:
            raise ValueError(
                f"{self.count} ranks cannot share {fewest} rows; start fewer, or raise the batch."
            )
        return [part.tensor_split(self.count)[self.index] for part in parts]

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace tensors of one dtype, in place, by their sums over the ranks."""
        if self.count == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        distributed.all_reduce(flat)
        for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(total.view_as(tensor))

    def any(self, flag: bool, device: torch.device) -> bool:
        """Return whether the flag is set on any rank."""
        if self.count == 1:
            return flag
        raised = torch.tensor(float(flag), device=device)
        distributed.all_reduce(raised, op=distributed.ReduceOp.MAX)
        return bool(raised)

    def require_same(self, parameters: Sequence[torch.Tensor], step: int) -> None:
        """Raise where the ranks' parameters are not the same to the last bit.

        Raises
        ------
        RuntimeError
            They differ, so the ranks were given other data or options, or compute differently.
        """
        if self.count == 1:
            return
        with torch.no_grad():
            # the bits as whole numbers, each at its own weight: a sum that no exchange of values keeps
            flat = torch.cat([p.detach().reshape(-1).view(torch.int32).to(torch.int64) for p in parameters])
            sums = torch.stack(
                [flat.sum(), (flat * torch.arange(1, len(flat) + 1, device=flat.device)).sum()]
            )
            all_sums = [torch.empty_like(sums) for _ in range(self.count)]
            distributed.all_gather(all_sums, sums)
        for rank, other in enumerate(all_sums):
            if not torch.equal(other, all_sums[0]):
                raise RuntimeError(
                    f"after {step} steps rank {rank} has other parameters than rank 0: they were given other"
                    " data or options, or their machines compute differently."
                )


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Join the processes that `torchrun` started with this one, if it did; each has a GPU of its own.

    Parameters
    ----------
    device : str
        `"auto"`, `"cpu"` or `"cuda"`: on CUDA sums go by NCCL, otherwise by gloo.
    """
    alone = int(os.environ.get("WORLD_SIZE", "1")) < 2 or "RANK" not in os.environ
    if alone or distributed.is_initialized():  # or somebody joined them already, and will leave them
        yield Ranks()
        return
    cuda = device != "cpu" and torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield Ranks()
    finally:
        distributed.destroy_process_group()
