"""The solver `torch`: meet in the middle in plain tensor operations, on any device that has float64 and int64.

The method of :mod:`.kernels.closest`, a whole slab of problems at each step. Elements that are zero are dropped,
negative ones flipped (choosing -x is not choosing x, with the target moved by x), all rounded to whole quanta, a power
of two. A sum of one half is one int64: quanta above, below them the bits of the elements chosen. The sums of the right
half are sorted, and each of the left half is looked up among them.

What is proved: of m elements and a target, each rounded once, a subset's residual is off by at most (m + 1) / 2 quanta,
so the best subset lies within m + 1 quanta of the fixed-point optimum. Where one pair alone lies there, it is the
answer. Where several do, all are compared, in almost exact sums where that proves the order, else in whole numbers. The
result is a function of the problem alone, the same on every device.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slth.errors import ArgumentError
from slth.subsetsum import exact
from slth.subsetsum.problem import Answers, Batch, Objective, Run
from slth.subsetsum.rounding import EXACT_SCALE, compensated, round_answers

MAX_ELEMENTS = 24
"""Largest base set (chosen): its half lists hold 2^12 sums."""
CANDIDATES = 2**14
"""Subsets that may come within rounding of the optimum before a problem is left to the exact solver (chosen)."""
FEW = 64
"""Subsets that are told apart one by one in whole numbers (chosen); beyond, the exact solver is faster."""

_VALUE_BITS = 59
"""Bits of all magnitudes of a problem together, the bits of the subset below included."""
_LEAST_SCALE = 2.0**-900
"""From this magnitude on factors are finite and two-sums do not underflow."""
_SUMS = {"cpu": 2**18}
"""Sums of one half at a time (chosen): what fits the cache; on an accelerator `_MANY`, about 4 GB in all."""
_MANY = 2**25
_SLAB = 2**17
"""Problems at a time, at most (chosen)."""
_FAR = 2**62


def solve(batch: Batch, objective: Objective, tolerance: float | None, run: Run) -> Answers:
    """Solve a batch for the closest subsets on ``run.device``; see :func:`slth.subsetsum.solve`.

    Raises
    ------
    ArgumentError
        For a device that is not there or has no float64, another objective than `best`, more than 24 elements.
    """
    if objective != "best":
        raise ArgumentError("objective", repr(objective), "'best' for the solver 'torch'", "solver='mitm'")
    if batch.n_problems and batch.sizes.max() > MAX_ELEMENTS:
        p = int(batch.sizes.argmax())
        raise ArgumentError(
            f"base set {p}", f"{batch.sizes[p]} elements", f"at most {MAX_ELEMENTS} on a device", "solver='mitm'"
        )
    device = _find(run.device)
    answers = Answers.empty(batch.n_problems)
    done = 0
    for which, base, place in _slabs(batch, device):
        _solve_slab(batch, which, base, place, device, answers)
        done += len(which)
        if run.on_progress is not None:
            run.on_progress(done)
    return answers


def _find(name: str) -> torch.device:
    """The device, tried out."""
    try:
        device = torch.device(name)
        torch.zeros(1, dtype=torch.float64, device=device).cpu()
    except (RuntimeError, AssertionError, TypeError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ArgumentError(
            "device",
            f"{name!r} ({reason})",
            "a device of this machine that torch can use, with float64",
            "device='cpu'",
        ) from None
    return device


def _slabs(
    batch: Batch, device: torch.device
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64] | None]]:
    """Problems with m elements that are not zero, a few at a time.

    Yields
    ------
    which : (S,) int64
    base : (S, m) float64
    place : (S, m) int64 or None
        Where in its base set each element stands, where that is not its column.
    """
    whole = np.count_nonzero(batch.values) == len(batch.values)
    sizes = batch.sizes if whole else _effective_sizes(batch)
    order = np.argsort(sizes, kind="stable")
    ends = np.cumsum(np.bincount(sizes, minlength=1)).tolist()
    start = 0
    for m, end in enumerate(ends):
        length = min(max(_SUMS.get(device.type, _MANY) >> (m + 1) // 2, 1), _SLAB)
        for first in range(start, end, length):
            which = order[first : min(first + length, end)]
            starts = batch.starts[which][:, None]
            if whole:
                yield which, batch.values[starts + np.arange(m)], None
                continue
            width = int(batch.sizes[which].max(initial=0))
            # Columns beyond a base set's end read another's elements; they count as zeros.
            inside = np.arange(width) < batch.sizes[which][:, None]
            columns = np.where(inside, starts + np.arange(width), 0)
            chosen = inside & (batch.values[columns] != 0.0)
            place = np.nonzero(chosen)[1].reshape(len(which), m)
            yield which, batch.values[starts + place], place
        start = end


def _effective_sizes(batch: Batch) -> NDArray[np.int64]:
    counted = np.concatenate([[0], np.cumsum(batch.values != 0.0)])
    return np.asarray(counted[batch.starts + batch.sizes] - counted[batch.starts])


def _solve_slab(
    batch: Batch,
    which: NDArray[np.int64],
    base: NDArray[np.float64],
    place: NDArray[np.int64] | None,
    device: torch.device,
    answers: Answers,
) -> None:
    """Write the answers of problems `which`."""
    targets = batch.targets[which]
    if base.shape[1] == 0:
        answers.errors[which] = np.abs(targets)
        return
    with np.errstate(over="ignore"):
        scale = np.abs(base).sum(axis=1)
        sane = (scale > _LEAST_SCALE) & (scale + np.abs(targets) < EXACT_SCALE)
    good = np.flatnonzero(sane)
    if len(good):
        slab = _Slab.make(base[good], targets[good], scale[good], device)
        masks, unsettled = _search(slab)
        sums, errors, proved = _round(slab, masks)
        if place is not None:
            masks = _spread(masks, torch.from_numpy(place[good]).to(device))
        here = which[good]
        answers.selected[here] = masks.cpu().numpy().view(np.uint64)
        answers.sums[here], answers.errors[here] = sums.cpu().numpy(), errors.cpu().numpy()
        for p in here[(~proved & ~unsettled).cpu().numpy()].tolist():
            answers.sums[p], answers.errors[p] = exact.evaluate(*batch.problem(p), int(answers.selected[p]))
        sane[good[unsettled.cpu().numpy()]] = False
    for p in which[~sane].tolist():
        mask = exact.best(*batch.problem(p))
        answers.selected[p] = mask
        answers.sums[p], answers.errors[p] = exact.evaluate(*batch.problem(p), mask)


@dataclass(frozen=True)
class _Slab:
    """S problems of m elements on a device; the elements chosen are counted with the negative ones flipped.

    Attributes
    ----------
    base, targets, scale : (S, m), (S,), (S,) float64
        `scale` is |target| + sum |x|, about.
    quanta, goal, flipped : (S, m), (S,), (S,) int64
        Magnitudes in fixed point, the target of the flipped problem, the set of elements flipped.
    """

    base: Tensor
    targets: Tensor
    scale: Tensor
    quanta: Tensor
    goal: Tensor
    flipped: Tensor

    @classmethod
    def make(
        cls, base: NDArray[np.float64], targets: NDArray[np.float64], scale: NDArray[np.float64], device: torch.device
    ) -> _Slab:
        """Bring S problems onto the device and into fixed point."""
        m = base.shape[1]
        exponent = _VALUE_BITS - (m + 1) // 2 - np.frexp(scale)[1]
        factor = torch.from_numpy(np.ldexp(1.0, exponent)).to(device)
        x, z = torch.from_numpy(base).to(device), torch.from_numpy(targets).to(device)
        quanta = torch.round(x.abs() * factor[:, None]).to(torch.int64)
        negative = (x < 0.0).to(torch.int64)
        flipped = (negative << torch.arange(m, device=device)).sum(dim=1)
        goal = torch.round((z * factor).clamp(-(2.0**60), 2.0**60)).to(torch.int64) + (quanta * negative).sum(dim=1)
        # Beyond everything or nothing, that choice is the answer and distances no longer matter.
        goal = goal.clamp(min=-2 * m - 2).minimum(quanta.sum(dim=1) + 2 * m + 2)
        return cls(x, z, torch.from_numpy(scale).to(device) + z.abs(), quanta, goal, flipped)

    @property
    def m(self) -> int:
        """Elements of each problem."""
        return self.base.shape[1]

    def columns(self, masks: Tensor, rows: Tensor | None = None) -> Iterator[Tensor]:
        """The terms of the sums of `masks`, an element at a time; each belongs to the problem in `rows`, if given."""
        for k in range(self.m):
            x = self.base[:, k] if rows is None else self.base[rows, k]
            yield torch.where((masks >> k & 1).bool(), x, 0.0)


def _search(slab: _Slab) -> tuple[Tensor, Tensor]:
    """The closest subsets, (S,) int64, and (S,) bool: where they are left to the exact solver."""
    n_left = slab.m // 2
    bits = slab.m - n_left
    below = (1 << bits) - 1
    left = _list_sums(slab.quanta[:, :n_left], bits)
    right = _list_sums(slab.quanta[:, n_left:], bits).sort(dim=1).values
    need = slab.goal[:, None] - (left >> bits)
    at = torch.searchsorted(right, need << bits)
    last = right.shape[1] - 1
    over = torch.where(at <= last, (right.gather(1, at.clamp(max=last)) >> bits) - need, _FAR)
    under = torch.where(at > 0, need - (right.gather(1, (at - 1).clamp(min=0)) >> bits), _FAR)
    least, row = torch.minimum(over, under).min(dim=1, keepdim=True)
    near = least + slab.m + 1
    column = at.gather(1, row) - (under.gather(1, row) < over.gather(1, row)).to(torch.int64)
    # Either neighbour of a need comes before those behind it: what is left to look at are those next to the one found.
    several = ((over <= near).sum(dim=1) + (under <= near).sum(dim=1)) > 1
    for beside in (column - 1, column + 1):
        gap = (right.gather(1, beside.clamp(0, last)) >> bits) - need.gather(1, row)
        several |= ((gap.abs() <= near) & (beside >= 0) & (beside <= last))[:, 0]
    masks = (left.gather(1, row) & below) | (right.gather(1, column) & below) << n_left
    masks = masks[:, 0] ^ slab.flipped
    unsettled = torch.zeros_like(several)
    crowded = several.nonzero()[:, 0]
    if len(crowded):
        lists = left[crowded], right[crowded], need[crowded], near[crowded]
        masks[crowded], unsettled[crowded] = _settle_bands(slab, crowded, *lists)
    return masks, unsettled


def _list_sums(quanta: Tensor, bits: int) -> Tensor:
    """All 2^n sums of each row of (S, n) quanta, with the bits of the elements chosen below."""
    sums = torch.zeros(len(quanta), 1, dtype=torch.int64, device=quanta.device)
    for k in range(quanta.shape[1]):
        sums = torch.cat([sums, sums + (quanta[:, k : k + 1] << bits | 1 << k)], dim=1)
    return sums


def _settle_bands(
    slab: _Slab, rows: Tensor, left: Tensor, right: Tensor, need: Tensor, near: Tensor
) -> tuple[Tensor, Tensor]:
    """The best of all pairs in the bands of the problems `rows`, whose lists are given; where there are too many."""
    n_left = slab.m // 2
    bits = slab.m - n_left
    below = (1 << bits) - 1
    first = torch.searchsorted(right, (need - near) << bits)
    count = torch.searchsorted(right, (need + near + 1) << bits) - first
    totals = count.sum(dim=1)
    masks, unsettled = torch.zeros_like(rows), totals > CANDIDATES
    open_ = (~unsettled).nonzero()[:, 0]
    # Parts of about as many pairs each, or of one problem.
    budget = max(_SUMS.get(rows.device.type, _MANY) >> 3, CANDIDATES)
    part_of = (totals[open_].cumsum(0) // budget).cpu().numpy()
    for part in np.split(open_.cpu().numpy(), np.flatnonzero(np.diff(part_of)) + 1):
        if not len(part):
            continue
        here = torch.from_numpy(part).to(rows.device)
        runs = count[here].flatten()
        # Run r starts at `begin` of the right list; entry i of all runs is the i-th minus those of the runs before.
        ends = runs.cumsum(0)
        of_run = torch.repeat_interleave(torch.arange(len(runs), device=rows.device), runs)
        index = torch.arange(len(of_run), device=rows.device)
        column = index - (ends - runs)[of_run] + first[here].flatten()[of_run]
        problem = of_run // left.shape[1]
        chosen = left[here].flatten()[of_run] & below
        chosen = chosen | (right[here[problem], column] & below) << n_left
        chosen = chosen ^ slab.flipped[rows[here]][problem]
        masks[here], unsettled[here] = _settle(slab, rows[here], problem, chosen)
    return masks, unsettled


def _settle(slab: _Slab, rows: Tensor, problem: Tensor, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Of the subsets `chosen`, the best for each problem of `rows`, and where the order is left to the exact solver.

    ``problem[i]`` is the position in `rows` of the problem that ``chosen[i]`` belongs to.
    """
    n, m = len(rows), slab.m
    where = rows[problem]
    _, _, high, low, exact_ = compensated(slab.columns(chosen, where), slab.targets[where])
    high, low = high.abs(), torch.where(high < 0.0, -low, low)
    leader = _least(n, problem, high, low, _popcount(chosen), chosen)
    # What is not exact may be off by the slack, either way.
    ahead_high, ahead_low = high - high[leader][problem], low - low[leader][problem]
    slack = 4.0 * (m + 2.0) ** 2 * 2.0**-104 * slab.scale[where] + 2.0**-50 * (low.abs() + low[leader].abs()[problem])
    rival = ahead_high + ahead_low <= slack + 2.0**-52 * ahead_high.abs()
    rivals = torch.zeros(n, dtype=torch.int64, device=rows.device).index_add_(0, problem, rival.to(torch.int64))
    doubtful = torch.zeros_like(rivals).index_add_(0, problem, (rival & ~exact_).to(torch.int64))
    open_ = (doubtful > 0) & (rivals > 1)
    masks, unsettled = chosen[leader], open_ & (rivals > FEW)
    contest = rival & (open_ & ~unsettled)[problem]
    for p, mask in _decide(slab, where[contest], problem[contest], chosen[contest]):
        masks[p] = mask
    return masks, unsettled


