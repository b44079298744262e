"""Benchmarks: each is a program (`python -m benchmarks.engine`), and `python -m benchmarks` runs all."""
