"""Jobs: what a user asks for in one go."""

import dagster as dg

CELL_ASSETS = [
    "embeddings", "text_embeddings", "umap_layouts", "layout_clusters", "svm_probes", "neighbor_audits", "separability",
    "zero_shot", "retrieval", "overlay_shift",
]  # fmt: skip

read_images = dg.define_asset_job(
    "read_images",
    selection=["images", "texts", "overlays", "duplicates"],
    description="Read a data set's images and texts again: new ones are added, those gone are dropped; look for "
    "overlays and duplicates among them.",
)
everything_for_a_cell = dg.define_asset_job(
    "everything_for_a_cell",
    selection=CELL_ASSETS,
    description="Embeddings and every analysis. Choose one data set and all encoders for everything of that data set, "
    "or one encoder and all data sets for everything of that encoder.",
)
look_inside = dg.define_asset_job(
    "look_inside",
    selection=["saliency", "typographic_attack"],
    description="Where in its images an encoder finds what it answers, and whether a written class name changes the "
    "answer: several passes of the model for each image.",
)
findings = dg.define_asset_job(
    "findings",
    selection=["leaderboard", "encoder_contrasts", "encoder_agreement", "bias_report"],
    description="The leaderboard, the planned contrasts, which encoders agree, and the bias report over all cells.",
)

JOBS = [read_images, everything_for_a_cell, look_inside, findings]
