"""What Dagster loads: changed on purpose, or not at all."""

import subprocess
import sys
from pathlib import Path

import dagster as dg

import assets
from assets.definitions import defs
from assets.steps import STEPS, upstream_of


def test_the_graph_is_that_of_the_design() -> None:
    graph = {
        spec.key.to_user_string(): (
            spec.group_name,
            type(spec.partitions_def).__name__ if spec.partitions_def else None,
            sorted(dep.asset_key.to_user_string() for dep in spec.deps),
        )
        for spec in defs.resolve_all_asset_specs()
    }
    dataset, cell = "DynamicPartitionsDefinition", "MultiPartitionsDefinition"
    assert graph == {
        "images": ("data", dataset, []),
        "overlays": ("data", dataset, ["images"]),
        "duplicates": ("data", dataset, ["overlays"]),
        "texts": ("data", dataset, ["images"]),
        "embeddings": ("features", cell, ["images"]),
        "text_embeddings": ("features", cell, ["texts"]),
        "overlay_shift": ("analysis", cell, ["duplicates", "embeddings", "overlays"]),
        "saliency": ("analysis", cell, ["duplicates", "embeddings", "overlays"]),
        "typographic_attack": ("analysis", cell, ["duplicates", "embeddings", "overlays"]),
        "umap_layouts": ("analysis", cell, ["duplicates", "embeddings", "overlays"]),
        "layout_clusters": ("analysis", cell, ["embeddings", "umap_layouts"]),
        "svm_probes": ("analysis", cell, ["duplicates", "embeddings", "overlays"]),
        "neighbor_audits": ("analysis", cell, ["duplicates", "embeddings", "overlays"]),
        "separability": ("analysis", cell, ["duplicates", "embeddings", "overlays"]),
        "zero_shot": ("analysis", cell, ["duplicates", "embeddings", "overlays", "text_embeddings"]),
        "retrieval": ("analysis", cell, ["duplicates", "embeddings", "overlays", "text_embeddings"]),
        "finetuning": ("analysis", cell, ["duplicates", "embeddings", "overlays"]),
        "finetuning_shift": ("analysis", cell, ["duplicates", "embeddings", "overlays"]),
        "leaderboard": ("findings", None, ["svm_probes"]),
        "encoder_contrasts": ("findings", None, ["svm_probes"]),
        "published_comparison": ("findings", None, ["svm_probes"]),
        "encoder_agreement": ("findings", None, ["neighbor_audits"]),
        "calibration": ("findings", None, []),
        "bias_report": (
            "findings",
            None,
            [
                "duplicates",
                "encoder_agreement",
                "encoder_contrasts",
                "images",
                "layout_clusters",
                "leaderboard",
                "neighbor_audits",
                "overlay_shift",
                "published_comparison",
                "retrieval",
                "svm_probes",
                "umap_layouts",
                "zero_shot",
            ],
        ),
    }


def test_checks_jobs_and_sensors() -> None:
    repository = defs.get_repository_def()
    checks = {(key.asset_key.to_user_string(), key.name) for key in repository.asset_graph.asset_check_keys}
    assert checks == {
        ("images", "files_readable"),
        ("images", "labels_known"),
        ("overlays", "agrees_with_what_was_given"),
        ("overlays", "nothing_identifying"),
        ("duplicates", "calibrated"),
        ("duplicates", "one_label_per_picture"),
        ("overlay_shift", "still_when_unchanged"),
        ("saliency", "maps_depend_on_the_weights"),
        ("saliency", "maps_say_something"),
        ("images", "as_published"),
        ("embeddings", "every_image_has_a_vector"),
        ("embeddings", "vectors_vary"),
        ("embeddings", "norms_steady"),
        ("umap_layouts", "trustworthy"),
        ("layout_clusters", "clusters_recur"),
        ("svm_probes", "above_chance"),
        ("neighbor_audits", "enough_groups"),
        ("texts", "prompts_differ"),
        ("text_embeddings", "text_side_loads"),
        ("zero_shot", "above_chance"),
        ("finetuning", "learned"),
        ("finetuning", "unseen"),
        ("calibration", "errors_as_stated"),
        ("calibration", "intervals_cover"),
    }
    jobs = {name for name in repository.job_names if not name.startswith("__")}
    assert jobs == {"read_images", "everything_for_a_cell", "look_inside", "findings"}
    assert [sensor.name for sensor in repository.sensor_defs] == ["watch_images"]


def test_every_asset_says_what_it_is() -> None:
    for spec in defs.resolve_all_asset_specs():
        assert len(spec.description or "") > 40
        assert spec.owners
        assert spec.code_version
        assert spec.kinds
        [code] = spec.metadata["dagster/code_references"].code_references
        name = spec.key.to_user_string()
        lines = Path(code.file_path).read_text().splitlines()
        assert lines[code.line_number - 1].startswith(("def ", "    make=")), (name, code)
        assert Path(code.file_path).parent == Path(assets.__file__).parent
        assert f'name="{name}"' in "".join(lines)


def test_descriptions_lead_to_what_reads_an_asset() -> None:
    for spec in defs.resolve_all_asset_specs():
        name = spec.key.to_user_string()
        readers = [step.name for step in STEPS.values() if name in step.upstream]
        assert all(f"[{reader}](/assets/{reader})" in (spec.description or "") for reader in readers)


def test_upstream_comes_first() -> None:
    order = list(STEPS)
    for step in STEPS.values():
        assert all(order.index(name) < order.index(step.name) for name in step.upstream)
    assert upstream_of("svm_probes") == ["images", "overlays", "duplicates", "embeddings", "svm_probes"]


def test_definitions_load_without_the_heavy_libraries() -> None:
    heavy = {
        "torch",
        "lancedb",
        "lance",
        "umap",
        "sklearn",
        "timm",
        "open_clip",
        "duckdb",
        "matplotlib",
        "rapidocr",
        "onnxruntime",
        "cv2",
        "pytorch_grad_cam",
    }
    code = f"import sys, assets.definitions; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_backfill_is_one_process() -> None:
    policies = {
        definition.key.to_user_string(): definition.backfill_policy
        for definition in defs.assets or []
        if isinstance(definition, dg.AssetsDefinition) and definition.partitions_def
    }
    assert all(policy == dg.BackfillPolicy.single_run() for policy in policies.values())
    assert len(policies) == 18
