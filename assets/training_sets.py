"""Which images an encoder that was fine-tuned here has seen: what it learned of them is not what it sees in others."""

from assets.step import Cell
from store.schema import CounterstainError


def part_of(cell: Cell) -> dict[str, str]:
    """Return the part (train, validation or test) that each image had in the training that made a cell's encoder.

    Images of any data set are told by their ids, which follow from their content. What an encoder's base was itself
    fine-tuned on comes with it, as the worst that was done with an image. Empty for an encoder that was not made here.

    Raises
    ------
    CounterstainError
        If it was made here and the parts were not written down: the process was ended in between.
    """
    specs = cell.project.encoder_specs()
    name: str | None = cell.encoder
    parts: dict[str, str] = {}
    while name is not None:
        rows = cell.warehouse.frame("finetuning_images").filter(training=name).select("encoder", "image_id", "part")
        found = rows.collect()
        if found.is_empty() and name in specs and "base" in specs[name].arguments:
            raise CounterstainError(
                f"{name!r} was fine-tuned, and on which images is not on record: give the `counterstain finetune` that "
                "made it again; nothing is trained twice."
            )
        for image_id, part in found.drop_nulls("part").select("image_id", "part").iter_rows():
            parts[image_id] = min(parts.get(image_id, part), part, key=_WORST_FIRST.index)
        # Vectors outlive the weights they were made with, so that the table is asked and not the registry.
        name = found["encoder"][0] if found.height else None
    return parts


_WORST_FIRST = ("train", "validation", "test")


def trained_on(cell: Cell) -> set[str]:
    """Return the ids of the images, of whatever data set, that the encoder's weights were fitted to."""
    return {image_id for image_id, part in part_of(cell).items() if part == "train"}
