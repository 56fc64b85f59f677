"""Records one of the project's own programs: `python bench/record/record.py NAME`; `make record` records all.

- digits        the training of examples/demo, two epochs of it
- resnet20      two steps of ResNet-20 (resnet20.py)
- gpt2          two steps of a shortened GPT-2 (gpt2.py)
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import gpt2
import resnet20
from recorder import Recorder, check_losses

ROOT = Path(__file__).resolve().parents[2]
EPOCHS = 2
STEPS = 2


def record_digits(recorder: Recorder) -> str:
    """The demo's training, as the demo calls it: the images are loaded before."""
    sys.path.insert(0, str(ROOT / "examples/demo"))
    import digits

    data = digits.load()
    lines: list[str] = []
    with recorder:
        digits.train(data, EPOCHS, lines.append)
    return lines[-1]


def record_training(module) -> Callable[[Recorder], str]:
    """Weights, optimiser and the first steps. One step more, which is not recorded, shows that the last one helped."""

    def record(recorder: Recorder) -> str:
        with recorder:
            training = module.Training()
            losses = [training.step() for _ in range(STEPS)]
        return check_losses([*losses, training.step()])

    return record


PROGRAMS: dict[str, Callable[[Recorder], str]] = {
    "digits": record_digits,
    "resnet20": record_training(resnet20),
    "gpt2": record_training(gpt2),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=PROGRAMS)
    parser.add_argument("--out", type=Path, default=ROOT / "bench/traces", help="the folder to write to")
    options = parser.parse_args()
    recorder = Recorder()
    outcome = PROGRAMS[options.name](recorder)
    print(f"{recorder.write(options.out / f'{options.name}.csv')}; {outcome}")


if __name__ == "__main__":
    main()
