"""Which images an encoder that was fine-tuned here has seen: what it learned of them is not what it sees in others."""

import polars as pl

from assets.step import Cell


def part_of(cell: Cell) -> dict[str, str]:
    """Return the part (train, validation or test) that each image had in the training that made a cell's encoder.

    Images of any data set are told by their ids, which follow from their content. What an encoder's base was itself
    fine-tuned on comes with it, as the worst that was done with an image. Empty for an encoder that was not made here.
    """
    specs = cell.project.encoder_specs()
    name: str | None = cell.encoder
    parts: dict[str, str] = {}
    while name in specs:
        rows = cell.warehouse.frame("finetuning_images").filter(
            pl.col("training") == name, pl.col("part").is_not_null()
        )
        for image_id, part in rows.select("image_id", "part").collect().iter_rows():
            parts[image_id] = min(parts.get(image_id, part), part, key=_WORST_FIRST.index)
        name = specs[name].variant_of
    return parts


_WORST_FIRST = ("train", "validation", "test")


def trained_on(cell: Cell) -> set[str]:
    """Return the ids of the images, of whatever data set, that the encoder's weights were fitted to."""
    return {image_id for image_id, part in part_of(cell).items() if part == "train"}
