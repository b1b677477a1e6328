"""Reports: what a model weighs and costs, and how fast it is."""

from tfcomp.report.benchmark import Benchmark, Latency, benchmark
from tfcomp.report.summary import LayerSummary, Summary, summary

__all__ = ["Benchmark", "Latency", "LayerSummary", "Summary", "benchmark", "summary"]
