"""All steps, each before those that read it."""

from assets import (
    bias_report,
    calibration,
    duplicates,
    embeddings,
    encoder_agreement,
    encoder_contrasts,
    finetuning,
    finetuning_shift,
    images,
    layout_clusters,
    leaderboard,
    neighbor_audits,
    overlay_shift,
    overlays,
    published_comparison,
    retrieval,
    saliency,
    separability,
    svm_probes,
    text_embeddings,
    texts,
    typographic_attack,
    umap_layouts,
    zero_shot,
)
from assets.step import Step
from store.schema import CounterstainError

STEPS: dict[str, Step] = {
    module.STEP.name: module.STEP
    for module in (
        images,
        overlays,
        duplicates,
        texts,
        embeddings,
        text_embeddings,
        umap_layouts,
        layout_clusters,
        svm_probes,
        neighbor_audits,
        overlay_shift,
        separability,
        zero_shot,
        retrieval,
        finetuning,
        finetuning_shift,
        saliency,
        typographic_attack,
        leaderboard,
        encoder_contrasts,
        published_comparison,
        encoder_agreement,
        calibration,
        bias_report,
    )
}


def upstream_of(name: str) -> list[str]:
    """Return a step and everything it reads, in the order to make them.

    Raises
    ------
    CounterstainError
        If there is no such step.
    """
    if name not in STEPS:
        raise CounterstainError(f"no asset {name!r}; assets: {', '.join(STEPS)}.")
    wanted = {name}
    for step in reversed(STEPS.values()):
        if step.name in wanted:
            wanted |= set(step.upstream)
    return [step for step in STEPS if step in wanted]
