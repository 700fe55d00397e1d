"""find_ticket(): stages 1 to 7 on one screen."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slth import __version__
from slth.activations import Activation
from slth.activations import parse as parse_activation
from slth.attempt import Attempt, Progress, attempt
from slth.constructions import CONSTRUCTIONS
from slth.domain import Domain
from slth.errors import ArgumentError
from slth.network.adapted import Example
from slth.network.inputs import Model, as_target
from slth.network.pooling_layers import FIXED
from slth.network.selection import Selection
from slth.plan import LARGEST_SEED, Plan, Wishes, make_plan
from slth.probes import target_probe_outputs
from slth.refine import Refinement
from slth.source.initialised import parse as parse_law
from slth.source.law import Distribution
from slth.ticket import Round, Ticket


def find_ticket(
    model: Model,
    example_input: Example | None = None,
    *,
    base_set_size: int | None = None,
    tolerance: float | None = None,
    objective: str = "best",
    initialisation: str = "uniform",
    seed: int = 0,
    domain: Any = None,
    construction: str = "two-for-one",
    delta: float = 0.05,
    source_activation: str | Activation = "relu",
    activation_error: float = 1e-6,
    distribution: str | Distribution = "uniform",
    eps: float | None = None,
    split: str = "own",
    settings: Mapping[str, Any] | None = None,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] | None = None,
    threads: int | None = None,
    on_progress: Progress | None = None,
) -> Ticket:
    """Find the trained network inside a larger random one.

    For every weight w of the target (and each sign that its input may have), the subset of a random base set
    x_1, ..., x_m is chosen that minimises |w - sum of the subset| (``"best"``), or that has the fewest elements among
    those within ``tolerance`` (``"sparsest"``). The random network is a function of ``seed`` and of the target's shape
    and scale; nothing of it is drawn again because it did not fit.

    Parameters
    ----------
    model : torch.nn.Module, torch.export.ExportedProgram or Target
        The trained network; it is neither changed nor kept.
    example_input : tensor, (batch, *input shape), or tuple or dict
        What the module reads; required with a module, unless its first layer tells. Of several arguments, in order or
        by name, the first is the input; the others are constants of the target.
    base_set_size : int, optional
        Expected number of usable elements of a base set; each construction has a default and a largest one.
    tolerance : float, optional
        Largest allowed |weight - realised weight|, in the target's own units; weights beyond it count as missed.
    objective : {"best", "sparsest"}
        Least error, or fewest elements within the tolerance.
    initialisation : {"uniform", "looks-linear"}
        Law of the source: independent weights, or mirrored pairs (Burkholz 2022, Assumptions 2.1 and 2.2).
    seed : int
        0 to 2^64 - 1.
    domain : pair of numbers or of tensors, optional
        Smallest and largest input; where no input is negative, half of the first layer's problems fall away.
    construction : str
        A name of :data:`slth.constructions.CONSTRUCTIONS`.
    delta : float
        Probability with which a source as wide as a theorem asks may fail; constructions whose width does not come
        from a theorem ignore it.
    source_activation : str or Activation
        Between the two source layers of each target layer, such as ``"tanh"`` or ``"leaky_relu:0.1"``.
    activation_error : float
        How far that activation may be from its lines, relative to them, wherever the layer's input may be. Smaller
        values make the expanding weights smaller and the combining ones larger, nothing else.
    distribution : str or Distribution
        Law of the source's weights, such as ``"normal"`` or ``"kaiming-uniform"``, where the construction leaves it
        open.
    eps : float, optional
        Largest error allowed on the network's output over the domain: each layer is then given base sets of a size of
        its own, in place of ``base_set_size``, and a larger one where the certificate asks for it
        (:mod:`slth.refine`). With the objective ``"sparsest"`` no tolerance is needed: weights are dropped as long as
        the certificate holds. What was tried, and whether the last word is within ``eps``, is in ``rounds``.
    split : {"own", "uniform"}
        How ``eps`` is split: by what the layers cost, or in equal parts.
    settings : mapping, optional
        What a construction alone knows: ``gamma``, ``sampling``, ``law`` and ``schedule`` of golden-ratio,
        ``extra_depth`` of one-for-one, ``depth`` and ``candidates`` of pairs, ``signed`` and ``pooling`` of
        conv.
    include, exclude : str or sequence of str, optional
        Which parameters are ticketed, by patterns as in a shell on their names in the state dict; the path of a module
        stands for all in it. Without ``include`` all are but those that ``exclude`` names, which are kept as they are.
    threads : int, optional
        Default: all cores. The ticket is the same on any number.
    on_progress : callable, optional
        Called with a layer's name, problems solved and problems in all.

    Returns
    -------
    Ticket

    Raises
    ------
    SlthError
        Before any work, if the target or an argument cannot be used.
    """
    begin = time.perf_counter()
    target = as_target(model, example_input, Selection.of(include, exclude))
    box, phi = Domain.parse(domain), source_activation
    _check(seed, construction, threads)
    if box.bounded:
        box.bounds(target.graph.input_shape)
    method = CONSTRUCTIONS[construction]
    wishes = Wishes(
        base_set_size,
        tolerance,
        objective,
        initialisation,
        box,
        delta,
        parse_activation(phi, "source_activation") if isinstance(phi, str) else phi,
        activation_error,
        parse_law(distribution) if isinstance(distribution, str) else distribution,
        settings or {},
    )
    hidden = method.hidden(target, wishes.settings)

    def solve(plan: Plan, before: Attempt | None = None, round_: str = "") -> Attempt:
        return attempt(hidden, plan, int(seed), threads, _named(on_progress, round_), before)

    probe_outputs = target_probe_outputs(target, int(seed), box)
    rounds: tuple[Round, ...] = ()
    if eps is None:
        found = solve(make_plan(hidden, method, wishes))
    else:
        found, rounds = Refinement(hidden, method, wishes, eps, split, solve).run()
    return Ticket(
        graph=target.graph,
        spec=found.spec,
        masks=found.masks,
        facts=found.facts,
        construction=construction,
        objective=found.plan.objective,
        base_set_size=int(found.plan.base_set_size),
        tolerance=tolerance,
        target_digest=target.digest(),
        target_dtype=str(target.dtype).removeprefix("torch."),
        generator_version=__version__,
        probe_outputs=probe_outputs,
        domain=None if box.lower is None or box.upper is None else (float(box.lower.min()), float(box.upper.max())),
        extra_depth=wishes.settings.get("extra_depth", 0),
        pooling=wishes.settings.get("pooling", FIXED),
        kept=target.kept,
        accounts=target.accounts,
        selection=target.selection,
        seconds=time.perf_counter() - begin,
        rounds=rounds,
    )


def _check(seed: int, construction: str, threads: int | None) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or not 0 <= seed <= LARGEST_SEED:
        raise ArgumentError("seed", repr(seed), "a whole number from 0 to 2^64 - 1")
    if construction not in CONSTRUCTIONS:
        raise ArgumentError("construction", construction, " or ".join(CONSTRUCTIONS))
    if threads is not None and threads < 1:
        raise ArgumentError("threads", str(threads), "at least 1", f"--threads {os.cpu_count()}")


def _named(on_progress: Progress | None, round_: str) -> Progress | None:
    """The same with the round behind the layer's name."""
    if on_progress is None or not round_:
        return on_progress
    return lambda layer, done, total: on_progress(layer + round_, done, total)
