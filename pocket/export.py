"""Writes a model directory that the server loads: model.json, dit.safetensors, vae.safetensors."""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pocket import world
from pocket.config import FRAMES_PER_BLOCK, POCKET_DECODER, POCKET_DIT, WINDOW_FRAMES
from pocket.data import LatentSet, Scale
from pocket.train import Training
from workers.models.wan.dit import WanModel
from workers.models.wan.vae import WanDecoder

WEIGHTS: Final = Path(__file__).parent / "weights"


def description(scale: Scale) -> dict[str, object]:
    """The content of model.json."""
    return {
        "format": "longtake-model/1",
        "name": "pocket",
        "dit": asdict(POCKET_DIT),
        "vae": asdict(POCKET_DECODER),
        "latent_mean": list(scale.mean),
        "latent_std": [scale.std] * len(scale.mean),
        "text": {"kind": "pocket"},
        "video": {"width": world.SIZE, "height": world.SIZE, "fps": world.FPS},
        "recipe": {
            "steps": [1000, 750, 500, 250],
            "shift": 5.0,
            "level": "output",
            "frames_per_block": FRAMES_PER_BLOCK,
            "window_frames": WINDOW_FRAMES,
            "sink_frames": 0,
            "positions": "absolute",
        },
    }


def export(dit: dict[str, Tensor], vae: dict[str, Tensor], scale: Scale, folder: Path) -> None:
    """Writes the directory; weights are stored in half precision and computed in float32."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.json").write_text(json.dumps(description(scale), indent=2) + "\n")
    for name, values in (("dit", dit), ("vae", vae)):
        halves = {key: value.to(torch.float16).contiguous() for key, value in values.items()}
        path = folder / f"{name}.safetensors"
        save_file(halves, path)
        path.chmod(0o644)


def load(folder: Path = WEIGHTS) -> tuple[WanModel, WanDecoder, Scale]:
    """The exported model in float32."""
    content = json.loads((folder / "model.json").read_text())
    scale = Scale(mean=tuple(content["latent_mean"]), std=float(content["latent_std"][0]))
    model, decoder = WanModel(POCKET_DIT), WanDecoder(POCKET_DECODER)
    dit, vae = load_file(folder / "dit.safetensors"), load_file(folder / "vae.safetensors")
    model.load_state_dict({name: value.float() for name, value in dit.items()})
    decoder.load_state_dict({name: vae[name].float() for name in decoder.state_dict()})
    return model.eval(), decoder.eval(), scale


def main() -> None:
    """Command line: checkpoint files in, model directory out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dit", required=True)
    parser.add_argument("--vae", required=True)
    parser.add_argument("--latents", required=True, help="the encoded training data")
    parser.add_argument("--latent-std", type=float, default=Training().latent_std)
    parser.add_argument("--out", type=Path, default=WEIGHTS)
    options = parser.parse_args()
    scale = LatentSet.open(Path(options.latents)).scale(options.latent_std)
    export(load_file(options.dit), load_file(options.vae), scale, options.out)


if __name__ == "__main__":
    main()
