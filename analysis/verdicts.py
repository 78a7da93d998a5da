"""Verdicts: what the probes and audits of a cell allow one to say, and no more."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import polars as pl

from analysis.evidence import Evidence, count_values, format_number, format_p, guessing_score, read_audit, read_probe
from analysis.statistics import benjamini_hochberg

if TYPE_CHECKING:
    from collections.abc import Sequence

BackgroundVerdict = Literal[
    "background leads", "background is visible", "cannot be told", "no sign of the background"
]  # most severe first
LabelVerdict = Literal["reads the label", "reads label or background", "no better than chance", "cannot be told"]
VERDICTS = tuple(dict.fromkeys(get_args(BackgroundVerdict) + get_args(LabelVerdict)))

FINDINGS_SCHEMA = {
    "dataset": pl.String,
    "encoder": pl.String,
    "confounder": pl.String,
    "verdict": pl.String,
    "sentence": pl.String,
    "decodability": pl.Float64,
    "decodability_expected": pl.Float64,
    "decodability_ci_low": pl.Float64,
    "decodability_ci_high": pl.Float64,
    "agreement": pl.Float64,
    "agreement_expected": pl.Float64,
    "agreement_ci_low": pl.Float64,
    "agreement_ci_high": pl.Float64,
    "p_adjusted": pl.Float64,
    "robustness_index": pl.Float64,
    "robustness_ci_low": pl.Float64,
    "robustness_ci_high": pl.Float64,
    "association": pl.Float64,
    "n": pl.Int64,
}
FINDINGS_COLUMNS = tuple(FINDINGS_SCHEMA)

# Cramér's V, chance taken off, from which label and background count as entangled: Cohen's medium effect.
ENTANGLED = 0.3
# Published less grouped score that is worth a word although the intervals overlap.
NOTEWORTHY_DROP = 0.05

MEANINGS = {
    "text_overlay": "burned-in words",
    "overlay_text": "what the burned-in words say",
    "annotation": "marks such as callipers",
}
_NONE = Evidence()
_SEVERITY = {verdict: rank for rank, verdict in enumerate(get_args(BackgroundVerdict))}


def verdicts(scores: pl.DataFrame, audits: pl.DataFrame) -> pl.DataFrame:
    """Judge every background attribute, and the label, of every data set × encoder.

    Two lines of evidence are read. *Decodability*: balanced accuracy of the grouped linear probe,
    cross-validated; the attribute is decodable where the interval, stretched by half, is above guessing,
    one over the number of values (accuracy would have to be above the largest value's share; balanced
    accuracy is not moved by it). Unstretched, cells with nothing to see are flagged too often, as the
    interval leaves out the choice of training images. *Neighbours*: share of an image's neighbours that
    have its attribute, own group left out; they follow it where that exceeds permutation with adjusted
    p < 0.05. The attribute is permuted within label, so this holds for entangled backgrounds too.

    ``background leads``
        Neighbours follow the background; where a neighbour shares only one of label and background it is
        the background (robustness index, all of its interval below one half); and the background's
        agreement beyond chance, as a share of what is possible, is no less than the label's. One half is
        where the index is neutral for as many backgrounds as labels; the last condition keeps data sets
        of many classes, where hardly any neighbour *can* share the label, from being judged so. That the
        index is below its expectation under permutation would not do: this says only that the background
        is seen at all.
    ``background is visible``
        Decodable, or neighbours follow it.
    ``no sign of the background``
        Neither, both being defined, and the probe's interval excludes the upper half of the way from
        guessing to certainty.
    ``cannot be told``
        Anything else. Also where a background is decodable alone and entangled with the label (Cramér's V,
        its chance value taken off in squares as by Bergsma, at least 0.3): reading the label would do.

    For the label: ``reads the label`` where it is decodable (or, without a grouped probe, where neighbours
    follow it); ``reads label or background`` where, besides, a background that may be seen is entangled
    with it, so that the score is no evidence of seeing the lesion; ``no better than chance``;
    ``cannot be told``.

    Parameters
    ----------
    scores, audits
        Tables ``probe_scores`` and ``neighbor_audits`` of all cells of one report.

    Returns
    -------
    polars.DataFrame
        `FINDINGS_SCHEMA`. Per cell first the label's row (`confounder` null), then the attributes, most
        severe first. `p_adjusted` is Benjamini-Hochberg over all tests given; `n` counts images.

    References
    ----------
    Robustness index: PathoROB, arXiv:2507.17845. Bias-corrected V: Bergsma, J. Korean Stat. Soc. 42 (2013).
    """
    audits = adjust_p_values(audits)
    rows: list[dict[str, object]] = []
    for dataset, encoder in sorted(_cells(scores) | _cells(audits)):
        names = {"dataset": dataset, "encoder": encoder}
        judged = _judge_cell(_of_cell(scores, **names), _of_cell(audits, **names))
        rows += [names | row for row in judged]
    return pl.DataFrame(rows, schema=FINDINGS_SCHEMA)


def adjust_p_values(audits: pl.DataFrame) -> pl.DataFrame:
    """Return audits with ``p_adjusted`` over all rows given: a report tests all its cells at once."""
    if audits.is_empty():
        return audits
    adjusted: list[float | None] = [None] * audits.height
    tested = np.flatnonzero(audits["p_value"].is_not_null().to_numpy())
    for row, value in zip(tested, benjamini_hochberg(audits["p_value"].drop_nulls().to_numpy()), strict=True):
        adjusted[row] = float(value)
    return audits.with_columns(pl.Series("p_adjusted", adjusted, dtype=pl.Float64))


def is_entangled(v: float | None, by_chance: float | None) -> bool:
    """Return whether Cramér's V, what chance gives taken off in squares, is at least `ENTANGLED`."""
    return v is not None and math.sqrt(max(0.0, v * v - (by_chance or 0.0) ** 2)) >= ENTANGLED


