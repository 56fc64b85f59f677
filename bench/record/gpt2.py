"""GPT-2 with four of its twelve layers, in plain NumPy: forward, backward, and Adam.

The shapes are those of GPT-2 small (Radford et al., 2019): width 768, 12 heads, 50,257 tokens, the output tied to the token
table. The text is this repository's README.md, and a token is a byte of it: which tokens occur changes no shape.
"""

from pathlib import Path

import numpy as np

LAYERS, WIDTH, HEADS, VOCABULARY = 4, 768, 12, 50_257
BATCH, LENGTH = 4, 128
LEARNING_RATE, BETA1, BETA2, EPSILON = 3e-4, 0.9, 0.999, 1e-8
SEED = 7
TEXT = Path(__file__).resolve().parents[2] / "README.md"
HEAD = WIDTH // HEADS
CURVE = float(np.sqrt(2 / np.pi))


def initial_weights(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """All weights by name: normal with deviation 0.02, biases zero, scales one."""
    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32) * np.float32(0.02)

    weights = {"tokens": normal(VOCABULARY, WIDTH), "places": normal(LENGTH, WIDTH)}
    for layer in range(LAYERS):
        for name, rows, columns in (
            ("attend", WIDTH, 3 * WIDTH),
            ("merge", WIDTH, WIDTH),
            ("widen", WIDTH, 4 * WIDTH),
            ("narrow", 4 * WIDTH, WIDTH),
        ):
            weights[f"{layer}.{name}"] = normal(rows, columns)
            weights[f"{layer}.{name}.bias"] = np.zeros(columns, np.float32)
    for norm in [*(f"{layer}.norm{number}" for layer in range(LAYERS) for number in (1, 2)), "norm"]:
        weights[norm] = np.ones(WIDTH, np.float32)
        weights[f"{norm}.bias"] = np.zeros(WIDTH, np.float32)
    return weights


