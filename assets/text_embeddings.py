"""``text_embeddings``: an encoder's vector of every text of a data set, where it has a text side."""

from functools import lru_cache

from assets import display
from assets.embeddings import checkpoint_state
from assets.step import Cell, Check, Made, Step, log
from pipelines.encoders import encoder_specs, load_text_encoder, why_no_texts
from store.runs import data_version
from store.schema import TEXT_EMBEDDINGS_PREFIX, CounterstainError
from store.texts import drop_text_vectors, read_texts, write_text_vectors

_loaded = lru_cache(maxsize=1)(load_text_encoder)


def _inputs(cell: Cell) -> dict[str, str]:
    texts = data_version(cell.warehouse, "texts", dataset=cell.dataset)
    return {"texts": texts} | ({} if why_no_texts(cell.encoder) else checkpoint_state(cell))


def _parameters(cell: Cell) -> dict[str, object]:
    if reason := why_no_texts(cell.encoder):
        return {"undefined": reason}
    spec = encoder_specs()[cell.encoder]
    return {"checkpoint": spec.checkpoint, "revision": spec.revision, "arguments": repr(sorted(spec.arguments.items()))}


def _make(cell: Cell) -> Made:
    if reason := why_no_texts(cell.encoder):
        return _undefined(cell, reason, passed=True)
    texts = read_texts(cell.warehouse, cell.dataset)
    if texts.is_empty():
        return _undefined(cell, "the data set has no texts", passed=True)
    try:
        encoder = _loaded(cell.encoder, cell.project.load_options())
    except CounterstainError as error:
        # Files of the text side alone may be missing, and the image side's analyses need none of them.
        return _undefined(cell, str(error), passed=False)
    vectors = encoder.encode_texts(texts["text"].to_list())
    write_text_vectors(
        cell.warehouse,
        cell.encoder,
        cell.dataset,
        texts["text_id"].to_list(),
        vectors,
        fingerprint=encoder.fingerprint,
        logit_scale=encoder.logit_scale,
        logit_bias=encoder.logit_bias,
    )
    table = TEXT_EMBEDDINGS_PREFIX + cell.encoder
    return Made(
        rows=len(vectors),
        data_version=data_version(cell.warehouse, table, dataset=cell.dataset),
        tables=(table,),
        summary={"logit scale": encoder.logit_scale, "logit bias": encoder.logit_bias},
        metadata={"kinds": display.table(texts["kind"].value_counts(sort=True))},
        checks={"text_side_loads": Check(True, f"{len(vectors)} texts")},
        fingerprint=encoder.fingerprint,
    )


def _undefined(cell: Cell, reason: str, *, passed: bool) -> Made:
    """Leave no vectors, which would be of earlier texts, and report why; not passed where the user can put it right."""
    drop_text_vectors(cell.warehouse, cell.encoder, cell.dataset)
    log.info("  undefined: %s", reason)
    return Made(
        rows=0,
        data_version="",
        tables=(),
        metadata={"note": f"undefined: {reason}"},
        checks={"text_side_loads": Check(passed, reason)},
    )


STEP = Step(
    name="text_embeddings",
    description="Each text's vector from one encoder, unnormalised, in the space of its images; undefined for an "
    "encoder without a text side.",
    group="features",
    kinds=frozenset({"torch", "lancedb"}),
    scope="cell",
    upstream=("texts",),
    code_version="1",
    inputs=_inputs,
    parameters=_parameters,
    make=_make,
    checks={"text_side_loads": "Where the encoder has a text side, its files are at hand."},
)
