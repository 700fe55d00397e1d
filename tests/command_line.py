"""Running the command line in tests: in this process where the process is not the point, as a program where it is."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import nn

from slth.cli import main

_SCRIPT = shutil.which("slth", path=str(Path(sys.executable).parent))
PROGRAM = [_SCRIPT] if _SCRIPT else [sys.executable, "-c", "from slth.cli import main; main()"]


@dataclass(frozen=True)
class Result:
    """Exit status and what was written to standard output and standard error."""

    status: int
    out: str
    err: str


def slth(*arguments: object, cwd: Path) -> Result:
    """Run a command in this process; what a real process would print, warnings and C++ output included."""
    argv, threads = sys.argv, torch.get_num_threads()
    quiet_kinds = (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning)
    with contextlib.chdir(cwd), _streams() as (out, err), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for kind in quiet_kinds:
            warnings.simplefilter("ignore", kind)
        sys.argv = ["slth", *map(str, arguments)]
        # Two threads on nets this small wait for each other most of the time, above all on a busy machine.
        torch.set_num_threads(1)
        status: Any = None
        try:
            main()
        except SystemExit as error:
            status = error.code
        finally:
            sys.argv = argv
            torch.set_num_threads(threads)
        sys.stdout.flush()
        sys.stderr.flush()
        warned = "".join(f"{warning.message}\n" for warning in caught)
        return Result(int(status or 0), _text(out), _text(err) + warned)


@contextlib.contextmanager
def _streams() -> Iterator[tuple[Any, Any]]:
    """Both standard streams and their file descriptors, sent to files."""
    saved = sys.stdout, sys.stderr
    descriptors = os.dup(1), os.dup(2)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        for stream, number in zip(saved, (1, 2), strict=True):
            stream.flush()
            os.dup2((out, err)[number - 1].fileno(), number)
        sys.stdout = io.TextIOWrapper(os.fdopen(os.dup(1), "wb", 0), write_through=True)
        sys.stderr = io.TextIOWrapper(os.fdopen(os.dup(2), "wb", 0), write_through=True)
        try:
            yield out, err
        finally:
            sys.stdout.close()
            sys.stderr.close()
            sys.stdout, sys.stderr = saved
            for number, descriptor in zip((1, 2), descriptors, strict=True):
                os.dup2(descriptor, number)
                os.close(descriptor)


def _text(stream: Any) -> str:
    stream.seek(0)
    text: str = stream.read().decode()
    return text


def program(*arguments: object, cwd: Path, prefix: tuple[str, ...] = (), **options: Any) -> Result:
    """Run the installed program in a process of its own."""
    words = [*prefix, *PROGRAM, *map(str, arguments)]
    options = {"capture_output": True, "stdin": subprocess.DEVNULL, "timeout": 120} | options
    done = subprocess.run(words, cwd=cwd, text=True, check=False, **options)
    return Result(done.returncode, done.stdout or "", done.stderr or "")


def files_in(folder: Path) -> dict[str, str]:
    """Digest of every file in a folder, hidden ones included, and the names of all else."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if "__pycache__" in name:
            continue
        plain = path.is_file() and not path.is_symlink()
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if plain else "not a plain file"
    return found


def assert_refused(result: Result, *words: str) -> None:
    """Exit status 2, nothing on standard output, and one line on standard error that holds all the words."""
    assert result.status == 2, result
    assert result.out == ""
    assert result.err.count("\n") == 1 and result.err.endswith("\n"), result.err
    assert result.err.startswith("error: "), result.err
    for word in words:
        assert word in result.err, (word, result.err)


class Witness:
    """An object whose unpickling leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, (str(self.path),)


def small_net() -> nn.Sequential:
    """12-8-6-4, as in the folder's files."""
    generator = torch.Generator().manual_seed(0)
    net = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    for parameter in net.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator)
    return net.eval()


def labelled_data() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Fifty inputs in [0, 1] and labels: the small net's own answers, every tenth one wrong."""
    inputs = np.random.default_rng(0).random((50, 12)).astype(np.float32)
    with torch.no_grad():
        labels = small_net()(torch.from_numpy(inputs)).argmax(dim=1).numpy()
    labels[::10] = (labels[::10] + 1) % 4
    return inputs, labels


def make_folder(folder: Path) -> Path:
    """A new user's folder: the small net in two formats, data, and factories in ``zoo_of_nets.py``."""
    folder.mkdir(exist_ok=True)
    net = small_net()
    save_file(net.state_dict(), folder / "net.safetensors")
    torch.save(net.state_dict(), folder / "net.pt")
    inputs, labels = labelled_data()
    np.savez(folder / "data.npz", x=inputs, y=labels)
    (folder / "zoo_of_nets.py").write_text(FACTORIES)
    return folder


