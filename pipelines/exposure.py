"""What pre-training touched of the study's data sets: a score on images like those trained on says less."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

# data set: its images were trained on. modality: images of its kind were. unknown: the makers do not say.
Exposure = Literal["data set", "modality", "unknown"]

# The eight data sets of the feature distribution study (arXiv:2601.14774), by the names of their readers.
STUDY_DATASETS = (
    "brainmr",
    "sarscov2ct",
    "pneumoniamnist",
    "breastus",
    "breakhis",
    "hicervix",
    "deepdrid",
    "isic2019",
)

# As the study's table marks models trained on figures of PubMed Central articles.
PUBMED_FIGURES: Mapping[str, Exposure] = MappingProxyType(
    {name: "unknown" if name == "deepdrid" else "modality" for name in STUDY_DATASETS}
)


def data_sets_seen(exposure: Mapping[str, Exposure]) -> list[str]:
    """Return the data sets that training used themselves, in words."""
    return [f"{name} itself" for name, how in exposure.items() if how == "data set"]
