"""The small CLIP that other tests look into: it knows unseen phantoms, and can be told what to see by a word."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipelines.encoder import LoadOptions
from pipelines.encoders import load_encoder, load_text_encoder
from pipelines.phantoms.marks import burn_words
from tests.trained_clip import CLASS_NAMES, NAME, draw_pairs

# The model is trained first, a minute of one core that is free.
pytestmark = pytest.mark.timeout(1800)


def test_it_knows_unseen_phantoms_and_believes_what_is_written_on_them(phantom_clip: Path) -> None:
    options = LoadOptions(phantom_clip)
    encoder, text = load_encoder(NAME, options), load_text_encoder(NAME, options)
    unseen = draw_pairs(150, seed=99, worded=0)
    prompts = text.encode_texts([f"ultrasound phantom, {name}" for name in CLASS_NAMES])
    prompts /= np.linalg.norm(prompts, axis=1, keepdims=True)

    def answers(pixels: np.ndarray) -> np.ndarray:
        vectors = encoder.encode(torch.stack([encoder.preprocess(Image.fromarray(image)) for image in pixels]))
        return (vectors @ prompts.T).argmax(1)

    truth = np.array([CLASS_NAMES.index(label) for label in unseen.labels])
    before = answers(unseen.pixels)
    assert (before == truth).mean() > 0.6  # of three classes, as often
    rng = np.random.default_rng(0)
    for code, name in enumerate(CLASS_NAMES):
        attacked = [
            burn_words(image, (name.upper(),), 1.0, rng, right=bool(rng.integers(2)), top=False)[0]
            for image in unseen.pixels
        ]
        other = before != code
        flipped = answers(np.stack(attacked))[other] == code
        assert flipped.mean() > 0.25, name


@pytest.mark.parametrize("kind", ["image", "text"])
def test_its_checkpoint_is_open_clips_own(trained_clip: Path, kind: str) -> None:
    import open_clip

    from tests.trained_clip import SPEC

    folder = trained_clip / NAME
    model, _, preprocess = open_clip.create_model_and_transforms(f"local-dir:{folder}")
    options = LoadOptions(trained_clip)
    model.eval()
    with torch.no_grad():
        if kind == "image":
            encoder = SPEC.load(SPEC, options)
            pixels = preprocess(Image.fromarray(draw_pairs(1, 3).pixels[0]))[None]
            expected, found = model.encode_image(pixels), encoder.encode(pixels)
        else:
            assert SPEC.load_text is not None
            tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(["ultrasound phantom, benign"])
            expected = model.encode_text(tokens)
            found = SPEC.load_text(SPEC, options).encode_texts(["ultrasound phantom, benign"])
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
