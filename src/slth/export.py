"""Stage 9: the way out of a ticket: ``torch.export`` programs, ONNX, and a folder of plain weights; each checked."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from slth import __version__
from slth.artifact import TICKETS
from slth.container import content_digest
from slth.errors import ArgumentError, ExportError
from slth.files import check_writable, write_atomically
from slth.network.module import Network, joined
from slth.network.onnx_file import INSTALL, require_onnx
from slth.network.operators.shape import flattened
from slth.pretrained import CONFIG, DTYPES, WEIGHTS, folder_contents, from_pretrained, rebuilt
from slth.probes import probe_inputs, probe_range
from slth.runtime import FORMS
from slth.ticket import Ticket

__all__ = ["Exported", "export", "from_pretrained"]

logger = logging.getLogger(__name__)

KINDS = {".pt2": "a torch.export program", ".onnx": "an ONNX file", "": "a folder of config.json and model.safetensors"}
"""By suffix of the place, what is written there."""
LARGEST_RELATIVE = {torch.float32: 1e-4, torch.float64: 1e-11}
"""Largest difference, over the largest output, that is put down to sums in another order (chosen: 1000 roundings)."""
_MOST_ENTRIES = 1 << 22
"""Entries of all inputs of the check together (chosen)."""
_FEWEST = 3
"""Inputs of the check at least: more than in the batch of the example."""
_BATCH = 2
_BOUNDED = frozenset({"sigmoid", "softmax", "tanh", "hardsigmoid", "_softmax"})
"""Last operations whose values are of size 1 by what they are computed from."""


@dataclass(frozen=True)
class Exported:
    """What was written, and how near it is to the module that it was made from.

    Attributes
    ----------
    path : Path
    form, dtype : str
    n_bytes : int
        Size of all files.
    any_batch : bool
        Whether it takes batches of any size.
    batch : int
        The size that it takes, where it does not.
    n_inputs : int
        Seeded inputs on which what was written was compared with the module.
    difference, relative_difference : float
        Largest difference of an output, and that over the largest output.
    checked_by : str
        What ran it.
    """

    path: Path
    form: str
    dtype: str
    n_bytes: int
    any_batch: bool
    batch: int
    n_inputs: int
    difference: float
    relative_difference: float
    checked_by: str


@dataclass(frozen=True)
class _Made:
    """Files by name, and a function from inputs to outputs that runs what is in them."""

    contents: dict[str, bytes]
    run: Callable[[torch.Tensor], torch.Tensor]
    any_batch: bool
    batch: int
    checked_by: str


def export(ticket: Ticket, path: str | Path, form: str = "folded", dtype: str | None = None) -> Exported:
    """Write a ticket as a network for other programs; nothing is written that computes something else.

    What is to be written runs first, on seeded inputs from the domain, beside the module that it was made from.

    Parameters
    ----------
    ticket : Ticket
    path : path
        By its suffix: ``.pt2`` for a program that ``torch.export.load`` reads (without a pickle in it), ``.onnx`` for
        ONNX by torch's own exporter, none for a folder that :func:`from_pretrained` reads.
    form : {"folded", "sparse", "masked"}
        See :func:`slth.runtime.module`; a folder is of the folded form.
    dtype : {"float32", "float64"}, optional
        The target's by default.

    Raises
    ------
    ArgumentError
        For another form, type or suffix, or ONNX without the extra ``onnx``.
    ExportError
        If the form cannot be exported, or what came out differs by more than rounding.
    OutputError
        If it cannot be written.
    """
    path = Path(path)
    suffix = "" if path.is_dir() else path.suffix
    if suffix not in KINDS:
        kinds = ", ".join(f"{known or 'none'} ({what})" for known, what in KINDS.items())
        raise ArgumentError(str(path), f"the suffix {path.suffix!r}", kinds)
    if form not in FORMS or (suffix == "" and form != "folded"):
        raise ArgumentError("form", form, ", ".join(FORMS) if suffix else "folded, for a folder")
    if dtype is not None and dtype not in DTYPES:
        raise ArgumentError("dtype", dtype, ", ".join(DTYPES))
    _check_place(path, suffix)
    name = dtype or ticket.target_dtype
    network = ticket.module(form, dtype=DTYPES[name])
    assert isinstance(network, Network)
    inputs = _inputs(ticket, DTYPES[name])
    about = {**_about(ticket), "form": form, "dtype": name}
    make = {".pt2": _program, ".onnx": _onnx, "": _folder}[suffix]
    made = make(network, inputs[:_BATCH], about, str(path))
    difference, relative = _compare(made, network, inputs, str(path))
    n_bytes = _write(path, suffix, made.contents)
    checked = len(inputs)
    return Exported(
        path, form, name, n_bytes, made.any_batch, made.batch, checked, difference, relative, made.checked_by
    )


def _about(ticket: Ticket) -> dict[str, Any]:
    """Where a network comes from."""
    return {
        "slth_version": __version__,
        "ticket_digest": content_digest(TICKETS.header(ticket), TICKETS.tensors(ticket)),
        "target_digest": ticket.target_digest,
        "construction": ticket.construction,
        "seed": ticket.spec.seed,
        "domain": None if ticket.domain is None else list(ticket.domain),
    }


def _inputs(ticket: Ticket, dtype: torch.dtype) -> torch.Tensor:
    """Seeded inputs, fewer of large ones."""
    graph = ticket.graph
    drawn = probe_inputs(graph, ticket.spec.seed, *probe_range(ticket.domain))
    most = max(_FEWEST, _MOST_ENTRIES // math.prod(graph.input_shape))
    return drawn[:most] if graph.classes else drawn[:most].to(dtype)


# Checking


def _compare(made: _Made, network: Network, inputs: torch.Tensor, where: str) -> tuple[float, float]:
    """Largest difference between what was made and the module, absolute and over the largest output."""
    joined(network)
    with torch.no_grad():
        wanted = network(inputs)
        try:
            sizes = (made.batch,) if not made.any_batch else (len(inputs), 1)
            results = [torch.cat([made.run(part) for part in _parts(inputs, size)]) for size in sizes]
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            got = f"a network that {made.checked_by} cannot run ({type(error).__name__}: {reason})"
            raise ExportError(where, got, "one that runs", "--dtype float32, or a folder") from error
        finally:
            network.joined = False
    largest = max(float(wanted.abs().max()), _size_of_rounding(network))
    pairs = [(result, wanted[: len(result)]) for result in results]
    difference = max(float((result[: len(own)] - own).abs().max()) for result, own in pairs)
    relative = difference / largest if largest else difference
    allowed = LARGEST_RELATIVE[wanted.dtype]
    if not relative <= allowed:
        got = f"outputs that differ by {difference:.3g}, {relative:.3g} of the largest"
        raise ExportError(where, got, f"at most {allowed:g} of it, which rounding explains", "another form or suffix")
    return difference, relative


def _size_of_rounding(network: Network) -> float:
    """What outputs are rounded by at least: a sigmoid's as numbers of size 1, however near 0 they are."""
    graph = network._graph
    last = graph.nodes[-1]
    ends = [node for node in graph if node.name in last.sources] if last.op == "join" else [last]
    names = {str(node.attributes.get("function", node.op)) for node in ends}
    return 1.0 if names & _BOUNDED else 0.0


