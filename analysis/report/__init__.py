"""The bias report: one HTML file that needs no network, no script and no other file."""

from analysis.report.render import render_report
from analysis.report.tables import ReportTables, telling_images

__all__ = ["ReportTables", "render_report", "telling_images"]
