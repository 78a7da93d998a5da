"""PneumoniaMNIST: the training part, as the study reads it."""

from pipelines.readers.medmnist import archive_reader
from pipelines.sources import About

READER = archive_reader(
    "pneumoniamnist",
    splits=("train",),
    classes={"0": "normal", "1": "pneumonia"},
    about=About(
        title="Paediatric chest radiographs with and without pneumonia, training part",
        root="pneumoniamnist.npz, or one of its larger sizes",
        images=4708,
        classes={"normal": 1214, "pneumonia": 3494},
        modality="chest radiography",
        confounders=("resolution (28 px)",),
        licence="CC BY 4.0",
        citation="Yang et al., MedMNIST v2, Scientific Data 2023; images of Kermany et al., Cell 2018",
        obtain="https://medmnist.com (Zenodo 10519652), or `pip install medmnist`",
        published="pneumoniamnist",
    ),
)
