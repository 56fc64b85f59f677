"""NumPy on our pools against NumPy on its own: `make bench-hook`, or `python bench/hook.py [--json FILE]`.

README.md in this folder says how to read the output and what it does not show.
"""

import pathlib
import subprocess
import sys
import sysconfig

from compare import Arm, Bench, Row, Spread, describe, one_process, options_of

KIB, MIB = 1 << 10, 1 << 20
NUMPY = "import numpy as np\n"
HOOK = "import numpy as np, neuro_memory as nm\nnm.hooks.numpy.install()\n"


def size(nbytes: int) -> str:
    return f"{nbytes // MIB} MiB" if nbytes >= MIB else f"{nbytes // KIB} KiB" if nbytes >= KIB else f"{nbytes} B"


def least_handler() -> str | None:
    """Setup code that makes `least_handler.c` NumPy's handler, and builds it; None, said aloud, where that cannot be."""
    import numpy as np

    source = pathlib.Path(__file__).with_name("least_handler.c")
    folder = source.parent / "target/least"
    folder.mkdir(parents=True, exist_ok=True)
    headers = [f"-I{sysconfig.get_paths()['include']}", f"-I{np.get_include()}"]
    try:
        command = ["cc", "-O2", "-shared", "-fPIC", *headers, str(source), "-o", str(folder / "least_handler.so")]
        subprocess.run(command, check=True, capture_output=True, text=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"SKIPPED the row of the least handler: {getattr(error, 'stderr', None) or error}", file=sys.stderr)
        return None
    return f"import sys\nsys.path.insert(0, {str(folder)!r})\nimport numpy as np, least_handler\nleast_handler.install()\n"


def add_rows(bench: Bench) -> None:
    """`x + x`: a new result every time, dropped at once."""
    for nbytes in (256, 64 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB):
        x = f"x = np.ones({nbytes // 4}, np.float32)\n"
        out = x + f"o = np.ones({nbytes // 4}, np.float32)\n"
        arms = [Arm("default", NUMPY + x, "x + x"), Arm("hook", HOOK + x, "x + x")]
        if nbytes >= 64 * MIB:
            arms.append(Arm("np.add(out=)", NUMPY + out, "np.add(x, x, out=o)"))
            goals = [("hook", "np.add(out=)", 1.1), ("hook", "default", None), ("default", "np.add(out=)", None)]
        else:
            goal = {256: 1.05, 64 * KIB: 1.05}.get(nbytes, 1.0)
            goals = [("hook", "default", goal)]
        if nbytes == 256 and bench.wanted("x + x, 256 B") and (least := least_handler()):
            arms.append(Arm("least handler", least + x, "x + x"))
            goals += [("least handler", "default", None), ("hook", "least handler", None)]
        bench.ratio(f"x + x, {size(nbytes)}", arms, goals)


def zeros_rows(bench: Bench) -> None:
    """`np.zeros`: its time left untouched and written to, and what it costs in memory before it is touched."""
    for nbytes in (MIB, 4 * MIB, 16 * MIB, 64 * MIB, 256 * MIB):
        untouched = f"np.zeros({nbytes}, np.uint8)"
        touched = f"np.zeros({nbytes}, np.uint8).fill(1)"
        for name, statement, goal in (("untouched", untouched, 1.5), ("touched", touched, 1.0)):
            arms = [Arm("default", NUMPY, statement), Arm("hook", HOOK, statement)]
            bench.ratio(f"np.zeros {size(nbytes)}, {name}", arms, [("hook", "default", goal)])
        if bench.wanted(name := f"np.zeros {size(nbytes)}, RSS"):
            bench.add(resident_row(name, nbytes))


RSS = """
import os
def rss():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
"""


