"""``python -m benchmarks`` runs all benchmarks, ``python -m benchmarks grid chebyshev`` some."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

OTHERS = {"__init__", "__main__", "chart", "jobs", "measure", "trajectory_peer"}
AVAILABLE = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in OTHERS)


def main(names: list[str]) -> None:
    for name in names:
        module = importlib.import_module(f"benchmarks.{name}")
        print(f"\n{name}: {(module.__doc__ or '').splitlines()[0]}\n", flush=True)
        module.main()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="Runs benchmarks: all, or those named."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(AVAILABLE))
    chosen = parser.parse_args().names
    if unknown := set(chosen) - set(AVAILABLE):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(AVAILABLE)}")
    main(chosen or AVAILABLE)
