"""Files: with the safetensors package both ways, and files that lie."""

import json
import os
import struct
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from conftest import DTYPES
from safetensors import safe_open
from safetensors.numpy import load_file as their_load
from safetensors.numpy import save_file as their_save

import neuro_memory as nm

# What the NumPy side of that package knows.
SHARED = [name for name in DTYPES if name not in ("complex64", "complex128")]


def sample(dtype: str) -> np.ndarray:
    """Twelve elements of `dtype` in two rows."""
    return (np.arange(12) % 2).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype).reshape(2, 6)


@pytest.mark.parametrize("dtype", SHARED)
@pytest.mark.parametrize("mmap", [False, True], ids=["copied", "mapped"])
def test_we_read_what_the_package_wrote(dtype: str, mmap: bool, tmp_path: Path) -> None:
    their_save({"x": sample(dtype), "empty": np.zeros((0, 3), "float32")}, tmp_path / "f")
    loaded = nm.load_file(tmp_path / "f", mmap=mmap)
    assert loaded["x"].dtype == dtype and loaded["x"].tolist() == sample(dtype).tolist()
    assert loaded["empty"].shape == (0, 3)
    assert loaded["x"].readonly == mmap


@pytest.mark.parametrize("dtype", SHARED)
def test_the_package_reads_what_we_wrote(dtype: str, tmp_path: Path) -> None:
    nm.save_file({"x": nm.asarray(sample(dtype)), "y": nm.full((), 1, dtype)}, tmp_path / "f")
    loaded = their_load(tmp_path / "f")
    assert loaded["x"].dtype.name == dtype and np.array_equal(loaded["x"], sample(dtype)) and loaded["y"] == 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_round_trip_of_views(dtype: str, tmp_path: Path) -> None:
    if dtype == "complex128":
        with pytest.raises((ValueError, TypeError, nm.NeuroMemoryError), match="complex128"):
            nm.save_file({"x": nm.zeros(3, dtype)}, tmp_path / "f")
        assert not (tmp_path / "f").exists()
        return
    tensor = nm.asarray(sample(dtype)) if dtype != "bfloat16" else nm.asarray(sample("bfloat16"))
    nm.save_file({"t": tensor.T, "s": tensor[:, ::-2]}, tmp_path / "f")
    loaded = nm.load_file(tmp_path / "f")
    assert loaded["t"].tolist() == tensor.T.tolist() and loaded["s"].tolist() == tensor[:, ::-2].tolist()


def test_into_a_pool(pool: nm.MemoryPool, tmp_path: Path) -> None:
    nm.save_file({"a": np.ones(100), "b": np.ones(3, "uint8")}, tmp_path / "f")
    loaded = nm.load_file(tmp_path / "f", pool)
    assert pool.stats().live_blocks == 2
    assert all(tensor.data_ptr % 64 == 0 for tensor in loaded.values())
    del loaded
    with pytest.raises(nm.OutOfMemoryError):
        nm.load_file(tmp_path / "f", pool=nm.MemoryPool(100))


def test_mapping_copies_nothing(tmp_path: Path) -> None:
    nm.save_file({"x": np.arange(1 << 20, dtype="float32")}, tmp_path / "f")
    before = nm.stats().live_bytes
    mapped = nm.load_file(str(tmp_path / "f"), mmap=True)["x"]
    assert nm.stats().live_bytes == before
    os.unlink(tmp_path / "f")  # the mapping keeps the contents
    assert mapped[-1] == (1 << 20) - 1 and np.asarray(mapped).sum(dtype="float64") == (1 << 20) * ((1 << 20) - 1) / 2
    with pytest.raises(ValueError, match="read-only"):
        mapped.fill(0)


def test_metadata(tmp_path: Path) -> None:
    nm.save_file({"x": np.ones(1)}, tmp_path / "f", {"format": "np", "note": "ü"})
    with safe_open(tmp_path / "f", "numpy") as file:
        assert file.metadata() == {"format": "np", "note": "ü"}
    assert nm.load_metadata(tmp_path / "f") == {"format": "np", "note": "ü"}
    nm.save_file({"x": np.ones(1)}, tmp_path / "f")
    assert nm.load_metadata(tmp_path / "f") == {}


