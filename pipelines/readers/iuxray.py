"""IU X-ray: chest radiographs with their reports, as on Kaggle; the frontal images, as Sadman et al. read them.

The 14 CheXpert labels are no part of what is distributed: they are what a labeller (CheXpert's or CheXbert) reads from
the reports. Its table, with the column ``uid`` beside its own, is read from ``chexpert_labels.csv`` in the root. Then
``--label Cardiomegaly`` takes any of the 14, as ``present`` or ``absent``; the attribute ``label:all`` has those that
are present, joined by ``;``. The usual label is whether there is any finding: by that table, else by the reports'
own ``Problems``. As with Sadman et al., an image with none of the 13 has No Finding, and doubt (−1) is no presence.

Studies are divided 70 : 15 : 15 into train, val and test with seed 42, as theirs are; which study went where they do
not say. A report's findings and impression are texts of their own beside the caption, which is both.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from pipelines.file_sets import ImageFile, file_set_reader
from pipelines.sources import About
from pipelines.tables import is_one, read_text_table
from pipelines.trees import NamedFiles
from store.schema import LABEL_SEPARATOR, TEXT_PREFIX

LABELS = (
    "No Finding", "Enlarged Cardiomediastinum", "Cardiomegaly", "Lung Opacity", "Lung Lesion", "Edema", "Consolidation",
    "Pneumonia", "Atelectasis", "Pneumothorax", "Pleural Effusion", "Pleural Other", "Fracture", "Support Devices",
)  # fmt: skip
_NO_FINDING, *_FINDINGS = LABELS
# What stands among the problems of a report, and is no finding nor the lack of one.
_INDETERMINATE = {"", "no indexing", "technical quality of image unsatisfactory"}


def files(root: Path) -> Iterator[ImageFile]:
    """Yield the frontal images with their study's report as caption."""
    projections = read_text_table(root / "indiana_projections.csv", ("uid", "filename", "projection"), key="filename")
    columns = ("uid", "Problems", "findings", "impression")
    reports = {row["uid"]: row for row in read_text_table(root / "indiana_reports.csv", columns).iter_rows(named=True)}
    labels = _chexpert(root / "chexpert_labels.csv")
    images = NamedFiles(root)
    frontal = [row for row in projections.iter_rows(named=True) if row["projection"] == "Frontal"]
    split_of = _splits({row["uid"] for row in frontal if row["uid"]})
    for row in frontal:
        uid, name = row["uid"], row["filename"]
        report = reports.get(uid, {})
        parts = {TEXT_PREFIX + name: report.get(name) for name in ("findings", "impression")}
        caption = " ".join(text for text in parts.values() if text)
        yield ImageFile(
            name,
            images.find(Path(name).name, f"images/images_normalized/{name}"),
            _labels(report.get("Problems"), uid, labels),
            {"caption": caption or None, "view": "frontal", "split": split_of.get(uid)},
            {"study": uid, **parts},
        )


def _splits(uids: set[str]) -> dict[str, str]:
    """Return the part of each study: of the shuffled studies the first 70 %, the next 15 %, and the rest."""
    shuffled = np.random.default_rng(42).permutation(sorted(uids)).tolist()
    ends = round(0.7 * len(shuffled)), round(0.85 * len(shuffled))
    return {uid: "train" if i < ends[0] else "val" if i < ends[1] else "test" for i, uid in enumerate(shuffled)}


def _chexpert(path: Path) -> dict[str, set[str]] | None:
    """Return the findings present in each study by its uid, or None without a labeller's table."""
    if not path.is_file():
        return None
    table = read_text_table(path, ("uid", *LABELS))
    return {row["uid"]: {name for name in _FINDINGS if is_one(row[name])} for row in table.iter_rows(named=True)}


def _labels(problems: str | None, uid: str, labelled: dict[str, set[str]] | None) -> dict[str, str | None]:
    """Return the labels of a study; one that the labeller's table leaves out has what its report says of itself."""
    present = labelled.get(uid) if labelled else None
    usual = {"finding": _finding(problems, present), "problems": problems}
    if labelled is None:
        return usual
    if present is None:
        return {**usual, "all": None, **dict.fromkeys(LABELS)}
    named = present or {_NO_FINDING}
    each = {name: "present" if name in named else "absent" for name in LABELS}
    return {**usual, "all": LABEL_SEPARATOR.join(name for name in LABELS if name in named), **each}


def _finding(problems: str | None, present: set[str] | None) -> str | None:
    if present is not None:
        return "some" if present else "none"
    named = {problem.strip().lower() for problem in (problems or "").split(";")} - _INDETERMINATE
    if not named:
        return None
    return "none" if named == {"normal"} else "some"


READER = file_set_reader(
    "iuxray",
    files,
    About(
        title="Frontal chest radiographs with reports, 14 labels",
        root="the folder with indiana_{reports,projections}.csv, the images, and chexpert_labels.csv",
        images=3818,
        classes=2,
        modality="chest radiography",
        groups=("study",),
        confounders=("support devices", "burned-in side markers", "views PA and AP alike"),
        licence="CC BY-NC-ND 4.0",
        citation="Demner-Fushman et al., JAMIA 2016, doi:10.1093/jamia/ocv080; protocol: arXiv:2506.14136",
        obtain="https://www.kaggle.com/datasets/raddar/chest-xrays-indiana-university",
        label="finding",
    ),
)
