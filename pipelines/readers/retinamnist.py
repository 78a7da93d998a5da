"""RetinaMNIST: training and validation parts, which are the 1,200 training images of DeepDRiD at 28 px."""

from pipelines.readers.medmnist import archive_reader
from pipelines.sources import About

READER = archive_reader(
    "retinamnist",
    splits=("train", "val"),
    about=About(
        title="Fundus photographs graded for diabetic retinopathy, DeepDRiD's training part made small",
        root="retinamnist.npz, or one of its larger sizes",
        images=1200,
        classes={"0": 540, "1": 140, "2": 234, "3": 214, "4": 72},
        modality="fundus photography",
        confounders=("resolution (28 px)", "patient and eye (not told)"),
        licence="CC BY 4.0",
        citation="Yang et al., MedMNIST v2, Scientific Data 2023; images of Liu et al., DeepDRiD, Patterns 2022",
        obtain="https://medmnist.com (Zenodo 10519652), or `pip install medmnist`",
        published="deepdrid",
        published_note="here at 28 px, published at DeepDRiD's full size",
    ),
)
