"""Figures as PNG bytes, from frames read from the store. No window, no global state."""

from analysis.figures.audits import SHOWN_METRICS, audit_figure
from analysis.figures.c_path import c_path_figure
from analysis.figures.calibration import calibration_figure
from analysis.figures.comparison import comparison_figure
from analysis.figures.confusion import confusion_figure
from analysis.figures.contact_sheet import SheetRow, Tile, neighbors_figure
from analysis.figures.contrasts import contrast_figure
from analysis.figures.encoder_agreement import agreement_figure
from analysis.figures.image_grid import image_grid_figure
from analysis.figures.layout_grids import layout_grids_figure
from analysis.figures.layouts import encoders_figure, layout_figure
from analysis.figures.leaderboard import leaderboard_figure
from analysis.figures.learning_curve import learning_curve_figure
from analysis.figures.marked_images import Found, MarkedImage, marked_images_figure
from analysis.figures.over_prediction import over_prediction_figure
from analysis.figures.reliability import reliability_figure
from analysis.figures.saliency import MappedImage, mapped_images, saliency_figure, saliency_scores_figure
from analysis.figures.search_page import search_page
from analysis.figures.search_sheet import SearchHit, SearchQuery, search_sheet
from analysis.figures.shifts import shift_figure
from analysis.figures.tuning_shift import tuning_shift_figure
from analysis.figures.typographic import AttackedImage, attack_figure
from analysis.figures.verdicts import verdict_figure

__all__ = [
    "SHOWN_METRICS",
    "AttackedImage",
    "Found",
    "MappedImage",
    "MarkedImage",
    "SearchHit",
    "SearchQuery",
    "SheetRow",
    "Tile",
    "agreement_figure",
    "attack_figure",
    "audit_figure",
    "c_path_figure",
    "calibration_figure",
    "comparison_figure",
    "confusion_figure",
    "contrast_figure",
    "encoders_figure",
    "image_grid_figure",
    "layout_figure",
    "layout_grids_figure",
    "leaderboard_figure",
    "learning_curve_figure",
    "mapped_images",
    "marked_images_figure",
    "neighbors_figure",
    "over_prediction_figure",
    "reliability_figure",
    "saliency_figure",
    "saliency_scores_figure",
    "search_page",
    "search_sheet",
    "shift_figure",
    "tuning_shift_figure",
    "verdict_figure",
]
