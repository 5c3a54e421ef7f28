"""A model directory: model.json says what the model is, safetensors files hold its weights; nothing is pickled.

A text encoder with weights has a folder of its own beside them (workers.models.umt5).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from longtake.core.errors import Contradiction, InvalidField
from longtake.core.recipe.geometry import Geometry
from longtake.core.recipe.recipe import Recipe
from longtake.core.work import DecoderKind
from workers.json_values import record, value
from workers.models.api import Compute, Denoiser, LatentDecoder, LatentEncoder
from workers.models.manifest import Manifest
from workers.models.recipe_fields import RecipeFields
from workers.models.tensor_files import SUFFIX, TensorFiles, files_of, is_finite, write_tensors
from workers.models.wan.config import TaehvConfig, WanConfig, WanVAEConfig
from workers.models.wan.dit import WanModel
from workers.models.wan.fused_dit import fuse
from workers.models.wan.fused_vae import FusedDecoder
from workers.models.wan.sizes import encoder_config
from workers.models.wan.taehv import TaehvDecoder
from workers.models.wan.vae import WanDecoder, WanEncoder

INFO_FILE = "model.json"
DIT, VAE, TINY, TEXT = "dit", "vae", "tiny_decoder", "text/model"
"""The stems of the files that hold the weights; a large one is several files with an index. Not every text encoder has
weights, and not every model a tiny decoder."""
TEXT_CONFIG, TOKENIZER = "text/config.json", "text/tokenizer.json"
"""What else a text encoder with weights needs."""
DIT_FILE = f"{DIT}{SUFFIX}"
VAE_FILE = f"{VAE}{SUFFIX}"
FORMAT = "longtake-model/1"
_FIELDS = ("format", "name", "video", "recipe", "dit", "vae", "latent_mean", "latent_std", "text")
_OPTIONAL = (TINY, "files", "origin")
_SECTIONS = ("video", "recipe", "dit", "vae", "text")

FORMATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
FORMAT_NAMES = "float64, float32, bfloat16 or float16"
"""The number formats that weights may have; an 8 bit format means nothing without the scales that belong to it."""

_Network = WanModel | WanDecoder | TaehvDecoder | WanEncoder


class Family(Enum):
    """Which networks a model is made of; nothing but this file asks, and it hands out Denoiser and LatentDecoder."""

    WAN = "wan"


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInfo:
    """Everything about a model but its weights, consistent as a whole."""

    name: str
    geometry: Geometry
    recipe: Recipe
    family: Family = Family.WAN
    """The family of networks; model.json does not name it as long as there is only one."""
    dit: WanConfig
    vae: WanVAEConfig
    latent_mean: tuple[float, ...]
    """Per latent channel; the decoder takes latents * std + mean."""
    latent_std: tuple[float, ...]
    text_kind: str
    tiny: TaehvConfig | None = None
    """Sizes of a tiny decoder for the same latents, which it takes as they are; None if there is none."""

    def __post_init__(self) -> None:
        channels = self.vae.z_dim
        for name, width in (("dit.in_dim", self.dit.in_dim), ("dit.out_dim", self.dit.out_dim)):
            if width != channels:
                raise Contradiction(f"{name} = {width}", f"vae.z_dim = {channels}", "both count latent channels")
        for name, values in (("latent_mean", self.latent_mean), ("latent_std", self.latent_std)):
            if len(values) != channels:
                raise InvalidField(name, f"{len(values)} numbers", f"{channels} numbers, one for each latent channel")
        if not all(value > 0 for value in self.latent_std):
            raise InvalidField("latent_std", list(self.latent_std), "numbers above 0")
        for name in ("z_dim", "spatial_stride", "temporal_stride") if self.tiny is not None else ():
            tiny, full = getattr(self.tiny, name), getattr(self.vae, name)
            if tiny != full:
                raise Contradiction(f"{TINY}: {name} = {tiny}", f"vae: {name} = {full}", "both decode the same latents")

    @property
    def num_layers(self) -> int:
        """Layers of the denoiser."""
        return self.dit.num_layers

    @property
    def decoders(self) -> tuple[DecoderKind, ...]:
        """Which networks can make a stream's pictures."""
        return (DecoderKind.FULL,) if self.tiny is None else (DecoderKind.FULL, DecoderKind.TINY)

    @property
    def text_width(self) -> int:
        """Channels of a text's features."""
        return self.dit.text_dim

    @property
    def text_rows(self) -> int:
        """Rows of a text's features, at most."""
        return self.dit.text_len


