"""Text sides: tiny checkpoints laid out as the hub's are, against what the libraries themselves give."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from pipelines.encoder import EncoderSpec, LoadOptions
from pipelines.encoders import encoder_specs, encoders_of_texts, load_text_encoder, why_no_texts
from pipelines.text_encoder import TextEncoder
from store.schema import CounterstainError

TEXTS = [
    "a malignant lesion",
    "normal tissue",
    "no lesion in  the left breast , and none in the right breast",
    "lesion",
]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({word for text in TEXTS for word in text.split()})]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        yield


def write_tokenizer(folder: Path) -> None:
    """Write the tokenizer of words that a hub repository would hold."""
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, **special).save_pretrained(folder)


def randomised(model: Any) -> Any:
    for name, weight in model.state_dict().items():
        if weight.is_floating_point() and "logit" not in name:
            weight.add_(0.05 * torch.randn(weight.shape))
    return model.eval()


def load(spec: EncoderSpec, folder: Path) -> TextEncoder:
    assert spec.load_text is not None
    return spec.load_text(spec, LoadOptions(checkpoint_dir=folder.parent))


VISION = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16}


def clip(tmp_path: Path, **model: Any) -> tuple[EncoderSpec, Path, Any]:
    spec = replace(encoder_specs()["clip_vit_b16"], dimension=16)
    folder = tmp_path / spec.name
    folder.mkdir()
    config = {
        "embed_dim": 16, "quick_gelu": True, "vision_cfg": VISION,
        "text_cfg": {"context_length": 12, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 2}, **model,
    }  # fmt: skip
    kind = open_clip.CustomTextCLIP if config.pop("custom_text", False) else open_clip.CLIP
    built = randomised(kind(**config))
    written = config | ({"custom_text": True} if kind is open_clip.CustomTextCLIP else {})
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": written, "preprocess_cfg": {}}))
    save_file(dict(built.state_dict()), folder / "open_clip_model.safetensors")
    return spec, folder, built


@pytest.mark.parametrize("custom", [False, True])
def test_open_clips_own_text_tower_gives_what_open_clip_gives(tmp_path: Path, custom: bool) -> None:
    more = {"custom_text": True, "init_logit_bias": -3.0} if custom else {}
    spec, folder, model = clip(tmp_path, **more)
    encoder = load(spec, folder)
    found = encoder.encode_texts(TEXTS, batch_size=3)
    with torch.no_grad():
        tokens = open_clip.get_tokenizer(f"local-dir:{folder}")(TEXTS)
        expected = model.encode_text(tokens).numpy()
        logits = model.get_logits(torch.zeros(1, 3, 32, 32), tokens)[0].numpy()
        image = model.encode_image(torch.zeros(1, 3, 32, 32), normalize=True).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert found.dtype == np.float32
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(image @ unit.T * encoder.logit_scale + encoder.logit_bias, logits, rtol=1e-5, atol=1e-5)
    assert encoder.logit_bias == (-3 if custom else 0)


def biomedclip(tmp_path: Path, pooler: str = "cls_last_hidden_state_pooler") -> tuple[EncoderSpec, Path, Any]:
    """Write a checkpoint as BiomedCLIP's is: a text tower that names another repository, and its tokenizer."""
    bert = {
        "model_type": "bert", "vocab_size": len(VOCABULARY), "hidden_size": 24, "num_hidden_layers": 2,
        "num_attention_heads": 2, "intermediate_size": 32, "max_position_embeddings": 40,
    }  # fmt: skip
    base = encoder_specs()["biomedclip"]
    spec = replace(base, sha256={}, dimension=16, arguments={"text_config": bert})
    folder = tmp_path / spec.name
    folder.mkdir()
    name = "microsoft/BiomedNLP-BiomedBERT-base-uncased-abstract"
    text = {
        "hf_model_name": name, "hf_tokenizer_name": name, "hf_proj_type": "mlp", "hf_pooler_type": pooler,
        "context_length": 32,
    }  # fmt: skip
    model = {"embed_dim": 16, "vision_cfg": VISION, "text_cfg": text, "custom_text": True}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": model, "preprocess_cfg": {}}))
    tower = open_clip.hf_model.HFTextEncoder(
        name, 16, transformers.BertConfig(**{k: v for k, v in bert.items() if k != "model_type"}),
        pooler_type=pooler, proj_type="mlp",
    )  # fmt: skip
    randomised(tower)
    tensors = {f"text.{key}": value for key, value in tower.state_dict().items()}
    if pooler != "cls_pooler":
        tensors = {key: value for key, value in tensors.items() if ".pooler." not in key}
    visual = open_clip.model._build_vision_tower(16, open_clip.model.CLIPVisionCfg(**VISION))
    tensors |= {f"visual.{key}": value for key, value in visual.state_dict().items()}
    tensors |= {"text.transformer.embeddings.position_ids": torch.arange(40)[None], "logit_scale": torch.tensor(4.4)}
    torch.save(tensors, folder / "open_clip_pytorch_model.bin")
    write_tokenizer(folder)
    return spec, folder, tower


