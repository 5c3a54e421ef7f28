"""The trial itself, as the first process of namespaces of its own: `python -m deploy.images.inside …`.

What it is to do comes in its arguments, as JSON; its standard input is a pipe that whoever started it holds open: when
that is closed it ends, and with it, because it is the first process, all of the trial. What came of it goes to standard
output as one JSON object.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.images.base import make_base
from deploy.images.build import DOCKERFILE, Sources, build, try_machine
from deploy.images.outcomes import Unable, Wrong
from deploy.images.pip_settings import settings_here
from deploy.images.served import serve
from deploy.images.storage import Deadline, Failed, Storage, Tools, driver_for

INTERRUPTED = 130


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be tried."""

    scratch: str
    name: str
    within_s: float
    torch_index: str


def trial(order: Order) -> dict[str, object]:
    """Figures of the images; Unable, Wrong."""
    scratch = Path(order.scratch)
    tools = Tools(scratch=scratch, name=order.name, deadline=Deadline(at_s=time.monotonic() + order.within_s))
    storage = Storage(tools=tools, driver=driver_for(scratch))
    pip = settings_here()
    conf = scratch / "pip.conf"
    conf.touch(mode=0o600)
    conf.write_text(pip.text)
    sources = Sources(pip=pip, torch_index=order.torch_index, conf=conf)
    begun_s = time.monotonic()
    make_base(storage, DOCKERFILE.read_text(), pip.paths)
    base_s = time.monotonic() - begun_s
    base_root = try_machine(storage, sources)
    frontend = build(storage, sources, "frontend", base_root)
    served = serve(tools, frontend)
    figures = {name: round(value, 2) for name, value in asdict(served).items()}
    return {
        "base_s": round(base_s, 1),
        "build_s": round(frontend.build_s, 1),
        "image_bytes": frontend.image.size_bytes,
        **figures,
        "same_bytes_as_render": True,
        "root_read_only": True,
        "storage": storage.driver,
    }


def end_with(pipe: int) -> None:
    """End this process at once when a pipe is closed at its other end."""
    while os.read(pipe, 1):
        pass
    os._exit(INTERRUPTED)


def main() -> int:
    """What came of it as JSON: {"tested": figures}, {"unable": why} or {"wrong": why}."""
    order = Order(**json.loads(sys.argv[1]))
    threading.Thread(target=end_with, args=(0,), daemon=True).start()
    result: dict[str, object]
    try:
        result = {"tested": trial(order)}
    except Unable as unable:
        result = {"unable": str(unable)}
    except Wrong as wrong:
        result = {"wrong": str(wrong)}
    except Failed as failed:
        result = {"unable": f"a tool failed that had worked here: {failed}"}
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
