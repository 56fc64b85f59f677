"""``neuro_memory.hooks.numpy``: NumPy's arrays in a memory pool.

The callbacks that NumPy calls for every array are native and know nothing of this file. It holds what happens a few
times in a program: entering and leaving scopes, installing and uninstalling.
"""

import contextvars
import operator
import threading
import warnings
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from .. import _neuro_memory as _core
from .._neuro_memory import MemoryPool

if TYPE_CHECKING:
    from typing_extensions import CapsuleType

__all__ = ["numpy"]

_MAX_ALIGNMENT = 2 << 20

# The scopes entered in this context, innermost last, each with the NumPy handler that was set before it. In a context
# variable because NumPy keeps the handler in one too: every thread and every asyncio task has its own.
_entered: contextvars.ContextVar[tuple[tuple["NumpyScope", "CapsuleType"], ...]] = contextvars.ContextVar(
    "neuro_memory.hooks.numpy", default=()
)


class NumpyScope:
    """What ``hooks.numpy(...)`` returns: a context manager under which new NumPy arrays lie in a pool.

    It may be entered again, also while it is entered, by any thread or task. Scopes may be left in any order, as
    generators that are closed do: the innermost one still entered counts, and after the last one the hook is off.

    What is entered belongs to the context that entered it. A generator resumed in another thread, an async generator
    that was abandoned (asyncio closes it in a task of its own) and a task created inside a scope each have another
    context, which keeps its own state: leaving a scope there does not end it here, and here not there.
    """

    def __init__(self, pool: MemoryPool, alignment: int) -> None:
        self._pool = pool
        self._handler = _core._numpy_handler(pool, alignment)

    def __enter__(self) -> MemoryPool:
        before = _core._numpy_set_handler(self._handler)
        _entered.set((*_entered.get(), (self, before)))
        return self._pool

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        entered = _entered.get()
        place = next((i for i in reversed(range(len(entered))) if entered[i][0] is self), None)
        if place is None:
            raise RuntimeError(
                "hooks.numpy: this scope is not entered in this thread or task; leave it where it was entered, "
                "as often as it was entered"
            )
        before = entered[place][1]
        above = entered[place + 1 :]
        if above:
            # The next scope inwards stays in force, and goes back to where this one would have gone.
            above = ((above[0][0], before), *above[1:])
        else:
            _core._numpy_set_handler(before)
        _entered.set((*entered[:place], *above))


