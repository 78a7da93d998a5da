"""SARS-COV-2 CT: axial lung slices with and without COVID-19, a folder each, as on Kaggle."""

from collections.abc import Iterator
from pathlib import Path

from pipelines.file_sets import ImageFile, file_set_reader, in_class_folders
from pipelines.sources import About

CLASSES = {"COVID": 1252, "non-COVID": 1229}


def files(root: Path) -> Iterator[ImageFile]:
    """Yield ``COVID/Covid (1).png`` … and ``non-COVID/Non-Covid (1).png`` …; patients are not told."""
    for label, uri, path in in_class_folders(root, CLASSES):
        yield ImageFile(uri, path, {"covid": label})


READER = file_set_reader(
    "sarscov2ct",
    files,
    About(
        title="Lung CT slices of hospitals in São Paulo, with and without COVID-19",
        root="the folder with COVID/ and non-COVID/",
        images=2481,
        classes=CLASSES,
        modality="CT",
        confounders=("patient (not told)", "burned-in text"),
        licence="see its page",
        citation="Soares et al., medRxiv 2020.04.24.20078584",
        obtain="https://www.kaggle.com/datasets/plameneduardo/sarscov2-ctscan-dataset",
        label="covid",
        published="sarscov2ct",
    ),
)
