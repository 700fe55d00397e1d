"""slth certify, and slth verify --certificate, as a person runs them."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import slth as package
from command_line import PROGRAM, Result, assert_refused, files_in, labelled_data, make_folder, slth, small_net
from slth.certify.certificate import load_certificate

TICKET = ("net.ticket", "--target", "net.pt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small net, its ticket, another ticket for the same net, one for inputs of any sign, and data."""
    home = make_folder(tmp_path_factory.mktemp("certify"))
    package.find_ticket(small_net(), base_set_size=12, domain=(0, 1)).save(home / "net.ticket")
    package.find_ticket(small_net(), base_set_size=12, domain=(0, 1), seed=1).save(home / "other.ticket")
    package.find_ticket(small_net(), base_set_size=12).save(home / "signed.ticket")
    x, y = labelled_data()
    np.savez(home / "less.npz", x=x[:3], y=y[:3])
    np.savez(home / "moved.npz", x=np.clip(x + 1e-9, 0, 1), y=y)
    assert slth("certify", *TICKET, "--domain", "0,1", "-o", "box.json", "-q", cwd=home) == Result(0, "", "")
    words = ("--around", "data.npz", "--domain", "0,1", "--radius", 0.01, "--count", 4, "--labels", "-o", "boxes.json")
    assert slth("certify", *TICKET, *words, "-q", cwd=home) == Result(0, "", "")
    return home


def parse(result: Result) -> dict[str, Any]:
    """The one JSON object on standard output."""
    assert result.err == "", result.err
    value: dict[str, Any] = json.loads(result.out)
    return value


GOOD = {
    "--domain 0,1": "over [0, 1]",
    "--domain 0,1 --norm l1": "add up to at most",
    "--domain 0,1 --norm l2 --method norm": "proved by norm bounds",
    "--domain 0,1 --norm components --method interval": "by output: ",
    "--points data.npz": "over 50 inputs of data.npz",
    "--points data.npz --count 3 --labels": "same class, provably: ",
    "--around data.npz --domain 0,1 --radius 0.01 --count 2": "boxes of radius 0.01 around 2 inputs of data.npz",
    "--around data.npz --domain 0,1 --radius 0.01 --count 2 --ball 1": "L1 balls of radius 0.01 around 2 inputs",
    "--around data.npz --domain 0,1 --radius 0.01 --count 1 --labels": "and all around them: ",
    "--domain 0,1 --data data.npz": "observed: ",
    "--mean 0 --std 0.5": "pixels in [0, 1] less 0, divided by 0.5",
    "--mean 0 --std 0.5 --points data.npz --count 2": "2 inputs of data.npz",
}


@pytest.mark.parametrize("words", GOOD)
def test_it_says_what_is_proved_and_what_is_found(words: str, folder: Path) -> None:
    result = slth("certify", *TICKET, *words.split(), cwd=folder)
    assert (result.status, result.err) == (0, ""), result
    assert GOOD[words] in result.out
    assert result.out.startswith("certified: ") and "observed: the largest difference found is " in result.out
    facts = parse(slth("certify", *TICKET, *words.split(), "--json", cwd=folder))
    assert 0 < facts["observed_error"] <= facts["certified_error"]
    assert facts["certificate_bytes"] is None
    # What is printed is not less than what was proved.
    shown = next(word for word in result.out.replace(";", "").split() if word[0].isdigit())
    assert float(shown) >= facts["certified_error"]


def test_balls_around_nothing_are_around_0(folder: Path) -> None:
    words = ("signed.ticket", "--target", "net.pt", "--ball", 2, "--radius", 0.5, "-o", folder / "ball.json")
    result = slth("certify", *words, cwd=folder)
    assert result.status == 0 and "over the Euclidean ball of radius 0.5 around 0" in result.out
    again = slth("verify", *words[:3], "--certificate", "ball.json", cwd=folder)
    assert again.status == 0 and again.out.splitlines()[-1] == "the certificate holds"


def test_a_certificate_holds_and_a_smaller_claim_does_not(folder: Path, tmp_path: Path) -> None:
    for name in ("net.ticket", "net.pt", "data.npz", "box.json", "boxes.json"):
        shutil.copy(folder / name, tmp_path)
    for name, more in (("box.json", ()), ("boxes.json", ("--data", "data.npz"))):
        result = slth("verify", *TICKET, "--certificate", name, *more, cwd=tmp_path)
        assert (result.status, result.err) == (0, "")
        assert "the certificate holds" in result.out and "claimed: no output differs" in result.out
        claim = load_certificate(tmp_path / name)
        value = claim.to_json() | {"certified_error": claim.certified_error * 0.99}
        (tmp_path / "lie.json").write_text(json.dumps(value, sort_keys=True, separators=(",", ":")) + "\n")
        result = slth("verify", *TICKET, "--certificate", "lie.json", *more, cwd=tmp_path)
        assert (result.status, result.err) == (1, "") and "does not hold: it claims an error" in result.out
        facts = parse(slth("verify", *TICKET, "--certificate", "lie.json", *more, "--json", cwd=tmp_path))
        assert facts["holds"] is False and facts["again"]["certified_error"] == claim.certified_error
    words = ("--certificate", "box.json", "--quiet")
    assert slth("verify", *TICKET, *words, cwd=tmp_path) == Result(0, "", "")


