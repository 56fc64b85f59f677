"""Tensors of PyTorch on the CPU and ours, both ways: the same memory, or a refusal that says why."""

import ctypes

import numpy as np
import pytest
from conftest import DTYPES, NUMPY_DTYPES
from foreign import NAME, Producer

import neuro_memory as nm

torch = pytest.importorskip("torch")

SHAPES = [(), (0,), (3, 0, 2), (1,), (2, 1, 3), (1, 5, 1)]


def same(tensor, theirs) -> bool:
    """Whether both are the same elements in the same place."""
    strides = [stride * theirs.element_size() for stride in theirs.stride()]
    long = [axis for axis, length in enumerate(theirs.shape) if length > 1]  # the other strides mean nothing
    return (
        tensor.data_ptr == theirs.data_ptr()
        and tensor.shape == tuple(theirs.shape)
        and all(tensor.strides[axis] == strides[axis] for axis in long)
        and tensor.tolist() == theirs.tolist()
    )


def counted(rows: int = 4, columns: int = 6) -> nm.Tensor:
    """0, 1, 2, … in rows."""
    tensor = nm.zeros((rows, columns))
    tensor.copy_from(np.arange(rows * columns, dtype="float32").reshape(rows, columns))
    return tensor


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_type_both_ways(dtype):
    tensor = nm.ones((2, 3), dtype)
    theirs = torch.from_dlpack(tensor)
    assert theirs.dtype == getattr(torch, dtype) and same(tensor, theirs)
    theirs[0, 1] = 0
    assert tensor[0, 1] == 0
    back = nm.from_dlpack(theirs)
    assert back.dtype == dtype and same(back, theirs) and not back.readonly
    made = torch.ones((2, 3), dtype=getattr(torch, dtype))
    ours = nm.from_dlpack(made)
    assert ours.dtype == dtype and same(ours, made) and not ours.readonly
    ours[1, 2] = 0
    assert made[1, 2] == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_odd_shapes_both_ways(shape):
    tensor = nm.ones(shape)
    assert tuple(torch.from_dlpack(tensor).shape) == shape and torch.from_dlpack(tensor).tolist() == tensor.tolist()
    theirs = torch.ones(shape)
    assert nm.from_dlpack(theirs).shape == shape and nm.from_dlpack(theirs).tolist() == theirs.tolist()


def test_views_both_ways():
    tensor = counted()
    for view in (tensor.T, tensor[1:, ::2], tensor[:, 3], tensor[2], tensor[::3]):
        assert same(view, torch.from_dlpack(view))
    theirs = torch.arange(24.0).reshape(4, 6)
    for view in (theirs.T, theirs[1:, ::2], theirs[:, 3], theirs[2:], theirs[0].expand(5, 6), theirs.unfold(1, 3, 1)):
        assert same(nm.from_dlpack(view), view)
    assert nm.from_dlpack(theirs[0].expand(5, 6)).strides == (0, 4)


def test_negative_strides_are_refused():
    backwards = counted()[::-1]
    with pytest.raises((RuntimeError, ValueError), match="stride"):
        torch.from_dlpack(backwards)
    with pytest.raises((RuntimeError, ValueError), match="stride"):
        torch.from_numpy(backwards.numpy())
    assert torch.from_dlpack(backwards.copy()).tolist() == backwards.tolist()


def test_read_only_is_lost_on_the_way_there():
    """PyTorch has no read-only tensors, and takes ours without a word: it is for the program not to write. The old form, which cannot say
    it, is refused here; PyTorch's own wrapper comes in read-only."""
    tensor = nm.from_buffer(np.arange(24, dtype="float32").tobytes(), "float32", (4, 6))
    assert tensor.readonly
    theirs = torch.from_dlpack(tensor)
    assert same(tensor, theirs)
    back = nm.from_dlpack(theirs)
    assert not back.readonly and tensor.readonly
    with pytest.raises(BufferError, match="read-only"):
        torch.from_dlpack(tensor.__dlpack__())
    with pytest.warns(UserWarning, match="not writable"):
        assert same(tensor, torch.from_numpy(tensor.numpy()))
    with pytest.warns(UserWarning, match="not writable"):
        assert same(tensor, torch.frombuffer(tensor, dtype=torch.float32).reshape(4, 6))
    wrapper = getattr(torch.utils.dlpack, "ReadOnlyTensorWrapper", None)
    if wrapper is not None:
        ours = nm.from_dlpack(wrapper(theirs))
        assert ours.readonly and same(ours, theirs)


def test_capsules_old_and_new():
    tensor, theirs = counted(), torch.arange(3.0)
    for version, name in ((None, b"dltensor"), ((1, 0), b"dltensor_versioned")):
        capsule = tensor.__dlpack__(max_version=version)
        assert NAME(capsule) == name and same(tensor, torch.utils.dlpack.from_dlpack(capsule))
        assert NAME(capsule) == b"used_" + name
        with pytest.raises((RuntimeError, ValueError, BufferError)):
            torch.utils.dlpack.from_dlpack(capsule)
        capsule = theirs.__dlpack__(max_version=version)
        ours = nm.from_dlpack(capsule)
        assert same(ours, theirs) and ours.readonly == (version is None)  # the old form cannot say
        with pytest.raises(BufferError, match="used already"):
            nm.from_dlpack(capsule)
    assert same(nm.from_dlpack(torch.utils.dlpack.to_dlpack(theirs)), theirs)


