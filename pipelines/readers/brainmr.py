"""BrainMR: slices of brain tumours, a folder per tumour, as on Kaggle; the Training folder, as the study reads it."""

from collections.abc import Iterator
from pathlib import Path

from pipelines.file_sets import ImageFile, file_set_reader, in_class_folders, inside
from pipelines.sources import About

CLASSES = {"glioma_tumor": 826, "meningioma_tumor": 822, "no_tumor": 395, "pituitary_tumor": 827}


def files(root: Path) -> Iterator[ImageFile]:
    """Yield the images of the four folders; nothing but the class is told of them."""
    for label, uri, path in in_class_folders(inside(root, "Training"), CLASSES):
        yield ImageFile(uri, path, {"tumour": label})


READER = file_set_reader(
    "brainmr",
    files,
    About(
        title="Brain tumour slices: glioma, meningioma, pituitary, none",
        root="the folder with Training/, or Training/ itself",
        images=2870,
        classes=CLASSES,
        modality="MRI",
        confounders=("anatomical plane", "exact copies (93 files)"),
        licence="see its page",
        citation="Bhuvaji et al., Brain Tumor Classification (MRI), Kaggle 2020, doi:10.34740/kaggle/dsv/1183165",
        obtain="https://www.kaggle.com/datasets/sartajbhuvaji/brain-tumor-classification-mri",
        label="tumour",
        published="brainmr",
    ),
)
