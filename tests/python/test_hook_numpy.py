"""NumPy at work on hooked memory gives what it gives without: one row a feature that allocates in its own way."""

import io
import pickle

import numpy as np
import pytest
from hook_tools import address, hooked, installed, nothing_left  # noqa: F401  (fixtures)

import neuro_memory as nm

RNG = np.random.default_rng(7)
X = RNG.standard_normal((64, 48))
Y = RNG.standard_normal((48, 64)).astype(np.float32)


def nditer_sum(array):
    """A buffered iteration with a cast, which copies through buffers of NumPy's own."""
    flags = ["buffered", "external_loop"]
    return np.array([chunk.sum() for chunk in np.nditer(array, flags, op_dtypes=["f4"], casting="same_kind")])


def same(work):
    """The result of `work` under the hook equals the one without, whichever way NumPy is built."""
    plain = work()
    pool = nm.hooks.numpy.install(nm.MemoryPool())
    made = pool.stats().total_allocations
    result = work()
    nm.hooks.numpy.uninstall()
    assert pool.stats().total_allocations > made
    plain, result = (value if isinstance(value, tuple) else (value,) for value in (plain, result))
    for expected, got in zip(plain, result, strict=True):
        np.testing.assert_array_equal(got, expected)
        if isinstance(got, np.ndarray) and got.base is None:
            assert hooked(got)
            assert address(got) % 64 == 0


WORK = {
    "temporaries": lambda: (X + 1) * (X - 2) / (X * X + 3) - X,
    "large temporaries": lambda: np.ones(1 << 19) + np.ones(1 << 19) * 2 + 1,
    "in place": lambda: np.add.accumulate(X.copy()).__iadd__(1),
    "casts": lambda: X.astype(np.float32).astype(np.int8).astype("U8"),
    "reduce": lambda: (X.sum(0), X.mean(1), X.std(0), np.median(X, axis=0)),
    "sort": lambda: (np.sort(X, axis=0), np.argsort(X.T[::-1], axis=0, kind="stable"), np.partition(X, 5, axis=0)),
    "sort of a swapped dtype": lambda: np.sort(X.astype(">f8"), axis=0),
    "sort of records": lambda: np.sort(np.array([(2, b"x"), (1, b"yy")], "i4,S3"), order="f0"),
    "einsum": lambda: np.einsum("ij,jk->ik", X, Y, optimize=True),
    "matmul": lambda: X @ Y,
    "linalg": lambda: np.linalg.solve(X[:48] @ X[:48].T + 50 * np.eye(48), X[:48]),
    "fft": lambda: np.fft.fft2(X),
    "stack": lambda: (np.concatenate([X, X]), np.stack([X, X]), np.block([[X, X], [X, X]]), np.tile(X, (2, 3))),
    "indexing": lambda: (X[X > 0], X[[3, 1, 2]], np.where(X > 0, X, 0), np.take(X, [5, 4]), X[:, ::-1].copy()),
    "unique": lambda: np.unique(np.round(X, 1), return_counts=True),
    "growth": lambda: np.fromiter((i * i for i in range(5000)), np.int64),
    "text": lambda: (np.loadtxt(io.StringIO("1 2\n3 4")), np.char.add(["a", "bb"], "c"), np.fromstring("1 2", sep=" ")),
    "lists": lambda: (np.array([[1, 2], [3, 4.5]]), np.array(["a", "bcd"]), np.array([1 + 2j, 3])),
    "random": lambda: np.random.default_rng(3).permutation(np.arange(1000)),
    "strings of any length": lambda: np.strings.add(np.array(["x" * 100, "y"], np.dtypes.StringDType()), "z"),
    "choose": lambda: np.choose([0, 1, 2], [[1, 2, 3], [4, 5, 6], [7, 8, 9]]),
    "vectorize": lambda: np.vectorize(lambda a, b: a + b)(X[0], X[1]),
    "histogram": lambda: np.histogram(X, 10),
    "polynomial": lambda: np.polyfit(X[0], X[1], 3),
    "nditer": lambda: nditer_sum(X.T),
    "packed bits": lambda: np.unpackbits(np.packbits(X > 0)),
}


@pytest.mark.parametrize("name", WORK)
def test_same_result(name):
    same(WORK[name])


