"""How fast models are beside each other."""

from tfcomp.report.benchmark.benchmark import Benchmark, Latency, benchmark

__all__ = ["Benchmark", "Latency", "benchmark"]
