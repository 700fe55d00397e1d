"""Scores that are trained in place of weights, and the masks that they stand for.

The forward pass multiplies fixed random weights with a mask of zeros and ones; the backward pass takes the mask for
the scores themselves (straight through: Bengio, Leonard and Courville 2013), or for their probabilities.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch

SAMPLE = 1 << 15
"""Scores from which a step's threshold is estimated where there are more (chosen: off by 0.3 % of the weights)."""


class Chooser(ABC):
    """From the scores of a layer to its mask."""

    @abstractmethod
    def step(self, scores: torch.Tensor) -> torch.Tensor:
        """The mask of one training step as zeros and ones, (numbers,), with gradients to the scores."""

    @abstractmethod
    def final(self, scores: torch.Tensor) -> torch.Tensor:
        """Which weights a ticket keeps, (numbers,), bool."""


class TopScores(Chooser):
    """The k largest scores of the layer (Ramanujan et al. 2020).

    Differs: a score, not its absolute value; and in training the threshold is that of a fixed sample of the scores,
    so that somewhat more or fewer than k are kept. The ticket keeps exactly k.

    Parameters
    ----------
    n, k : int
        Scores of the layer, and how many it keeps.
    sample : int64 tensor, (at most :data:`SAMPLE`,), or None
        Places of the scores that are looked at in training; None for all.
    """

    def __init__(self, n: int, k: int, sample: torch.Tensor | None = None) -> None:
        self.n, self.k, self.sample = n, k, sample

    @classmethod
    def build(cls, n: int, density: float, generator: torch.Generator) -> TopScores:
        """Keep so large a part of ``n`` scores, rounded to whole scores, at least one."""
        sample = torch.randint(n, (SAMPLE,), generator=generator) if n > 2 * SAMPLE else None
        return cls(n, max(1, round(density * n)), sample)

    def step(self, scores: torch.Tensor) -> torch.Tensor:
        """Scores from the threshold on."""
        seen = scores.detach()
        if self.sample is not None:
            self.sample = self.sample.to(seen.device)
            seen = seen[self.sample]
        rank = min(len(seen), max(1, len(seen) - round(self.k / self.n * len(seen)) + 1))
        threshold = torch.kthvalue(seen, rank).values
        mask: torch.Tensor = _StraightThrough.apply(scores, threshold)  # type: ignore[no-untyped-call]
        return mask

    def final(self, scores: torch.Tensor) -> torch.Tensor:
        """Exactly k; of equal scores the first."""
        scores = scores.detach()
        threshold = torch.kthvalue(scores, self.n - self.k + 1).values
        kept = scores > threshold
        equal = torch.nonzero(scores == threshold).ravel()
        kept[equal[: self.k - int(kept.sum())]] = True
        return kept


class BernoulliScores(Chooser):
    """Each weight is kept with probability sigmoid(score), drawn anew every step (Zhou et al. 2019, section 4.2).

    Differs: the ticket keeps what is likelier kept than not, or the k likeliest, instead of a draw.

    Parameters
    ----------
    k : int or None
        How many the ticket keeps; None for all with a probability above 1/2.
    """

    def __init__(self, k: int | None = None) -> None:
        self.k = k

    def step(self, scores: torch.Tensor) -> torch.Tensor:
        """A draw; its gradient is that of the probability."""
        probability = torch.sigmoid(scores)
        kept = (torch.rand_like(probability.detach()) < probability.detach()).to(scores.dtype)
        return kept + probability - probability.detach()

    def final(self, scores: torch.Tensor) -> torch.Tensor:
        """The likeliest."""
        return scores.detach() > 0 if self.k is None else TopScores(len(scores), self.k).final(scores)


class _StraightThrough(torch.autograd.Function):
    """1 from the threshold on and 0 below; the gradient as if it were the score."""

    @staticmethod
    def forward(ctx: Any, scores: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
        return (scores >= threshold).to(scores.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        return gradient, None