@dataclass(frozen=True)
class _Background:
    """What is known of one attribute in one cell, and the verdict."""

    name: str
    probe: Evidence
    neighbors: Evidence
    robustness: Evidence
    association: Evidence
    label_beyond_chance: float

    @property
    def entangled(self) -> bool:
        return is_entangled(self.association.value, self.association.expected)

    @property
    def leads(self) -> bool:
        return (
            self.neighbors.follows
            and self.robustness.high is not None
            and self.robustness.high < 0.5
            and self.neighbors.beyond_chance >= self.label_beyond_chance
        )

    @property
    def verdict(self) -> BackgroundVerdict:
        if self.leads:
            return "background leads"
        if self.neighbors.follows or (self.probe.above_chance and not self.entangled):
            return "background is visible"
        if self.probe.above_chance or self.neighbors.p is None or self.probe.may_be_large:
            return "cannot be told"
        return "no sign of the background"

    @property
    def sentence(self) -> str:
        meaning = MEANINGS.get(self.name)
        subject = f"{self.name} ({meaning})" if meaning else self.name
        text = f"{subject} {_probe_clause(self.probe)}, and {_neighbors_clause(self.neighbors, 'it')}"
        if self.neighbors.follows and self.robustness.value is not None:
            follow = "the background" if self.robustness.value < 0.5 else "the label"
            sure = "" if _excludes_half(self.robustness) else ", though the interval leaves both possible"
            text += f"; those that share only one of label and background mostly share {follow}{sure}: "
            text += f"robustness index {self.robustness}"
        if self.verdict == "cannot be told" and not self.entangled and self.probe.value is not None:
            text += ". The images are too few to exclude that it is seen"
        if self.entangled:
            text += (
                f". Label and {self.name} go together in these images (Cramér's V "
                f"{format_number(self.association.value)}): they cannot be fully told apart, and the label's score "
                "is no evidence of seeing the lesion"
            )
        return text + "."


def _judge_cell(scores: pl.DataFrame, audits: pl.DataFrame) -> list[dict[str, object]]:
    label_neighbors = read_audit(audits, "label_agreement", None)
    backgrounds = [
        _Background(
            name,
            read_probe(scores, name, "grouped", guessing_score(count_values(scores, name), neighbors.expected)),
            neighbors,
            read_audit(audits, "robustness_index", name),
            read_audit(audits, "cramers_v", name),
            label_neighbors.beyond_chance,
        )
        for name in _confounders(scores, audits)
        for neighbors in [read_audit(audits, "confounder_agreement", name)]
    ]
    backgrounds.sort(key=lambda b: (_SEVERITY[b.verdict], -b.neighbors.beyond_chance, b.name))
    guessing = guessing_score(None, label_neighbors.expected)
    grouped, published = (read_probe(scores, "label", protocol, guessing) for protocol in ("grouped", "published"))
    verdict = _label_verdict(grouped, label_neighbors, backgrounds)
    sentence = _label_sentence(verdict, grouped, published, label_neighbors, backgrounds)
    return [
        _row(None, verdict, sentence, grouped, label_neighbors),
        *(_row(b.name, b.verdict, b.sentence, b.probe, b.neighbors, b.robustness, b.association) for b in backgrounds),
    ]


