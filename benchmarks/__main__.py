"""``python -m benchmarks`` runs all benchmarks, ``python -m benchmarks grid chebyshev`` some."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from benchmarks.measure import report

OTHERS = {"__init__", "__main__", "chart", "jobs", "measure"}


def main(names: list[str]) -> None:
    available = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in OTHERS)
    for name in names or available:
        if name not in available:
            sys.exit(f"there is no benchmark {name!r}; there are {', '.join(available)}")
        module = importlib.import_module(f"benchmarks.{name}")
        print(f"\n{name}: {(module.__doc__ or '').splitlines()[0]}\n", flush=True)
        if hasattr(module, "main"):
            module.main()
        else:
            outcome = module.run()
            report(name, outcome.pop("rows"), **outcome)


if __name__ == "__main__":
    main(sys.argv[1:])
