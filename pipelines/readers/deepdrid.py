"""DeepDRiD: fundus photographs of both eyes graded for diabetic retinopathy; the training part, as the study reads it.

Source: https://github.com/deepdrdoc/DeepDRiD, whose tables name images by ``<patient>_<l|r><number>``.
"""

from collections.abc import Iterator
from pathlib import Path

from pipelines.file_sets import ImageFile, file_set_reader, inside
from pipelines.sources import About
from pipelines.tables import read_text_table
from pipelines.trees import place_in

_EYES = {"l": "left", "r": "right"}
_QUALITY = {"1": "good", "0": "poor"}
# As counted in RetinaMNIST, whose training and validation parts are these images.
CLASSES = {"0": 540, "1": 140, "2": 234, "3": 214, "4": 72}
_GRADES = {"left": "left_eye_DR_Level", "right": "right_eye_DR_Level"}


def files(root: Path) -> Iterator[ImageFile]:
    """Yield the images of the table, labelled with the grade of their eye; the patient's is another label."""
    folder = inside(inside(root, "regular_fundus_images"), "regular-fundus-training")
    columns = ("patient_id", "image_id", "patient_DR_Level", "Overall quality", *_GRADES.values())
    table = read_text_table(folder / "regular-fundus-training.csv", columns, key="image_id")
    sources = _sources(folder / "regular-fundus-source-training.csv")
    for row in table.iter_rows(named=True):
        image_id = row["image_id"]
        side = image_id.rpartition("_")[2]
        # One column is filled, that of the eye; a few names tell the other eye, and the column is followed.
        filled = [eye for eye, column in _GRADES.items() if row[column]]
        eye = filled[0] if len(filled) == 1 else _EYES.get(side[:1])
        labels = {"grade": row[_GRADES[eye]] if eye else None, "patient grade": row["patient_DR_Level"]}
        attributes = {
            "eye": eye,
            "shot": side[1:] or None,
            "quality": _QUALITY.get(row["Overall quality"]),
            "artifact": row.get("Artifact"),
            "clarity": row.get("Clarity"),
            "field definition": row.get("Field definition"),
            "source": sources.get(image_id),
        }
        path = place_in(folder / "Images", f"{image_id.partition('_')[0]}/{image_id}.jpg")
        yield ImageFile(f"{image_id}.jpg", path, labels, {"patient": row["patient_id"]}, attributes)


def _sources(path: Path) -> dict[str, str]:
    """Return the screening project each image comes from, told by a table that was added later."""
    if not path.is_file():
        return {}
    table = read_text_table(path, ("image_id", "Source"))
    return dict(table.select("image_id", "Source").iter_rows())


READER = file_set_reader(
    "deepdrid",
    files,
    About(
        title="Fundus photographs, two of each eye, graded for diabetic retinopathy, training part",
        root="the repository's folder, or regular-fundus-training/ in it",
        images=1200,
        classes=CLASSES,
        modality="fundus photography",
        groups=("patient",),
        confounders=("patient", "eye", "image quality", "screening project"),
        licence="CC BY 4.0, as MedMNIST states",
        citation="Liu et al., Patterns 2022, doi:10.1016/j.patter.2022.100512",
        obtain="https://github.com/deepdrdoc/DeepDRiD",
        label="grade",
        published="deepdrid",
    ),
)
