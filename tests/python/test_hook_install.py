"""`hooks.numpy.install()`: every thread, twice, undone, with scopes inside, and on a NumPy it does not know."""

import _thread
import concurrent.futures
import queue
import threading

import numpy as np
from hook_tools import address, hooked, installed, nothing_left, run_python  # noqa: F401  (fixtures)

import neuro_memory as nm


class Worker:
    """A thread that runs what it is told, when it is told."""

    def __init__(self):
        self.tasks, self.results = queue.SimpleQueue(), queue.SimpleQueue()
        self.thread = threading.Thread(target=self.loop)
        self.thread.start()

    def loop(self):
        while (task := self.tasks.get()) is not None:
            self.results.put(task())

    def __call__(self, task):
        self.tasks.put(task)
        return self.results.get()

    def stop(self):
        self.tasks.put(None)
        self.thread.join()


def test_threads_from_before_and_after():
    early = Worker()
    assert not early(lambda: hooked(np.empty(100)))
    nm.hooks.numpy.install()
    late = Worker()
    assert early(lambda: hooked(np.empty(100)))
    assert late(lambda: hooked(np.empty(100)))
    nm.hooks.numpy.uninstall()
    assert not early(lambda: hooked(np.empty(100)))
    assert not late(lambda: hooked(np.empty(100)))
    early.stop()
    late.stop()


def test_threads_that_threading_did_not_start(installed):
    results = queue.SimpleQueue()
    _thread.start_new_thread(lambda: results.put(hooked(np.empty(100))), ())
    assert results.get(timeout=30)


def test_many_threads_at_once(installed):
    def work(seed):
        rng = np.random.default_rng(seed)
        kept = []
        for _ in range(300):
            array = np.full(rng.integers(1, 5000), seed, np.int32)
            assert address(array) % 64 == 0
            kept.append(array)
            if len(kept) > 20:
                kept.pop(int(rng.integers(len(kept))))
        assert all((array == seed).all() for array in kept)
        return kept[0]  # freed by another thread than the one that made it

    with concurrent.futures.ThreadPoolExecutor(8) as workers:
        firsts = list(workers.map(work, range(64)))
    assert all(hooked(array) for array in firsts)
    del firsts


def test_arrays_from_before_are_left_alone():
    small, large = np.arange(10), np.arange(200_000)
    nm.hooks.numpy.install()
    small.resize(100_000, refcheck=False)  # NumPy's own memory stays NumPy's own
    large.resize(300_000, refcheck=False)
    assert not hooked(small)
    assert not hooked(large)
    assert small[:10].sum() == 45
    del small, large
    nm.hooks.numpy.uninstall()


def test_uninstall_with_live_arrays():
    pool = nm.hooks.numpy.install(nm.MemoryPool())
    arrays = [np.full(100, i) for i in range(100)]
    nm.hooks.numpy.uninstall()
    assert not nm.hooks.numpy.installed
    assert not hooked(np.empty(100))
    arrays[0].resize(50_000, refcheck=False)  # stays in its pool
    assert hooked(arrays[0])
    assert address(arrays[0]) % 64 == 0
    assert all((array[:100] == i).all() for i, array in enumerate(arrays))
    assert pool.stats().live_blocks == 100
    del arrays
    assert pool.stats().live_blocks == 0


def test_resize_after_uninstall_keeps_a_strict_alignment():
    nm.hooks.numpy.install(alignment=1 << 16)
    array = np.arange(10)
    nm.hooks.numpy.uninstall()
    nm.hooks.numpy.install(alignment=64)
    for size in (1000, 100_000, 1_000_000):
        array.resize(size, refcheck=False)
        assert address(array) % (1 << 16) == 0
    assert array[:10].sum() == 45
    nm.hooks.numpy.uninstall()


def test_install_twice_means_the_second():
    first, second = nm.MemoryPool(), nm.MemoryPool()
    assert nm.hooks.numpy.install(first) is first
    a = np.empty(10)
    assert nm.hooks.numpy.install(second, alignment=4096) is second
    b = np.empty(10)
    assert first.stats().live_blocks == 1
    assert second.stats().live_blocks == 1
    assert address(b) % 4096 == 0
    nm.hooks.numpy.uninstall()
    assert not nm.hooks.numpy.installed
    assert not hooked(np.empty(10))
    nm.hooks.numpy.uninstall()  # and once more is nothing
    assert not hooked(np.empty(10))
    assert hooked(a)


def test_install_again_and_again():
    for i in range(50):
        pool = nm.hooks.numpy.install(nm.MemoryPool())
        assert nm.hooks.numpy.installed
        assert nm.hooks.numpy.reach == "process"
        array = np.full(1000, i)
        del pool
        nm.hooks.numpy.uninstall()
        assert nm.hooks.numpy.reach is None
        other = np.full(1000, -i)
        assert (hooked(array), hooked(other)) == (True, False)
        assert (array == i).all()


def test_default_pool_is_the_default(installed):
    nm.hooks.numpy.install()
    before = nm.default_pool().stats().live_blocks
    array = np.empty(10)
    assert nm.default_pool().stats().live_blocks == before + 1
    del array


