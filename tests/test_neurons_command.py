"""slth find --construction neurons, and verify and show of its ticket, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import slth as package
from command_line import Result, assert_refused, files_in, slth
from slth.bounds import malach

FIND = ("find", "--construction", "neurons")


FUNCTIONS = """
import numpy as np

def h(w):
    print("called")
    return np.stack([np.sign(w[:, 0]), w[:, 1] ** 2], axis=1)

def other(w):
    return h(w)[:, ::-1]

def fails(w):
    raise KeyError("x")

def short(w):
    return w[:1, 0]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a ticket for the digits, one for a regression, and the regression's data."""
    folder = tmp_path_factory.mktemp("neurons")
    x = np.random.default_rng(0).normal(size=(80, 3))
    np.savez(folder / "r.npz", x=x, y=np.sin(x[:, 0]) + x[:, 1])
    np.savez(folder / "c.npz", x=x, y=(x[:, 0] > 0).astype(np.int64))
    np.savez(folder / "none.npz", x=x)
    (folder / "h_for_test.py").write_text(FUNCTIONS)
    digits = slth(*FIND, "--data", "digits", "-o", "d.ticket", "--set", "features=150,blocks=200", "-q", cwd=folder)
    assert digits == Result(0, "", "")
    regression = slth(
        *FIND, "--data", "r.npz", "-o", "r.ticket", "--set", "blocks=20", "--set", "tau=0.25", "-q", cwd=folder
    )
    assert regression == Result(0, "", "")
    return folder


def test_digits_end_to_end(folder: Path) -> None:
    shown = json.loads(slth("show", "d.ticket", "--json", cwd=folder).out)
    assert (shown["width"], shown["outputs"], shown["task"]) == (30_000, 10, "classification")
    assert abs(shown["density"] - shown["tau"]) < 0.01
    assert shown["test"]["samples"] == 359 and shown["test"]["accuracy"] > 90
    assert shown["test"]["average_accuracy"] > 92
    assert shown["train"]["largest_difference"] <= shown["error_bound"]
    verified = slth("verify", "d.ticket", "--data", "digits", "--json", cwd=folder)
    assert (verified.status, verified.err) == (0, "")
    facts = json.loads(verified.out)
    assert facts["holds"] and facts["wrong_bits"] == 0 and facts["test"] == shown["test"]
    network = package.load_neurons(folder / "d.ticket").module("sparse")
    assert network.second.out_features == 10


def test_a_function_of_the_users_own_is_a_target(folder: Path) -> None:
    """Theorem 3.3 (ii) from the command line: f(x) = E h(w) relu(⟨w, x⟩), checked against the same by other draws."""
    words = ("--model", "h_for_test:h", "--input-shape", "3", "--set", "features=100,blocks=300,delta=0.1")
    found = slth(*FIND, *words, "-o", "f.ticket", cwd=folder)
    assert found.status == 0 and set(found.err.splitlines()) == {"called"}
    assert "a function of w, 2 outputs; 3 inputs" in found.out and "if |h| <= 1" in found.out
    ticket = package.load_neurons(folder / "f.ticket")
    assert ticket.features_error is not None
    assert ticket.features_error == malach.random_features_error(30_000, ticket.largest.max() * 100, 1, 0.05)
    x = np.random.default_rng(0).normal(size=(50, 3))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    w = np.random.default_rng(1).uniform(-1, 1, (200_000, 3)) / np.sqrt(3)
    f = np.maximum(x @ w.T, 0) @ np.stack([np.sign(w[:, 0]), w[:, 1] ** 2], axis=1) / len(w)
    error = np.abs(ticket.outputs(x) - f).max()
    assert error <= ticket.error_bound + ticket.features_error
    assert error < 0.5 * np.abs(f).max()
    verified = slth("verify", "f.ticket", "--model", "h_for_test:h", cwd=folder)
    assert verified.status == 0 and "0 of 60,000 bits differ" in verified.out and "holds" in verified.out
    lied = slth("verify", "f.ticket", "--model", "h_for_test:other", cwd=folder)
    assert lied.status == 1 and "does not hold" in lied.out
    assert "not checked, without --model" in slth("verify", "f.ticket", cwd=folder).out
    assert_refused(slth("verify", "d.ticket", "--model", "h_for_test:h", cwd=folder), "--model", "--data")
    assert slth("show", "f.ticket", "--html", "f.html", "-q", cwd=folder).status == 0
    assert "to within" in (folder / "f.html").read_text()


def test_tables_are_plain_and_say_what_was_found(folder: Path) -> None:
    found = slth(
        *FIND, "--data", "r.npz", "-o", "again.ticket", "--set", "blocks=20,tau=0.25", "--threads", 1, cwd=folder
    )
    assert (found.status, found.err) == (0, "")
    assert (folder / "again.ticket").read_bytes() == (folder / "r.ticket").read_bytes()
    for words in (("show", "r.ticket"), ("verify", "r.ticket", "--data", "r.npz")):
        result = slth(*words, cwd=folder)
        assert (result.status, result.err) == (0, "")
        assert "training" in result.out and "test" in result.out and "bound: " in result.out
    assert "12,000 neurons: 20 blocks of 600" in found.out and "tau 0.25: kept 2" in found.out


