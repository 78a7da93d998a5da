"""A model that has learned nothing, to hold its maps against: what stays the same is no finding about the model.

References
----------
Adebayo et al., Sanity checks for saliency maps, arXiv:1810.03292: the model parameter randomisation test.
"""

import copy
from dataclasses import replace

import torch

from pipelines.encoder import Encoder

_NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)


def randomised(encoder: Encoder, batch: torch.Tensor, *, seed: int) -> Encoder:
    """Return the encoder with every learned weight drawn anew.

    Each is drawn from the normal distribution with the mean and the standard deviation of the tensor it replaces, so
    that signals keep their scale. What batch normalisation keeps of its inputs is taken anew over `batch`.

    Parameters
    ----------
    encoder
        A loaded encoder; it stays as it is.
    batch
        Preprocessed images ``(b, 3, h, w)``.
    seed
        Of the weights; the same for the same architecture whatever else is drawn.
    """
    tower = copy.deepcopy(encoder.forward)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in tower.parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            deviation = parameter.float().std(correction=0).item()
            parameter.copy_(drawn * deviation + parameter.float().mean().item())
        norms = [module for module in tower.modules() if isinstance(module, _NORMS)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None
            norm.train()
        if norms:
            tower(batch.to(encoder.device, memory_format=torch.channels_last))
        for norm in norms:
            norm.eval()
    return replace(encoder, forward=tower, fingerprint=f"{encoder.fingerprint}-randomised-{seed}")