def resident_row(name: str, nbytes: int) -> Row:
    """Resident bytes that an untouched array adds: in a fresh process, and where as much was used and freed before."""
    grown: dict[str, dict[str, int]] = {}
    for arm, setup in (("default", NUMPY), ("hook", HOOK)):
        with one_process() as worker:
            worker.ask(exec=setup + RSS + "np.zeros(10); rss()\nbefore = rss()")
            worker.ask(exec=f"kept = np.zeros({nbytes}, np.uint8)")
            fresh = worker.ask(eval="rss() - before")
            worker.ask(exec=f"del kept\nused = np.ones({nbytes}, np.uint8)\ndel used\nkept = np.zeros({nbytes}, np.uint8)")
            grown[arm] = {"fresh": fresh, "after use": worker.ask(eval="rss() - before")}
    # A few pages of either side's own records more or less are no difference.
    holds = grown["hook"]["fresh"] <= grown["default"]["fresh"] + 64 * KIB
    note = "; ".join(
        f"{state}: hook +{grown['hook'][state] / MIB:.2f} MiB, default +{grown['default'][state] / MIB:.2f} MiB"
        for state in ("fresh", "after use")
    )
    return Row(name, "default", holds=holds, note=note)


def jax_rows(bench: Bench) -> None:
    """Handing 64 MiB to JAX: the same address, and the time it takes."""
    name = "jnp.from_dlpack, 64 MiB"
    if not bench.wanted(name):
        return
    make = "import jax.numpy as jnp\na = np.ones(16 << 20, np.float32)\njnp.from_dlpack(a).block_until_ready()\n"
    zero_copy = "jnp.from_dlpack(a, copy=False).block_until_ready()"
    arms = [
        Arm("default, copies", NUMPY + make, "jnp.from_dlpack(a).block_until_ready()"),
        Arm("hook, copy=False", HOOK + make, zero_copy),
    ]
    samples = bench.compare(arms, clock="wall")
    hook, default = samples["hook, copy=False"], samples["default, copies"]
    spread = Spread.of([a / b for a, b in zip(hook.seconds, default.seconds, strict=True)])
    with one_process() as worker:
        worker.ask(exec=HOOK + make)
        same = worker.ask(eval="jnp.from_dlpack(a, copy=False).unsafe_buffer_pointer() == a.ctypes.data")
    with one_process() as worker:
        worker.ask(exec=NUMPY + make)
        try:
            worker.ask(exec=zero_copy)
            refusal = "default was aligned by chance"
        except RuntimeError as error:
            refusal = f"default with copy=False: {str(error).strip().splitlines()[-1][:90]}"
    times = {"hook": hook.median, "default": default.median}
    bench.add(Row(name, "default, which copies", spread, seconds=times))
    bench.add(Row(f"{name}: same address", "", holds=same, note=refusal))
    worst = max(hook.seconds)
    bench.add(Row(f"{name}: under 1 ms", "", holds=worst < 1e-3, note=f"slowest round {worst * 1e6:.0f} µs"))


def tensor_rows(bench: Bench) -> None:
    """Our own tensors beside NumPy's arrays."""
    both = "import neuro_memory as nm\n" + NUMPY
    plain = [Arm("np.empty", both, "np.empty((1000, 1000))"), Arm("nm.empty", both, "nm.empty((1000, 1000))")]
    bench.ratio("nm.empty((1000, 1000))", plain, [("nm.empty", "np.empty", 1.0)])
    # The two defaults differ (float32, float64), and NumPy gives the system advice on 4 MiB and more: also like with like.
    for dtype, goal in (("float64", 1.0), ("float32", None)):
        arms = [
            Arm("np.empty", both + f"d = np.{dtype}", "np.empty((1000, 1000), d)"),
            Arm("nm.empty", both, f"nm.empty((1000, 1000), '{dtype}')"),
        ]
        bench.ratio(f"nm.empty((1000, 1000), {dtype})", arms, [("nm.empty", "np.empty", goal)])
    arms = [
        Arm("of an ndarray", both + "a = np.ones((1000, 1000), np.float32)", "np.from_dlpack(a)"),
        Arm("of a Tensor", both + "a = nm.ones((1000, 1000), 'float32')", "np.from_dlpack(a)"),
    ]
    bench.ratio("np.from_dlpack", arms, [("of a Tensor", "of an ndarray", 1.0)])


def main() -> int:
    options = options_of(__doc__.splitlines()[0]).parse_args()
    bench = Bench(options, describe(["numpy", "jax", "neuro-memory"]), "NumPy on neuro-memory's pools")
    for rows in (add_rows, zeros_rows, jax_rows, tensor_rows):
        rows(bench)
    return bench.finish()


if __name__ == "__main__":
    sys.exit(main())
