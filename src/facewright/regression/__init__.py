"""Fit a small network to points: a table of numbers in, a fitted function, its test errors and a report out."""
