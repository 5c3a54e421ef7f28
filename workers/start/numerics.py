"""How a worker rounds: the kernels that compute, and a digest of what they make of inputs that are the same anywhere.

Two workers give the same bits only if every kernel between input and output rounds alike. Versions and names tell most
of what chooses kernels, but not all (a library that shadows another, a choice by shape), so each start also computes
something real, over the very weights and shapes that will be served, and hashes every bit of it. Workers of one role
with equal fingerprints are of one class, and the core lets a stream pass between those alone.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from longtake.core.recipe.geometry import Geometry
from workers.models.api import CarriedState, Compute, LatentDecoder, TextEncoder
from workers.start.probe import Subject, Trial
from workers.start.seeded import Purpose, digest_of, seeded

_PROMPT = "a red ball swaying in the fog"
_CUDNN_VERSION: Callable[[], int | None] = torch.backends.cudnn.version  # of the library that is loaded


def settle_kernels() -> None:
    """Make this process choose kernels by fixed rules, and compute in float32 what is float32.

    By default cuDNN convolutions take TF32 (10 bits of mantissa) for float32; and where it may measure which of its
    algorithms is the fastest, two equal workers may take different ones, and round differently.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.deterministic = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Kernels:
    """What chooses the kernels, as far as it has a name."""

    torch_version: str
    device: str
    """Name of the accelerator; of a CPU, the instructions that torch uses of it."""
    dtype: str
    fused: bool = False
    """Whether some are made at start, for several operations at once."""
    cuda: str = ""
    cudnn: str = ""
    threads: int = 0
    """Threads that share a sum on a CPU; it is split by them."""
    attention: str = ""
    """The kernel of self-attention over a full window; empty if the worker has no such thing."""

    @staticmethod
    def of(compute: Compute, *, attention: str = "") -> Kernels:
        """Those of a worker that computes so, in this thread."""
        device = compute.torch_device
        on_cuda = device.type == "cuda"
        return Kernels(
            torch_version=torch.__version__,
            device=torch.cuda.get_device_name(device) if on_cuda else torch.backends.cpu.get_cpu_capability(),
            dtype=compute.dtype,
            fused=compute.fuses,
            cuda=str(torch.version.cuda) if on_cuda else "",
            cudnn=str(_CUDNN_VERSION()) if on_cuda else "",
            threads=0 if on_cuda else torch.get_num_threads(),
            attention=attention,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Numerics:
    """All that the bits of a worker's results depend on, beside the inputs."""

    kernels: Kernels
    digest: str
    """SHA-256 (hex) of what was made of the seeded inputs: weights count in it, too."""

    @property
    def fingerprint(self) -> str:
        """SHA-256 (hex) over all of it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def __str__(self) -> str:
        named = (f"{name} {value}" for name, value in asdict(self.kernels).items() if value)
        return f"numerics {self.fingerprint[:12]}: {', '.join(named)}, digest {self.digest[:12]}"


def denoise_numerics(subject: Subject, compute: Compute, attention: str) -> Numerics:
    """The numerics of a denoise worker, by one forward over a full window: its flow and the K/V that it writes.

    `attention` is the name of the kernel (workers.start.attention).
    """
    torch.set_num_threads(1)  # as where the worker computes
    with torch.inference_mode():
        digest = Trial(subject, size=1).digest()
    return Numerics(kernels=Kernels.of(compute, attention=attention), digest=digest)


def decode_numerics(decoders: Sequence[LatentDecoder], geometry: Geometry, compute: Compute) -> Numerics:
    """The numerics of a decode worker, by two blocks of a stream of each of its decoders.

    What counts is the pixels of both blocks, and the state that they leave.
    """
    torch.set_num_threads(1)  # as where the worker computes
    _, _, height, width = geometry.block_shape
    made: list[Tensor] = []
    for decoder in decoders:
        state = decoder.initial_state(1, height, width)
        for block in range(2):
            z_CFHW = seeded(block, Purpose.LATENTS, geometry.block_shape).transpose(0, 1)
            advanced = CarriedState([*state.history_BFHWC], state.started)
            with torch.inference_mode():
                made.append(decoder.decode(z_CFHW[None].to(decoder.device, decoder.dtype), advanced))
            # In place, as slots are written: tensors of inference mode are others to the compiler, which would make its
            # kernels once more for the slots.
            state.overwrite(advanced)
        made += state.history_BFHWC
    return Numerics(kernels=Kernels.of(compute), digest=digest_of(*made))


def text_numerics(text: TextEncoder, compute: Compute) -> Numerics:
    """The numerics of a text worker, by one prompt."""
    torch.set_num_threads(1)  # as where the worker computes
    return Numerics(kernels=Kernels.of(compute), digest=digest_of(text.encode(_PROMPT).features_TC))
