"""Time until a command answers, as a multiple of ``python -c "import torch"``, measured in turns.

    python benchmarks/startup.py [model.nir]

Without a file, ``models/cifar10.pt`` is converted first. The table shows each side's least time and
the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

MODEL = Path(__file__).parent.parent / "models" / "cifar10.pt"


def seconds(*arguments: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - start


def measure(network: Path, rounds: int) -> None:
    sides = {
        'python -c "import torch"': ("-c", "import torch"),
        'python -c "pass"': ("-c", "pass"),
        "pascal-nm --help": ("-m", "pascal_nm", "--help"),
        f"pascal-nm inspect {network.name}": ("-m", "pascal_nm", "inspect", str(network)),
    }
    times = [{name: seconds(*arguments) for name, arguments in sides.items()} for _ in range(rounds)]
    base, *_ = sides
    print(f"{'':40}{'seconds':>10}{'import torch = 1':>20}")
    for name in sides:
        ratio = statistics.median(row[name] / row[base] for row in times)
        print(f"{name:40}{min(row[name] for row in times):10.2f}{ratio:20.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.network is not None:
        measure(arguments.network, arguments.rounds)
        return
    with tempfile.TemporaryDirectory() as folder:
        network = Path(folder) / "cifar10.nir"
        command = ["-m", "pascal_nm", "export", str(MODEL), "--nir", "-o", str(network)]
        seconds(*command)
        measure(network, arguments.rounds)


if __name__ == "__main__":
    main()
