"""Memory of a CUDA device out and in: DLPack with its streams, `__cuda_array_interface__`, the table of C functions. A consumer here is one
of ctypes, which fills what it has been handed on a stream of its own. What is not in order the simulated driver finds."""

import ctypes
import gc
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import neuro_memory as nm
from foreign import NAME, DLTensor, Managed, ManagedVersioned, Producer

GPU = "cuda:0"
COUNT = 1000
LEGACY = 1

POINTER = ctypes.pythonapi.PyCapsule_GetPointer
POINTER.restype, POINTER.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
RENAME = ctypes.pythonapi.PyCapsule_SetName
RENAME.restype, RENAME.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]


@pytest.fixture(scope="module")
def driver(cuda: None) -> Any:
    library = ctypes.CDLL("libcuda.so.1")
    for name, arguments in {
        "cuCtxSetCurrent": [ctypes.c_void_p],
        "cuStreamCreate": [ctypes.c_void_p, ctypes.c_uint],
        "cuStreamDestroy_v2": [ctypes.c_void_p],
        "cuMemsetD32Async": [ctypes.c_uint64, ctypes.c_uint, ctypes.c_size_t, ctypes.c_void_p],
        "cuMemAlloc_v2": [ctypes.c_void_p, ctypes.c_size_t],
        "cuMemFree_v2": [ctypes.c_uint64],
    }.items():
        getattr(library, name).argtypes = arguments
    assert library.cuCtxSetCurrent(nm.cuda.handles(GPU).context) == 0
    return library


@pytest.fixture
def stream(driver):
    raw = ctypes.c_void_p()
    assert driver.cuStreamCreate(ctypes.byref(raw), 1) == 0
    yield raw.value
    gc.collect()
    assert driver.cuStreamDestroy_v2(raw.value) == 0


def fill(driver, stream, address, value, count=COUNT):
    assert driver.cuCtxSetCurrent(nm.cuda.handles(GPU).context) == 0  # of whatever thread
    assert driver.cuMemsetD32Async(address, value, count, stream) == 0


class Consumer:
    """Has taken a capsule."""

    def __init__(self, capsule: Any) -> None:
        name = NAME(capsule)
        kind = ManagedVersioned if name == b"dltensor_versioned" else Managed
        self.managed = ctypes.cast(POINTER(capsule, name), ctypes.POINTER(kind))
        self._used = b"used_" + name
        RENAME(capsule, self._used)
        self._capsule = capsule  # its name has to stay

    @property
    def tensor(self) -> DLTensor:
        return self.managed.contents.dl_tensor

    def close(self) -> None:
        self.managed.contents.deleter(ctypes.cast(self.managed, ctypes.c_void_p).value)


def until(driver: Any, holds: Callable[[], bool]) -> None:
    """What work uses is given back when that is seen to be done, as it is looked for whenever something comes in."""
    address = ctypes.c_uint64()
    assert driver.cuMemAlloc_v2(ctypes.byref(address), 4) == 0
    for _ in range(1000):
        if holds():
            break
        producer = Producer(shape=(1,), device=(2, 0), dtype=(0, 32, 1), data=address.value)
        nm.from_dlpack(producer.capsule()).synchronize()
        assert producer.freed == 1, "nobody has used it"
    assert holds()
    assert driver.cuMemFree_v2(address) == 0


def ramp(dtype: str = "int32") -> nm.Tensor:
    return nm.asarray(np.arange(COUNT, dtype=dtype)).to(GPU)


def values(tensor: nm.Tensor) -> list[Any]:
    return tensor.to("cpu").numpy().tolist()