def _row(
    confounder: str | None,
    verdict: str,
    sentence: str,
    probe: Evidence,
    neighbors: Evidence,
    robustness: Evidence = _NONE,
    association: Evidence = _NONE,
) -> dict[str, object]:
    return {
        "confounder": confounder,
        "verdict": verdict,
        "sentence": sentence,
        "decodability": probe.value,
        "decodability_expected": probe.expected if probe.value is not None else None,
        "decodability_ci_low": probe.low,
        "decodability_ci_high": probe.high,
        "agreement": neighbors.value,
        "agreement_expected": neighbors.expected,
        "agreement_ci_low": neighbors.low,
        "agreement_ci_high": neighbors.high,
        "p_adjusted": neighbors.p,
        "robustness_index": robustness.value,
        "robustness_ci_low": robustness.low,
        "robustness_ci_high": robustness.high,
        "association": association.value,
        "n": neighbors.n if neighbors.value is not None else probe.n,
    }


def _label_verdict(grouped: Evidence, neighbors: Evidence, backgrounds: Sequence[_Background]) -> LabelVerdict:
    if grouped.above_chance or (grouped.value is None and neighbors.follows):
        return "reads label or background" if _entangled(backgrounds) else "reads the label"
    return "cannot be told" if grouped.may_be_large else "no better than chance"


def _entangled(backgrounds: Sequence[_Background]) -> list[str]:
    """Names of the attributes that may be seen and cannot be told apart from the label."""
    return [b.name for b in backgrounds if b.entangled and b.verdict != "no sign of the background"]


def _label_sentence(
    verdict: LabelVerdict,
    grouped: Evidence,
    published: Evidence,
    neighbors: Evidence,
    backgrounds: Sequence[_Background],
) -> str:
    read = _probe_clause(grouped, guessing="guessing gives at most")
    text = f"The label {read}, and {_neighbors_clause(neighbors, 'it')}"
    if grouped.value is not None and published.value is not None and published.above_chance:
        drop = published.value - grouped.value
        disjoint = published.low is not None and grouped.high is not None and published.low > grouped.high
        if disjoint or drop >= NOTEWORTHY_DROP:
            hedge = "" if disjoint else "; the intervals overlap"
            text += (
                ". The published protocol, where images of one group may be on both sides of a split, gives "
                f"{published}, {drop:.2f} more{hedge}: that part may be recognising the group"
            )
    elif grouped.value is None and published.value is not None:
        text += f". The published protocol, which ignores groups, gives {published}: this may be recognising the group"
    if verdict == "reads label or background":
        confused = _entangled(backgrounds)
        text += (
            f". As {_and(confused)} {'goes' if len(confused) == 1 else 'go'} with the label in these images, "
            "none of this is evidence of seeing the lesion"
        )
    if verdict == "cannot be told" and grouped.value is not None:
        text += ". The images are too few to tell"
    if not backgrounds:
        text += ". No background is on record for these images, so it is not known whether the lesion is what is read"
    return text + "."


def _probe_clause(probe: Evidence, *, guessing: str = "guessing gives") -> str:
    if probe.value is None:
        return f"could not be probed ({probe.why_not})"
    by_chance = "" if probe.expected is None else f", {guessing} {format_number(probe.expected)}"
    if probe.above_chance:
        can = "can be read off the features"
    elif probe.barely_above_chance:
        can = "can barely be read off the features, too little to count"
    else:
        can = "cannot be read off the features beyond guessing"
    return f"{can} (balanced accuracy {probe}{by_chance})"


def _neighbors_clause(neighbors: Evidence, what: str) -> str:
    if neighbors.value is None:
        return f"whether neighbours share {what} is not known ({neighbors.why_not})"
    often = "more" if neighbors.follows else "no more"
    numbers = f"{neighbors} against {format_number(neighbors.expected)}, adjusted p {format_p(neighbors.p)}"
    return f"an image's neighbours share {what} {often} often than chance ({numbers})"


def _excludes_half(robustness: Evidence) -> bool:
    return robustness.low is not None and robustness.high is not None and not robustness.low <= 0.5 <= robustness.high


def _and(names: Sequence[str]) -> str:
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _cells(frame: pl.DataFrame) -> set[tuple[str, str]]:
    return set() if frame.is_empty() else set(frame.select("dataset", "encoder").unique().iter_rows())


def _of_cell(frame: pl.DataFrame, dataset: str, encoder: str) -> pl.DataFrame:
    return frame if frame.is_empty() else frame.filter(dataset=dataset, encoder=encoder)


def _confounders(scores: pl.DataFrame, audits: pl.DataFrame) -> list[str]:
    audited = set() if audits.is_empty() else set(audits["confounder"].drop_nulls())
    probed = set() if scores.is_empty() else set(scores["target"]) - {"label"}
    return sorted(audited | probed)
