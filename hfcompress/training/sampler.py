"""Batches of texts of about the same length, in an order that a resumed run finds again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

_BATCHES_A_POOL = 50
"""Sorting within pools of so many batches keeps batches alike in length and still mixed."""


class LengthGroupedSampler(Sampler[int]):
    """Shuffle, then sort by length within pools of 50 batches, then shuffle the batches.

    The order depends on seed and epoch alone. transformers' own draws from the global random state, so that a run that
    is resumed within an epoch sees other batches than it would have.

    Args:
        lengths: Tokens of each example.
        batch_size: Examples of one optimizer step, over all micro-batches and processes.
        seed: Seed of the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths = np.asarray(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch's order; the Trainer calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(len(self.lengths))
        pool = self.batch_size * _BATCHES_A_POOL
        pools = [order[start : start + pool] for start in range(0, len(order), pool)]
        by_length = np.concatenate([part[np.argsort(-self.lengths[part], kind="stable")] for part in pools])
        full = len(by_length) // self.batch_size * self.batch_size
        batches = random.permutation(by_length[:full].reshape(-1, self.batch_size))
        # The incomplete batch stays last: anywhere else it would shift the boundaries of all that follow.
        yield from np.concatenate([batches.ravel(), by_length[full:]]).tolist()