def test_scope_inside_install(installed):
    inner = nm.MemoryPool()
    with nm.hooks.numpy(inner):
        a = np.empty(10)
        nm.hooks.numpy.uninstall()
        b = np.empty(10)
        nm.hooks.numpy.install(installed)
        c = np.empty(10)
    d = np.empty(10)
    assert inner.stats().live_blocks == 3
    assert installed.stats().live_blocks == 1
    del a, b, c, d


FALLBACK = """
import ctypes, threading, warnings
import numpy as np, neuro_memory as nm
umath = np._core._multiarray_umath
ctypes.pythonapi.PyCapsule_GetPointer.restype = ctypes.c_void_p
ctypes.pythonapi.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
table = ctypes.cast(ctypes.pythonapi.PyCapsule_GetPointer(umath._ARRAY_API, None), ctypes.POINTER(ctypes.c_void_p))
capsule = ctypes.cast(table[306], ctypes.POINTER(ctypes.py_object))[0]
handler = ctypes.pythonapi.PyCapsule_GetPointer(capsule, b"mem_handler")
hooked = nm.hooks.numpy.owns
"""


def test_unknown_default_handler_falls_back_and_says_so():
    run_python(
        FALLBACK
        + """
ctypes.c_uint8.from_address(handler + 127).value = 2  # a handler layout of the future
saved = bytes((ctypes.c_char * 40).from_address(handler + 128))
tasks = __import__("queue").SimpleQueue()
seen = {}
early = threading.Thread(target=lambda: tasks.get()())
early.start()

class Own(threading.Thread):
    def run(self):
        seen["subclass"] = hooked(np.empty(10))

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    pool = nm.hooks.numpy.install(nm.MemoryPool())
assert len(caught) == 1 and caught[0].category is RuntimeWarning, caught
assert "threads that run already" in str(caught[0].message)
assert caught[0].filename == "<string>"
assert bytes((ctypes.c_char * 40).from_address(handler + 128)) == saved  # not touched
assert nm.hooks.numpy.installed and nm.hooks.numpy.reach == "threads"

tasks.put(lambda: seen.update(early=hooked(np.empty(10))))
release = threading.Event()
def late():
    kept = np.arange(10)
    seen["late"] = hooked(kept)
    ready.set()
    release.wait()
    seen["late, after uninstall"] = hooked(np.empty(10))
    kept.resize(1000, refcheck=False)
    seen["resized"] = hooked(kept)
    assert kept[:10].sum() == 45
ready = threading.Event()
later = threading.Thread(target=late)
own = Own()
for thread in (later, own):
    thread.start()
ready.wait()
mine = np.empty(10)
assert hooked(mine)
nm.hooks.numpy.uninstall()
assert not nm.hooks.numpy.installed
release.set()
for thread in (early, later, own):
    thread.join()
assert seen == {"early": False, "late": True, "subclass": True, "late, after uninstall": False, "resized": True}, seen
assert not hooked(np.empty(10)) and hooked(mine)
after = {}
thread = threading.Thread(target=lambda: after.update(hooked=hooked(np.empty(10))))
thread.start(); thread.join()
assert after == {"hooked": False}
with nm.hooks.numpy(pool):
    assert hooked(np.empty(10))
del mine
assert pool.stats().live_blocks == 0
"""
    )


def test_another_name_falls_back_too():
    run_python(
        FALLBACK
        + """
ctypes.memmove(handler, b"somebody_else\\0", 14)
warnings.simplefilter("ignore")
nm.hooks.numpy.install()
assert nm.hooks.numpy.reach == "threads"
with nm.hooks.numpy(nm.MemoryPool()) as pool:
    nm.hooks.numpy.uninstall()
    a = np.empty(10)
    assert pool.stats().live_blocks == 1  # the scope stays
ctypes.memmove(handler, b"default_allocator\\0", 18)
nm.hooks.numpy.install()
assert nm.hooks.numpy.reach == "process"
"""
    )


def test_falling_back_again_under_another_patch_of_start():
    run_python(
        FALLBACK
        + """
ctypes.memmove(handler, b"somebody_else\\0", 14)
warnings.simplefilter("ignore")
start = threading.Thread.start
started = []
def counting(thread):
    started.append(thread)
    first(thread)
def in_a_thread():
    result = []
    thread = threading.Thread(target=lambda: result.append(hooked(np.empty(10))))
    thread.start(); thread.join()
    assert "run" not in vars(thread)
    return result
nm.hooks.numpy.install()
first, threading.Thread.start = threading.Thread.start, counting
nm.hooks.numpy.uninstall()
assert threading.Thread.start is counting  # not ours to take away
assert in_a_thread() == [False]
nm.hooks.numpy.install()
assert in_a_thread() == [True]
nm.hooks.numpy.install()
assert in_a_thread() == [True]
nm.hooks.numpy.uninstall()
assert in_a_thread() == [False] and len(started) == 4
threading.Thread.start = start
"""
    )
