"""Arrays outlive the hook, the pool, the modules, the interpreter's end, and the process they were made in."""

from hook_tools import nothing_left, run_python  # noqa: F401  (a fixture)

import neuro_memory as nm
import numpy as np


def test_a_pool_goes_with_its_last_array():
    nm.trim()  # else the rest may go by itself meanwhile
    rest = nm.stats().regions
    for alignment in (64, 4096):
        pool = nm.MemoryPool()
        with nm.hooks.numpy(pool, alignment):
            arrays = [np.full(1000, i) for i in range(100)]
        del pool
        assert rest < nm.stats().regions <= rest + 2  # of small blocks and of large ones
        assert all((array == i).all() for i, array in enumerate(arrays))
        del arrays
        assert nm.stats().regions <= rest


def test_ten_thousand_scopes_leave_nothing():
    nm.trim()  # else the rest may go by itself meanwhile
    rest = nm.stats().regions
    kept = []
    for i in range(10_000):
        with nm.hooks.numpy(nm.MemoryPool(1 << 20)):
            array = np.full(10, i)
        if i % 100 == 0:
            kept.append(array)
    assert [int(array[0]) for array in kept] == list(range(0, 10_000, 100))
    del kept, array
    assert nm.stats().regions <= rest


def test_an_installed_pool_goes_too():
    nm.trim()  # else the rest may go by itself meanwhile
    rest = nm.stats().regions
    nm.hooks.numpy.install(nm.MemoryPool())
    array = np.arange(10)
    nm.hooks.numpy.uninstall()
    assert rest < nm.stats().regions <= rest + 2  # of small blocks and of large ones
    del array
    assert nm.stats().regions <= rest


ALIVE_AT_EXIT = """
import atexit, sys, threading, weakref
import numpy as np, neuro_memory as nm
{enter}
kept = [np.full(1000, i) for i in range(100)]
objects = np.array([object(), [1, 2], "x"], object)
sys.kept_past_modules = np.arange(10_000)
np.kept_in_numpy = np.arange(10_000)
class Node:
    def __init__(self):
        self.me, self.data = self, np.ones(100_000)
    def __del__(self):
        self.data.resize(200_000, refcheck=False)
        late = self.data + 1
node = Node()
@atexit.register
def last():
    {last}
    fresh = np.arange(100_000)
    fresh.resize(10, refcheck=False)
    print("atexit", fresh.sum(), sum(int(array[0]) for array in kept), flush=True)
def idle():
    mine = np.ones(1000)
    threading.Event().wait()
threading.Thread(target=idle, daemon=True).start()
{leave}
print("end", flush=True)
"""


def alive_at_exit(enter, leave="", last="pass"):
    done = run_python(ALIVE_AT_EXIT.format(enter=enter, leave=leave, last=last))
    assert done.stdout.split("\n")[:2] == ["end", "atexit 45 4950"]
    assert done.stderr == ""


def test_exit_while_installed():
    alive_at_exit("nm.hooks.numpy.install()")


def test_exit_while_installed_in_a_pool_nobody_holds():
    alive_at_exit("nm.hooks.numpy.install(nm.MemoryPool(), alignment=4096)")


def test_exit_after_uninstall():
    alive_at_exit("nm.hooks.numpy.install(nm.MemoryPool())", "nm.hooks.numpy.uninstall()")


def test_uninstall_in_atexit():
    alive_at_exit("nm.hooks.numpy.install(nm.MemoryPool())", last="nm.hooks.numpy.uninstall()")


def test_exit_inside_a_scope():
    alive_at_exit("scope = nm.hooks.numpy(nm.MemoryPool()); scope.__enter__()")


def test_exit_after_a_scope():
    alive_at_exit(
        "scope = nm.hooks.numpy(nm.MemoryPool()); scope.__enter__()",
        "scope.__exit__(None, None, None); del scope",
    )


def test_exit_without_our_modules():
    alive_at_exit(
        "nm.hooks.numpy.install(nm.MemoryPool())",
        "for name in [n for n in sys.modules if n.startswith('neuro_memory')]: del sys.modules[name]\ndel nm",
    )


