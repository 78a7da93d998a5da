"""DICOM files: all below a folder, or those a table names, as ``manifest`` reads one.

Modality, view, patient, study, device and the flag of burned-in annotation come from the headers. Patient, study and
the files' places are pseudonyms, as `pipelines.pseudonyms` makes them: paths often hold ids and names. A folder has no
label, since folders are mostly patients; ``--label folder`` takes the first folder's name, less what the header says
identifies the patient, ``--label NAME`` any other fact.
"""

import hmac
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pipelines.dicom import SUFFIXES, Facts, dicom_pixels, is_dicom, read_facts
from pipelines.pseudonyms import keyed_digest, pseudonym, pseudonym_key
from pipelines.readers import manifest
from pipelines.sources import DataSet, Payload, Reader, Source, UnreadableImageError, file_state, read_file
from pipelines.trees import as_text, files_below
from store.schema import CounterstainError


def read(dataset: DataSet) -> Iterator[Source]:
    """Yield the files in the order of their paths, or of the table's rows.

    Raises
    ------
    CounterstainError
        If there is no DICOM file, the table is not as ``manifest`` wants it, the label is none of what is known,
        pydicom is not installed, or the secret of the pseudonyms cannot be read.
    """
    key = pseudonym_key(dataset.name)
    for path, source in _named(dataset):
        # A suffix of another kind may be part of an id.
        uri = pseudonym(key, source.uri) + (path.suffix.lower() if path.suffix.lower() in SUFFIXES else "")
        try:
            facts = read_facts(path, key)
        except UnreadableImageError as error:
            yield Source(uri, partial(_refuse, str(error)))
            continue
        given, attributes = _merged(dataset, source, facts)
        yield Source(uri, partial(_load, path), given, attributes)


def fingerprint(dataset: DataSet) -> str:
    """Return a digest of every file's place, size and time of modification, of the table, and of the secret."""
    key = pseudonym_key(dataset.name)
    if dataset.root.is_file():
        return keyed_digest(key, manifest.fingerprint(dataset)).hex()[:32]
    digest = hmac.new(key, digestmod="sha256")
    for path, source in _named(dataset):
        digest.update(f"{source.uri}\0".encode() + file_state(path))
    return digest.hexdigest()[:32]


def _named(dataset: DataSet) -> Iterator[tuple[Path, Source]]:
    """Yield each file with what its table, or its folder, says of it."""
    if dataset.root.is_file():
        for source in manifest.read(dataset):
            yield dataset.root.parent / source.uri, source
        return
    paths = [path for path in files_below(dataset.root) if path.name.upper() != "DICOMDIR" and is_dicom(path)]
    if not paths:
        raise CounterstainError(
            f"data set {dataset.name!r}: {dataset.root} holds no DICOM file, and is no table of any."
        )
    for path in paths:
        place = path.relative_to(dataset.root)
        folder = {"folder": as_text(place.parts[0])} if dataset.label == "folder" and len(place.parts) > 1 else {}
        yield path, Source(as_text(place.as_posix()), partial(read_file, path), {}, folder)


def _merged(dataset: DataSet, source: Source, facts: Facts) -> tuple[dict[str, object], dict[str, str]]:
    """Return given columns and attributes: the table's word first, then the header's."""
    given = {**facts.given, **{name: value for name, value in source.given.items() if value is not None}}
    attributes = {**facts.attributes, **source.attributes}
    if dataset.root.is_file() or dataset.label is None:
        return given, attributes
    known = {**dict.fromkeys(_POSSIBLE), **given, **attributes}
    if dataset.label not in known:
        raise CounterstainError(
            f"data set {dataset.name!r}: no label {dataset.label!r}; there are {', '.join(sorted(known))}."
        )
    label = known[dataset.label]
    attributes.pop(dataset.label, None)
    return {**given, "label": None if label is None else _without_secrets(str(label), facts)}, attributes


# Facts that a header may lack.
_POSSIBLE = ("folder", "body part", "device", "laterality", "manufacturer", "study")


def _without_secrets(text: str, facts: Facts) -> str:
    folded = text.casefold()
    if len(folded) != len(text):  # some letters fold to two: places would not agree
        folded = text
    for secret in sorted(facts.secrets, key=len, reverse=True):
        wanted = secret.casefold()
        while (place := folded.find(wanted)) >= 0:
            text = text[:place] + facts.secrets[secret] + text[place + len(wanted) :]
            folded = folded[:place] + "\0" * len(facts.secrets[secret]) + folded[place + len(wanted) :]
    return text


def _load(path: Path) -> Payload:
    return dicom_pixels(read_file(path))


def _refuse(reason: str) -> Payload:
    raise UnreadableImageError(reason)


READER = Reader("dicom", read, fingerprint)
