"""The main job on real data, on NumPy's own memory and on a pool, side by side. `make demo` calls it.

1. A small network learns scikit-learn's digits.                                       digits.py
2. Two photographs, 3840 × 2160, go through resize, normalise and stack.               photos.py
3. A C program classifies the held-out digits with the weights; JAX takes the stack.   handover.py
4. Everything is dropped, and the pool has to be empty.

Ends with status 1 if a promise was broken.
"""

import argparse
import gc
import sys
from pathlib import Path

import digits
import handover
import neuro_memory as nm
import numpy as np
import photos
from measure import compare
from report import Report, mb, ms

POOL_LIMIT = 2 << 30


def main() -> int:
    """Runs all parts and prints the report."""
    options = arguments()
    report = Report()
    pool = nm.MemoryPool(POOL_LIMIT)

    say("Digits: training on pooled arrays")
    data = digits.load()
    with nm.hooks.numpy(pool):
        digits.train(data, options.epochs, say)
    learning = compare(
        lambda _: digits.train(data, options.epochs),
        lambda trained: [*trained.weights.values(), trained.test_images],
        options.trainings,
        lambda: nm.hooks.numpy(pool),
        say,
    )
    trained = learning.last

    say("Photographs: resize, normalise, stack")
    pictures = photos.load()
    preparing = compare(
        lambda number: photos.prepare(pictures, number), list, options.rounds, lambda: nm.hooks.numpy(pool), say
    )

    say("Handing over: weights to C, a stack of photographs to JAX")
    files = handover.save(options.out, trained.weights, trained.test_images, data.test_labels)
    from_c = handover.classify_in_c(*files, options.cc, options.include_dir, options.lib_dir)
    plain_stack = preparing.last[0].copy()
    handover.give_to_jax(np.zeros(16, np.float32))  # JAX sets itself up on its first array: not what is measured
    plain_jax = handover.give_to_jax(plain_stack)
    before = pool.stats()
    pooled_jax = handover.give_to_jax(preparing.last[0])
    after = pool.stats()
    untouched = (before.live_bytes, before.total_allocations) == (after.live_bytes, after.total_allocations)

    report_digits(report, learning, data, options)
    report_photos(report, preparing)
    report_handover(report, from_c, trained, plain_jax, pooled_jax, untouched)

    del trained, learning, preparing
    gc.collect()
    report_pool(report, pool)
    return report.end()


def report_digits(report, learning, data, options) -> None:
    """The network: how well it learned, and what that cost."""
    accuracy = learning.last.accuracy
    report.heading("", "NumPy's own memory", "pool")
    report.heading(f"Digits: {len(data.train_images):,} images, {options.epochs} epochs")
    report.row(f"right of {len(data.test_images)} held-out images", "", f"{learning.last.correct} ({accuracy:.4f})")
    costs(report, "digits", learning)
    report.promise("digits: accuracy on held-out images is 0.95 or more", accuracy >= 0.95)
    report.promise("digits: the same bits with and without the pool", learning.same_bits)


def report_photos(report, preparing) -> None:
    """The photographs: what a round cost."""
    report.heading(f"Photographs: 2 × {photos.WIDTH} × {photos.HEIGHT} a round")
    costs(report, "photographs", preparing)
    report.promise("photographs: the same bits with and without the pool", preparing.same_bits)


def costs(report, part, comparison) -> None:
    """Time, page faults and alignment of both sides."""
    plain, pooled = comparison.plain, comparison.pooled
    report.row(f"time, median of {len(plain.runs)}", f"{plain.median_seconds:.3f} s", f"{pooled.median_seconds:.3f} s")
    report.row("time, fastest and slowest", plain.spread, pooled.spread)
    report.row("page faults, all runs", f"{plain.page_faults:,}", f"{pooled.page_faults:,}")
    report.row(
        "results that begin on 64 bytes", f"{plain.aligned} of {plain.arrays}", f"{pooled.aligned} of {pooled.arrays}"
    )
    report.promise(f"{part}: every array that comes out begins on 64 bytes", pooled.aligned == pooled.arrays)


def report_handover(report, from_c, trained, plain_jax, pooled_jax, untouched) -> None:
    """What C and JAX made of what they were given."""
    report.heading(f"JAX takes a stack of {mb(2 * 3 * 4 * photos.SIZES[0][0] * photos.SIZES[0][1])}")
    sides = plain_jax, pooled_jax
    report.row("asked for it without a copy", *("accepts" if side.accepted else "refuses" for side in sides))
    report.row("gets", *("the same memory" if side.aliased else "a copy" for side in sides))
    report.row("address modulo 64", f"{plain_jax.offset}", f"{pooled_jax.offset}")
    report.row("after", ms(plain_jax.seconds), ms(pooled_jax.seconds))
    report.heading("C program, same weights, same held-out images")
    for line in from_c.text.splitlines():
        print(f"  {line}")
    report.promise(
        "JAX took the pooled array without copying a byte",
        pooled_jax.accepted and pooled_jax.aliased and untouched and pooled_jax.mean == plain_jax.mean,
    )
    report.promise(
        f"C names as many images rightly as Python: {from_c.correct} and {trained.correct}",
        (from_c.correct, from_c.total) == (trained.correct, len(trained.test_images)),
    )
    report.promise("nothing is live in the C program's pool at its end", from_c.live_bytes == 0)


def report_pool(report, pool) -> None:
    """The pool after the last array is gone, and after it was told to give its memory back."""
    stats = pool.stats()
    pool.trim()
    trimmed = pool.stats()
    report.heading("The pool, with every array dropped", "", "then trimmed")
    report.row("arrays served", f"{stats.total_allocations:,}")
    report.row("bytes live at the peak", mb(stats.peak_bytes))
    report.row("bytes live", f"{stats.live_bytes:,}", f"{trimmed.live_bytes:,}")
    report.row("bytes cached", *(mb(s.committed_bytes - s.live_bytes) for s in (stats, trimmed)))
    report.row("bytes of address space", mb(stats.reserved_bytes), mb(trimmed.reserved_bytes))
    report.promise("nothing is live at the end", (stats.live_bytes, stats.live_blocks) == (0, 0))
    # Most went back by itself, in the time that the C program took.
    report.promise("nothing is cached after trimming", trimmed.committed_bytes == 0)


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lib-dir", type=Path, required=True, help="where libneuro_memory lies")
    parser.add_argument("--include-dir", type=Path, default=Path("include"), help="where neuro_memory.h lies")
    parser.add_argument("--cc", default="cc", help="the C compiler")
    parser.add_argument("--out", type=Path, default=Path("out/demo"), help="where the files are written")
    parser.add_argument("--epochs", type=int, default=30, help="rounds over the training images")
    parser.add_argument("--trainings", type=int, default=5, help="measured trainings on each side")
    parser.add_argument("--rounds", type=int, default=12, help="measured rounds of photographs on each side")
    return parser.parse_args()


def say(line: str) -> None:
    """One line of progress, at once."""
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
