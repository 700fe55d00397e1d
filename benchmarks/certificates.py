"""Measures certified errors against observed ones on trained networks, and renews that part of docs/certificates.md.

Networks that are not there yet are trained first, from a fixed seed, and kept: two perceptrons and LeNet5.
"""

from __future__ import annotations

import argparse
import runpy
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

import slth
from slth.bench.certificates import Line, measure, table
from slth.bench.machine import describe
from slth.bench.page import BEGIN, END, split
from slth.commands.screen import progress_bar
from slth.data import Data
from slth.domain import Domain
from slth.files import write_atomically
from slth.learn.perceptron import split_data, train_perceptron
from slth.network.target import Target
from slth.network.trace import trace

DOCS = Path(__file__).resolve().parent.parent / "docs"
LENET5 = runpy.run_path(str(DOCS.parent / "examples" / "lenet5.py"))["LeNet5"]
PERCEPTRONS = {"784-500-10": (500,), "784-300-100-10": (300, 100)}
RADII = (0.01, 0.05, None)
BASE_SET_SIZES = {0.01: 28, 0.001: 32}
"""Elements with which hardly a weight is missed (chosen)."""
EMPTY = f"# Certificates, measured\n\n{BEGIN}\n{END}\n"


def perceptron(folder: Path, name: str, train: Data, test: Data) -> Target:
    """A perceptron from its file, or trained."""
    file, hidden = folder / f"{name}.safetensors", PERCEPTRONS[name]
    if not file.exists():
        save_file(train_perceptron(train, test, hidden).network.state_dict(), file)
    weights = load_file(file)
    layers: list[nn.Module] = []
    for number, weight in enumerate(part for part in weights.values() if part.dim() == 2):
        layers += ([nn.ReLU()] if number else []) + [nn.Linear(weight.shape[1], weight.shape[0])]
    network = nn.Sequential(*layers)
    network.load_state_dict(weights)
    return trace(network.eval(), torch.zeros(1, 784))


def lenet(folder: Path, file: Path | None, train: Data) -> Target:
    """LeNet5 from its file, or trained by Adam for three passes."""
    network = LENET5()
    file = file or folder / "lenet5.safetensors"
    if not file.exists():
        torch.manual_seed(0)
        network = LENET5()
        x, y = train.inputs.reshape(-1, 1, 28, 28).to(torch.float32), train.labels
        assert y is not None
        optimiser = torch.optim.Adam(network.parameters(), lr=2e-3)
        for batch in (part for _ in range(3) for part in torch.randperm(len(x)).split(128)):
            optimiser.zero_grad()
            nn.functional.cross_entropy(network(x[batch]), y[batch]).backward()
            optimiser.step()
        save_file(network.state_dict(), file)
    network.load_state_dict(load_file(file))
    return trace(network.eval(), torch.zeros(1, 1, 28, 28))


def arguments() -> argparse.Namespace:
    """What was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help="MNIST as a folder of IDX files")
    parser.add_argument("--networks", type=Path, default=Path("networks"), help="folder of the trained networks")
    parser.add_argument("--lenet", type=Path, help="a LeNet5 of your own, .safetensors")
    parser.add_argument("--only", default="784-500-10,784-300-100-10,LeNet5", help="names between commas")
    parser.add_argument("--inputs", type=int, default=1000, help="test images with a box around each")
    parser.add_argument("--lenet-inputs", type=int, default=50, help="the same for LeNet5")
    parser.add_argument("--tolerances", default="0.01,0.001", help="of each weight, between commas")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=DOCS / "certificates.md", help="page to renew; - for none")
    return parser.parse_args()


def main() -> None:
    """Measure, show and write."""
    asked = arguments()
    asked.networks.mkdir(parents=True, exist_ok=True)
    train, test = split_data(asked.data)
    domain, lines, begin = Domain.parse((0, 1)), [], time.perf_counter()
    with progress_bar(True) as bar:
        for name in asked.only.split(","):
            target = lenet(asked.networks, asked.lenet, train) if name == "LeNet5" else None
            target = target or perceptron(asked.networks, name, train, test)
            n = asked.lenet_inputs if name == "LeNet5" else asked.inputs
            inputs = test.inputs_for(target.graph.input_shape)[:n]
            for tolerance in map(float, asked.tolerances.split(",")):
                size = BASE_SET_SIZES.get(tolerance, 24)
                options = {"base_set_size": size, "tolerance": tolerance, "objective": "sparsest"}
                ticket = slth.find_ticket(target, domain=(0, 1), **options)
                lines += measure(name, target, ticket, tolerance, inputs, RADII, domain, asked.threads, bar.update)
    text = said(lines, asked, time.perf_counter() - begin)
    sys.stdout.write(f"{text}\n")
    if str(asked.output) != "-":
        before, after = split(asked.output, EMPTY)
        write_atomically(asked.output, f"{before}{BEGIN}\n\n{text}\n{END}{after}".encode())


def said(lines: list[Line], asked: argparse.Namespace, seconds: float) -> str:
    """The measured part of the page."""
    machine = "\n".join(f"* {name}: {value}" for name, value in describe(["torch"]).items())
    command = f"python benchmarks/certificates.py --inputs {asked.inputs} --lenet-inputs {asked.lenet_inputs}"
    total = sum(line.violations for line in lines)
    return (
        f"Measured with `{command} --threads {asked.threads}` on MNIST's test images in {seconds / 60:.0f} minutes."
        f"\n\n{machine}\n\n{table(lines).markdown()}\n\nBoxes in which more was found than is certified: {total}."
    )


if __name__ == "__main__":
    main()
