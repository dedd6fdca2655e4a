"""Measurements: one file per question, each runnable as ``python -m benchmarks.<name>``. Never shipped, never
imported by the library.
"""