@pytest.mark.parametrize("pooler", ["cls_last_hidden_state_pooler", "mean_pooler", "cls_pooler"])
def test_a_text_tower_of_transformers_in_an_open_clip_checkpoint_asks_no_hub(tmp_path: Path, pooler: str) -> None:
    spec, folder, tower = biomedclip(tmp_path, pooler)
    encoder = load(spec, folder)
    official = open_clip.tokenizer.HFTokenizer(str(folder), context_length=32)
    with torch.no_grad():
        expected = tower(official(TEXTS)).numpy()
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected, rtol=1e-4, atol=1e-5)
    # Padding that no text needs is not read.
    assert encoder.tokenize(TEXTS[:2]).shape == (2, 5)
    assert encoder.logit_scale == pytest.approx(np.exp(4.4))
    # The image side is the same checkpoint's.
    assert spec.load(spec, LoadOptions(checkpoint_dir=folder.parent)).spec.dimension == 16


def test_a_text_tower_without_its_configuration_says_where_it_belongs(tmp_path: Path) -> None:
    spec, folder, _ = biomedclip(tmp_path)
    with pytest.raises(CounterstainError, match="give its configuration in the encoder's record"):
        load(replace(spec, arguments={}), folder)


@pytest.mark.parametrize("absent", ["tokenizer_config.json", "tokenizer.json"])
def test_a_missing_tokenizer_is_named(tmp_path: Path, absent: str) -> None:
    spec, folder, _ = biomedclip(tmp_path)
    (folder / absent).unlink()
    with pytest.raises(CounterstainError, match=f"biomedclip: .* needs {absent}"):
        load(spec, folder)


CLIP_SIZES = {
    "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
    "vocab_size": len(VOCABULARY), "max_position_embeddings": 77,
}  # fmt: skip
TOWER_SIZES = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 28,
    "patch_size": 14,
}  # fmt: skip


@pytest.mark.parametrize("name", ["pubmedclip", "medsiglip_448", "siglip2_so400m_384"])
def test_a_text_tower_of_transformers_gives_what_transformers_gives(tmp_path: Path, name: str) -> None:
    base = encoder_specs()[name]
    siglip = "siglip" in name
    dimension = 16 if siglip else 8
    arguments = {**base.arguments, "config": {"projection_dim": 8}}
    spec = replace(base, sha256={}, dimension=dimension, arguments=arguments)
    folder = tmp_path / name
    folder.mkdir()
    special = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
    if siglip:
        config = transformers.SiglipConfig(vision_config=TOWER_SIZES, text_config=CLIP_SIZES | special)
        model: Any = randomised(transformers.SiglipModel(config))
    else:
        text = CLIP_SIZES | special
        config = transformers.CLIPConfig(vision_config=TOWER_SIZES, text_config=text, projection_dim=8)
        model = randomised(transformers.CLIPModel(config))
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    save_file({n: t.contiguous().clone() for n, t in model.state_dict().items()}, folder / "model.safetensors")
    write_tokenizer(folder)
    encoder = load(spec, folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    length = 64 if siglip else 77
    tokens = tokenizer(TEXTS, padding="max_length", max_length=length, truncation=True, return_tensors="pt")[
        "input_ids"
    ]
    with torch.no_grad():
        expected = model.get_text_features(input_ids=tokens).pooler_output.numpy()
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected, rtol=1e-4, atol=1e-5)
    assert encoder.logit_scale == pytest.approx(float(model.logit_scale.detach().exp()))
    assert encoder.logit_bias == pytest.approx(float(model.logit_bias.detach()) if siglip else 0)
    shouted = encoder.encode_texts(["LESION"])
    lower = name == "siglip2_so400m_384"
    assert np.allclose(shouted, encoder.encode_texts(["lesion"]), atol=1e-6) == lower


