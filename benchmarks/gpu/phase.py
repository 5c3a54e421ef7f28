"""One phase in this process: python -m benchmarks.gpu.phase NAME SETTING, where SETTING is a line of JSON."""

from __future__ import annotations

import importlib
import json
import sys

from benchmarks.gpu.bench import Bench, Noted, Setting


def main(name: str, setting: Setting) -> None:
    """Run the module of this name; what breaks outside its steps is a line too."""
    bench = Bench(name, setting)
    with Noted(bench, "phase"):
        importlib.import_module(f"benchmarks.gpu.{name}").run(bench)


if __name__ == "__main__":
    main(sys.argv[1], Setting(**json.loads(sys.argv[2])))
