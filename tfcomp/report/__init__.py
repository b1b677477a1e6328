"""Reports: what a model weighs and costs."""

from tfcomp.report.summary import LayerSummary, Summary, summary

__all__ = ["LayerSummary", "Summary", "summary"]