def test_conchs_class_token_reads_the_text_and_no_padding(tmp_path: Path) -> None:
    sizes = {"context_length": 20, "vocab_size": len(VOCABULARY), "width": 16, "heads": 2, "layers": 2}
    spec = replace(encoder_specs()["conch"], dimension=8, arguments={"text": sizes})
    folder = tmp_path / "conch"
    folder.mkdir()
    model = randomised(open_clip.transformer.TextTransformer(output_dim=8, embed_cls=True, **sizes))
    tensors = {f"text.{name}": t for name, t in model.state_dict().items()}
    tensors |= {"visual.ln_contrast.weight": torch.ones(3), "logit_scale": torch.tensor(3.0)}
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(CounterstainError, match=r"put conch_byte_level_bpe_uncased\.json of https://github"):
        load(spec, folder)
    special = ["<pad>", "<start_of_text>", "<end_of_text>", "[UNK]", *VOCABULARY[4:]]
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(special)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="<start_of_text> $A <end_of_text>", special_tokens=[("<start_of_text>", 1), ("<end_of_text>", 2)]
    )
    words.save(str(folder / "conch_byte_level_bpe_uncased.json"))
    encoder = load(spec, folder)
    tokens = encoder.tokenize(TEXTS)
    assert tokens.shape == (4, 20)
    assert tokens[1].tolist()[:5] == [1, special.index("normal"), special.index("tissue"), 2, 0]

    def one(ids: torch.Tensor) -> torch.Tensor:
        """Do what ``TextTransformer.forward`` does in the authors' code, for one text."""
        n = len(ids)
        x = torch.cat([model.token_embedding(ids), model.cls_emb[None]]) + model.positional_embedding[: n + 1]
        mask = torch.full((n + 1, n + 1), -torch.inf).triu_(1)
        mask[n, 1:][ids == 0] = -torch.inf  # only the class token's row, and shifted by one
        x = model.transformer(x[None], attn_mask=mask)
        return model.ln_final(x[0, -1]) @ model.text_projection

    with torch.no_grad():
        expected = torch.stack([one(ids) for ids in tokens]).numpy()
    np.testing.assert_allclose(encoder.encode_texts(TEXTS), expected, rtol=1e-4, atol=1e-5)
    assert encoder.logit_scale == pytest.approx(np.exp(3))


def test_vectors_do_not_depend_on_order_or_batch(tmp_path: Path) -> None:
    spec, folder, _ = biomedclip(tmp_path)
    encoder = load(spec, folder)
    together = encoder.encode_texts(TEXTS)
    np.testing.assert_allclose(encoder.encode_texts(TEXTS[::-1], batch_size=1)[::-1], together, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fault", ["missing", "unexpected", "shape", "no scale"])
def test_text_weights_that_do_not_fit_are_refused(tmp_path: Path, fault: str) -> None:
    spec, folder, _ = clip(tmp_path)
    file = folder / "open_clip_model.safetensors"
    weights = load_file(file)
    match fault:
        case "missing":
            del weights["ln_final.weight"]
        case "unexpected":
            weights["transformer.extra"] = torch.zeros(3)
        case "shape":
            weights["text_projection"] = torch.zeros(16, 8)
        case "no scale":
            del weights["logit_scale"]
    save_file(weights, file)
    with pytest.raises(CounterstainError, match="clip_vit_b16: cannot load"):
        load(spec, folder)


def test_the_fingerprint_is_of_weights_scale_and_tokenizer(tmp_path: Path) -> None:
    spec, folder, _ = biomedclip(tmp_path)
    first = load(spec, folder).fingerprint
    assert load(spec, folder).fingerprint == first
    file = folder / "open_clip_pytorch_model.bin"
    tensors = torch.load(file, weights_only=True)
    torch.save(tensors | {"logit_scale": torch.tensor(4.5)}, file)
    second = load(spec, folder).fingerprint
    words = json.loads((folder / "tokenizer.json").read_text())
    words["truncation"] = None
    words["added_tokens"] = words["added_tokens"][::-1]
    (folder / "tokenizer.json").write_text(json.dumps(words))
    assert len({first, second, load(spec, folder).fingerprint}) == 3


def test_another_length_than_that_of_images_is_refused(tmp_path: Path) -> None:
    spec, folder, _ = clip(tmp_path)
    with pytest.raises(CounterstainError, match=r"shape \(1, 16\) for one text, but the vectors of images have 24"):
        load(replace(spec, dimension=24), folder)


@pytest.mark.parametrize("texts", [[], ["a lesion", " "]])
def test_nothing_is_no_text(tmp_path: Path, texts: list[str]) -> None:
    spec, folder, _ = clip(tmp_path)
    with pytest.raises(CounterstainError, match="no text to encode"):
        load(spec, folder).encode_texts(texts)


def test_an_encoder_without_a_text_side_says_why() -> None:
    assert why_no_texts("biomedclip") is None
    assert {"biomedclip", "clip_vit_b16", "pubmedclip"} <= set(encoders_of_texts())
    reasons = {
        "efficientnet_lite0": "it has no text side",
        "biomedclip_pooled": "its vectors are not in the space of texts; those of biomedclip are",
        "llm2clip_l14_336": "its text side cannot be run here",
        "somebody_elses": "it is no registered encoder",
    }
    for name, reason in reasons.items():
        with pytest.raises(CounterstainError, match=f"{name}: {reason}.*Encoders that have: biomedclip"):
            load_text_encoder(name, LoadOptions())
    for name, spec in encoder_specs().items():
        assert (spec.load_text is None) or (spec.text_side and spec.kind == "projected"), name
