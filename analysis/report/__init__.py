"""The bias report: one HTML file that needs no network, no script and no other file.

Its chapters are the files of `analysis.report.sections`: that package's words say how one is added.
"""

from analysis.report.render import render_report, report_assets, report_tables, wanted_images
from analysis.report.summary import headlines
from analysis.report.tables import ReportTables

__all__ = ["ReportTables", "headlines", "render_report", "report_assets", "report_tables", "wanted_images"]
