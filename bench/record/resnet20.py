"""ResNet-20 for 32 × 32 images, in plain NumPy: forward, backward, and SGD with momentum.

The shapes are those of He et al., "Deep Residual Learning for Image Recognition" (2015), section 4.2: a 3 × 3 convolution,
three stages of three blocks with 16, 32 and 64 channels, shortcuts without weights (option A), global mean, ten classes.
Convolutions are matrix products of patches (im2col); images are laid out as batch, rows, columns, channels. The images are
scikit-learn's digits, each pixel made 4 × 4 and grey in three channels.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.datasets import load_digits

BATCH = 32
BLOCKS = 3
WIDTHS = (16, 32, 64)
CLASSES = 10
LEARNING_RATE, MOMENTUM, DECAY = 0.05, 0.9, 1e-4
SEED = 7


class Conv:
    """3 × 3, padded by one, without bias."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int, stride: int) -> None:
        self.stride = stride
        scale = np.float32(np.sqrt(2 / (9 * outputs)))
        self.weights = [rng.standard_normal((9 * inputs, outputs), dtype=np.float32) * scale]

    def forward(self, x):
        self.shape = x.shape
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = sliding_window_view(padded, (3, 3), axis=(1, 2))[:, :: self.stride, :: self.stride]
        self.size = windows.shape[:3]
        self.patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, len(self.weights[0]))
        return (self.patches @ self.weights[0]).reshape(*self.size, -1)

    def backward(self, grad):
        flat = grad.reshape(-1, grad.shape[-1])
        self.gradients = [self.patches.T @ flat]
        patches = (flat @ self.weights[0].T).reshape(*self.size, 3, 3, -1)
        batch, rows, columns, channels = self.shape
        padded = np.zeros((batch, rows + 2, columns + 2, channels), np.float32)
        for y in range(3):
            for x in range(3):
                padded[:, y : y + rows : self.stride, x : x + columns : self.stride] += patches[:, :, :, y, x]
        del self.patches
        return padded[:, 1:-1, 1:-1]


class BatchNorm:
    """Over batch, rows and columns, with the batch's own statistics."""

    def __init__(self, channels: int) -> None:
        self.weights = [np.ones(channels, np.float32), np.zeros(channels, np.float32)]

    def forward(self, x):
        centred = x - x.mean(axis=(0, 1, 2))
        self.inverse = 1 / np.sqrt((centred * centred).mean(axis=(0, 1, 2)) + np.float32(1e-5))
        self.normal = centred * self.inverse
        return self.normal * self.weights[0] + self.weights[1]

    def backward(self, grad):
        by_scale = (grad * self.normal).sum(axis=(0, 1, 2))
        by_shift = grad.sum(axis=(0, 1, 2))
        self.gradients = [by_scale, by_shift]
        count = np.float32(grad.size // grad.shape[-1])
        result = (grad - by_shift / count - self.normal * (by_scale / count)) * (self.weights[0] * self.inverse)
        del self.normal
        return result


class Block:
    """Two convolutions and what goes past them."""

    def __init__(self, rng: np.random.Generator, inputs: int, outputs: int) -> None:
        self.stride = outputs // inputs
        self.first, self.norm1 = Conv(rng, inputs, outputs, self.stride), BatchNorm(outputs)
        self.second, self.norm2 = Conv(rng, outputs, outputs, 1), BatchNorm(outputs)
        self.layers = [self.first, self.norm1, self.second, self.norm2]

    def forward(self, x):
        middle = self.norm1.forward(self.first.forward(x))
        self.positive1 = middle > 0
        out = self.norm2.forward(self.second.forward(middle * self.positive1)) + self.past(x)
        self.positive2 = out > 0
        return out * self.positive2

    def past(self, x):
        """Option A: every other pixel, the new channels zero."""
        if self.stride == 1:
            return x
        more = x.shape[-1] // 2
        return np.pad(x[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (more, more)))

    def backward(self, grad):
        grad = grad * self.positive2
        inner = self.second.backward(self.norm2.backward(grad)) * self.positive1
        result = self.first.backward(self.norm1.backward(inner))
        if self.stride == 1:
            return result + grad
        more = grad.shape[-1] // 4
        result[:, ::2, ::2] += grad[..., more:-more]
        return result


class Training:
    """The network, its optimiser, and a batch that it learns step by step."""

    def __init__(self) -> None:
        rng = np.random.default_rng(SEED)
        images, labels = load_digits(return_X_y=True)
        chosen = rng.permutation(len(images))[:BATCH]
        grey = (images[chosen] / 8 - 1).astype(np.float32).reshape(BATCH, 8, 8, 1)
        self.images = np.repeat(grey.repeat(4, axis=1).repeat(4, axis=2), 3, axis=3)
        self.targets = np.eye(CLASSES, dtype=np.float32)[labels[chosen]]
        self.first, self.norm = Conv(rng, 3, WIDTHS[0], 1), BatchNorm(WIDTHS[0])
        widths = [WIDTHS[0], *(width for width in WIDTHS for _ in range(BLOCKS))]
        self.blocks = [Block(rng, inputs, outputs) for inputs, outputs in zip(widths, widths[1:])]
        scale = np.float32(np.sqrt(1 / WIDTHS[-1]))
        self.weights = [
            rng.standard_normal((WIDTHS[-1], CLASSES), dtype=np.float32) * scale,
            np.zeros(CLASSES, np.float32),
        ]
        self.layers = [self.first, self.norm, *(layer for block in self.blocks for layer in block.layers), self]
        self.momenta = [[np.zeros_like(weight) for weight in layer.weights] for layer in self.layers]

    def step(self) -> float:
        """Forward, backward, update; the loss before the update."""
        loss, grad = self.forward()
        self.backward(grad)
        for layer, momenta in zip(self.layers, self.momenta):
            for index, gradient in enumerate(layer.gradients):
                weight = layer.weights[index]
                momenta[index] = MOMENTUM * momenta[index] + gradient + DECAY * weight
                layer.weights[index] = weight - LEARNING_RATE * momenta[index]
        return float(loss)

    def forward(self):
        """The loss, and its gradient by the scores."""
        x = self.norm.forward(self.first.forward(self.images))
        self.positive = x > 0
        x = x * self.positive
        for block in self.blocks:
            x = block.forward(x)
        self.area = x.shape[1:3]
        self.means = x.mean(axis=(1, 2))
        scores = self.means @ self.weights[0] + self.weights[1]
        exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
        chances = exponentials / exponentials.sum(axis=1, keepdims=True)
        loss = -np.log((chances * self.targets).sum(axis=1)).mean()
        return loss, (chances - self.targets) / np.float32(BATCH)

    def backward(self, grad) -> None:
        self.gradients = [self.means.T @ grad, grad.sum(axis=0)]
        rows, columns = self.area
        grad = (grad @ self.weights[0].T / np.float32(rows * columns))[:, None, None, :]
        grad = np.broadcast_to(grad, (BATCH, rows, columns, WIDTHS[-1]))
        for block in reversed(self.blocks):
            grad = block.backward(grad)
        self.first.backward(self.norm.backward(grad * self.positive))