class Theirs:
    """Another library's array on a device: memory of the driver, and one stream on which it is filled."""

    def __init__(self, driver: Any, stream: int | None, value: int, takes: set[str] | None = None) -> None:
        address = ctypes.c_uint64()
        assert driver.cuMemAlloc_v2(ctypes.byref(address), COUNT * 4) == 0
        self.driver, self.stream, self.address, self.takes = driver, stream, address.value, takes
        self.asked: list[dict[str, Any]] = []
        self.producers: list[Producer] = []
        fill(driver, stream, self.address, value)

    def __dlpack_device__(self):
        return (2, 0)

    def __dlpack__(self, **asked):
        if self.takes is not None and set(asked) != self.takes:
            raise TypeError("unexpected keyword")
        self.asked.append(asked)
        event = ctypes.c_void_p()
        assert self.driver.cuEventCreate(ctypes.byref(event), 2) == 0
        assert self.driver.cuEventRecord(event, ctypes.c_void_p(self.stream)) == 0
        assert self.driver.cuStreamWaitEvent(ctypes.c_void_p(asked.get("stream", LEGACY)), event, 0) == 0
        assert self.driver.cuEventDestroy_v2(event) == 0
        producer = Producer(shape=(COUNT,), device=(2, 0), dtype=(0, 32, 1), data=self.address, versioned=self.takes is None)
        self.producers.append(producer)
        return producer.capsule()

    def close(self) -> None:
        gc.collect()
        until(self.driver, lambda: all(producer.freed == 1 for producer in self.producers))
        assert self.driver.cuMemFree_v2(self.address) == 0


@pytest.mark.parametrize("version", [None, (1, 0)])
def test_a_consumer_on_a_stream_of_its_own(driver, stream, version):
    tensor = ramp()
    assert tensor.__dlpack_device__() == (2, 0)
    consumer = Consumer(tensor.__dlpack__(stream=stream, max_version=version))
    there = consumer.tensor
    assert (there.data, there.device_type, there.device_id) == (nm.cuda.pointer(tensor), 2, 0)
    assert (there.ndim, there.shape[0], there.strides[0], there.byte_offset) == (1, COUNT, 1, 0)
    fill(driver, stream, there.data, 7)  # behind the upload
    assert values(tensor) == [7] * COUNT  # behind that
    fill(driver, stream, there.data, 8)  # behind the copy
    assert tensor.refcount == 2
    del tensor
    consumer.close()
    again = nm.zeros(COUNT, "int32", device=GPU)  # perhaps where that was
    assert values(again) == [0] * COUNT


@pytest.mark.parametrize("asked", [None, 1, 2, -1])
def test_the_default_streams(driver, asked):
    tensor = ramp()
    tensor.synchronize()  # -1 asks for no order
    consumer = Consumer(tensor.__dlpack__(stream=asked))
    fill(driver, 2 if asked == 2 else LEGACY, consumer.tensor.data, 9)
    assert values(tensor) == [9] * COUNT
    consumer.close()


