"""A small network learns scikit-learn's handwritten digits, in plain NumPy.

Nothing here knows about pools: the same code runs with and without the hook, and has to give the same bits. All
arithmetic is float32. Every step makes its arrays anew, as NumPy code does: some 160 of them, most of a few bytes.
"""

from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

HIDDEN = 128
CLASSES = 10
BATCH = 64
LEARNING_RATE = 2e-3
SEED = 7


@dataclass
class Digits:
    """1,797 scanned digits of 8 × 8 pixels (values 0 to 16), a fifth of each class held out."""

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


@dataclass
class Trained:
    """A trained network, and how it does on the held-out images."""

    weights: dict[str, np.ndarray]
    test_images: np.ndarray
    correct: int

    @property
    def accuracy(self) -> float:
        """The share of the held-out images that it names rightly."""
        return self.correct / len(self.test_images)


def load() -> Digits:
    """Reads the images and splits them, always in the same way."""
    images, labels = load_digits(return_X_y=True)
    parts = train_test_split(images, labels, test_size=0.2, stratify=labels, random_state=SEED)
    return Digits(parts[0], parts[2], parts[1], parts[3])


def train(digits: Digits, epochs: int, say=lambda line: None) -> Trained:
    """Learns for `epochs` rounds over the training images with Adam; tells `say` how it goes."""
    rng = np.random.default_rng(SEED)
    images = scaled(digits.train_images)
    targets = np.eye(CLASSES, dtype=np.float32)[digits.train_labels]
    test_images = scaled(digits.test_images)
    weights = initial_weights(rng, images.shape[1])
    momenta = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in weights.items()}
    step = 0
    for epoch in range(1, epochs + 1):
        order = rng.permutation(len(images))
        losses = []
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            loss, gradients = loss_and_gradients(weights, images[batch], targets[batch])
            step += 1
            adam(weights, gradients, momenta, step)
            losses.append(loss)
        if epoch % 5 == 0 or epoch == epochs:
            right = count_correct(weights, test_images, digits.test_labels)
            accuracy = right / len(test_images)
            say(f"epoch {epoch:3} of {epochs}: loss {np.mean(losses):.4f}, held-out accuracy {accuracy:.4f}")
    return Trained(weights, test_images, count_correct(weights, test_images, digits.test_labels))


def scaled(images: np.ndarray) -> np.ndarray:
    """Pixels from 0…16 to 0…1, as float32."""
    return (images / 16).astype(np.float32)


def initial_weights(rng: np.random.Generator, pixels: int) -> dict[str, np.ndarray]:
    """Two layers; He's normal initialisation."""
    def layer(rows, columns):
        return rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(np.sqrt(2 / rows))

    return {
        "hidden.weight": layer(pixels, HIDDEN),
        "hidden.bias": np.zeros(HIDDEN, np.float32),
        "output.weight": layer(HIDDEN, CLASSES),
        "output.bias": np.zeros(CLASSES, np.float32),
    }


def forward(weights, images):
    """The hidden layer after its ReLU, and one score for each class."""
    hidden = np.maximum(images @ weights["hidden.weight"] + weights["hidden.bias"], 0)
    return hidden, hidden @ weights["output.weight"] + weights["output.bias"]


def loss_and_gradients(weights, images, targets):
    """Mean cross-entropy of a batch, and its gradient for each weight."""
    hidden, scores = forward(weights, images)
    exponentials = np.exp(scores - scores.max(axis=1, keepdims=True))
    chances = exponentials / exponentials.sum(axis=1, keepdims=True)
    loss = -np.log((chances * targets).sum(axis=1)).mean()
    at_scores = (chances - targets) / np.float32(len(images))
    at_hidden = (at_scores @ weights["output.weight"].T) * (hidden > 0)
    return loss, {
        "hidden.weight": images.T @ at_hidden,
        "hidden.bias": at_hidden.sum(axis=0),
        "output.weight": hidden.T @ at_scores,
        "output.bias": at_scores.sum(axis=0),
    }


def adam(weights, gradients, momenta, step):
    """One step of Adam. Moments and weights are replaced by new arrays, so the loop keeps allocating."""
    for name, gradient in gradients.items():
        mean, square = momenta[name]
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient * gradient
        momenta[name] = mean, square
        size = np.sqrt(square / (1 - 0.999**step)) + 1e-8
        weights[name] = weights[name] - LEARNING_RATE * (mean / (1 - 0.9**step)) / size


def count_correct(weights, images, labels) -> int:
    """How many images get their highest score for the right class."""
    return int((forward(weights, images)[1].argmax(axis=1) == labels).sum())
