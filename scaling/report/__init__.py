"""Figures and one self-contained page from tables, run directories and fits."""

from scaling.report.build import report

__all__ = ["report"]