def test_more_streams_than_there_are_places_for(driver):
    tensor, raw = nm.zeros(COUNT, "int32", device=GPU), [ctypes.c_void_p() for _ in range(8)]
    for one in raw:
        assert driver.cuStreamCreate(ctypes.byref(one), 1) == 0
    consumers = [Consumer(tensor.__dlpack__(stream=one.value)) for one in raw]
    for at, one in enumerate(raw):
        fill(driver, one, consumers[at].tensor.data + 400 * at, at + 1, 100)
    assert values(tensor)[:800] == [at // 100 + 1 for at in range(800)]
    for consumer in consumers:
        consumer.close()
    for one in raw:
        assert driver.cuStreamDestroy_v2(one) == 0


def test_what_is_refused(driver, stream):
    tensor = ramp()
    for wrong, said in ((0, "pass 1"), (-2, "is no stream"), ("7", "is no stream"), (1.5, "is no stream")):
        with pytest.raises(BufferError, match=said):
            tensor.__dlpack__(stream=wrong)
    for wrong in ((2, 1), (3, 0), (7, 0), "cpu"):
        with pytest.raises(BufferError, match="was asked for"):
            tensor.__dlpack__(dl_device=wrong)
    with pytest.raises(BufferError, match="copy=False"):
        tensor.__dlpack__(dl_device=(1, 0), copy=False)
    with pytest.raises(BufferError):
        memoryview(tensor)
    with pytest.raises(BufferError, match="means nothing"):
        nm.zeros(3).__dlpack__(stream=stream)
    with pytest.raises(BufferError, match="not pinned"):
        nm.zeros(3).__dlpack__(dl_device=(3, 0))
    for device in ((2, 77), (2, -1), (13, 0), (10, 0)):
        producer = Producer(device=device, data=nm.cuda.pointer(tensor))
        with pytest.raises(BufferError, match=str(device[1]) if device[0] == 2 else str(device[0])):
            nm.from_dlpack(producer.capsule())
        assert producer.freed == 0
    producer = Producer(device=(2, 0), data=nm.cuda.pointer(tensor))
    readonly = nm.from_dlpack(producer.capsule())
    assert readonly.readonly
    with pytest.raises(BufferError, match="read-only"):
        readonly.__dlpack__()
    consumer = Consumer(readonly.__dlpack__(max_version=(1, 0)))
    assert consumer.managed.contents.flags == 1
    consumer.close()
    del readonly
    until(driver, lambda: producer.freed == 1)  # what the consumer may have done is seen to be done
    assert values(tensor) == list(range(COUNT))


def test_to_the_host_and_copies():
    tensor = ramp()
    host = Consumer(tensor.__dlpack__(dl_device=(1, 0), max_version=(1, 0)))
    assert (host.tensor.device_type, host.managed.contents.flags) == (1, 2)
    assert np.ctypeslib.as_array(ctypes.cast(host.tensor.data, ctypes.POINTER(ctypes.c_int32)), (COUNT,))[7] == 7
    host.close()
    copy = Consumer(tensor.__dlpack__(copy=True, max_version=(1, 0)))
    assert (copy.tensor.device_type, copy.managed.contents.flags) == (2, 2)
    assert copy.tensor.data != nm.cuda.pointer(tensor)
    copy.close()
    part = nm.asarray(np.arange(12, dtype="int32").reshape(3, 4)).to(GPU)[1:, 2]
    view = Consumer(part.__dlpack__())
    assert (view.tensor.data, view.tensor.strides[0]) == (nm.cuda.pointer(part), 4)
    view.close()
    assert np.from_dlpack(nm.from_dlpack(tensor, device="cpu"))[3] == 3
    empty = Consumer(nm.zeros((0, 3), device=GPU).__dlpack__())
    assert empty.tensor.data is None
    empty.close()


@pytest.mark.parametrize("takes", [None, {"stream"}, set()])
def test_a_producer_on_a_stream_of_its_own(driver, stream, takes):
    theirs, old = Theirs(driver, stream, 5, takes), takes is not None
    tensor = nm.from_dlpack(theirs)
    assert theirs.asked[-1].get("stream") == (None if takes == set() else nm.cuda.handles(GPU).compute)
    assert (tensor.device, tensor.readonly, nm.cuda.pointer(tensor)) == (GPU, old, theirs.address)
    assert values(tensor) == [5] * COUNT
    here = nm.from_dlpack(theirs, device="cpu")
    assert (here.device, here.tolist()[:3]) == ("cpu", [5] * 3)
    with pytest.raises(BufferError, match="copy=False"):
        nm.from_dlpack(theirs, device="cpu", copy=False)
    copied = nm.from_dlpack(theirs, copy=True)
    assert nm.cuda.pointer(copied) != theirs.address and not copied.readonly
    del tensor, here, copied
    theirs.close()


def test_the_default_stream_goes_on_using_what_it_has_lent(driver):
    theirs = Theirs(driver, None, 5)
    tensor = nm.asarray(theirs)
    fill(driver, None, theirs.address, 6)
    assert values(tensor) == [6] * COUNT
    fill(driver, None, theirs.address, 7)
    assert values(tensor) == [7] * COUNT
    threading.Thread(target=lambda held=[tensor]: held.clear()).start()
    del tensor
    gc.collect()
    theirs.close()


def test_ours_comes_home():
    tensor = ramp()
    back = nm.from_dlpack(tensor)
    assert (nm.cuda.pointer(back), back.readonly, tensor.refcount) == (nm.cuda.pointer(tensor), False, 2)
    old = nm.from_dlpack(tensor.__dlpack__())
    assert (old.readonly, tensor.refcount) == (False, 3)


def test_pinned_memory_says_so_to_who_asks(cuda):
    pool = nm.MemoryPool(gpu_support=True)
    tensor = pool.zeros((3, 4), "float32")
    assert tensor.is_pinned and tensor[1:, ::2].is_pinned and not nm.zeros(3).is_pinned and not ramp().is_pinned
    assert tensor.__dlpack_device__() == (1, 0)
    plain, pinned = Consumer(tensor.__dlpack__()), Consumer(tensor.__dlpack__(dl_device=(3, 0), max_version=(1, 0)))
    assert (plain.tensor.device_type, pinned.tensor.device_type) == (1, 3)
    assert (pinned.tensor.device_id, pinned.tensor.data) == (0, tensor.data_ptr)
    plain.close()
    pinned.close()
    back = nm.from_dlpack(tensor.__dlpack__(dl_device=(3, 0), max_version=(1, 0)))
    assert (back.device, back.data_ptr, back.readonly) == ("cpu", tensor.data_ptr, False)


def test_the_array_interface(driver):
    tensor = nm.asarray(np.arange(12, dtype="float32").reshape(3, 4)).to(GPU)
    said = tensor.__cuda_array_interface__
    assert said == {
        "version": 3,
        "typestr": "<f4",
        "shape": (3, 4),
        "data": (nm.cuda.pointer(tensor), False),
        "strides": None,
        "stream": LEGACY,
    }
    part = tensor[1:, ::2]
    assert part.__cuda_array_interface__["strides"] == (16, 8)
    assert nm.zeros((0, 2), device=GPU).__cuda_array_interface__["data"] == (0, False)
    fill(driver, LEGACY, said["data"][0], 0, 12)
    assert values(tensor) == [[0] * 4] * 3
    del part
    fill(driver, LEGACY, said["data"][0], 0, 12)
    del tensor
    assert values(nm.ones(12, device=GPU)) == [1] * 12
    for other in (nm.zeros(3), nm.zeros(3, "bfloat16").to(GPU)):
        with pytest.raises(AttributeError, match="__cuda_array_interface__"):
            _ = other.__cuda_array_interface__


class Shown:
    """An array of a library that has the interface and no DLPack."""

    def __init__(self, **said: Any) -> None:
        self.__cuda_array_interface__ = {"version": 3, "shape": (COUNT,), "typestr": "<i4", **said}


def test_others_by_the_array_interface(driver, stream):
    theirs = Theirs(driver, stream, 4)
    shown = Shown(data=(theirs.address, False), strides=None, stream=stream)
    tensor = nm.from_dlpack(shown)
    assert (nm.cuda.pointer(tensor), tensor.readonly, tensor.device) == (theirs.address, False, GPU)
    assert values(tensor) == [4] * COUNT
    half = nm.asarray(Shown(data=(theirs.address, True), shape=(COUNT // 2,), strides=(8,)))
    assert half.readonly and values(half) == [4] * (COUNT // 2)
    base = sys.getrefcount(shown)
    for wrong, said in (
        ({"data": (theirs.address, False), "mask": object()}, "mask"),
        ({"data": (theirs.address, False), "strides": (3,)}, "whole elements"),
        ({"data": (theirs.address, False), "strides": (4, 4)}, "strides"),
        ({"data": (theirs.address, False), "stream": 0}, "stream"),
        ({"data": (theirs.address, False), "shape": (-1,)}, "impossible"),
        ({"data": theirs.address}, "data"),
        ({}, "data"),
        ({"data": (4096 * 7, False)}, "no memory that CUDA knows"),
    ):
        with pytest.raises(BufferError, match=said):
            nm.from_dlpack(Shown(**wrong))
    with pytest.raises(BufferError, match="<q9"):
        nm.from_dlpack(Shown(data=(theirs.address, False), typestr="<q9"))
    assert sys.getrefcount(shown) == base
    del tensor, half
    until(driver, lambda: sys.getrefcount(shown) == base - 1)  # it is kept as long as its memory is used
    theirs.close()


class Table(ctypes.Structure):
    """DLPackExchangeAPI of DLPack 1.3."""

    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("previous", ctypes.c_void_p),
        ("allocate", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)),
        ("from_object", ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_void_p)),
        ("to_object", ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)),
        ("look_at", ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object, ctypes.c_void_p)),
        ("stream", ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_void_p)),
    ]


