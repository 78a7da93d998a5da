"""Which encoders agree, as a matrix for every data set."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.figures.style import INK, new_figure, require_columns, shorten, to_png

if TYPE_CHECKING:
    import polars as pl

METRICS = {"neighbor_overlap": "neighbours in common", "cka": "CKA"}


def agreement_figure(frame: pl.DataFrame) -> bytes:
    """Draw a matrix of encoders for every data set (down) and metric (across).

    Parameters
    ----------
    frame
        Rows of `analysis.encoder_agreement.encoder_agreement` with a further column ``dataset``.

    Returns
    -------
    bytes
        A PNG.

    Raises
    ------
    ValueError
        If a column is missing or the frame is empty.
    """
    require_columns(frame, "dataset", "encoder", "other_encoder", "metric", "value")
    datasets = frame["dataset"].unique().sort().to_list()
    most = max(len(_encoders(frame.filter(dataset=dataset))) for dataset in datasets)
    side = 1.6 + 0.62 * most
    figure = new_figure(2 * (side + 1.2), len(datasets) * side + 0.6)
    panels = figure.subplots(len(datasets), len(METRICS), squeeze=False)
    for i, dataset in enumerate(datasets):
        rows = frame.filter(dataset=dataset)
        encoders = _encoders(rows)
        names = [shorten(name, 20) for name in encoders]
        for axes, (metric, title) in zip(panels[i], METRICS.items(), strict=True):
            matrix = np.eye(len(encoders))
            for one, other, value in rows.filter(metric=metric).select("encoder", "other_encoder", "value").iter_rows():
                a, b = encoders.index(one), encoders.index(other)
                matrix[a, b] = matrix[b, a] = np.nan if value is None else value
            axes.imshow(matrix, cmap="Blues", vmin=0, vmax=1)
            for (a, b), value in np.ndenumerate(matrix):
                text = "–" if np.isnan(value) else f"{value:.2f}"
                axes.text(b, a, text, ha="center", va="center", fontsize=8, color="white" if value > 0.6 else INK)
            axes.set_xticks(range(len(names)), names, fontsize=8, rotation=35, ha="right", parse_math=False)
            axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
            axes.set_title(f"{shorten(dataset, 24)}: {title}", fontsize=10, color=INK, parse_math=False)
    return to_png(figure)


def _encoders(rows: pl.DataFrame) -> list[str]:
    return sorted({*rows["encoder"], *rows["other_encoder"]})
