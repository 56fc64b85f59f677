"""`await transfer`: its event loop is woken by the thread that brings the tensor. Loaded when a transfer is first awaited."""

import asyncio
from collections.abc import Generator
from typing import Any

from ._neuro_memory import Tensor, Transfer


def awaiting(transfer: Transfer) -> Generator[Any, None, Tensor]:
    """What `Transfer.__await__` returns. Cancelled, it leaves the transfer alone, which goes on."""
    if not transfer.done():
        loop = asyncio.get_running_loop()
        over = loop.create_future()

        def wake() -> None:
            if not over.done():  # not cancelled
                over.set_result(None)

        def tell(_: Transfer) -> None:
            try:
                loop.call_soon_threadsafe(wake)
            except RuntimeError:
                pass  # the loop is closed: nobody awaits any more

        transfer.then(tell)
        yield from over.__await__()
    return transfer.wait()