def test_copies_on_request():
    tensor, theirs = counted(), torch.arange(3.0)
    assert torch.from_dlpack(tensor, copy=True).data_ptr() != tensor.data_ptr
    assert same(tensor, torch.from_dlpack(tensor, copy=False)) and same(tensor, torch.from_dlpack(tensor, device="cpu"))
    assert nm.from_dlpack(theirs, copy=True).data_ptr != theirs.data_ptr()
    assert same(nm.from_dlpack(theirs, copy=False), theirs) and same(nm.from_dlpack(theirs, device="cpu"), theirs)
    assert same(nm.asarray(theirs), theirs)


def test_through_numpy_and_the_buffer_protocol():
    tensor = counted()
    assert same(tensor, torch.from_numpy(tensor.numpy()))
    assert same(tensor, torch.as_tensor(tensor.numpy())) and same(tensor, torch.as_tensor(tensor))
    assert same(tensor, torch.asarray(tensor).reshape(4, 6))  # by the buffer protocol, of which it reads no shape
    assert same(tensor, torch.frombuffer(tensor, dtype=torch.float32).reshape(4, 6))
    assert torch.tensor(tensor).tolist() == tensor.tolist()  # a copy
    theirs = torch.arange(6.0).reshape(2, 3)
    assert same(nm.from_dlpack(theirs.numpy()), theirs) and same(nm.asarray(theirs.numpy()), theirs)
    for dtype in NUMPY_DTYPES:
        tensor = nm.ones(3, dtype)
        assert same(tensor, torch.from_numpy(tensor.numpy()))


REFUSED = {
    "a gradient": (lambda: torch.ones(3, requires_grad=True), "require gradient"),
    "a parameter": (lambda: torch.nn.Parameter(torch.ones(3)), "require gradient"),
    "a conjugate": (lambda: torch.ones(3, dtype=torch.complex64).conj(), "conjugate bit"),
    "a sparse one": (lambda: torch.ones(3).to_sparse(), "layout"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_pytorch_does_not_give(what):
    """Its own words come through, and nothing is taken."""
    make, words = REFUSED[what]
    with pytest.raises(BufferError, match=words):
        nm.from_dlpack(make())
    with pytest.raises(BufferError, match=words):
        nm.asarray(make())
    with pytest.raises(BufferError, match=words):
        nm.from_dlpack(make(), copy=True)


@pytest.mark.filterwarnings("ignore:ComplexHalf")
def test_what_we_do_not_take():
    with pytest.raises(BufferError):
        nm.from_dlpack(torch.ones(3, dtype=torch.complex32))
    with pytest.raises((BufferError, RuntimeError, ValueError)):
        nm.from_dlpack(torch.empty(3, device="meta"))
    assert nm.from_dlpack(torch.ones(3, requires_grad=True).detach()).tolist() == [1, 1, 1]
    resolved = torch.tensor([1 + 2j]).conj().resolve_conj()
    assert nm.from_dlpack(resolved).tolist() == [1 - 2j]


def test_a_tensor_that_is_negated_in_name_only_is_refused():
    """PyTorch hands out the memory of one as if the values were what lies there, to whoever asks."""
    lazy = torch.tensor([1 + 2j]).conj().imag
    assert lazy.is_neg() and lazy.tolist() == [-2.0]
    with pytest.raises(BufferError, match="resolve_neg"):
        nm.from_dlpack(lazy)
    with pytest.raises(BufferError, match="resolve_neg"):
        nm.asarray(lazy)
    assert nm.from_dlpack(lazy.resolve_neg()).tolist() == [-2.0]


def test_their_subclasses_are_tensors():
    class Mine(torch.Tensor):
        pass

    theirs = torch.arange(3.0).as_subclass(Mine)
    assert same(nm.from_dlpack(theirs), theirs)


def test_a_tensor_that_we_gave_is_trained_in_place():
    weights = nm.zeros(3)
    theirs = torch.from_dlpack(weights).requires_grad_()
    loss = ((theirs - torch.tensor([1.0, 2.0, 3.0])) ** 2).sum()
    loss.backward()
    with torch.no_grad():
        theirs -= theirs.grad / 2
    assert weights.tolist() == [1, 2, 3]
    with pytest.raises(BufferError, match="require gradient"):
        nm.from_dlpack(theirs)


def test_what_pytorch_refuses_of_a_device_stays_with_its_owner():
    """Pinned memory by its number is refused there: so ours goes out as memory of the processor."""
    producer = Producer(device=(3, 0), versioned=True)
    capsule = producer.capsule()
    with pytest.raises((BufferError, RuntimeError), match="device_type"):
        torch.utils.dlpack.from_dlpack(capsule)
    assert NAME(capsule) == b"dltensor_versioned" and producer.freed == 0
    pinned = nm.MemoryPool(gpu_support=True)
    tensor = nm.zeros(1000, pool=pinned)
    assert same(tensor, torch.from_dlpack(tensor))


def test_a_name_of_a_tensor_is_not_its_memory():
    """A storage of theirs that is longer than the tensor, and a tensor that starts in its middle."""
    theirs = torch.arange(100.0)[10:20]
    ours = nm.from_dlpack(theirs)
    assert same(ours, theirs) and ours.data_ptr == theirs.untyped_storage().data_ptr() + 40
    assert ctypes.c_float.from_address(ours.data_ptr).value == 10
