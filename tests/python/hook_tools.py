"""What the tests of `hooks.numpy` share."""

import gc
import subprocess
import sys
import textwrap

import numpy.random  # noqa: F401  (it keeps arrays of its own from its first import on)
import pytest

import neuro_memory as nm


@pytest.fixture(autouse=True)
def nothing_left():
    """Every test gives back all it took, and leaves no hook behind."""
    gc.collect()
    before = nm.stats()
    yield
    installed = nm.hooks.numpy.installed
    nm.hooks.numpy.uninstall()
    gc.collect()
    after = nm.stats()
    assert not installed, "the test left the hook installed"
    assert (after.live_bytes, after.live_blocks) == (before.live_bytes, before.live_blocks), f"{before}\n{after}"


@pytest.fixture
def installed():
    """The hook for the whole process, on a pool of its own."""
    pool = nm.hooks.numpy.install(nm.MemoryPool())
    yield pool
    nm.hooks.numpy.uninstall()


def address(array):
    """Where the data of an array begins."""
    return array.__array_interface__["data"][0]


def hooked(array):
    return nm.hooks.numpy.owns(array)


def run_python(code, *, check=True, timeout=120):
    """A fresh interpreter; its output. Fails with its standard error if it fails."""
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if check:
        assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done