class Training:
    """Weights, moments, and a batch that it learns step by step. `kept` holds what backward needs of forward."""

    def __init__(self) -> None:
        rng = np.random.default_rng(SEED)
        text = np.frombuffer(TEXT.read_bytes(), np.uint8)[: BATCH * LENGTH + 1].astype(np.int64)
        self.inputs = text[:-1].reshape(BATCH, LENGTH)
        self.targets = text[1:]
        self.mask = np.triu(np.full((LENGTH, LENGTH), -1e9, np.float32), 1)
        self.weights = initial_weights(rng)
        self.moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in self.weights.items()}
        self.gradients: dict[str, np.ndarray] = {}
        self.kept: dict[str, tuple] = {}
        self.count = 0

    def step(self) -> float:
        """Forward, backward, update; the loss before the update."""
        loss, grad = self.forward()
        self.backward(grad)
        self.count += 1
        for name, gradient in self.gradients.items():
            mean, square = self.moments[name]
            mean = BETA1 * mean + (1 - BETA1) * gradient
            square = BETA2 * square + (1 - BETA2) * gradient * gradient
            self.moments[name] = mean, square
            size = np.sqrt(square / (1 - BETA2**self.count)) + EPSILON
            self.weights[name] = self.weights[name] - LEARNING_RATE * (mean / (1 - BETA1**self.count)) / size
        self.gradients = {}
        return float(loss)

    def forward(self):
        """The mean cross-entropy of the next token, and its gradient by the scores."""
        x = (self.weights["tokens"][self.inputs] + self.weights["places"]).reshape(-1, WIDTH)
        for layer in range(LAYERS):
            x = x + self.attention(f"{layer}.", self.norm(f"{layer}.norm1", x))
            wide = self.linear(f"{layer}.widen", self.norm(f"{layer}.norm2", x))
            x = x + self.linear(f"{layer}.narrow", self.gelu(f"{layer}.gelu", wide))
        x = self.norm("norm", x)
        self.kept["scores"] = (x,)
        scores = x @ self.weights["tokens"].T
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances = exponentials / exponentials.sum(axis=1, keepdims=True)
        rows = np.arange(len(x))
        loss = -np.log(chances[rows, self.targets]).mean()
        chances[rows, self.targets] -= 1
        return loss, chances / np.float32(len(x))

    def backward(self, grad) -> None:
        """Fills `gradients`, from the last layer to the first."""
        (x,) = self.kept.pop("scores")
        tokens = grad.T @ x
        grad = self.norm_back("norm", grad @ self.weights["tokens"])
        for layer in reversed(range(LAYERS)):
            wide = self.gelu_back(f"{layer}.gelu", self.linear_back(f"{layer}.narrow", grad))
            grad = grad + self.norm_back(f"{layer}.norm2", self.linear_back(f"{layer}.widen", wide))
            grad = grad + self.norm_back(f"{layer}.norm1", self.attention_back(f"{layer}.", grad))
        np.add.at(tokens, self.inputs.ravel(), grad)
        self.gradients["tokens"] = tokens
        self.gradients["places"] = grad.reshape(BATCH, LENGTH, WIDTH).sum(axis=0)

    def linear(self, name: str, x):
        self.kept[name] = (x,)
        return x @ self.weights[name] + self.weights[f"{name}.bias"]

    def linear_back(self, name: str, grad):
        (x,) = self.kept.pop(name)
        self.gradients[name] = x.T @ grad
        self.gradients[f"{name}.bias"] = grad.sum(axis=0)
        return grad @ self.weights[name].T

    def norm(self, name: str, x):
        centred = x - x.mean(axis=1, keepdims=True)
        inverse = 1 / np.sqrt((centred * centred).mean(axis=1, keepdims=True) + np.float32(1e-5))
        normal = centred * inverse
        self.kept[name] = normal, inverse
        return normal * self.weights[name] + self.weights[f"{name}.bias"]

    def norm_back(self, name: str, grad):
        normal, inverse = self.kept.pop(name)
        self.gradients[name] = (grad * normal).sum(axis=0)
        self.gradients[f"{name}.bias"] = grad.sum(axis=0)
        grad = grad * self.weights[name]
        along = (grad * normal).mean(axis=1, keepdims=True)
        return (grad - grad.mean(axis=1, keepdims=True) - normal * along) * inverse

    def gelu(self, name: str, x):
        bend = np.tanh(CURVE * (x + 0.044715 * x * x * x))
        self.kept[name] = x, bend
        return 0.5 * x * (1 + bend)

    def gelu_back(self, name: str, grad):
        x, bend = self.kept.pop(name)
        slope = CURVE * (1 + 3 * 0.044715 * x * x)
        return grad * (0.5 * (1 + bend) + 0.5 * x * (1 - bend * bend) * slope)

    def attention(self, layer: str, x):
        mixed = self.linear(f"{layer}attend", x).reshape(BATCH, LENGTH, 3, HEADS, HEAD)
        queries, keys, values = mixed.transpose(2, 0, 3, 1, 4)  # each: batch, heads, length, width of a head
        scores = queries @ keys.transpose(0, 1, 3, 2) * HEAD**-0.5 + self.mask
        exponentials = np.exp(scores - scores.max(axis=3, keepdims=True))
        shares = exponentials / exponentials.sum(axis=3, keepdims=True)
        self.kept[f"{layer}shares"] = queries, keys, values, shares
        merged = (shares @ values).transpose(0, 2, 1, 3).reshape(-1, WIDTH)
        return self.linear(f"{layer}merge", merged)

    def attention_back(self, layer: str, grad):
        queries, keys, values, shares = self.kept.pop(f"{layer}shares")
        merged = self.linear_back(f"{layer}merge", grad).reshape(BATCH, LENGTH, HEADS, HEAD).transpose(0, 2, 1, 3)
        by_shares = merged @ values.transpose(0, 1, 3, 2)
        by_scores = shares * (by_shares - (by_shares * shares).sum(axis=3, keepdims=True)) * HEAD**-0.5
        by_values = shares.transpose(0, 1, 3, 2) @ merged
        mixed = np.stack([by_scores @ keys, by_scores.transpose(0, 1, 3, 2) @ queries, by_values])
        return self.linear_back(f"{layer}attend", mixed.transpose(1, 3, 0, 2, 4).reshape(-1, 3 * WIDTH))
