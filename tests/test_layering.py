"""The architecture: one order of stages, kept by every import; and what a bare ``import slth`` costs."""

from __future__ import annotations

import ast
import itertools
import subprocess
import sys
from pathlib import Path

import pytest

import slth

ROOT = Path(slth.__file__).parent

ORDER = [
    *("errors", "imports", "files", "container", "threads", "memory", "activations"),
    *("network", "domain", "places", "data"),
    *("bounds", "source"),
    "plan",
    "mask",
    *("realise", "candidates", "copies"),
    "subsetsum",
    "calibration",
    "ticket",
    "constructions",
    *(
        "masked_layers",
        "signed_layers",
        "sparse_kernels",
        "copy_layers",
        "plain_layers",
        "candidate_layers",
        "runtime",
        "probes",
    ),
    "certify",
    *("budget", "attempt", "refine", "pipeline"),
    *("artifact", "pretrained", "export"),
    "neurons",
    "forecast",
    "learn",
    "summary",
    "report",
    *("demo", "warm"),
    "bench",
    "reproduce",
    "commands",
    "cli",
]
"""From the ground up: a part imports only what stands before it."""

DOORS = {("ticket", "artifact"), ("ticket", "runtime"), ("ticket", "export")}
"""``Ticket.save``, ``module`` and ``export`` hand on to later stages when they are called, and not before."""

FORBIDDEN = {
    "certify": {"plan", "subsetsum", "constructions", "attempt", "refine", "pipeline", "artifact", "bounds"},
    "neurons": {"network", "plan", "subsetsum", "constructions", "pipeline", "certify", "learn"},
    "learn": {"constructions", "subsetsum", "plan"},
    "source": {"network", "domain", "plan", "bounds", "ticket"},
    "subsetsum": {"network", "domain", "plan", "source", "ticket"},
    "bounds": {"network", "source", "subsetsum"},
    "report": {"pipeline", "plan", "subsetsum", "constructions", "learn"},
}
"""What a part must not know, however indirectly: verification trusts nothing of how a ticket was made."""

LEAVES = {
    "report": {"demo", "bench", "reproduce", "commands"},
    "reproduce": {"commands"},
    "commands": {"cli"},
    "cli": set(),
    "demo": {"commands"},
}
"""Who alone may import these."""


def part(module: str) -> str:
    """``slth.network.graph`` belongs to ``network``; ``slth`` itself to ````."""
    return module.split(".")[1] if "." in module else ""


def imports(path: Path, only_at_import: bool = False) -> set[str]:
    """Parts of slth that a file imports; ``TYPE_CHECKING`` blocks do not count."""
    found: set[str] = set()

    def visit(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        inside = inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if not (inside and only_at_import):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}: a relative import hides its stage"
                names = [node.module or ""]
                if node.module == "slth":
                    names = [f"slth.{alias.name}" for alias in node.names if not alias.name.startswith("__")]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found.update(part(name) for name in names if name.split(".")[0] == "slth")
        for child in ast.iter_child_nodes(node):
            visit(child, inside)

    visit(ast.parse(path.read_text()), False)
    return found - {""}


FILES = {path: path.relative_to(ROOT).parts[0].removesuffix(".py") for path in sorted(ROOT.rglob("*.py"))}
PARTS = {
    name: set().union(*(imports(path) for path, owner in FILES.items() if owner == name)) - {name} for name in ORDER
}


def test_every_part_has_its_place() -> None:
    assert set(FILES.values()) - {"__init__"} == set(ORDER)
    assert len(ORDER) == len(set(ORDER))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_part_imports_only_what_stands_before_it(path: Path) -> None:
    own = FILES[path]
    if own == "__init__":
        assert imports(path, only_at_import=True) == set()
        return
    later = {name for name in imports(path) if ORDER.index(name) > ORDER.index(own)}
    assert {(own, name) for name in later} <= DOORS
    assert not later & imports(path, only_at_import=True)


def known(name: str) -> set[str]:
    """All that a part imports, directly or not, through no door."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop()
        following = {other for other in PARTS[current] if (current, other) not in DOORS} - found
        found |= following
        waiting += following
    return found


@pytest.mark.parametrize("name", FORBIDDEN)
def test_a_part_does_not_know_what_it_must_not(name: str) -> None:
    assert not known(name) & FORBIDDEN[name]


@pytest.mark.parametrize("leaf", LEAVES)
def test_nothing_depends_on_the_leaves(leaf: str) -> None:
    assert {name for name, imported in PARTS.items() if leaf in imported} <= LEAVES[leaf]


def test_the_test_sees_what_it_is_to_see(tmp_path: Path) -> None:
    """A parser that found nothing would find nothing wrong."""
    assert {"plan", "source", "mask", "constructions"} <= PARTS["attempt"]
    file = tmp_path / "a.py"
    file.write_text(
        "import slth.plan\nfrom slth import pipeline\nfrom slth.cli import main\n"
        "if TYPE_CHECKING:\n    from slth.report import page\n"
        "def f():\n    from slth.certify.verify import verify\n"
    )
    assert imports(file) == {"plan", "pipeline", "cli", "certify"}
    assert imports(file, only_at_import=True) == {"plan", "pipeline", "cli"}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_unpickles_evaluates_or_draws_from_another_generator(path: Path) -> None:
    """Invariants 3 and 6. ``torch.load`` is allowed with weights_only=True; training shuffles as it likes."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = {alias.name.split(".")[0] for alias in node.names} | {
                (getattr(node, "module", "") or "").split(".")[0]
            }
            assert not names & {"pickle", "dill", "cloudpickle", "marshal", "shelve", "random"}
        if isinstance(node, ast.Call):
            called, options = ast.unparse(node.func), {key.arg: ast.unparse(key.value) for key in node.keywords}
            assert called not in ("eval", "exec", "compile", "__import__")
            if called == "torch.load":
                assert options.get("weights_only") == "True"
            if called.endswith("np.load"):
                assert options.get("allow_pickle") == "False"
            if FILES[path] not in ("learn",):
                assert called not in ("torch.rand", "torch.randn", "torch.randint", "torch.manual_seed")
                assert not called.startswith(("np.random", "random."))


def _python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_importing_slth_is_cheap() -> None:
    code = """
import sys, time
begin = time.perf_counter()
import slth
seconds = time.perf_counter() - begin
heavy = {"torch", "numba", "numpy", "safetensors", "typer", "matplotlib", "sklearn"} & set(sys.modules)
print(seconds, *sorted(heavy))
"""
    answers = [_python(code).split() for _ in range(3)]
    assert all(len(answer) == 1 for answer in answers), answers
    assert min(float(answer[0]) for answer in answers) < 0.3


@pytest.mark.parametrize("name", slth.__all__)
def test_public_names_come_from_the_top(name: str) -> None:
    assert getattr(slth, name).__module__.startswith("slth.") and name in dir(slth)


def test_a_name_that_is_none_of_slths_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="colour"):
        _ = slth.colour
    assert not [name for name, count in itertools.groupby(sorted(slth.__all__)) if len(list(count)) > 1]