def test_object_arrays(installed):
    import sys

    thing = object()
    count = sys.getrefcount(thing)
    array = np.full(100, thing, object)
    assert sys.getrefcount(thing) == count + 100
    array.resize(10, refcheck=False)
    assert sys.getrefcount(thing) == count + 10
    array.resize(50, refcheck=False)
    assert array[40] == 0
    array[:] = [[i] for i in range(50)]
    assert sys.getrefcount(thing) == count
    assert np.array([array, array]).sum() is not None
    empty = np.empty(1000, object)
    assert all(value is None for value in empty)


def test_structured_arrays(installed):
    dtype = np.dtype([("name", "U10"), ("xy", "f4", 2), ("inner", [("a", "i1"), ("b", "O")])], align=True)
    array = np.zeros(100, dtype)
    array["xy"] = 1.5
    array["inner"]["b"] = [str(i) for i in range(100)]
    array[3] = ("x", (1, 2), (3, None))
    assert array["xy"].sum() == 300
    assert array[3]["name"] == "x"
    assert array[3]["xy"].tolist() == [1, 2]
    assert array[3]["inner"].item() == (3, None)
    assert array[99]["inner"]["b"] == "99"
    assert array.copy()[["name", "xy"]].shape == (100,)
    assert np.rec.fromarrays([[1, 2], ["a", "b"]], names="n,s").n.sum() == 3


def test_files(installed, tmp_path):
    np.save(tmp_path / "x.npy", X)
    np.savez_compressed(tmp_path / "xy.npz", x=X, y=Y)
    loaded = np.load(tmp_path / "x.npy")
    assert hooked(loaded)
    np.testing.assert_array_equal(loaded, X)
    with np.load(tmp_path / "xy.npz") as archive:
        np.testing.assert_array_equal(archive["y"], Y)
    X.tofile(tmp_path / "x.raw")
    np.testing.assert_array_equal(np.fromfile(tmp_path / "x.raw").reshape(X.shape), X)


def test_memory_maps_are_not_ours(installed, tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r+")
    assert not hooked(mapped)
    total = mapped + 1
    assert hooked(total)
    np.testing.assert_array_equal(total, X + 1)
    fresh = np.memmap(tmp_path / "y.raw", np.float32, "w+", shape=(100,))
    fresh[:] = 2
    fresh.flush()
    del mapped, fresh
    assert np.fromfile(tmp_path / "y.raw", np.float32).sum() == 200


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickle(installed, protocol):
    for array in (X, X[::2], np.arange(10), np.array(["a", None], object), np.zeros(3, "i4,U5"), X.astype(">f4")):
        copy = pickle.loads(pickle.dumps(array.copy(), protocol))
        np.testing.assert_array_equal(copy, array)
        copy.resize(copy.size + 100, refcheck=False) if copy.flags.owndata else None


def test_pickle_across_the_hook():
    with nm.hooks.numpy():
        inside = pickle.dumps(X.copy())
        array = pickle.loads(pickle.dumps(np.arange(10)))
    outside = pickle.loads(inside)
    np.testing.assert_array_equal(outside, X)
    array.__setstate__(np.arange(5).__reduce__()[2])  # frees the pool's block, takes NumPy's own
    assert array.tolist() == [0, 1, 2, 3, 4]
    assert not hooked(array)


def test_views_of_other_owners(installed):
    raw = bytearray(100)
    view = np.frombuffer(raw, np.uint8)
    assert not hooked(view)
    assert hooked(view.copy())
    interface = np.asarray(memoryview(b"abc"))
    assert not hooked(interface)
    assert hooked(np.array(memoryview(b"abc")))


def test_jax_takes_it_without_a_copy():
    jnp = pytest.importorskip("jax.numpy")
    with nm.hooks.numpy():
        array = np.arange(1 << 20, dtype=np.float32)
    taken = jnp.from_dlpack(array, copy=False)
    assert taken.unsafe_buffer_pointer() == address(array)
    assert float(taken[1000]) == 1000
    del array
    assert float(taken[2000]) == 2000
    del taken


def test_scikit_learn_on_hooked_arrays():
    linear_model = pytest.importorskip("sklearn.linear_model")
    with nm.hooks.numpy():
        x = RNG.standard_normal((200, 5))
        model = linear_model.LinearRegression().fit(x, x @ np.arange(5.0))
    np.testing.assert_allclose(model.coef_, range(5), atol=1e-9)
    del x, model
