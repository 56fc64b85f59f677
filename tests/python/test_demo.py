"""The parts of examples/demo: they compute what they say, and notice when a promise is broken.

The demo as a whole, C program included, runs with the examples.
"""

import sys
from contextlib import nullcontext
from pathlib import Path

import neuro_memory as nm
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "demo"))

import digits
import photos
from measure import compare
from report import Report


def test_halving_an_image_gives_the_means_of_its_squares_of_four():
    image = np.random.default_rng(1).random((6, 8, 3), dtype=np.float32)
    means = image.reshape(3, 2, 4, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(photos.resize(image, 3, 4), means, rtol=1e-6)


def test_resizing_keeps_a_slope_a_slope():
    slope = np.broadcast_to(np.arange(12, dtype=np.float32)[:, None, None], (12, 5, 3))
    centres = (np.arange(8) + 0.5) * 1.5 - 0.5
    np.testing.assert_allclose(photos.resize(slope, 8, 5)[:, 2, 1], centres, rtol=1e-6)


def test_stacks_are_contiguous_float32_on_64_bytes_and_the_pool_is_empty_after_them():
    pictures = photos.load()
    pool = nm.MemoryPool(2 << 30)
    with nm.hooks.numpy(pool):
        stacks = photos.prepare(pictures, 3)
    assert [stack.shape for stack in stacks] == [(2, 3, *size) for size in photos.SIZES]
    for stack in stacks:
        assert stack.dtype == np.float32 and stack.flags.c_contiguous and stack.ctypes.data % 64 == 0
        assert abs(stack.mean()) < 1
    assert pool.stats().live_blocks == len(stacks)
    del stacks, stack
    assert pool.stats().live_bytes == 0


def test_the_network_learns_the_same_bits_on_a_pool():
    data = digits.load()
    pool = nm.MemoryPool(64 << 20)
    outcome = compare(
        lambda _: digits.train(data, 15),
        lambda trained: list(trained.weights.values()),
        1,
        lambda: nm.hooks.numpy(pool),
        lambda line: None,
    )
    assert outcome.same_bits and outcome.last.accuracy >= 0.95
    assert outcome.pooled.aligned == outcome.pooled.arrays == 4
    # Eleven arrays a step at the very least, and some 22 steps an epoch.
    assert pool.stats().total_allocations > 15 * 22 * 11


def test_comparing_notices_a_single_other_bit():
    results = iter([np.zeros(100), np.zeros(100), np.zeros(100), -np.zeros(100)])
    outcome = compare(lambda _: next(results), lambda result: [result], 2, nullcontext, lambda line: None)
    assert not outcome.same_bits


def test_a_broken_promise_is_named_and_ends_with_status_1(capsys):
    report = Report()
    report.promise("this was kept", True)
    assert report.end() == 0
    report.promise("this was not", False)
    assert report.end() == 1
    assert "  NO   this was not" in capsys.readouterr().out.splitlines()
