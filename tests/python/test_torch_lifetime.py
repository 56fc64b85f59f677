"""Tensors of PyTorch and ours outlive each other: whoever goes first, on whichever thread, at the end of the process, in a worker of theirs."""

import gc
import sys
import threading
import weakref

import numpy as np
import pytest
from hook_tools import run_python

import neuro_memory as nm

torch = pytest.importorskip("torch")


def test_ours_goes_first(pool):
    tensor = pool.ones(1000)
    theirs = torch.from_dlpack(tensor)
    part = theirs[10:20]
    del tensor, theirs
    gc.collect()
    assert pool.stats().live_blocks == 1 and part.sum() == 10
    del part
    assert pool.stats().live_blocks == 0


def test_theirs_goes_first():
    theirs = torch.ones(1000)
    gone = weakref.ref(theirs.untyped_storage())
    tensor = nm.from_dlpack(theirs)
    part = tensor[10:20]
    address = theirs.data_ptr() + 40
    del theirs, tensor
    gc.collect()
    assert part.tolist() == [1] * 10 and part.data_ptr == address
    del part, gone


def test_back_and_forth(pool):
    first = pool.zeros(10)
    chain = [first]
    for turn in range(50):
        chain.append(torch.from_dlpack(chain[-1]) if turn % 2 == 0 else nm.from_dlpack(chain[-1]))
    chain[-1][3] = 7
    assert first[3] == 7 and pool.stats().live_blocks == 1
    last = chain[-1]
    del chain, first
    assert last[3] == 7
    del last
    gc.collect()
    assert pool.stats().live_blocks == 0


def test_capsules_that_nobody_takes(pool):
    for _ in range(100):
        pool.ones(10).__dlpack__()
        pool.ones(10).__dlpack__(max_version=(1, 0))
        torch.ones(10).__dlpack__()
    assert pool.stats().live_blocks == 0


def test_cycles_through_both(pool):
    class Node:
        pass

    for _ in range(20):
        node = Node()
        node.me, node.ours = node, pool.ones(100)
        node.theirs = torch.from_dlpack(node.ours)
        node.theirs.back = node  # an attribute of the Python object
        other = Node()
        other.me, other.ours = other, nm.from_dlpack(torch.from_dlpack(pool.ones(100)))
        other.theirs = torch.from_dlpack(other.ours)
    del node, other
    gc.collect()
    assert pool.stats().live_blocks == 0


def test_the_last_one_goes_on_another_thread(pool):
    """Each of many threads drops what another made, of either kind."""
    errors = []

    def drop(given):
        try:
            for ours, theirs in given:
                assert theirs.sum() == 100 and ours.shape == (100,)
            given.clear()
        except BaseException as wrong:  # noqa: BLE001
            errors.append(wrong)

    threads = []
    for _ in range(8):
        pairs = [(nm.from_dlpack(torch.ones(100)), torch.from_dlpack(pool.ones(100))) for _ in range(50)]
        threads.append(threading.Thread(target=drop, args=(pairs,)))
        del pairs
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and pool.stats().live_blocks == 0


def test_many_threads_exchange_at_once(pool):
    errors = []

    def work(number):
        try:
            for turn in range(200):
                tensor = pool.zeros(100)
                theirs = torch.from_dlpack(tensor)
                theirs += number
                assert nm.from_dlpack(theirs[turn % 100 :])[0] == number
        except BaseException as wrong:  # noqa: BLE001
            errors.append(wrong)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and pool.stats().live_blocks == 0


def test_autograd_frees_ours_on_its_own_threads(pool):
    """The graph keeps what it needs of our memory until the backward pass is through."""
    weight = torch.ones(100, requires_grad=True)
    for _ in range(20):
        data = torch.from_dlpack(pool.ones(100))
        loss = (weight * data).sum()
        del data
        assert pool.stats().live_blocks == 1
        loss.backward()
        del loss
    assert weight.grad.sum() == 2000 and pool.stats().live_blocks == 0


AT_EXIT = """
import atexit, sys, threading
{first}
{second}
ours = [nm.ones(1000) for _ in range(20)]
theirs = [torch.from_dlpack(tensor) for tensor in ours[:10]]
taken = [nm.from_dlpack(torch.ones(1000)) for _ in range(20)]
chain = nm.from_dlpack(torch.from_dlpack(nm.from_dlpack(torch.ones(3))))
capsules = [nm.ones(3).__dlpack__(), nm.ones(3).__dlpack__(max_version=(1, 0)), torch.ones(3).__dlpack__()]
sys.kept_past_modules = (torch.from_dlpack(nm.ones(5)), nm.from_dlpack(torch.ones(5)))
torch.kept, nm.kept = nm.from_dlpack(torch.ones(5)), torch.from_dlpack(nm.ones(5))
class Node:
    def __init__(self):
        self.me, self.ours = self, torch.from_dlpack(nm.ones(7))
    def __del__(self):
        self.late = nm.from_dlpack(self.ours)
node = Node()
@atexit.register
def last():
    print("atexit", nm.from_dlpack(theirs[3])[0], torch.from_dlpack(taken[4])[0].item(), flush=True)
def idle():
    mine = torch.from_dlpack(nm.ones(9)), nm.from_dlpack(torch.ones(9))
    threading.Event().wait()
threading.Thread(target=idle, daemon=True).start()
del ours
print("end", flush=True)
"""