class NumpyHook:
    """NumPy's arrays in a pool: aligned, recycled, bounded, counted.

    ``with hooks.numpy(pool, alignment) as pool:`` for what this thread or asyncio task does inside the block;
    ``hooks.numpy.install(pool, alignment)`` and ``hooks.numpy.uninstall()`` for the whole process.

    Arrays may outlive the hook and the pool object: an array frees its memory to the pool it came from, whenever that
    is. Where a pool is full, NumPy raises its own ``MemoryError``. Inside a scope the scope's pool counts, not the
    installed one.

    pool: where arrays go; None is the default pool.
    alignment: bytes, a power of two up to 2 MiB; data is aligned to at least 64. None is the pool's own alignment.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._installed: Literal["process", "threads"] | None = None
        self._threads: _ThreadHook | None = None

    def __call__(self, pool: MemoryPool | None = None, alignment: int | None = None) -> NumpyScope:
        """Scope for ``with``. Imports NumPy; hooks nothing before it is entered."""
        return NumpyScope(*_checked(pool, alignment))

    def install(self, pool: MemoryPool | None = None, alignment: int | None = None) -> MemoryPool:
        """Put every new array of the process into ``pool``, of all threads, those running already included.

        Installing again replaces the pool and the alignment; one ``uninstall`` ends it. Arrays that exist are not
        moved. With a NumPy whose default handler is not the one this module knows, ``RuntimeWarning`` says so, and only
        this thread and the ``threading`` threads started later are reached.
        """
        pool, alignment = _checked(pool, alignment)
        with self._lock:
            if _core._numpy_install(pool, alignment):
                self._end_threads()
                self._installed = "process"
            else:
                handler = _core._numpy_handler(pool, alignment)
                self._end_threads()
                self._threads = _ThreadHook(handler)
                self._installed = "threads"
                warnings.warn(
                    "hooks.numpy.install: this NumPy's default memory handler is not the one known to neuro_memory; "
                    "arrays of this thread and of threads started from now on by `threading` go to the pool, those of "
                    "threads that run already or that other code starts do not",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return pool

    def uninstall(self) -> None:
        """Give new arrays NumPy's own memory again. Arrays in the pool stay there. Without an install, nothing."""
        with self._lock:
            if self._installed == "process":
                _core._numpy_uninstall()
            self._end_threads()
            self._installed = None

    @property
    def installed(self) -> bool:
        """Whether ``install`` is in force."""
        return self._installed is not None

    @property
    def reach(self) -> Literal["process", "threads"] | None:
        """What ``install`` reached: ``"process"``, ``"threads"`` (see ``install``), or None."""
        return self._installed

    def owns(self, array: Any) -> bool:
        """Whether the data of a NumPy array lies in a pool of this module: its own or that of the array it views."""
        return _core._owns_address(array.__array_interface__["data"][0])

    def _end_threads(self) -> None:
        if self._threads is not None:
            self._threads.end()
            self._threads = None


class _ThreadHook:
    """The second-best ``install``: NumPy's context variable, set here and in each thread that ``threading`` starts."""

    def __init__(self, handler: "CapsuleType") -> None:
        self._handler = handler
        self._ended = False
        self._start = threading.Thread.start
        self._before = _core._numpy_set_handler(handler)
        hook = self

        def start(thread: threading.Thread) -> None:
            hook._start_hooked(thread)

        self._patched = start
        threading.Thread.start = start  # type: ignore[method-assign, assignment]

    def _start_hooked(self, thread: threading.Thread) -> None:
        if self._ended:
            # Somebody patched `start` after us, and so keeps this one alive.
            self._start(thread)
            return
        run = thread.run

        def run_hooked() -> None:
            thread.__dict__.pop("run", None)  # what was set below hides the class's own
            _core._numpy_set_handler(self._handler)
            run()

        thread.run = run_hooked  # type: ignore[method-assign]
        try:
            self._start(thread)
        except BaseException:
            thread.__dict__.pop("run", None)
            raise

    def end(self) -> None:
        self._ended = True
        # The handler may still be set in contexts of other threads and tasks: it serves ordinary memory there.
        _core._numpy_disarm_handler(self._handler)
        if threading.Thread.start is self._patched:
            threading.Thread.start = self._start  # type: ignore[method-assign]
        current = _core._numpy_set_handler(self._before)
        if current is not self._handler:
            _core._numpy_set_handler(current)  # a scope is open here: it stays


def _checked(pool: MemoryPool | None, alignment: int | None) -> tuple[MemoryPool, int]:
    if pool is None:
        pool = _core.default_pool()
    elif not isinstance(pool, MemoryPool):
        raise TypeError(f"hooks.numpy: pool must be a MemoryPool or None, not {type(pool).__name__}")
    # A pool keeps any number it was made with, and says what is wrong with it at the first allocation. NumPy could turn
    # that into a MemoryError only.
    bytes_ = pool.alignment if alignment is None else operator.index(alignment)
    if not 0 < bytes_ <= _MAX_ALIGNMENT or bytes_ & (bytes_ - 1):
        whose = "the pool's alignment" if alignment is None else "alignment"
        raise ValueError(f"hooks.numpy: {whose} must be a power of two up to {_MAX_ALIGNMENT} bytes, not {bytes_}")
    return pool, bytes_


numpy = NumpyHook()