def load_info(folder: Path) -> ModelInfo:
    """Read model.json; InvalidField or Contradiction names the field, its value and what is allowed."""
    table = _table(folder)
    _keys(table, _FIELDS, "", _OPTIONAL)
    if table["format"] != FORMAT:
        raise InvalidField("format", table["format"], FORMAT)
    for section in _SECTIONS:
        _keys(table[section], None, f"{section}.")
    dit = record(WanConfig, table["dit"], "dit")
    vae = record(WanVAEConfig, table["vae"], "vae")
    recipe = record(RecipeFields, table["recipe"], "recipe").recipe()
    _keys(table["text"], ("kind",), "text.")
    return ModelInfo(
        name=value("name", table["name"], str),
        geometry=_geometry(table["video"], recipe, dit, vae),
        recipe=recipe,
        dit=dit,
        vae=vae,
        latent_mean=value("latent_mean", table["latent_mean"], tuple[float, ...]),
        latent_std=value("latent_std", table["latent_std"], tuple[float, ...]),
        text_kind=value("text.kind", table["text"]["kind"], str),
        tiny=record(TaehvConfig, table[TINY], TINY) if TINY in table else None,
    )


def _table(folder: Path) -> dict[str, Any]:
    path = folder / INFO_FILE
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise _missing(folder, INFO_FILE) from None
    except OSError as error:
        raise InvalidField("model.path", str(folder), f"a model directory ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # no UTF-8, no JSON, a number of a million digits
        raise InvalidField(str(path), str(error), "a JSON object") from None
    if not isinstance(table, dict):
        raise InvalidField(INFO_FILE, table, "a JSON object")
    return table


def load_manifest(folder: Path) -> Manifest | None:
    """What a converted directory says of its files; None for one that was made by hand."""
    return Manifest.read(_table(folder))


def digest(folder: Path) -> str:
    """SHA-256 (hex) over model.json and the weights: equal digests, equal models.

    A converted directory's model.json holds the hashes of all its files, so of these only the sizes are looked at.
    """
    manifest = load_manifest(folder)
    if manifest is not None:
        manifest.check_sizes(folder)
        return hashlib.sha256((folder / INFO_FILE).read_bytes()).hexdigest()
    paths = [folder / INFO_FILE, *_weight_files(folder, DIT), *_weight_files(folder, VAE)]
    if TINY in _table(folder):
        paths += _weight_files(folder, TINY)
    if (folder / TEXT_CONFIG).is_file():
        paths += (*_weight_files(folder, TEXT), folder / TEXT_CONFIG, folder / TOKENIZER)
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            total.update(hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()


def _weight_files(folder: Path, stem: str) -> tuple[Path, ...]:
    try:
        return files_of(folder, stem)
    except FileNotFoundError as error:
        raise _missing(folder, Path(str(error)).name) from None


def new_denoiser(info: ModelInfo, layers: range | None = None) -> WanModel:
    """The transformer with random weights; with `layers` only these."""
    match info.family:
        case Family.WAN:
            return WanModel(info.dit, layers)


def new_decoder(info: ModelInfo) -> WanDecoder:
    """The decoder with random weights."""
    match info.family:
        case Family.WAN:
            return WanDecoder(info.vae)


def tensor_shapes(dit: WanConfig, vae: WanVAEConfig) -> dict[str, dict[str, tuple[int, ...]]]:
    """The names and shapes of a whole model's tensors, by the stem of their files; the encoder's are among them."""
    with torch.device("meta"):
        held = {DIT: (WanModel(dit),), VAE: (WanDecoder(vae), WanEncoder(vae))}
    return {
        stem: {name: tuple(tensor.shape) for module in modules for name, tensor in module.state_dict().items()}
        for stem, modules in held.items()
    }


def tiny_shapes(tiny: TaehvConfig) -> dict[str, tuple[int, ...]]:
    """The names and shapes of a tiny decoder's tensors."""
    with torch.device("meta"):
        return {name: tuple(tensor.shape) for name, tensor in TaehvDecoder(tiny).state_dict().items()}


def tiny_state_shapes(tiny: TaehvConfig, height: int, width: int) -> list[tuple[int, ...]]:
    """The shapes of what a tiny decoder carries of one stream of latents of this size."""
    with torch.device("meta"):
        return TaehvDecoder(tiny).state_shapes(1, height, width)


def load_denoiser(folder: Path, info: ModelInfo, compute: Compute, layers: range | None = None) -> Denoiser:
    """The transformer with its weights, ready to serve; with `layers` only these, and no others are read."""
    model = _suited(folder, info, layers)
    _load(model, folder, DIT, compute)
    if compute.fuses:
        fuse(model)
    return model


def _suited(folder: Path, info: ModelInfo, layers: range | None = None) -> WanModel:
    """The transformer on the meta device, with room for all that its files hold of it."""
    files = _files(folder, DIT)
    with torch.device("meta"):
        model = new_denoiser(info, layers)
        model.suit(lambda name: files.shape(name) if name in files.names else None)
    return model


def load_decoder(
    folder: Path, info: ModelInfo, compute: Compute, kind: DecoderKind = DecoderKind.FULL
) -> LatentDecoder:
    """A decoder with its weights, ready to serve; InvalidField if the model has no such one.

    The file of the VAE's decoder may hold the encoder too.
    """
    if kind is DecoderKind.TINY and info.tiny is not None:
        with torch.device("meta"):
            tiny = TaehvDecoder(info.tiny)
        _load(tiny, folder, TINY, compute)
        tiny.lay_out()
        return tiny
    if kind not in info.decoders:
        raise InvalidField("decoder", kind.value, ", ".join(each.value for each in info.decoders))
    with torch.device("meta"):
        decoder = new_decoder(info)
    _load(decoder, folder, VAE, compute)
    return FusedDecoder(decoder) if compute.fuses else decoder


def encodes(folder: Path) -> bool:
    """Whether a model can make latents of pictures: its file of the autoencoder may hold the decoder alone."""
    return _has_encoder(_files(folder, VAE))


def _has_encoder(files: TensorFiles) -> bool:
    return "encoder.conv1.weight" in files.names


def encoder_sizes(files: TensorFiles, info: ModelInfo) -> WanVAEConfig | None:
    """The sizes of the encoder, read from the shapes of its tensors in the autoencoder's file; None if it has none."""
    return encoder_config(files.shape, info.vae) if _has_encoder(files) else None


def load_encoder(folder: Path, info: ModelInfo, compute: Compute) -> LatentEncoder | None:
    """The encoder with its weights, ready to serve; None if the model has none."""
    sizes = encoder_sizes(_files(folder, VAE), info)
    if sizes is None:
        return None
    with torch.device("meta"):
        encoder = WanEncoder(sizes)
    _load(encoder, folder, VAE, compute)
    return encoder


def save_info(folder: Path, info: ModelInfo, manifest: Manifest | None = None) -> None:
    """Write model.json, all that a simulated device needs of a model directory."""
    folder.mkdir(parents=True, exist_ok=True)
    table = {
        "format": FORMAT,
        "name": info.name,
        "video": {"width": info.geometry.width, "height": info.geometry.height, "fps": str(info.geometry.fps)},
        "recipe": info.recipe.plain(),
        "dit": asdict(info.dit),
        "vae": asdict(info.vae),
        "latent_mean": info.latent_mean,
        "latent_std": info.latent_std,
        "text": {"kind": info.text_kind},
        **({} if info.tiny is None else {TINY: asdict(info.tiny)}),
        **({} if manifest is None else manifest.table()),
    }
    (folder / INFO_FILE).write_text(json.dumps(table, indent=2) + "\n", encoding="utf-8")


def save_model(folder: Path, info: ModelInfo, dit: Mapping[str, Tensor], vae: Mapping[str, Tensor]) -> None:
    """Write a model directory that `load_info`, `load_denoiser` and `load_decoder` read."""
    save_info(folder, info)
    for stem, tensors in ((DIT, dit), (VAE, vae)):
        sizes = {name: tensor.nbytes for name, tensor in tensors.items()}
        write_tensors(folder, stem, sizes, tensors.__getitem__)


def _missing(folder: Path, name: str) -> InvalidField:
    allowed = f"a directory that holds {INFO_FILE}, {DIT_FILE} and {VAE_FILE}; {name} is missing"
    return InvalidField("model.path", str(folder), allowed)


def _geometry(video: dict[str, Any], recipe: Recipe, dit: WanConfig, vae: WanVAEConfig) -> Geometry:
    _keys(video, ("width", "height", "fps"), "video.")
    _, rows, columns = dit.patch_size
    if rows != columns:
        raise InvalidField("dit.patch_size", dit.patch_size, "equal rows and columns")
    try:
        fps = Fraction(video["fps"])
    except (ValueError, TypeError, ZeroDivisionError):
        raise InvalidField("video.fps", video["fps"], 'a number, or a fraction as text, such as "30000/1001"') from None
    return Geometry(
        width=value("video.width", video["width"], int),
        height=value("video.height", video["height"], int),
        fps=fps,
        latent_channels=vae.z_dim,
        blocks=recipe.blocks,
        stride_time=vae.temporal_stride,
        stride_space=vae.spatial_stride,
        patch_space=rows,
    )


def _keys(table: object, allowed: tuple[str, ...] | None, prefix: str, optional: tuple[str, ...] = ()) -> None:
    """Refuse what is no object; with `allowed`, exactly these keys must be there, and those in `optional` may be."""
    if not isinstance(table, dict):
        raise InvalidField(prefix.rstrip(".") or INFO_FILE, table, "a JSON object")
    if allowed is None:
        return
    for key in table:
        if key not in (*allowed, *optional):
            raise InvalidField(f"{prefix}{key}", table[key], f"one of the fields {', '.join(allowed)}")
    for key in allowed:
        if key not in table:
            raise InvalidField(f"{prefix}{key}", None, "a value; the field is missing")


def check_weights(folder: Path, info: ModelInfo) -> None:
    """Compare names and shapes in all files with the architecture; reads no weights. InvalidField names the tensor."""
    with torch.device("meta"):
        modules: list[tuple[_Network, str]] = [(_suited(folder, info), DIT), (new_decoder(info), VAE)]
        if info.tiny is not None:
            modules.append((TaehvDecoder(info.tiny), TINY))
    for module, stem in modules:
        files = _files(folder, stem)
        _compare(module, files.name, {name: files.shape(name) for name in files.names})


def _files(folder: Path, stem: str, device: str = "cpu") -> TensorFiles:
    try:
        return TensorFiles(folder, stem, device)
    except FileNotFoundError as error:
        raise _missing(folder, Path(str(error)).name) from None


def _compare(module: _Network, file: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    for name, shape in shapes.items():
        if name not in wanted and module.takes(name):
            raise InvalidField(f"{file}: {name}", list(shape), "no tensor of this name")
    for name, shape in wanted.items():
        if name not in shapes:
            raise InvalidField(f"{file}: {name}", None, f"a tensor of shape {list(shape)}; it is missing")
        if shapes[name] != shape:
            raise InvalidField(f"{file}: {name}", list(shapes[name]), f"shape {list(shape)}")


def _load(module: _Network, folder: Path, stem: str, compute: Compute) -> None:
    """Fill a module made on the meta device; every tensor must be there, in shape, finite, and none too many."""
    files = _files(folder, stem, str(compute.torch_device))
    taken = [name for name in files.names if module.takes(name)]
    _compare(module, files.name, {name: files.shape(name) for name in taken})
    held: dict[str, Tensor] = {}
    for name in taken:
        tensor = files.read(name)
        if tensor.dtype not in FORMATS or not is_finite(tensor):
            raise InvalidField(f"{files.name}: {name}", str(tensor.dtype), f"finite numbers, {FORMAT_NAMES}")
        held[name] = tensor.to(compute.torch_dtype)
    module.load_state_dict(held, assign=True)
    module.requires_grad_(False).eval()
