"""BreakHis: breast tumour tissue; a file's name tells slide, patient, subtype and magnification."""

import re
from collections.abc import Iterator
from pathlib import Path

from pipelines.file_sets import ImageFile, file_set_reader
from pipelines.sources import About
from pipelines.trees import as_text, image_files

# ``SOB_M_DC-14-2523-400-001.png``: biopsy, class, subtype, year, slide, magnification, number. Letters at the end of a
# slide (22549AB, 22549CD) tell slides of one case apart; some cases are filed under two subtypes (13412: DC and LC).
_NAME = re.compile(
    r"[A-Z]+_(?P<kind>[BM])_(?P<subtype>[A-Z]+)-(?P<year>\d+)-(?P<case>\d+)(?P<letters>[A-Z]*)-(?P<zoom>\d+)-\d+"
)
_KINDS = {"B": "benign", "M": "malignant"}
_SUBTYPES = {
    "A": "adenosis", "F": "fibroadenoma", "PT": "phyllodes tumour", "TA": "tubular adenoma", "DC": "ductal carcinoma",
    "LC": "lobular carcinoma", "MC": "mucinous carcinoma", "PC": "papillary carcinoma",
}  # fmt: skip


def files(root: Path) -> Iterator[ImageFile]:
    """Yield every image below the root that is named as the publisher names them."""
    for path in image_files(root):
        if name := _NAME.fullmatch(path.stem):
            slide = f"{name['year']}-{name['case']}{name['letters']}"
            labels = {"tumour": _KINDS[name["kind"]], "subtype": _SUBTYPES.get(name["subtype"], name["subtype"])}
            given = {"patient": f"{name['year']}-{name['case']}", "slide": slide}
            yield ImageFile(as_text(path.name), path, labels, given, {"magnification": f"{name['zoom']}X"})


READER = file_set_reader(
    "breakhis",
    files,
    About(
        title="Breast tumour tissue, benign and malignant, eight subtypes, four magnifications",
        root="BreaKHis_v1/, or any folder with its images",
        images=7909,
        classes={"benign": 2480, "malignant": 5429},
        modality="histology (H&E)",
        groups=("patient", "slide"),
        confounders=("slide", "magnification", "stain"),
        licence="CC BY-NC 4.0",
        citation="Spanhol et al., IEEE TBME 2016, doi:10.1109/TBME.2015.2496264",
        obtain="https://web.inf.ufpr.br/vri/databases/breast-cancer-histopathological-database-breakhis/",
        label="tumour",
        published="breakhis",
    ),
)
