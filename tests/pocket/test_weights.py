"""The shipped weights: they load, fit the repository, and paint what a prompt says."""

from pathlib import Path

import numpy as np
import torch

from pocket import world
from pocket.data import Scale, to_pixels
from pocket.export import WEIGHTS, load
from pocket.judge import Pictures as Video
from pocket.judge import classify
from pocket.sampler import PictureDecoder, Sampler
from pocket.sources import Request, Timed, sampler_source
from pocket.train_vae import Autoencoder, load_autoencoder
from pocket.world import Clip
from workers.models.pocket_text import Background, Colour, Motion, Scene, Shape


def test_the_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in Path(WEIGHTS).iterdir()) < 8e6


def test_the_scale_undoes_itself() -> None:
    scale = Scale(mean=(1.0, -2.0), std=0.5)
    z = torch.randn(3, 4, 2, 8, 8)
    torch.testing.assert_close(scale.restore(scale.normalise(z)), z)


def test_the_autoencoder_keeps_what_the_judge_looks_at() -> None:
    model: Autoencoder = load_autoencoder(WEIGHTS / "vae.safetensors")
    rng = np.random.default_rng(0)
    for _ in range(4):
        scene = world.random_scene(rng)
        pixels = to_pixels(world.render(Clip(scene=scene, phase=1.0), 49))[None]
        with torch.no_grad():
            made = model.decoder_half(model.encoder_half(pixels)[0])
        pictures = ((made[0].clamp(-1, 1) + 1) * 127.5).round().permute(1, 2, 3, 0).numpy().astype(np.uint8)
        assert all(classify(pictures).matches(scene).values()), scene
        assert (made - pixels).square().mean() < 0.01


def test_latents_have_the_spread_the_model_was_trained_with() -> None:
    model = load_autoencoder(WEIGHTS / "vae.safetensors")
    _, _, scale = load(WEIGHTS)
    rng = np.random.default_rng(1)
    clips = [Clip(scene=world.random_scene(rng), phase=0.5) for _ in range(12)]
    pixels = torch.stack([to_pixels(world.render(clip, 9)) for clip in clips])
    with torch.no_grad():
        latent = scale.normalise(model.encoder_half(pixels)[0].transpose(1, 2))
    assert 1.5 < latent.std() < 4


def test_a_prompt_and_a_cue_are_painted() -> None:
    cue = world.cue_picture(6)
    prompts = (
        Timed(picture=0, prompt="a green ball swaying in the snow"),
        Timed(picture=cue, prompt="a red ball swaying at night"),
    )
    (video,) = sampler_source(WEIGHTS)([Request(prompts=prompts, pictures=world.cue_picture(12), seed=3)])
    first, second = classify(video[:cue]), classify(video[cue + world.FPS :])
    assert (first.colour, first.background) == (Colour.GREEN, Background.SNOW)
    assert (second.colour, second.background) == (Colour.RED, Background.NIGHT)
    assert first.shape is second.shape is Shape.BALL


def test_sampling_is_a_function_of_the_seed() -> None:
    model, decoder, scale = load(WEIGHTS)
    scene = Scene(colour=Colour.BLUE, shape=Shape.RING, motion=Motion.CIRCLING, background=Background.FOG)

    def made(seed: int) -> Video:
        sampler = Sampler(model, [scene], seed)
        decoding = PictureDecoder(decoder, scale, 1)
        return np.concatenate([decoding.decode(sampler.next_block()) for _ in range(2)], 1)

    assert np.array_equal(made(1), made(1))
    assert not np.array_equal(made(1), made(2))
