"""What every table and column means, for those who ask in SQL."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from store.schema import EMBEDDINGS_PREFIX, TABLES, TEXT_EMBEDDINGS_PREFIX, CounterstainError

if TYPE_CHECKING:
    import polars as pl

    from store.warehouse import Warehouse

_TEXT_VECTORS = "a text's vector from one encoder"
_VECTORS = "an image's vector from one encoder, with what is known of the image"

# What one row is.
ROWS: Mapping[str, str] = {
    "datasets": "a registered data set",
    "images": "an image and what is known of it",
    "rejects": "a file that could not be read",
    "overlays": "a thing found on an image: a word, a logo, a calliper, an arrow, a coloured mark",
    "image_attributes": "an image, with what the detectors found of it as a whole",
    "duplicates": "a pair of images of one data set that look the same",
    "overlay_shift": "how far one change of the overlay moves images under one encoder, by one measure",
    "corrections": "a value that a person corrected",
    "imported_encoders": "an encoder whose vectors were computed elsewhere",
    "layouts": "an image's place in one UMAP layout",
    "layout_quality": "one measure of how far a layout can be trusted",
    "layout_clusters": "a cluster that layouts show, and what describes it best",
    "layout_cluster_members": "an image in a cluster",
    "layout_associations": "how far the clusters of one layout go along with one attribute",
    "probe_scores": "a score of one linear probe, on one part of the images",
    "probe_predictions": "what a probe predicted for an image that it was not trained on",
    "neighbors": "an image and one of its nearest neighbours outside its own group",
    "neighbor_audits": "one metric of one neighbour audit",
    "neighbor_audit_values": "the metric of one image, for metrics that single images have",
    "telling_neighbors": "a pair that shares a background value and not the label, most telling first",
    "near_duplicates": "a pair of images of different groups that an encoder holds for nearly the same",
    "encoder_agreement": "how far two encoders agree on one data set, by one measure",
    "calibration": "how a test or metric behaves on sets of which the truth is known",
    "leaderboard": "the score and rank of an encoder on a data set",
    "encoder_contrasts": "the difference between two sets of encoders, paired by data set",
    "published_comparison": "a score beside the one that the study published",
    "findings": "the verdict on one background attribute (null: on the label) in one cell",
    "calibration_intervals": "how often the intervals of a metric hold the truth, on sets of which it is known",
    "exposure": "a data set and an encoder, and what of the one the training of the other touched",
    "named_views": "a selection of images under a name",
    "texts": "a prompt, caption or report",
    "zero_shot_scores": "a score of labels told by the nearest prompt",
    "zero_shot_predictions": "what the nearest prompt says of an image",
    "zero_shot_reliability": "predictions of one range of confidence",
    "retrieval_scores": "a score of finding an image's text, or a text's image",
    "retrieval_ranks": "one query, and at which rank what belongs to it was found",
    "separability": "one measure of how far the classes lie apart, or the values of a background attribute",
    "finetuning_epochs": "an epoch of a training by gradient",
    "finetuning_scores": "a score of a training by gradient",
    "finetuning_images": "an image in a training by gradient: its part, and what was said of it",
    "finetuning_shift": "a measure before or after an encoder was fine-tuned",
    "overlay_shift_examples": "an image and one change of its overlay, of those that moved most",
    "saliency": "how much of one map of one image lies in one region",
    "saliency_scores": "one measure of the maps of a cell",
    "saliency_maps": "a map over one image",
    "typographic_attack": "how often a planted word changes the answer",
    "typographic_answers": "the answer for one image before and after a word was planted",
    "runs": "the making of one partition of one asset: from what, by what, and when",
}

# What a column means, wherever it is; `_OF_TABLE` has the exceptions.
_COLUMNS: Mapping[str, str] = {
    "accuracy": "share of the predictions that are right",
    "after": "answer with the word planted",
    "agreement": "share of an image's neighbours that have its value of the attribute",
    "alpha": "level at which the test rejects",
    "annotation": "callipers, arrows or other marks on the image; null: unknown",
    "annotation_kinds": "which marks",
    "annotation_source": "given, detected or corrected",
    "answered_by": "texts or probe",
    "area": "share of the image that the region covers",
    "asked": "label or answer: of the score of which class the map is; vector: of none",
    "aspect": "width / height",
    "asset": "the asset that was made",
    "association": "Cramér's V of background and label, 0 … 1",
    "attribute": "background attribute; the label is one",
    "attribute_value": "its value",
    "attributes": "every other column of the source: a JSON object of strings",
    "audit": "the audit",
    "average_precision": "of the query",
    "base": "encoder that was fine-tuned",
    "before": "answer without it",
    "bin_high": "upper end of the range of confidence",
    "bin_low": "lower end of the range of confidence",
    "box": "[x0, y0, x1, y1] in pixels, half-open",
    "boxes": "boxes of the regions",
    "candidates": "how many the one searched for is among",
    "caption": "caption of the image",
    "ci_high": "upper end of the 95 % interval, from resampling whole groups",
    "ci_low": "lower end of the 95 % interval, from resampling whole groups",
    "class": "class whose score the map is of",
    "cluster": "number of the cluster",
    "coassignment": "share of pairs of its images that are in one cluster, averaged over all layouts",
    "code_version": "version of the code of the step",
    "coloured": "the image as a whole is coloured",
    "column": "the column that was corrected",
    "confidence": "the detector's own, 0 … 1",
    "confounder": "background attribute; null where the row is of none",
    "content_hash": "SHA-256 of the file's bytes",
    "contrast": "the two sets of encoders",
    "control": "answer with the neutral word",
    "correct": "predicted = truth",
    "corrected_at": "when",
    "correlation": "with the map of random weights",
    "covered": "share of intervals that hold the metric's mean over the sets of their setting",
    "dark_corners": "how many of the four corners are dark",
    "data_version": "digest of what came out",
    "dataset": "data set",
    "decodability": "balanced accuracy at which a linear probe reads the attribute off the vectors",
    "difference": "value − published",
    "dimension": "length of the vectors",
    "direction": "from image to text, or from text to image",
    "distance": "cosine distance, 0 … 2",
    "doubtful": "the published number is doubtful; note says why",
    "duplicate_group": "least image id of all that hang together",
    "encoder": "encoder",
    "energy": "share of the map inside the region; null where the map is empty",
    "epoch": "number of the epoch",
    "expected": "what chance alone gives",
    "fingerprint": "digest of what made it: weights and preprocessing, or detectors and terms",
    "finished_at": "when it was done",
    "fold": "fold of the split; null: the summary over folds, which has the interval",
    "format": "file format",
    "frame_share": "share of the area within a uniform frame",
    "group": "group of the encoder in the study",
    "groups": "columns whose images must not straddle a split, besides patient and slide",
    "height_px": "height in pixels",
    "hit": "whether the map's highest place is inside the region",
    "image_id": "image: first 32 digits of the SHA-256 of its bytes; -2, -3 … for further copies",
    "image_ids": "the images in it",
    "images": "images per set",
    "imported_at": "when",
    "inputs": "JSON: what it was made from → its digest",
    "intervals": "intervals that were looked at",
    "intervention": "what was changed on the image",
    "iou": "overlap of the map's highest part with the region, over their union",
    "item": "number of the thing on its image",
    "jpeg_quality": "quality at which the JPEG was saved; null: no JPEG",
    "k": "neighbours read per image",
    "kept": "the epoch whose weights were kept",
    "kind": "what it is",
    "label": "class",
    "layouts": "how many layouts show it",
    "layouts_in_all": "of how many",
    "learning_rate": "of the last step",
    "lesion_box": "[x0, y0, x1, y1] of the lesion in pixels, half-open",
    "level": "what the intervals claim to cover",
    "map": "a greyscale PNG, white where the map is highest",
    "margin": "how far the true class's score is ahead of the best other; negative: wrong",
    "match_distance": "distance of the nearest image that shares the label; null: none is listed",
    "mean": "mean of the metric over the sets",
    "mean_expected": "mean of what chance alone gives",
    "mean_width": "mean width of the intervals",
    "method": "how the map is made",
    "metric": "what was measured",
    "min_dist": "UMAP's min_dist",
    "modality": "kind of image",
    "mode": "pixel format in the file",
    "moment": "before or after",
    "n": "images it rests on",
    "n_clusters": "clusters in the layout",
    "n_neighbors": "UMAP's n_neighbors",
    "n_neighbors_requested": "the n_neighbors asked for, before it was cut to the size of the data set",
    "name": "its name",
    "negative": "the prompt says that the class is absent",
    "neighbor_id": "the neighbour",
    "neighbor_label": "class of the neighbour",
    "neutral_word": "the word planted for comparison",
    "note": "what to know of the number; why it is null",
    "other_encoder": "the encoder compared with",
    "other_id": "the other image of the pair",
    "overlay_boxes": "boxes of burned-in words: [x0, y0, x1, y1] in pixels, half-open",
    "overlay_text": "the burned-in words",
    "p_adjusted": "p adjusted for the number of tests (Benjamini–Hochberg)",
    "p_value": "permutation p",
    "parameters": "JSON: settings it depends on",
    "part": "train, validation or test; null: none",
    "patient": "patient; images of one never straddle a split",
    "phi": "agreement of cluster and value, −1 … 1; null: no value reaches 0.3",
    "picture": "a small PNG of the image as it was changed",
    "planted": "the word planted; null: over all",
    "possible_identifying": "the text may identify someone, and is shown nowhere else",
    "predicate": "what chose them, in words or SQL",
    "predicted": "the class it said",
    "probability": "of what was predicted",
    "prompt_set": "set of prompts",
    "prompt_version": "version of the set of prompts",
    "protocol": "how the probe was trained and tested; see the README",
    "published": "the study's number; null: it has none",
    "published_dataset": "the study's name of the data set",
    "published_high": "upper end of the study's interval",
    "published_low": "lower end of the study's interval",
    "published_model": "the study's name of the encoder",
    "published_std": "the study's standard deviation",
    "query_id": "image or text that is searched for",
    "rank": "place, from 1",
    "reader": "how its files are read",
    "reason": "why not",
    "region": "lesion, background, text or marks; null: the map as a whole",
    "registered_at": "when",
    "rejected": "share of repetitions in which the test rejected; null: there is no test",
    "repetitions": "sets drawn",
    "robustness_index": "share of informative neighbours that share the label rather than the background; below "
    "0.5, the background leads",
    "root": "folder or file it is read from",
    "row": "place of the row within its partition",
    "rows": "rows made",
    "rule": "how an image's label follows from prompts",
    "ruler": "ticks at even distances along an edge",
    "run_id": "the run; tables are tagged run-<run_id>",
    "same_background": "the background attributes that both images share",
    "same_label": "both images have one class; null: unknown",
    "same_split": "both images are in one published split; null: unknown",
    "saved_at": "when",
    "score": "how telling the pair is: larger, more",
    "seconds": "how long it took",
    "seed": "seed of the random numbers",
    "seen": "in training: data set (these images), modality (their kind), unknown; null: not, as far as is known",
    "sentence": "the verdict with its numbers, in words",
    "settings": "combinations of strength and association",
    "shift": "cosine distance of the image as it is and as it was changed",
    "shown": "the clusters show the attribute: at least 0.1 above chance, adjusted p below 0.05",
    "slide": "slide; images of one never straddle a split",
    "source": "where the vectors came from",
    "split": "part of the data",
    "stratum": "part of the images scored: all, or attribute=value",
    "strength": "how strong the planted background is",
    "summary": "JSON: what came out, in a few numbers",
    "table_versions": "JSON: table → Lance version after the write",
    "target": "what the probe was to read: the label, or a background attribute",
    "template": "words around the class's name",
    "term": "the text as a term of the field",
    "text": "the text as read",
    "text_id": "text: digest of its words and what they are for",
    "text_overlay": "words are burned into the image; null: unknown",
    "text_overlay_source": "given, detected or corrected",
    "threshold": "distance below which a pair counts",
    "thumbnail": "a small JPEG",
    "train_loss": "while the weights moved",
    "training": "name of the training",
    "truth": "the class it has",
    "undefined": "share of sets without p (or value); not among the repetitions",
    "uri": "path of the file within the data set",
    "validation_loss": "on the validation part",
    "value": "the number; null: undefined, note says why",
    "value_cv": "score here, out of fold",
    "vector": "the vector, unnormalised",
    "verdict": "what the encoder separates the images by",
    "view": "view or plane",
    "weights": "trained or random",
    "width_px": "width in pixels",
    "without": "share of sets with a value and no interval",
    "world": "phantoms, or features drawn at random",
    "x": "horizontal place; distances within a layout mean little",
    "y": "vertical place",
}

_OF_TABLE: Mapping[tuple[str, str], str] = {
    ("corrections", "value"): "the value it was corrected to, as JSON",
    ("datasets", "label"): "column or labelling that holds the class; null: the reader's usual",
    ("duplicates", "distance"): "how different the two look, by the pictures alone",
    ("duplicates", "kind"): "exact: the same bytes; near: the same to look at",
    ("encoder_contrasts", "dataset"): "data set; null: over all",
    ("finetuning_scores", "mode"): "linear: the head alone; full: all weights",
    ("finetuning_shift", "images"): "test or all",
    ("layout_cluster_members", "layouts"): "layouts that show the cluster with the image in it",
    ("layout_quality", "seed"): "seed of the layout",
    ("leaderboard", "split"): "part of the data that the score is of",
    ("neighbor_audit_values", "value"): "the number",
    ("overlays", "kind"): "word, logo, scale, calliper, arrow, box or colour",
    ("probe_predictions", "split"): "cv: out of fold; test: of the held-out fifth",
    ("probe_scores", "split"): "cv: out of fold; test: the fold models on the held-out fifth",
    ("published_comparison", "value"): "score here, on the held-out fifth; null: not measured",
    ("retrieval_ranks", "rank"): "place of the first that belongs to the query",
    ("telling_neighbors", "value"): "value of the background attribute, which both images share",
    ("texts", "image_ids"): "the images it was written on; none for a prompt",
    ("texts", "kind"): "prompt, caption, findings or what else a reader gives",
    ("texts", "text"): "the text",
    ("zero_shot_reliability", "accuracy"): "share that was right",
    ("zero_shot_reliability", "confidence"): "mean confidence",
    ("zero_shot_scores", "label"): "class; null: over all",
}

# Columns told by their endings, where a table has a number with an interval or a chance level of its own.
_ENDINGS: Mapping[str, str] = {
    "_ci_low": "lower end of the 95 % interval of {}",
    "_ci_high": "upper end of the 95 % interval of {}",
    "_expected": "what chance alone gives for {}",
    "_low": "least {} of the layouts that show it",
    "_high": "greatest {} of the layouts that show it",
}


def meaning(table: str, column: str) -> str | None:
    """Return what a column means; None where that is not written down."""
    if (table, column) in _OF_TABLE:
        return _OF_TABLE[table, column]
    if column in _COLUMNS:
        return _COLUMNS[column]
    for ending, words in _ENDINGS.items():
        if column.endswith(ending):
            return words.format(column.removesuffix(ending))
    return None


def row_meaning(table: str) -> str | None:
    """Return what one row of a table is; None where that is not written down."""
    if table.startswith(TEXT_EMBEDDINGS_PREFIX):
        return _TEXT_VECTORS
    return _VECTORS if table.startswith(EMBEDDINGS_PREFIX) else ROWS.get(table)


def describe(warehouse: "Warehouse", table: str | None = None) -> "pl.DataFrame":
    """Return every column of every table (or of one) that can be asked for in SQL.

    Returns
    -------
    polars.DataFrame
        ``table``, ``rows`` in it, what ``one_row_is``; ``column``, its ``type`` in DuckDB's words and its ``meaning``.

    Raises
    ------
    CounterstainError
        If there is no such table.
    """
    import polars as pl

    from store.sql import readable_tables, run_query

    known = readable_tables(warehouse)
    if table is not None and table not in known:
        raise CounterstainError(f"no table {table!r}; tables: {', '.join(known)}.")
    names = known if table is None else [table]
    columns = run_query(
        warehouse,
        'SELECT table_name AS "table", column_name AS "column", data_type AS type FROM information_schema.columns '
        "WHERE list_contains($names, table_name) ORDER BY list_position($names, table_name), ordinal_position",
        {"names": names},
    )
    stored = set(warehouse.tables())
    of_table = pl.DataFrame(
        {
            "table": names,
            "rows": [warehouse.open_table(name).count_rows() if name in stored else 0 for name in names],
            "one_row_is": [row_meaning(name) for name in names],
        },
        schema={"table": pl.String, "rows": pl.Int64, "one_row_is": pl.String},
    )
    meanings = [meaning(name, column) for name, column in columns.select("table", "column").iter_rows()]
    described = columns.with_columns(pl.Series("meaning", meanings, dtype=pl.String))
    joined = described.join(of_table, on="table", how="left", maintain_order="left")
    return joined.select("table", "rows", "one_row_is", "column", "type", "meaning")


def undescribed() -> list[str]:
    """Return the tables, and columns as ``table.column``, of the design whose meaning is not written down."""
    tables = [name for name in TABLES if name not in ROWS]
    return tables + [
        f"{name}.{column}"
        for name, spec in TABLES.items()
        for column in spec.schema.names
        if meaning(name, column) is None
    ]