def _decide(slab: _Slab, where: Tensor, problem: Tensor, chosen: Tensor) -> Iterator[tuple[int, int]]:
    """The best of the subsets `chosen` for each ``problem[i]``, row ``where[i]`` of the slab, in whole numbers."""
    rivals: dict[int, list[int]] = {}
    for p, mask in zip(problem.tolist(), chosen.tolist(), strict=True):
        rivals.setdefault(p, []).append(mask)
    rows = dict(zip(problem.tolist(), where.tolist(), strict=True))
    at = torch.tensor(list(rows.values()), dtype=torch.int64, device=where.device)
    bases, targets = slab.base[at].tolist(), slab.targets[at].tolist()
    for p, base, target in zip(rows, bases, targets, strict=True):
        keys = ((exact.residual(base, target, mask), mask.bit_count(), mask) for mask in rivals[p])
        yield p, min(keys)[2]


def _least(n: int, problem: Tensor, *keys: Tensor) -> Tensor:
    """For each of n problems the position of its least entry, by the first key, of equals by the second, and so on."""
    kept = torch.arange(len(problem), device=problem.device)
    for key in keys:
        of, values = problem[kept], key[kept]
        least = torch.zeros(n, dtype=key.dtype, device=key.device).scatter_reduce(
            0, of, values, "amin", include_self=False
        )
        kept = kept[values == least[of]]
    # Equal masks of one problem do not occur, so one entry is left of each, in the order of entries.
    return torch.zeros(n, dtype=torch.int64, device=problem.device).scatter(0, problem[kept], kept)


def _popcount(masks: Tensor) -> Tensor:
    """Number of bits set, of masks of up to 32 bits."""
    masks = masks - (masks >> 1 & 0x55555555)
    masks = (masks & 0x33333333) + (masks >> 2 & 0x33333333)
    masks = masks + (masks >> 4) & 0x0F0F0F0F
    return (masks * 0x01010101 >> 24) & 0xFF


def _round(slab: _Slab, masks: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums and errors, (S,) each, and (S,) bool: where their rounding is proved."""
    sums, errors, proved = round_answers(slab.columns(masks), slab.m, slab.targets, slab.scale)
    return sums, errors, proved


def _spread(masks: Tensor, place: Tensor) -> Tensor:
    """Masks over base sets, of masks over their elements that are not zero."""
    bits = masks[:, None] >> torch.arange(place.shape[1], device=place.device) & 1
    return (bits << place).sum(dim=1)
