"""BreastUS (BUSI): breast ultrasound, a folder per class; the masks beside the images give the lesion's box."""

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from pipelines.file_sets import ImageFile, file_set_reader, in_class_folders, inside
from pipelines.sources import About

CLASSES = {"benign": 437, "malignant": 210, "normal": 133}
# ``benign (1)_mask.png``; a second lesion of the same image is in ``benign (100)_mask_1.png``.
_MASK = re.compile(r"(.+)_mask(?:_\d+)?")


def files(root: Path) -> Iterator[ImageFile]:
    """Yield the images with their masks; in normal images nothing is marked."""
    found = list(in_class_folders(inside(root, "Dataset_BUSI_with_GT"), CLASSES))
    masks: dict[Path, list[Path]] = defaultdict(list)
    for _, _, path in found:
        if match := _MASK.fullmatch(path.stem):
            masks[path.with_name(match[1])].append(path)
    for label, uri, path in found:
        if not _MASK.fullmatch(path.stem):
            yield ImageFile(uri, path, {"finding": label}, masks=tuple(masks[path.with_suffix("")]))


READER = file_set_reader(
    "breastus",
    files,
    About(
        title="Breast ultrasound: benign, malignant, normal",
        root="Dataset_BUSI_with_GT/, with or without the masks",
        images=780,
        classes=CLASSES,
        modality="ultrasound",
        confounders=(
            "burned-in words (BREAST, AXILLA)",
            "callipers (none on normal)",
            "near copies (about 98 groups)",
        ),
        licence="see its page (paper: CC BY 4.0)",
        citation="Al-Dhabyani et al., Data in Brief 2020, doi:10.1016/j.dib.2019.104863",
        obtain="https://www.kaggle.com/datasets/aryashah2k/breast-ultrasound-images-dataset",
        label="finding",
        published="breastus",
    ),
)
