"""Two models as people train them, small: a convolutional net with residuals, and a transformer whose texts differ in length.

What a run computes follows from its seed alone: data are made on the host, in float32, and every operation here has a deterministic
form on the device (no pooling by maxima, no fused attention). So two runs that differ only in where their memory comes from end with
the same bits. Sizes: "small" for a processor's seconds; "real" has peaks of some GiB, of many blocks, and is bound by the device.
"""

import hashlib
import os
from collections.abc import Callable, Iterator
from typing import NamedTuple

# Read when cuBLAS starts: the workspaces with which it promises the same sums in each run.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

import torch
from torch import Tensor, nn
from torch.nn import functional

SIZES = {
    "small": {"width": 8, "images": 8, "side": 16, "model": 32, "layers": 2, "heads": 2, "words": 97, "texts": 4, "longest": 24},
    "real": {"width": 64, "images": 128, "side": 64, "model": 512, "layers": 6, "heads": 8, "words": 8192, "texts": 16, "longest": 512},
}
CLASSES = 10
BATCHES = 4


def deterministic() -> None:
    """Asks for the same bits in each run; what cannot promise them raises."""
    torch.use_deterministic_algorithms(True)
    # Writing to all fresh memory is for finding who reads it, and takes time that no training run takes.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


class Block(nn.Module):
    """Two convolutions beside a short cut."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(inner, outer, 3, stride, 1, bias=False)
        self.norm = nn.BatchNorm2d(outer)
        self.second = nn.Conv2d(outer, outer, 3, 1, 1, bias=False)
        self.last = nn.BatchNorm2d(outer)
        self.short = nn.Conv2d(inner, outer, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        inside = functional.relu(self.norm(self.first(x)))
        return functional.relu(self.last(self.second(inside)) + self.short(x))


class ConvNet(nn.Module):
    """Three stages; each halves the side and doubles the width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 1, 1)
        self.blocks = nn.Sequential(Block(width, width, 1), Block(width, 2 * width, 2), Block(2 * width, 4 * width, 2))
        self.head = nn.Linear(4 * width, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        # A plain mean: adaptive pooling adds in no fixed order when it goes back.
        return self.head(self.blocks(functional.relu(self.stem(x))).mean((2, 3)))


class Layer(nn.Module):
    """Attention and a net for each word, both behind a norm."""

    def __init__(self, model: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(model), nn.LayerNorm(model)
        self.three, self.out = nn.Linear(model, 3 * model), nn.Linear(model, model)
        self.net = nn.Sequential(nn.Linear(model, 4 * model), nn.GELU(), nn.Linear(4 * model, model))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        texts, length, model = x.shape
        parts = self.three(self.before(x)).view(texts, length, 3, self.heads, model // self.heads).permute(2, 0, 3, 1, 4)
        # By hand: the fused kernels' way back is not deterministic, and this is what allocates.
        scores = parts[0] @ parts[1].transpose(-1, -2) * (model // self.heads) ** -0.5
        weights = functional.dropout(scores.masked_fill(mask, float("-inf")).softmax(-1), 0.1, self.training)
        x = x + self.out((weights @ parts[2]).transpose(1, 2).reshape(texts, length, model))
        return x + self.net(self.between(x))


class Transformer(nn.Module):
    """Says which word comes next."""

    def __init__(self, words: int, longest: int, model: int, layers: int, heads: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(words, model), nn.Parameter(torch.zeros(longest, model))
        self.layers = nn.ModuleList(Layer(model, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(model), nn.Linear(model, words, bias=False)

    def forward(self, text: Tensor) -> Tensor:
        length = text.shape[1]
        mask = torch.ones(length, length, dtype=torch.bool, device=text.device).triu(1)
        x = self.words(text) + self.places[:length]
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(self.norm(x))


def images(size: dict[str, int], random: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Noise with a bright row that tells the class. The last batch is short, as at the end of data."""
    batches = []
    for number in range(BATCHES):
        count = size["images"] if number < BATCHES - 1 else size["images"] * 5 // 8
        labels = torch.randint(CLASSES, (count,), generator=random)
        pictures = torch.randn(count, 3, size["side"], size["side"], generator=random)
        pictures[torch.arange(count), :, labels] += 2.0
        batches.append((pictures, labels))
    return batches


def texts(size: dict[str, int], random: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    """Words of which each follows from the one before. Every batch has its own length."""
    batches = []
    for number in range(2 * BATCHES):
        longest = size["longest"]
        length = longest if number == 0 else int(torch.randint(longest // 3, longest, (1,), generator=random))
        words = [torch.randint(size["words"], (size["texts"],), generator=random)]
        for _ in range(length):
            words.append((words[-1] * 3 + 1) % size["words"])
        text = torch.stack(words, 1)
        batches.append((text[:, :-1].contiguous(), text[:, 1:].contiguous()))
    return batches


class Run(NamedTuple):
    """A training under way."""

    model: nn.Module
    step: Callable[[], Tensor]

    def train(self, steps: int) -> list[float]:
        """The losses. They are asked for at the end, so that no step waits for the device."""
        losses = [self.step() for _ in range(steps)]
        return torch.stack(losses).tolist()

    def digest(self) -> str:
        """Of the bits of all parameters and buffers."""
        whole = hashlib.sha256()
        for name, value in sorted(self.model.state_dict().items()):
            whole.update(name.encode())
            whole.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return whole.hexdigest()


def begin(kind: str, size_name: str, device: str, seed: int = 7) -> Run:
    """A fresh training of "conv" or "transformer"."""
    size = SIZES[size_name]
    torch.manual_seed(seed)
    random = torch.Generator().manual_seed(seed)
    model: nn.Module
    if kind == "conv":
        model, batches = ConvNet(size["width"]), images(size, random)
    else:
        model = Transformer(size["words"], size["longest"], size["model"], size["layers"], size["heads"])
        batches = texts(size, random)
    model.to(device).train()
    optimizer: torch.optim.Optimizer
    if kind == "conv":
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    else:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    on = _forever(batches, device)

    def step() -> Tensor:
        given, wanted = next(on)
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(given).flatten(0, -2), wanted.flatten())
        loss.backward()
        optimizer.step()
        return loss.detach()

    return Run(model, step)


def _forever(batches: list[tuple[Tensor, Tensor]], device: str) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        for given, wanted in batches:
            yield given.to(device), wanted.to(device)