def _parts(inputs: torch.Tensor, size: int) -> Iterator[torch.Tensor]:
    """Batches of one size, the last one filled up; of single inputs a few are enough."""
    if size == 1:
        inputs = inputs[:_FEWEST]
    for part in inputs.split(size):
        yield torch.cat([part, part[-1:].expand(size - len(part), *part.shape[1:])])


def _stacked(outputs: Any) -> torch.Tensor:
    """Several outputs as a network gives them when they are joined."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    if len(outputs) == 1:
        return _stacked(outputs[0])
    return torch.cat([flattened(output) for output in outputs], 1)


# Programs


def _exported_program(network: Network, example: torch.Tensor, where: str) -> tuple[torch.export.ExportedProgram, int]:
    """A traced network for any batch (0) if that can be, else for one size."""
    only = network._graph.batch
    tries: list[tuple[torch.Tensor, Any]] = [(example[: only or 1].expand(only or 1, *example.shape[1:]), None)]
    if not only:
        tries.insert(0, (example, ({0: torch.export.Dim("batch")},)))
    reasons = []
    for inputs, shapes in tries:
        try:
            with _quiet(), torch.no_grad():
                program = torch.export.export(network, (inputs.contiguous(),), dynamic_shapes=shapes, strict=False)
            return program, 0 if shapes else len(inputs)
        except Exception as error:
            logger.debug("torch.export failed", exc_info=True)
            reasons.append(f"{type(error).__name__}: {next(iter(str(error).strip().splitlines()), '')[:200]}")
    raise ExportError(where, f"a form that torch.export cannot trace ({reasons[-1]})", "another", "--form folded")


def _program(network: Network, example: torch.Tensor, about: Mapping[str, Any], where: str) -> _Made:
    """The network as ``torch.export.save`` writes it, without the example, which would be a pickle."""
    program, batch = _exported_program(network, example, where)
    program.example_inputs = None
    for node in program.graph.nodes:
        # Lines of code and their places on this machine.
        node.meta.pop("stack_trace", None)
    stream = io.BytesIO()
    with _quiet():
        torch.export.save(program, stream, extra_files={"slth.json": json.dumps(about, sort_keys=True)})
        content = stream.getvalue()
        loaded = torch.export.load(io.BytesIO(content)).module()
    return _Made({"": content}, lambda x: _stacked(loaded(x)), batch == 0, batch, "torch.export")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Torch's exporters print and log what they also raise, and what is of no use here."""
    disabled = logging.root.manager.disable
    try:
        logging.disable(logging.ERROR)
        nowhere = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stderr(nowhere), contextlib.redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)


