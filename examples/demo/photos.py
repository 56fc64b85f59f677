"""Two real photographs, at 3840 × 2160, go through resize, normalise and stack: the front of a vision model.

Nothing here knows about pools. A round makes some sixty arrays of 2 to 100 MB, 1.3 GB in all. Without a pool, the
biggest go back to the system each time they are dropped, and the system clears every page before it hands them out
again.
"""

import numpy as np
from sklearn.datasets import load_sample_images

WIDTH, HEIGHT = 3840, 2160
SIZES = ((1080, 1920), (360, 640))
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
DEVIATION = np.array([0.229, 0.224, 0.225], np.float32)


def load() -> list[np.ndarray]:
    """china.jpg and flower.jpg, uint8, each repeated until a 3840 × 2160 window can move over it."""
    photographs = load_sample_images().images
    return [np.tile(p, (HEIGHT // p.shape[0] + 2, WIDTH // p.shape[1] + 2, 1)) for p in photographs]


def frames(photographs, number: int) -> list[np.ndarray]:
    """Frame `number` of each photograph: the window moves, so that no two rounds see the same pixels."""
    y, x = 29 * number % 400, 47 * number % 600
    return [p[y : y + HEIGHT, x : x + WIDTH] for p in photographs]


def prepare(photographs, number: int) -> list[np.ndarray]:
    """Frame `number` as network input: for each size one stack, float32, images × channels × rows × columns."""
    images = [frame.astype(np.float32) for frame in frames(photographs, number)]
    stacks = []
    for height, width in SIZES:
        images = [resize(image, height, width) for image in images]
        stacks.append(np.stack([channels_first(normalise(image)) for image in images]))
    return stacks


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Bilinear: rows first, then columns. `image` is rows × columns × channels, float32."""
    above, below, share = neighbours(image.shape[0], height)
    share = share[:, None, None]
    image = np.take(image, above, axis=0) * (1 - share) + np.take(image, below, axis=0) * share
    before, after, share = neighbours(image.shape[1], width)
    share = share[:, None]
    return np.take(image, before, axis=1) * (1 - share) + np.take(image, after, axis=1) * share


def neighbours(old: int, new: int):
    """For each of `new` pixels: the two old pixels beside its centre, and the share of the second."""
    centre = (np.arange(new) + 0.5) * (old / new) - 0.5
    first = np.clip(np.floor(centre).astype(np.intp), 0, old - 1)
    return first, np.minimum(first + 1, old - 1), np.clip(centre - first, 0, 1).astype(np.float32)


def normalise(image: np.ndarray) -> np.ndarray:
    """From 0…255 to mean 0 and deviation 1 of the images most networks were trained on."""
    return (image / 255 - MEAN) / DEVIATION


def channels_first(image: np.ndarray) -> np.ndarray:
    """Rows × columns × channels becomes channels × rows × columns, in that order in memory as well."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))
