"""``retrieval``: which text an encoder finds for an image, and which image for a text."""

import numpy as np
import polars as pl

from analysis.retrieval import belonging, rank, score_ranks, text_groups
from assets import display
from assets.backgrounds import image_groups
from assets.features import embeddings_version, group_parameters, texts_version, user_errors, why_undefined
from assets.step import Cell, Made, Step, log
from store.images import read_metadata
from store.results import write_results
from store.runs import data_version
from store.schema import RETRIEVAL_RANKS, RETRIEVAL_SCORES
from store.texts import TextMatrix, read_text_vectors

_SCORES = {
    "kind": pl.String, "direction": pl.String, "metric": pl.String, "k": pl.Int32, "value": pl.Float64,
    "ci_low": pl.Float64, "ci_high": pl.Float64, "expected": pl.Float64, "n": pl.Int64, "candidates": pl.Int64,
    "seed": pl.Int64, "note": pl.String,
}  # fmt: skip
_RANKS = {
    "kind": pl.String, "direction": pl.String, "query_id": pl.String, "rank": pl.Int32, "average_precision": pl.Float64,
}  # fmt: skip


def _inputs(cell: Cell) -> dict[str, str]:
    return {**embeddings_version(cell), **texts_version(cell)}


def _parameters(cell: Cell) -> dict[str, object]:
    return {"seed": cell.project.seed, **group_parameters(cell)}


def _make(cell: Cell) -> Made:
    texts = read_text_vectors(cell.warehouse, cell.encoder, cell.dataset)
    reason = why_undefined(cell, texts)
    if reason is None and texts is not None and texts.texts.filter(pl.col("kind") != "prompt").is_empty():
        reason = "the data set's images come with no texts"
    if reason is not None:
        row = {"metric": "recall", "n": 0, "seed": cell.project.seed, "note": f"undefined: {reason}"}
        return _write(cell, pl.DataFrame([row], schema=_SCORES), pl.DataFrame(schema=_RANKS), reason)
    assert texts is not None
    parts = [_of_kind(cell, texts, kind) for kind in sorted(set(texts.texts["kind"]) - {"prompt"})]
    return _write(cell, pl.concat(scores for scores, _ in parts), pl.concat(ranks for _, ranks in parts), None)


def _of_kind(cell: Cell, texts: TextMatrix, kind: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Rank all texts of a kind for every image, and all images for every such text."""
    log.info("  %s", kind)
    matrix = cell.warehouse.vectors(cell.encoder, cell.dataset)
    hashes = read_metadata(cell.warehouse, cell.dataset).select("image_id", "content_hash")
    images = matrix.images.join(hashes, on="image_id", how="left", maintain_order="left")
    with user_errors(cell):
        groups = image_groups(cell.warehouse, cell.dataset, images)
    of_kind = texts.texts.with_row_index("row").filter(kind=kind)
    vectors = texts.vectors[of_kind["row"].to_numpy()]
    row_of = {image_id: row for row, image_id in enumerate(images["image_id"])}
    rows = [[row_of[name] for name in names if name in row_of] for names in of_kind["image_ids"]]
    of_image, of_text = belonging(rows, images.height)
    # Images without a text of this kind are no candidates: nothing could belong to them.
    shown = np.flatnonzero([len(own) > 0 for own in of_image])
    place = np.full(images.height, -1)
    place[shown] = np.arange(len(shown))
    directions = {
        "image to text": (matrix.vectors[shown], vectors, [of_image[row] for row in shown], groups[shown],
                          images["image_id"].gather(shown)),
        "text to image": (vectors, matrix.vectors[shown], [place[own] for own in of_text], text_groups(of_text, groups),
                          of_kind["text_id"]),
    }  # fmt: skip
    scores, ranks = [], []
    for direction, (queries, candidates, own, query_groups, ids) in directions.items():
        found = rank(queries, candidates, own)
        scores += [
            (kind, direction, s.metric, s.k, s.value, *s.interval, s.expected, s.n, found.candidates, cell.project.seed,
             s.note)
            for s in score_ranks(found, query_groups, seed=cell.project.seed)
        ]  # fmt: skip
        ranks.append(
            pl.DataFrame(
                {
                    "kind": kind,
                    "direction": direction,
                    "query_id": ids.gather(found.query),
                    "rank": found.first,
                    "average_precision": found.average_precision,
                },
                schema_overrides=_RANKS,
            )
        )
    return pl.DataFrame(scores, schema=_SCORES, orient="row"), pl.concat(ranks)


def _write(cell: Cell, scores: pl.DataFrame, ranks: pl.DataFrame, reason: str | None) -> Made:
    names = {"dataset": cell.dataset, "encoder": cell.encoder}
    write_results(cell.warehouse, RETRIEVAL_SCORES, scores, **names)
    write_results(cell.warehouse, RETRIEVAL_RANKS, ranks, **names)
    tens = scores.filter(metric="recall", k=10).drop_nulls("value")
    return Made(
        rows=scores.height,
        data_version=data_version(cell.warehouse, RETRIEVAL_SCORES.name, **names),
        tables=(RETRIEVAL_SCORES.name, RETRIEVAL_RANKS.name),
        summary={f"R@10, {row['kind']}, {row['direction']}": row["value"] for row in tens.iter_rows(named=True)},
        metadata={"note": f"undefined: {reason}"} if reason else {"scores": display.table(scores, max_rows=60)},
    )


STEP = Step(
    name="retrieval",
    description="Which text an encoder finds for an image, and which image for a text, of every kind of text that "
    "images come with: recall, median rank, mean average precision, beside chance. Undefined for an encoder without a "
    "text side, and for images without texts.",
    group="analysis",
    kinds=frozenset({"numpy", "lancedb"}),
    scope="cell",
    upstream=("overlays", "duplicates", "embeddings", "text_embeddings"),
    code_version="2",
    inputs=_inputs,
    parameters=_parameters,
    make=_make,
)
