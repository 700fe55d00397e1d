"""A person's own Python code, imported because the person names it: a file or a module, and an object in it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from slth.errors import ArgumentError


def import_code(reference: str, where: str) -> ModuleType:
    """The module ``package.module``, looked for in the working directory as well, or the one in ``FILE.py``.

    What it prints goes to standard error: standard output belongs to a command's result.

    Raises
    ------
    ArgumentError
        If there is none, or importing it fails.
    """
    need = "package.module or FILE.py, which can be imported"
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return _from_file(Path(reference)) if reference.endswith(".py") else importlib.import_module(reference)
    except (Exception, SystemExit) as error:
        raise ArgumentError(where, f"{reference} ({type(error).__name__}: {error})", need) from error


def import_object(reference: str, where: str, need: str) -> Any:
    """The object of ``package.module:name`` or ``FILE.py:name``; a name may have dots.

    Raises
    ------
    ArgumentError
        If there is none; ``need`` says what it should be.
    """
    module, _, name = reference.rpartition(":")
    if not module or not name:
        raise ArgumentError(where, reference, need)
    found: Any = import_code(module, where)
    for part in name.split("."):
        if not hasattr(found, part):
            raise ArgumentError(where, f"{reference}, where there is no {part!r}", need)
        found = getattr(found, part)
    return found


def _from_file(path: Path) -> ModuleType:
    """A file's module, under the file's name unless another module has it; imported once."""
    path, name = path.resolve(), path.stem
    while (known := sys.modules.get(name)) is not None:
        if Path(getattr(known, "__file__", None) or "").resolve() == path:
            return known
        name += "_"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise FileNotFoundError("no such file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
