"""Fit a function: regression by a small network.

    python examples/06_fit.py                # points of the monkey saddle z = x^3 - 3xy^2
    python examples/06_fit.py points.csv     # your own: a column for each quantity, the last is the target

On the command line:

    facewright fit points.csv
    facewright predict RUN new-rows.csv
"""

import sys

import numpy as np

import facewright as fw

own = sys.argv[1:]

# 500 points, x from -10 to 10 and y from -50 to 50: 350 to train on, 75 to stop early by, 75 to test on.
points = own[0] if own else "function:monkey-saddle?points=500"
fit = fw.fit(points, overrides={"training.epochs": "150"})
print(f"{fit.facts.parameters} weights, {fit.facts.epochs} epochs, rows in each part: {dict(fit.facts.counts)}")

# The error on test rows, in units of the target; beside it, the error of always answering the mean.
error, mean = fit.evaluation.mean_absolute_error, fit.summary()["test"]["always_the_mean"]["mean_absolute_error"]
print(f"mean absolute error {error.value:.3g} ({error.low:.3g} to {error.high:.3g}, n={error.n})")
print(f"... of always answering the mean of the training rows: {mean['value']:.3g}")

# Predictions at new points: in the middle of the training rows, and beyond them, where the model has no data.
low, high = (np.array([getattr(column, end) for column in fit.regressor.inputs]) for end in ("low", "high"))
for row in ((low + high) / 2, 2 * high - low):
    answer = fit.regressor.predict(row[None])[0, 0]
    warning = "  (beyond the training rows: not to be trusted)" if fit.regressor.beyond(row[None])[0] else ""
    place = ", ".join(f"{name} = {value:.3g}" for name, value in zip(fit.facts.inputs, row, strict=True))
    print(f"at {place}: {fit.facts.targets[0]} = {answer:.4g}{warning}")
print("curves, residuals and, of two inputs, the surface:", fit.folder / "report.html")
