"""HiCervix: cervical cells in a hierarchy of three levels, told by ``train.csv``, the part that the study reads.

The paper counts 29 classes: every node of the tree. ``class_name`` has 26, some of them inner nodes.
"""

from collections.abc import Iterator
from pathlib import Path

from pipelines.file_sets import ImageFile, file_set_reader
from pipelines.sources import About
from pipelines.tables import read_text_table
from pipelines.trees import NamedFiles

CLASSES = {
    "Normal": 2409, "ECC": 1601, "RPC": 1459, "MPC": 1126, "PG": 1093, "Atrophy": 1049, "EMC": 1098, "HCG": 625,
    "ASC-US": 1762, "LSIL": 1208, "ASC-H": 977, "HSIL": 1369, "SCC": 765, "AGC": 1491, "AGC-NOS": 1535, "AGC-FN": 783,
    "ADC": 936, "AGC-ECC-NOS": 762, "AGC-EMC-NOS": 170, "ADC-ECC": 169, "ADC-EMC": 77, "FUNGI": 1453, "ACTINO": 1379,
    "TRI": 1213, "HSV": 872, "CC": 779,
}  # fmt: skip
_LEVELS = ("level_1", "level_2", "level_3")


def files(root: Path) -> Iterator[ImageFile]:
    """Yield the images of the table; a level below an image's own is empty, and that label then unknown."""
    table = read_text_table(root / "train.csv", ("image_name", "class_name", *_LEVELS), key="image_name")
    images = NamedFiles(root)
    for row in table.iter_rows(named=True):
        labels = {"class_name": row["class_name"], **{level: row[level] for level in _LEVELS}}
        name = row["image_name"]
        yield ImageFile(name, images.find(Path(name).name, f"train/{name}"), labels)


READER = file_set_reader(
    "hicervix",
    files,
    About(
        title="Cervical cells of 4,496 slides in a three-level hierarchy, training part",
        root="the folder with train.csv and the images, wherever in it",
        images=28160,
        classes=CLASSES,
        modality="cytology",
        confounders=("slide and scanner (not told)",),
        licence="GPL-3.0, non-commercial academic use",
        citation="Cai et al., IEEE TMI 2024, doi:10.1109/TMI.2024.3419697",
        obtain="https://zenodo.org/records/11087263 (on request)",
        label="class_name",
        published="hicervix",
    ),
)
