"""Sources to rows of ``images``: decoded once within limits, described, and rejected where they cannot be read."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from pipelines.decoding import content_hash, open_image, thumbnail, to_rgb
from pipelines.readers import reader_of
from pipelines.sources import DataSet, Source, UnreadableImageError
from pipelines.threads import map_ordered
from store.schema import IMAGES

ROWS_PER_BATCH = 256


@dataclass
class Ingest:
    """One pass over a data set; iterate `batches` to the end, then `rejects` is complete."""

    dataset: DataSet
    workers: int = 2
    rejects: list[dict[str, str]] = field(default_factory=list)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the readable images as rows of ``images``, at most `ROWS_PER_BATCH` at a time.

        An image's id is the first 32 digits of its content's SHA-256; further copies of the same content within
        the data set are told apart by ``-2``, ``-3`` … in the order they are read.
        """
        copies: Counter[str] = Counter()
        rows: list[dict[str, object]] = []
        for source, row in map_ordered(_describe, reader_of(self.dataset).read(self.dataset), self.workers):
            if isinstance(row, UnreadableImageError):
                self.rejects.append({"dataset": self.dataset.name, "uri": source.uri, "reason": str(row)})
                continue
            short = str(row["content_hash"])[:32]
            copies[short] += 1
            image_id = short if copies[short] == 1 else f"{short}-{copies[short]}"
            rows.append({"dataset": self.dataset.name, "image_id": image_id, **row})
            if len(rows) == ROWS_PER_BATCH:
                yield _batch(rows)
                rows = []
        if rows:
            yield _batch(rows)


def _describe(source: Source) -> dict[str, object] | UnreadableImageError:
    try:
        payload = source.load()
        image = open_image(payload)
        upright = to_rgb(image)
        given = {**source.given, **source.look()}
    except UnreadableImageError as error:
        return error
    # Words or marks that are named are there.
    for flag, what in (("text_overlay", "overlay_text"), ("annotation", "annotation_kinds")):
        if given.get(flag) is None and given.get(what):
            given[flag] = True
    return {
        "content_hash": content_hash(payload),
        "uri": source.uri,
        "width_px": upright.width,
        "height_px": upright.height,
        "format": image.format or "array",
        "mode": image.mode,
        "thumbnail": thumbnail(upright),
        "text_overlay_source": "given" if given.get("text_overlay") is not None else None,
        "annotation_source": "given" if given.get("annotation") is not None else None,
        "attributes": json.dumps(dict(source.attributes), sort_keys=True) if source.attributes else None,
        **given,
    }


def _batch(rows: list[dict[str, object]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=IMAGES.schema)