# ONNX


def _onnx(network: Network, example: torch.Tensor, about: Mapping[str, Any], where: str) -> _Made:
    """The network by torch's exporter, run by ONNX Runtime."""
    require_onnx(where)
    _require("onnxscript", where)
    runtime = _require("onnxruntime", where)
    program, batch = _exported_program(network, example, where)
    outputs = [f"output_{i}" if i else "output" for i in range(_n_outputs(network))]
    try:
        with _quiet():
            made: Any = torch.onnx.export(program, verbose=False, input_names=["input"], output_names=outputs)
            model = made.model_proto
    except Exception as error:
        root: BaseException = error
        while root.__cause__ is not None:
            root = root.__cause__
        reason = next(iter(str(root).strip().splitlines()), "")[:200]
        got = f"a form that torch.onnx cannot convert ({type(root).__name__}: {reason})"
        raise ExportError(where, got, "another", "--form folded, or a .pt2 file") from error
    for node in model.graph.node:
        # Which module a node is from stays; lines of code and their places on this machine go.
        kept = [entry for entry in node.metadata_props if entry.key.endswith("name_scopes")]
        del node.metadata_props[:]
        node.metadata_props.extend(kept)
    entry = model.metadata_props.add()
    entry.key, entry.value = "slth", json.dumps(about, sort_keys=True)
    if model.ByteSize() > 2**31 - 2**20:
        got, need = f"{model.ByteSize():,} bytes", "at most 2 GiB, which an ONNX file can hold"
        raise ExportError(where, got, need, "a .pt2 file or a folder")
    content = model.SerializeToString()
    run, checked_by = _onnx_runner(runtime, content)
    return _Made({"": content}, run, batch == 0, batch, checked_by)


def _require(package: str, where: str) -> Any:
    """A package of the extra ``onnx``.

    Raises
    ------
    ArgumentError
        If it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise ArgumentError(where, f"no package {package} on this machine", "the extra onnx", INSTALL) from error


def _onnx_runner(runtime: Any, content: bytes) -> tuple[Callable[[torch.Tensor], torch.Tensor], str]:
    """ONNX Runtime; where it lacks an operation in float64, ONNX's own evaluator, which is slow."""
    runtime.set_default_logger_severity(4)
    try:
        session = runtime.InferenceSession(content, providers=["CPUExecutionProvider"])
        checked_by = "ONNX Runtime"
    except runtime.capi.onnxruntime_pybind11_state.NotImplemented:
        from onnx.reference import ReferenceEvaluator

        session, checked_by = ReferenceEvaluator(content), "onnx.reference"

    def run(x: torch.Tensor) -> torch.Tensor:
        return _stacked([torch.from_numpy(np.asarray(each)) for each in session.run(None, {"input": x.numpy()})])

    return run, checked_by


def _n_outputs(network: Network) -> int:
    last = network._graph.nodes[-1]
    return len(last.sources) if last.op == "join" else 1


# Folders


def _folder(network: Network, example: torch.Tensor, about: Mapping[str, Any], where: str) -> _Made:
    """Architecture as JSON and weights as safetensors."""
    contents = folder_contents(network, about)
    again = joined(rebuilt(where, json.loads(contents[CONFIG]), contents[WEIGHTS]))
    return _Made(contents, again, True, 0, "slth.export.from_pretrained")


# Writing


def _check_place(path: Path, suffix: str) -> None:
    if suffix:
        check_writable(path)
    elif path.exists() and not path.is_dir():
        raise ArgumentError(str(path), "a file without a suffix", "a folder, or a name ending in .pt2 or .onnx")
    else:
        check_writable((path if path.is_dir() else path.parent) / CONFIG)


def _write(path: Path, suffix: str, contents: Mapping[str, bytes]) -> int:
    """Write all files, each atomically, and read them again; of a folder the description comes last."""
    if not suffix:
        path.mkdir(exist_ok=True)
    places = {path / name if name else path: content for name, content in contents.items()}
    for place, content in places.items():
        write_atomically(place, content)
        if place.read_bytes() != content:
            place.unlink()
            raise ExportError(str(place), "other bytes on the disk than were written", "the same", "another disk")
    return sum(map(len, places.values()))