def table() -> Table:
    capsule = nm.Tensor.__dlpack_c_exchange_api__
    assert NAME(capsule) == b"dlpack_exchange_api"
    return ctypes.cast(POINTER(capsule, b"dlpack_exchange_api"), ctypes.POINTER(Table)).contents


def work_stream(kind: int, ordinal: int = 0) -> int | None:
    out = ctypes.c_void_p(77)
    assert table().stream(kind, ordinal, ctypes.byref(out)) == 0
    return out.value


def check_table(tensor: nm.Tensor, kind: int, address: int) -> int:
    api, owned, seen = table(), ctypes.POINTER(ManagedVersioned)(), DLTensor()
    assert (api.major, api.minor, api.previous) == (1, 3, None)
    assert api.look_at(tensor, ctypes.byref(seen)) == 0
    assert (seen.data, seen.device_type, list(seen.shape[:2]), list(seen.strides[:2])) == (address, kind, [3, 4], [4, 1])
    assert api.from_object(tensor, ctypes.byref(owned)) == 0
    assert (owned.contents.dl_tensor.data, tensor.refcount) == (address, 2)
    back = ctypes.c_void_p()
    assert api.to_object(owned, ctypes.byref(back)) == 0
    other = ctypes.cast(back, ctypes.py_object).value
    ctypes.pythonapi.Py_DecRef(ctypes.py_object(other))
    assert type(other) is nm.Tensor and other.shape == (3, 4)
    made = ctypes.POINTER(ManagedVersioned)()
    assert api.allocate(ctypes.addressof(seen), ctypes.byref(made), None, None) == 0
    assert (made.contents.dl_tensor.device_type, list(made.contents.dl_tensor.shape[:2])) == (kind, [3, 4])
    made.contents.deleter(ctypes.cast(made, ctypes.c_void_p).value)
    return address