def test_uncaught_error_inside_everything():
    done = run_python(
        """
        import numpy as np, neuro_memory as nm
        nm.hooks.numpy.install(nm.MemoryPool())
        with nm.hooks.numpy(nm.MemoryPool()):
            a = np.arange(1000)
            raise SystemExit(7)
        """,
        check=False,
    )
    assert (done.returncode, done.stderr) == (7, "")


FORK = """
import os, threading, warnings
import numpy as np, neuro_memory as nm
warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tested
{enter}
stop = threading.Event()
def work(seed):
    kept = []
    while not stop.is_set():
        kept.append(np.full(seed * 100 + len(kept), seed))
        np.sort(np.arange(5000)[::-1])
        if len(kept) > 50:
            del kept[::2]
{threads}
mine = np.arange(100_000)
children = {{"ok": 0}}
for i in range(100):
    child = os.fork()
    if child == 0:
        fresh = [np.full(1000 * n, n) for n in range(50)]
        mine.resize(200_000, refcheck=False)
        good = all((array == n).all() for n, array in enumerate(fresh)) and mine[:100_000].sum() == 4_999_950_000
        del fresh
        np.zeros(1 << 22)
        os._exit(0 if good and nm.hooks.numpy.owns(mine) else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0, (i, status)
stop.set()
for thread in threads:
    thread.join()
assert mine.sum() == 4_999_950_000
"""
THREADS = """
threads = [threading.Thread(target=work, args=(n + 1,)) for n in range(8)]
for thread in threads: thread.start()
"""


def test_fork_while_eight_threads_allocate():
    run_python(FORK.format(enter="nm.hooks.numpy.install(nm.MemoryPool())", threads=THREADS), timeout=300)


def test_fork_inside_a_scope():
    run_python(FORK.format(enter="nm.hooks.numpy(nm.MemoryPool()).__enter__()", threads="threads = []"), timeout=300)


def test_a_forked_child_ends_as_usual():
    # Through the whole of the interpreter's end, with arrays of the parent alive.
    done = run_python(
        """
        import multiprocessing, sys
        import numpy as np, neuro_memory as nm
        nm.hooks.numpy.install(nm.MemoryPool())
        shared = np.arange(100_000)
        def child(queue):
            queue.put(int((shared + 1).sum()))
        if __name__ == "__main__":
            fork = multiprocessing.get_context("fork")
            queue = fork.Queue()
            workers = [fork.Process(target=child, args=(queue,)) for _ in range(4)]
            for worker in workers: worker.start()
            print([queue.get(timeout=60) for _ in workers])
            for worker in workers: worker.join()
            assert [worker.exitcode for worker in workers] == [0] * 4
        """
    )
    assert done.stdout.strip() == str([5_000_050_000] * 4)


def test_without_numpy():
    run_python(
        """
        import sys
        sys.modules["numpy"] = None
        import neuro_memory as nm
        assert nm.hooks.numpy.installed is False
        nm.hooks.numpy.uninstall()
        for attempt in (nm.hooks.numpy, nm.hooks.numpy.install):
            try:
                attempt()
            except ImportError as error:
                assert "needs NumPy" in str(error), error
                assert error.__cause__ is not None
            else:
                raise AssertionError
        assert nm.hooks.numpy.installed is False
        """
    )


def test_numpy_is_imported_only_when_asked():
    run_python(
        """
        import sys
        import neuro_memory as nm
        assert nm.hooks.numpy.installed is False
        assert "numpy" not in sys.modules
        nm.hooks.numpy.install()
        assert "numpy" in sys.modules
        """
    )


def test_an_unknown_interface_is_refused():
    run_python(
        """
        import ctypes
        import numpy as np, neuro_memory as nm
        version = ctypes.CFUNCTYPE(ctypes.c_uint)(lambda: 0x0300_0000)  # a NumPy 3
        table = (ctypes.c_void_p * 1)(ctypes.cast(version, ctypes.c_void_p))
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        np._core._multiarray_umath._ARRAY_API = new(ctypes.addressof(table), None, None)
        for attempt in (nm.hooks.numpy, nm.hooks.numpy.install):
            try:
                attempt()
            except ImportError as error:
                assert "0x03000000" in str(error) and "NumPy 2" in str(error), error
            else:
                raise AssertionError
        np.arange(10)
        """
    )
