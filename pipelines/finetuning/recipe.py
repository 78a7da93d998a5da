"""How a training by gradient is done: the study's hyper-parameters, and what it leaves open."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pipelines.precision import Precision
from store.schema import CounterstainError

# linear: the head alone, on vectors that stay as they are. full: the head and every weight of the image tower.
Mode = Literal["linear", "full"]

LEARNING_RATES: Mapping[Mode, float] = MappingProxyType({"linear": 1e-4, "full": 1e-5})


@dataclass(frozen=True)
class Recipe:
    """Hyper-parameters; the defaults are those of Sadman et al.

    The study says: AdamW, a cosine schedule, batches of 24, at most 10 epochs, patience 5. It leaves open, and here it
    is so: the schedule falls to 0 over all epochs, in steps of a batch, without warm-up; patience counts epochs without
    a lower loss on the validation part, and the weights of the lowest are kept; images are not augmented; the head is
    initialised as `torch.nn.Linear` is. (The study's code makes a new optimiser and schedule for every epoch of full
    fine-tuning; here one of each serves the whole run.)

    Attributes
    ----------
    mode
        What is trained.
    multi_label
        Whether an image may have several labels or none: binary cross-entropy of each class instead of cross-entropy.
    epochs
        At most.
    patience
        Epochs without a lower validation loss after which training ends.
    batch_size
        Images per step.
    learning_rate
        At the start.
    weight_decay
        Of AdamW.
    precision
        Of the forward pass; weights, gradients and loss are float32.
    seed
        Of the head, the order of images and dropout.

    Raises
    ------
    CounterstainError
        If one of them cannot be.

    References
    ----------
    Sadman, Zulkernine & Kwan, arXiv:2506.14136.
    """

    mode: Mode
    multi_label: bool = False
    epochs: int = 10
    patience: int = 5
    batch_size: int = 24
    learning_rate: float = 0.0
    weight_decay: float = 1e-2
    precision: Precision = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.learning_rate == 0:
            object.__setattr__(self, "learning_rate", LEARNING_RATES[self.mode])
        # Normalisation over a batch needs two images.
        for name, least in (("epochs", 1), ("patience", 1), ("batch_size", 2), ("weight_decay", 0)):
            if getattr(self, name) < least:
                raise CounterstainError(f"{name} of a training must be at least {least}, not {getattr(self, name)}.")
        if self.learning_rate < 0:
            raise CounterstainError(f"the learning rate of a training must be above 0, not {self.learning_rate}.")
