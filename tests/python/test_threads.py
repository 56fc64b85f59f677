"""Many threads on one pool, and work that lets other threads run."""

import random
import sys
import threading
import time
from collections.abc import Callable

import numpy as np

import neuro_memory as nm


def in_threads(count: int, work: Callable[[int], None]) -> None:
    """Runs `work(i)` in `count` threads and passes on what any of them raises."""
    errors: list[BaseException] = []

    def guarded(i: int) -> None:
        try:
            work(i)
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_ten_thousand_tensors_made_and_dropped_by_eight_threads(pool: nm.MemoryPool) -> None:
    def work(seed: int) -> None:
        rng = random.Random(seed)
        kept: list[nm.Tensor] = []
        for i in range(1250):
            tensor = pool.full(rng.randrange(1, 2000), seed + i % 7, "int32")
            kept.append(tensor)
            if len(kept) > 20:
                gone = kept.pop(rng.randrange(len(kept)))
                values = np.asarray(gone)
                assert (values == values[0]).all()

    in_threads(8, work)
    stats = pool.stats()
    assert stats.live_blocks == 0 and stats.total_allocations == 10_000
    pool.trim()  # room for small blocks stays between the others until then
    assert pool.stats().free_runs == pool.stats().regions


def test_tensors_dropped_by_another_thread_than_made_them(pool: nm.MemoryPool) -> None:
    shelf = [pool.zeros(i + 1) for i in range(1000)]
    lock = threading.Lock()

    def work(_: int) -> None:
        while True:
            with lock:
                if not shelf:
                    return
                tensor = shelf.pop()
            del tensor

    in_threads(8, work)
    assert pool.stats().live_blocks == 0


def test_borrowed_python_memory_is_given_back_from_any_thread() -> None:
    sources = [bytearray(100) for _ in range(100)]
    borrowed = [nm.from_buffer(source) for source in sources]
    in_threads(4, lambda _: [borrowed.pop() for _ in range(25)] and None)
    for source in sources:
        source.append(0)


def test_long_work_lets_others_run() -> None:
    """While one thread fills 256 MiB, this one must get the interpreter: it counts its turns."""
    tensor = nm.empty(256 << 20, "uint8")
    done = threading.Event()
    spans: list[tuple[float, float]] = []

    def work() -> None:
        for value in range(4):
            start = time.perf_counter()
            tensor.fill(value)
            spans.append((start, time.perf_counter()))
        done.set()

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)  # nobody is made to give way: only a release lets this thread in
    try:
        thread = threading.Thread(target=work)
        thread.start()
        turns = []
        while not done.is_set():
            turns.append(time.perf_counter())
            time.sleep(0.0005)
        thread.join()
    finally:
        sys.setswitchinterval(interval)
    during = [t for t in turns if any(start < t < end for start, end in spans)]
    assert len(during) > 10
    assert tensor[-1] == 3


def test_one_tensor_exported_by_many_threads(pool: nm.MemoryPool) -> None:
    tensor = pool.full(1000, 3)

    def work(_: int) -> None:
        for _ in range(200):
            assert np.from_dlpack(tensor)[0] == 3
            assert memoryview(tensor)[999] == 3
            assert nm.from_dlpack(tensor)[5:10].tolist() == [3.0] * 5

    in_threads(8, work)
    assert tensor.refcount == 1
