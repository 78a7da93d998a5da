"""How an encoder is asked which class an image is of: by texts where it has a text side, else by a linear probe."""

from analysis.class_directions import ClassDirections, probe_directions, text_directions
from assets.features import Features
from assets.step import Cell
from pipelines.encoders import load_text_encoder, why_no_texts

# The published zero-shot takes bare class names.
PROMPT = "{}"


def class_directions(cell: Cell, features: Features) -> ClassDirections:
    """Return the score of each class as a function of an image's vector.

    Raises
    ------
    ValueError
        If there is no text side, and no probe can be fitted either.
    """
    if why_no_texts(cell.encoder) is None:
        classes = tuple(sorted({label for label in features.labels if label is not None}))
        texts = load_text_encoder(cell.encoder, cell.project.load_options())
        vectors = texts.encode_texts([PROMPT.format(name.replace("_", " ")) for name in classes])
        return text_directions(vectors, classes, len(features.labels))
    return probe_directions(features.vectors, features.labels, features.groups, seed=cell.project.seed)


def answered_by(directions: ClassDirections) -> str:
    """Say what the answers come from."""
    return "texts" if directions.by_text else "probe"