FACTORIES = """
import sys

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn

example = torch.zeros


def small():
    net = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 4))
    net.load_state_dict(load_file("net.safetensors"))
    return net


def chatty():
    print("loading the model ...")
    return small()


def pair():
    return small(), example(1, 12)


def wrong_pair():
    return small(), example(1, 13)


def pair_without_batch():
    return small(), example(12)


class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc1, self.fc2, self.drop = nn.Linear(12, 8), nn.Linear(8, 4), nn.Dropout()

    def forward(self, x):
        return self.fc2(self.drop(F.relu(self.fc1(x.view(x.size(0), -1)))))


instance = Small()


def with_argument(x):
    return small()


def raises():
    raise RuntimeError("no such checkpoint\\nsecond line")


def leaves():
    sys.exit(3)


def number():
    return 42


def nothing():
    return None


def dense(*middle):
    return nn.Sequential(nn.Linear(12, 8), *middle, nn.Linear(8, 2)), example(1, 12)


def batch_norm():
    return dense(nn.BatchNorm1d(8), nn.ReLU())


def batch_norm_2d():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.ReLU()), example(1, 1, 8, 8)


def layer_norm():
    return dense(nn.LayerNorm(8), nn.ReLU())


def mish():
    return dense(nn.Mish())


def selu():
    return dense(nn.SELU())


def softmax():
    return nn.Sequential(nn.Linear(12, 2), nn.Softmax(1)), example(1, 12)


def log_softmax():
    return nn.Sequential(nn.Linear(12, 2), nn.LogSoftmax(1)), example(1, 12)


def transposed():
    return nn.Sequential(nn.ConvTranspose2d(1, 2, 3)), example(1, 1, 8, 8)


def embedding():
    return nn.Sequential(nn.Embedding(9, 4), nn.Flatten(), nn.Linear(12, 2)), example(1, 3, dtype=torch.long)


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.memory, self.head = kind(4, 8, batch_first=True), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.memory(x)[0][:, -1])


def lstm():
    return Recurrent(nn.LSTM), example(1, 5, 4)


def gru():
    return Recurrent(nn.GRU), example(1, 5, 4)


class Forward(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.fc1, self.fc2, self.how = nn.Linear(12, 12), nn.Linear(24, 3), forward

    def forward(self, x):
        return self.how(self, x)


def residual():
    return Forward(lambda m, x: x + F.relu(m.fc1(x))), example(1, 12)


def concatenated():
    return Forward(lambda m, x: m.fc2(torch.cat([x, F.relu(m.fc1(x))], 1))), example(1, 12)


def multiplied():
    return Forward(lambda m, x: m.fc1(2.0 * x)), example(1, 12)


def product():
    return Forward(lambda m, x: torch.matmul(x, m.fc1.weight)), example(1, 12)


def shared():
    return Forward(lambda m, x: m.fc1(F.relu(m.fc1(x)))), example(1, 12)


def noise():
    return Forward(lambda m, x: m.fc1(x) + torch.randn_like(x)), example(1, 12)


def dropout_on():
    return Forward(lambda m, x: F.dropout(m.fc1(x))), example(1, 12)


def batch_statistics():
    return nn.Sequential(nn.Linear(12, 4), nn.BatchNorm1d(4, track_running_stats=False)), example(2, 12)


def batch_mean():
    return Forward(lambda m, x: m.fc1(x) - x.mean(0)), example(2, 12)


def chosen_rows():
    return Forward(lambda m, x: m.fc1(x[x[:, 0] > 0])), torch.ones(2, 12)


def strange():
    return Forward(lambda m, x: torch.erfinv(m.fc1(x))), example(1, 12)


def total():
    return Forward(lambda m, x: m.fc1(x).sum()), example(1, 12)


def spectrum():
    return Forward(lambda m, x: torch.fft.rfft(m.fc1(x))), example(1, 12)


def complex_weights():
    model = Forward(lambda m, x: torch.fft.irfft(torch.fft.rfft(m.fc1(x)) * m.gain))
    model.gain = nn.Parameter(torch.ones(7, dtype=torch.complex64))
    return model, example(1, 12)


def no_numbers():
    return nn.Sequential(nn.Linear(12, 4, device="meta")), example(1, 12)


def scripted():
    return torch.jit.script(nn.Sequential(nn.Linear(12, 4))), example(1, 12)


class Packed(Recurrent):
    def forward(self, x):
        lengths = torch.full((len(x),), 5)
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return self.head(nn.utils.rnn.pad_packed_sequence(self.memory(packed)[0], batch_first=True)[0])


def packed():
    return Packed(nn.LSTM), example(1, 5, 4)


def branch():
    return Forward(lambda m, x: m.fc1(x) if x.sum() > 0 else x)


class TwoInputs(nn.Linear):
    def forward(self, x, y):
        return super().forward(x + y)


def two_inputs():
    return TwoInputs(12, 3)


def uneven():
    return TwoInputs(12, 3), example(2, 12), torch.rand(2, 12)


def only_relu():
    return nn.ReLU(), example(1, 12)


def not_finite():
    net = small()
    net[2].bias.data[3] = float("-inf")
    return net


def plain_cnn():
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(), nn.Linear(2 * 13 * 13, 3)
    )


def colour_cnn():
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 4, 3, groups=2, bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 2),
    )


def signal():
    return nn.Sequential(nn.Conv1d(2, 3, 5, dilation=2), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 24, 2)), example(
        1, 2, 32
    )


def volume():
    return nn.Sequential(nn.Conv3d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 4**3, 2)), example(1, 1, 6, 6, 6)


class Flat(nn.Module):
    def __init__(self, flatten):
        super().__init__()
        self.conv, self.fc, self.flatten = nn.Conv2d(1, 2, 3), nn.Linear(2 * 4 * 4, 2), flatten

    def forward(self, x):
        return self.fc(F.dropout(self.flatten(F.relu(self.conv(x))), training=self.training))


def view():
    return Flat(lambda x: x.view(x.size(0), -1)), example(1, 1, 6, 6)


def view_of_the_rest():
    return Flat(lambda x: x.view(-1, 32)), example(1, 1, 6, 6)


def reshape():
    return Flat(lambda x: x.reshape(len(x), -1)), example(1, 1, 6, 6)


def flatten():
    return Flat(lambda x: torch.flatten(x, 1)), example(1, 1, 6, 6)


def wide():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(200, 150), nn.ReLU(), nn.Linear(150, 10))
"""