BAD_CHECKS = {
    "other.ticket --certificate box.json": ("ticket: got one with digest",),
    "other.ticket --certificate boxes.json --data data.npz": ("ticket: got",),
    "net.ticket --certificate boxes.json": ("data: got none", "4 inputs"),
    "net.ticket --certificate boxes.json --data less.npz": ("data: got 3 inputs",),
    "net.ticket --certificate boxes.json --data moved.npz": ("data: got inputs with digest",),
    "net.ticket --certificate missing.json": ("missing.json", "no such file"),
    "net.ticket --certificate net.pt": ("net.pt", "not JSON"),
    "net.ticket --certificate box.json --domain 0,1": ("--certificate", "--domain"),
    "net.ticket --certificate box.json --eps 1": ("--certificate", "--eps"),
    "net.ticket --certificate box.json --mean 1": ("--mean",),
    "net.ticket --domain 0,1 --method magic": ("--method", "magic"),
}


@pytest.mark.parametrize("words", BAD_CHECKS)
def test_what_does_not_belong_together_is_refused(words: str, folder: Path) -> None:
    ticket, *more = words.split()
    assert_refused(slth("verify", ticket, "--target", "net.pt", *more, cwd=folder), *BAD_CHECKS[words])


BAD = {
    "": ("--domain: got none", "--around"),
    "--domain 1,0": ("--domain",),
    "--domain nan,1": ("--domain",),
    "--domain=-1,1": ("sign that the ticket was not made for",),
    "--radius 0.1": ("--radius",),
    "--radius 0.1 --domain 0,1": ("--radius",),
    "--ball 2": ("--radius: got none",),
    "--ball 3 --radius 1": ("--ball: got 3",),
    "--ball 2 --points data.npz --radius 1": ("--ball",),
    "--around data.npz": ("--radius: got none",),
    "--around data.npz --radius -1 --domain 0,1": ("--radius: got -1",),
    "--around data.npz --radius nan --domain 0,1": ("--radius: got nan",),
    "--around data.npz --radius 0.1 --domain 0,0.5": ("inputs outside [0, 0.5]",),
    "--around data.npz --points data.npz --radius 1": ("--points",),
    "--points data.npz --count 0": ("--count: got 0",),
    "--domain 0,1 --count 3": ("--count",),
    "--points missing.npz": ("missing.npz",),
    "--points other_shape.npz": ("other_shape.npz",),
    "--domain 0,1 --norm l7": ("--norm: got 'l7'",),
    "--domain 0,1 --method magic": ("--method: got 'magic'",),
    "--domain 0,1 --labels": ("--labels",),
    "--points data.npz --labels --method interval": ("--labels",),
    "--mean 1": ("--mean",),
    "--mean a --std 1": ("--mean", "'a'"),
    "--mean 0 --std 0": ("--std",),
    "--mean 0,0,0 --std 1 --points data.npz": ("--mean", "3 numbers"),
    "--domain 0,1 --seed -1": ("--seed",),
    "--domain 0,1 -o net.ticket": ("net.ticket", "the file that the command reads"),
    "--domain 0,1 -o no/c.json": ("no/c.json", "missing folder"),
    "--target other.safetensors --domain 0,1": ("target",),
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(words: str, folder: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    shutil.copytree(folder, home)
    np.savez(home / "other_shape.npz", x=np.zeros((2, 5)))
    torch.manual_seed(5)
    save_file(nn.Linear(3, 2).state_dict(), home / "other.safetensors")
    before = files_in(home)
    assert_refused(slth("certify", *TICKET, *words.split(), cwd=home), *BAD[words])
    assert files_in(home) == before


def test_ctrl_c_during_a_proof_stops_it_within_a_second(tmp_path: Path) -> None:
    home = make_folder(tmp_path / "home")
    torch.manual_seed(0)
    wide = nn.Sequential(*(part for _ in range(4) for part in (nn.Linear(600, 600), nn.ReLU())), nn.Linear(600, 9))
    save_file(wide.state_dict(), home / "wide.safetensors")
    package.find_ticket(wide, base_set_size=4, domain=(0, 1)).save(home / "wide.ticket")
    np.savez(home / "many.npz", x=np.random.default_rng(0).random((5000, 600), np.float32))
    before = files_in(home)
    words = ("certify", "wide.ticket", "--target", "wide.safetensors", "--domain", "0,1", "-o", "c.json")
    words += ("--around", "many.npz", "--radius", "0.01", "--count", "5000")
    proof = subprocess.Popen([*PROGRAM, *words], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        time.sleep(4)
        assert proof.poll() is None, "it was done before it could be stopped"
        begin = time.monotonic()
        proof.send_signal(signal.SIGINT)
        out, err = proof.communicate(timeout=30)
        seconds = time.monotonic() - begin
    finally:
        proof.kill()
    assert (proof.returncode, out, err) == (130, "", "stopped; nothing was written\n")
    assert files_in(home) == before
    # A second is what is promised; a busy machine is given two.
    assert seconds < 2