@pytest.mark.parametrize("order", [("import torch", "import neuro_memory as nm"), ("import neuro_memory as nm", "import torch")])
def test_the_interpreter_ends_with_both_alive(order):
    done = run_python(AT_EXIT.format(first=order[0], second=order[1]))
    assert done.stdout.split("\n")[:2] == ["end", "atexit 1.0 1.0"]
    assert "Fatal" not in done.stderr and "Error" not in done.stderr, done.stderr


def test_the_interpreter_ends_while_threads_free_theirs():
    """What came from PyTorch goes on threads that are still at it when the interpreter is gone. None of them calls PyTorch: on
    Python 3.11 a thread that does nothing but `torch.ones` then aborts the process, without us."""
    done = run_python("""
        import threading, torch, neuro_memory as nm
        given = [nm.from_dlpack(torch.ones(10)) for _ in range(30_000)]
        begun = threading.Event()
        def work():
            while True:
                begun.set()
                if given:
                    given.pop()
                nm.from_dlpack(nm.ones(10))
        for _ in range(3):
            threading.Thread(target=work, daemon=True).start()
        begun.wait()
        print("end", flush=True)
    """)
    assert done.stdout == "end\n" and "Fatal" not in done.stderr, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="needs fork")
def test_workers_of_a_loader():
    """Forked workers read ours where they lie, and make batches from them; what they made is theirs."""
    done = run_python("""
        import torch, neuro_memory as nm, numpy as np
        from torch.utils.data import DataLoader, Dataset

        class Rows(Dataset):
            def __init__(self):
                self.rows = nm.zeros((64, 10))
                self.rows.copy_from(np.arange(640, dtype="float32").reshape(64, 10))
                self.theirs = torch.from_dlpack(self.rows)
                self.made = nm.from_dlpack(torch.arange(64.0))
            def __len__(self):
                return 64
            def __getitem__(self, at):
                new = nm.ones(10)
                row = torch.from_dlpack(self.rows[at])
                assert (row == self.theirs[at]).all() and self.made[at] == at
                return row + torch.from_dlpack(new)

        rows = Rows()
        before = nm.stats().live_blocks
        for _ in range(2):
            loader = DataLoader(rows, batch_size=8, num_workers=2, multiprocessing_context="fork")
            got = torch.cat(list(loader))
            assert got.shape == (64, 10) and (got == torch.from_numpy(rows.rows.numpy()) + 1).all()
        assert nm.stats().live_blocks == before
        print("end")
    """)
    assert done.stdout == "end\n", done.stderr


def test_arrays_of_our_pool_become_batches():
    """What PyTorch puts together from NumPy arrays of a hooked pool, and from our tensors."""
    from torch.utils.data import default_collate

    pool = nm.MemoryPool()
    with nm.hooks.numpy(pool):
        arrays = [np.full((3, 4), number, "float32") for number in range(5)]
    assert all(nm.hooks.numpy.owns(array) for array in arrays)
    batch = default_collate(arrays)
    assert batch.shape == (5, 3, 4) and [row[0, 0].item() for row in batch] == [0, 1, 2, 3, 4]
    shared = torch.from_numpy(arrays[2])
    assert shared.data_ptr() == arrays[2].ctypes.data
    pairs = default_collate([{"x": torch.from_dlpack(nm.ones(3)), "y": number} for number in range(4)])
    assert pairs["x"].shape == (4, 3) and pairs["y"].tolist() == [0, 1, 2, 3]
    del arrays
    gc.collect()
    assert pool.stats().live_blocks == 1 and shared.sum() == 24  # what is shared stays
    del shared
    gc.collect()
    assert pool.stats().live_blocks == 0


def test_one_file_for_both(tmp_path):
    """What one writes as safetensors, the other reads."""
    theirs = pytest.importorskip("safetensors.torch")
    tensors = {"a": nm.ones((2, 3)), "b": nm.zeros(5, "bfloat16"), "c": nm.ones(4, "int64")}
    theirs.save_file({name: torch.from_dlpack(tensor) for name, tensor in tensors.items()}, tmp_path / "theirs.safetensors")
    back = nm.load_file(tmp_path / "theirs.safetensors")
    assert {name: (back[name].dtype, back[name].tolist()) for name in tensors} == {
        name: (tensor.dtype, tensor.tolist()) for name, tensor in tensors.items()
    }
    nm.save_file(tensors, tmp_path / "ours.safetensors")
    loaded = theirs.load_file(tmp_path / "ours.safetensors")
    assert loaded["b"].dtype == torch.bfloat16 and loaded["a"].tolist() == tensors["a"].tolist()
    # Mapped, and handed on without a copy.
    mapped = torch.from_dlpack(back["a"])
    assert mapped.data_ptr() == back["a"].data_ptr
