"""RetinaMNIST: training and validation parts, which are the 1,200 training images of DeepDRiD at 28 px."""

from pipelines.readers.deepdrid import CLASSES
from pipelines.readers.medmnist import archive_reader
from pipelines.sources import About

READER = archive_reader(
    "retinamnist",
    splits=("train", "val"),
    about=About(
        title="Fundus photographs graded for diabetic retinopathy, DeepDRiD's training part made small",
        root="retinamnist.npz, or one of its larger sizes",
        images=1200,
        classes=CLASSES,
        modality="fundus photography",
        confounders=("resolution (28 px)", "patient and eye (not told)"),
        licence="CC BY 4.0",
        citation="Yang et al., MedMNIST v2, Scientific Data 2023; images of Liu et al., DeepDRiD, Patterns 2022",
        obtain="https://medmnist.com (Zenodo 10519652), or `pip install medmnist`",
        published="deepdrid",
        published_note="published at DeepDRiD's own size, here made small (28 px, unless a larger archive is read)",
    ),
)
