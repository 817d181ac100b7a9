"""The page a clinician, an auditor and an operator read after a study has run."""

from models.report.build import build_report

__all__ = ["build_report"]
