"""Hands what the pool holds to others: files to a C program, an array to JAX."""

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax.numpy as jnp
import neuro_memory as nm
import numpy as np

SOURCE = Path(__file__).parent.parent / "c" / "classify.c"


@dataclass
class FromC:
    """What the C program said."""

    correct: int
    total: int
    live_bytes: int
    text: str


@dataclass
class ToJax:
    """Whether JAX took an array with `copy=False`, whether what it has is at the same address, and after how long."""

    accepted: bool
    aliased: bool
    offset: int
    seconds: float
    mean: float


def save(directory: Path, weights, images, labels) -> tuple[Path, Path]:
    """Writes the trained weights, and the held-out images with their labels, as two safetensors files."""
    directory.mkdir(parents=True, exist_ok=True)
    weights_file, images_file = directory / "weights.safetensors", directory / "held_out.safetensors"
    nm.save_file(weights, weights_file)
    nm.save_file({"images": images, "labels": labels.astype(np.int64)}, images_file)
    return weights_file, images_file


def classify_in_c(weights_file: Path, images_file: Path, cc: str, include_dir: Path, lib_dir: Path) -> FromC:
    """Compiles examples/c/classify.c beside the files and runs it on them."""
    program = weights_file.parent / "classify"
    flags = ["-std=c99", "-O2", "-Wall", "-Wextra", "-Werror", f"-I{include_dir}"]
    library = [f"-L{lib_dir}", "-lneuro_memory", f"-Wl,-rpath,{lib_dir.resolve()}"]
    subprocess.run([*cc.split(), *flags, SOURCE, "-o", program, *library], check=True)
    run = subprocess.run([program, weights_file, images_file], stdout=subprocess.PIPE, text=True)
    said = re.search(r"right: (\d+) of (\d+).*pool at the end: (\d+) B live", run.stdout, re.DOTALL)
    if said is None:
        sys.exit(f"{program} ended with status {run.returncode}; what it said is above")
    return FromC(*map(int, said.groups()), run.stdout)


def give_to_jax(array: np.ndarray) -> ToJax:
    """Asks JAX for the array without a copy, and where it refuses, with one; checks that JAX can compute with it."""
    accepted, start = True, time.perf_counter()
    try:
        taken = jnp.from_dlpack(array, copy=False)
    except ValueError:
        accepted, start = False, time.perf_counter()
        taken = jnp.from_dlpack(array)
    taken.block_until_ready()
    seconds = time.perf_counter() - start
    aliased = taken.unsafe_buffer_pointer() == array.ctypes.data
    return ToJax(accepted, aliased, array.ctypes.data % 64, seconds, float(taken.mean()))