def test_a_failed_save_leaves_the_old_file(tmp_path: Path) -> None:
    nm.save_file({"x": np.ones(1)}, tmp_path / "f")
    old = (tmp_path / "f").read_bytes()
    with pytest.raises(TypeError):
        nm.save_file({"x": [1, 2]}, tmp_path / "f")
    with pytest.raises(TypeError):
        nm.save_file({3: np.ones(1)}, tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == old and os.listdir(tmp_path) == ["f"]
    with pytest.raises(FileNotFoundError, match="none/f"):
        nm.save_file({"x": np.ones(1)}, tmp_path / "none" / "f")


def test_missing_files_and_directories(tmp_path: Path) -> None:
    for mmap in (False, True):
        with pytest.raises(FileNotFoundError) as caught:
            nm.load_file(tmp_path / "none", mmap=mmap)
        assert caught.value.filename == str(tmp_path / "none")
        with pytest.raises(OSError):
            nm.load_file(tmp_path, mmap=mmap)


def header(entries: dict, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with this header, whose length field may lie."""
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: str = "F32", shape: tuple = (2,), offsets: tuple = (0, 8)) -> dict:
    """One tensor of a header."""
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}


LIES = {
    "empty": b"",
    "cut in the length": b"\x01\x02",
    "cut in the header": header({"x": entry()}, b"", 10_000),
    "cut in the data": header({"x": entry()}, b"1234"),
    "header longer than memory": struct.pack("<Q", 2**63) + b"{}",
    "no json": struct.pack("<Q", 4) + b"abcd",
    "no object": struct.pack("<Q", 4) + b"[  ]",
    "unknown dtype": header({"x": entry("F99")}, b"12345678"),
    "shape and offsets disagree": header({"x": entry(shape=(3,))}, b"12345678"),
    "offsets backwards": header({"x": entry(offsets=(8, 0))}, b"12345678"),
    "offsets outside": header({"x": entry(offsets=(8, 16))}, b"12345678"),
    "hole between tensors": header({"x": entry(), "y": entry(offsets=(16, 24))}, bytes(24)),
    "tensors overlap": header({"x": entry(), "y": entry(offsets=(4, 12))}, bytes(12)),
    "negative shape": header({"x": entry(shape=(-2,))}, b"12345678"),
    "overflowing shape": header({"x": entry(shape=(2**62, 2**62))}, b"12345678"),
    "more data than tensors": header({"x": entry()}, bytes(20)),
}


@pytest.mark.parametrize("mmap", [False, True], ids=["copied", "mapped"])
@pytest.mark.parametrize("lie", LIES)
def test_a_lying_file_is_refused_by_name(lie: str, mmap: bool, tmp_path: Path) -> None:
    (tmp_path / "lie.safetensors").write_bytes(LIES[lie])
    with pytest.raises((ValueError, TypeError)) as caught:
        nm.load_file(tmp_path / "lie.safetensors", mmap=mmap)
    assert "lie.safetensors" in str(caught.value)


def test_the_honest_version_of_those_files_loads(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(header({"x": entry()}, struct.pack("<2f", 1, 2)))
    assert nm.load_file(tmp_path / "f")["x"].tolist() == [1, 2]


def test_a_dict_that_changes_while_it_is_saved(tmp_path: Path) -> None:
    tensors: dict[str, object] = {}

    class Changes:
        """A producer that adds names to the dict it stands in."""

        def __dlpack__(self, **options: object) -> object:
            tensors.update((f"more {i}", nm.zeros(1)) for i in range(100))
            return nm.ones(3).__dlpack__(**options)

    tensors.update(first=Changes(), second=nm.zeros(2))
    path = tmp_path / "changed.safetensors"
    nm.save_file(tensors, path)
    assert set(nm.load_file(path)) == {"first", "second"}
