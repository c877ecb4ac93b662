"""What scripts/bench does with the benchmarks' result files: goals, comparison, one HTML report."""