def test_the_table_of_functions_on_the_host():
    tensor = nm.zeros((3, 4))
    check_table(tensor, 1, tensor.data_ptr)
    assert (work_stream(1), work_stream(3)) == (None, None)
    api, out = table(), ctypes.c_void_p()
    with pytest.raises(BufferError, match="is no Tensor"):
        api.from_object("a tensor", ctypes.byref(out))
    with pytest.raises(BufferError, match="there is no tensor"):
        api.to_object(None, ctypes.byref(out))
    with pytest.raises(BufferError, match="no streams are known"):
        api.stream(7, 0, ctypes.byref(out))
    said = []
    report = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_char_p)(
        lambda _, kind, text: said.append((kind, text))
    )
    seen, numbers = DLTensor(device_type=7, code=2, bits=32, lanes=1), (ctypes.c_int64 * 1)(1 << 44)
    assert api.allocate(ctypes.addressof(seen), ctypes.byref(out), None, ctypes.cast(report, ctypes.c_void_p)) == -1
    seen = DLTensor(device_type=1, ndim=1, code=2, bits=32, lanes=1, shape=numbers)
    assert api.allocate(ctypes.addressof(seen), ctypes.byref(out), None, ctypes.cast(report, ctypes.c_void_p)) == -1
    assert [kind for kind, _ in said] == [b"BufferError", b"MemoryError"], said


def test_the_table_of_functions_on_a_device(driver):
    tensor = nm.zeros((3, 4), "int32", device=GPU)
    check_table(tensor, 2, nm.cuda.pointer(tensor))
    stream = work_stream(2)
    assert stream == nm.cuda.handles(GPU).compute
    fill(driver, stream, nm.cuda.pointer(tensor), 3, 12)
    assert values(tensor) == [[3] * 4] * 3
    fill(driver, stream, nm.cuda.pointer(tensor), 4, 12)
    del tensor
    assert values(nm.ones(12, device=GPU)) == [1] * 12


EXIT = """
import sys
sys.path[:0] = {path!r}
import test_cuda_dlpack as here
import neuro_memory as nm
tensor = nm.zeros(1000, "int32", device="cuda:0")
kept = here.Consumer(tensor.__dlpack__())
producer = here.Producer(device=(2, 0), shape=(4,), dtype=(0, 32, 1), data=kept.tensor.data)
back = nm.from_dlpack(producer.capsule())
shown = nm.asarray(here.Shown(data=(kept.tensor.data, False), shape=(4,)))
sys.loose = [tensor, kept, producer, back, shown]
print("done")
"""


def test_the_interpreter_may_end_with_everything_out_and_in(cuda):
    program = EXIT.format(path=sys.path)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