def test_a_ticket_that_lies_does_not_hold(folder: Path) -> None:
    import dataclasses

    ticket = package.load_neurons(folder / "r.ticket")
    mask = ticket.mask.copy()
    mask[0, :3] ^= True
    dataclasses.replace(ticket, mask=mask).save(folder / "lie.ticket")
    result = slth("verify", "lie.ticket", "--data", "r.npz", cwd=folder)
    assert result.status == 1 and result.err == ""
    assert "3 of 12,000 mask bits" in result.out and "kept weights DIFFER" in result.out and "holds (" not in result.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), ("--data", "digits")),
        (("--data", "none"), ("none", "no such file")),
        (("--data", "none.npz"), ("array y",)),
        (("--data", "r.npz", "net.pt"), ("TARGET", "net.pt")),
        (("--data", "r.npz", "--model", "a:b"), ("--data", "r.npz")),
        (("--data", "r.npz", "--input-shape", "3"), ("--input-shape", "3")),
        (("--model", "h_for_test:h"), ("--input-shape", "--input-shape 3")),
        (("--model", "h_for_test:none", "--input-shape", "3"), ("--model", "no 'none'")),
        (("--model", "h_for_test", "--input-shape", "3"), ("--model", "package.module:h")),
        (("--model", "h_for_test:fails", "--input-shape", "3"), ("function", "KeyError")),
        (("--model", "h_for_test:short", "--input-shape", "3"), ("function", "finite numbers")),
        (("--model", "h_for_test:h", "--input-shape", "3", "--set", "ridge=1"), ("--set", "ridge")),
        (("--model", "h_for_test:h", "--input-shape", "3", "--threads", "2"), ("--threads",)),
        (("--data", "r.npz", "--tolerance", "0.1"), ("--tolerance", "neurons")),
        (("--data", "r.npz", "--objective", "sparsest"), ("--objective", "sparsest")),
        (("--data", "r.npz", "--seed", "-1"), ("--seed", "-1")),
        (("--data", "r.npz", "--threads", "0"), ("--threads", "0")),
        (("--data", "r.npz", "--activation", "relux"), ("activation", "relux")),
        (("--data", "r.npz", "--set", "tau=0.6"), ("tau", "0.6", "at most 0.5")),
        (("--data", "r.npz", "--set", "tau=high"), ("--set", "tau=high", "a number")),
        (("--data", "r.npz", "--set", "features=1.5"), ("--set", "a whole number")),
        (("--data", "r.npz", "--set", "constant=2"), ("--set", "0 or 1")),
        (("--data", "r.npz", "--set", "colour=2"), ("--set", "colour=2", "features, blocks, tau")),
        (("--data", "r.npz", "--set", "tau"), ("--set", "'tau'")),
        (("--data", "r.npz", "--set", "tau=0.1,tau=0.2"), ("--set", "each once")),
        (("--data", "r.npz", "--set", "law=cauchy"), ("law", "cauchy", "sphere")),
        (("--data", "r.npz", "--set", "task=classification"), ("class numbers",)),
        (("--data", "c.npz", "--set", "features=0"), ("features", "0")),
        (("--data", "c.npz", "--set", "blocks=99999999"), ("blocks", "fewer blocks")),
        (("--data", "c.npz", "-o", "c.npz"), ("c.npz", "the file that the command reads")),
        (("--data", "c.npz", "-o", "missing/o.ticket"), ("missing folder",)),
    ],
    ids=lambda value: " ".join(value),
)
def test_bad_arguments_are_refused(words: tuple[str, ...], said: tuple[str, ...], folder: Path) -> None:
    before = files_in(folder)
    output = () if "-o" in words else ("-o", "out.ticket")
    assert_refused(slth(*FIND, *output, *words, cwd=folder), *said)
    assert files_in(folder) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("verify", "d.ticket"), ("--data", "fitted to")),
        (("verify", "d.ticket", "--data", "r.npz"), ("r.npz",)),
        (("verify", "r.ticket", "--data", "c.npz"), ("c.npz", "digest")),
        (("verify", "r.ticket", "--data", "r.npz", "--domain", "0,1"), ("--domain", "neurons")),
        (("verify", "r.ticket", "--target", "r.npz"), ("--target", "r.npz")),
        (("show", "r.ticket", "--html", "missing/page.html"), ("missing folder",)),
        (("show", "r.ticket", "--html", "r.ticket"), ("r.ticket", "the file that the command reads")),
        (("find", "net.pt", "--data", "digits", "-o", "o.ticket"), ("--data", "--construction neurons")),
    ],
    ids=lambda value: " ".join(value),
)
def test_what_does_not_go_with_neurons_is_refused(words: tuple[str, ...], said: tuple[str, ...], folder: Path) -> None:
    before = files_in(folder)
    assert_refused(slth(*words, cwd=folder), *said)
    assert files_in(folder) == before


def test_a_damaged_ticket_is_refused_by_verify_and_show(folder: Path) -> None:
    content = (folder / "r.ticket").read_bytes()
    for name, damaged in (("cut", content[:-1]), ("flip", content[:-3] + b"\0" + content[-2:]), ("empty", b"")):
        (folder / f"{name}.ticket").write_bytes(damaged)
        for words in (("show", f"{name}.ticket"), ("verify", f"{name}.ticket", "--data", "r.npz")):
            assert_refused(slth(*words, cwd=folder))
