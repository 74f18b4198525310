"""Which law, and how much the answer depends on choices that the data do not make.

`compare` fits several forms and scores them by information criteria and by leaving the largest
out; `sensitivity` refits one form under other choices of loss, points, asymptote and column. Both
give tables; called by `fit_command.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from scaling.errors import UserError
from scaling.laws.backtests import backtest
from scaling.laws.checks import known_law
from scaling.laws.extrapolation import holdout
from scaling.laws.fitting import fit
from scaling.laws.options import Options
from scaling.laws.result import Fit
from scaling.laws.rows import numbers


def compare(
    table: pd.DataFrame,
    laws: Sequence[str],
    options: Options | None = None,
    *,
    by: str | None = None,
    rolling: bool = False,
) -> pd.DataFrame:
    """One row a law, best extrapolation first.

    Columns: law, parameters, n, objective, aicc and bic (from the scale of the residuals, so that
    robust fits compare too), held_out_error (relative, at the largest `by`), held_out_z (in half
    widths of its interval: above 1 is outside), within, status, note. With `rolling`, also of a
    backtest by `by`: predictions, held (share of the runs that intervals hold), and score (mean
    interval score in %, smaller is better), by which laws are then ordered.

    Raises UserError for a law that does not exist.
    """
    rows, options = [], options or Options()
    for name in laws:
        known_law(name)
    for name in laws:
        row: dict[str, Any] = {"law": name}
        try:
            found = fit(table, name, replace(options, bootstrap=0))
        except UserError as e:
            rows.append(row | {"note": str(e)})
            continue
        free = len(found.free)
        row |= {"parameters": free, "n": found.n, "objective": found.objective}
        row |= _criteria(found) | {"status": found.status}
        try:
            tested = holdout(table, name, options, by=by)
            width = (tested.high - tested.low) / 2
            middle = (tested.high + tested.low) / 2
            row |= {
                "held_out_error": tested.predicted / tested.actual - 1,
                "held_out_z": abs(tested.actual - middle) / width if width > 0 else np.inf,
                "within": tested.within,
            }
        except UserError as e:
            row["note"] = f"no held-out test: {e}"
        if rolling:
            try:
                done = backtest(table, name, options, by=by)
                row |= {"predictions": len(done.rows), "held": done.rows.held.mean()}
                row["score"] = 100 * done.score
            except UserError as e:
                row["note"] = str(e)
        rows.append(row)
    out = pd.DataFrame(rows)
    if "score" in out:
        out = out.sort_values("score", kind="stable")
    elif "held_out_error" in out:
        out = out.reindex(out["held_out_error"].abs().sort_values(kind="stable").index)
    return out.reset_index(drop=True)


def _criteria(found: Fit) -> dict[str, float]:
    """AICc and BIC of the residual scale: 2 n log(mean absolute residual) for robust losses (a
    Laplace density), n log(mean square) for least squares (a normal one).
    """
    n, k = found.n, len(found.free) + 1
    if found.loss_function.startswith("sum of half squares"):
        fitness = n * np.log(max(2 * found.objective / n, 1e-300))
    elif found.loss_function.startswith("sum of absolute"):
        fitness = 2 * n * np.log(max(found.objective / n, 1e-300))
    else:
        # Beyond delta a Huber loss is delta times the absolute residual.
        fitness = 2 * n * np.log(max(found.objective / found.delta / n, 1e-300))
    correction = 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else np.inf
    return {"aicc": fitness + 2 * k + correction, "bic": fitness + k * np.log(n)}


def sensitivity(
    table: pd.DataFrame,
    law: str = "chinchilla",
    options: Options | None = None,
    *,
    deltas: Sequence[float] = (1e-5, 1e-4, 1e-3, 1e-2),
    drop_largest: Sequence[int] = (5, 10),
    drop_smallest_sizes: Sequence[int] = (1, 2),
    floors: Sequence[float] = (0.0, 0.5, 0.9),
    params_columns: Sequence[str] | None = None,
    at: Mapping[str, float] | float | None = None,
) -> pd.DataFrame:
    """How the answer moves: one row a choice, with the exponents, the compute-optimal exponent
    where the law has one, and the loss predicted at `at`. A choice that is the one asked for is
    left out.

    Args:
      table, law, options: as in `fit`.
      deltas: Huber deltas; least squares and absolute deviations are always tried.
      drop_largest: so many rows of largest loss left out.
      drop_smallest_sizes: so many of the smallest sizes left out.
      floors: the law's floor fixed at these shares of the least loss.
      params_columns: other columns that count params (the N convention); None: all those whose
        name begins with params.
      at: where a loss is predicted.
    """
    form, asked = known_law(law), replace(options or Options(), bootstrap=0, method="auto")
    x, losses = asked.x, numbers(table, asked.loss or form.target)
    size = x if isinstance(x, str) else x.get("params", "params")
    variants: list[tuple[str, pd.DataFrame, dict[str, Any]]] = [("as asked", table, {})]
    variants += [(f"Huber delta {d:g}", table, {"objective": "huber", "delta": d}) for d in deltas]
    variants += [
        ("least squares", table, {"objective": "squares"}),
        ("absolute deviations", table, {"objective": "absolute"}),
    ]
    order = np.argsort(np.where(np.isfinite(losses), losses, np.inf), kind="stable")
    for k in drop_largest:
        kept = np.sort(order[: len(order) - k])
        variants.append((f"without the {k} largest losses", table.iloc[kept], {}))
    if size in table.columns:
        sizes = np.unique(numbers(table, size)[np.isfinite(losses)])
        for k in drop_smallest_sizes:
            if k < len(sizes):
                kept_rows = numbers(table, size) >= sizes[k]
                variants.append((f"without the {k} smallest sizes", table[kept_rows], {}))
    if form.floor:
        least = float(np.nanmin(losses))
        for share in floors:
            fixed = dict(asked.fixed) | {form.floor: share * least}
            name = f"{form.floor} fixed at {share:g} of the least loss"
            variants.append((name, table, {"fixed": fixed}))
    if params_columns is None:
        counted = (str(c) for c in table.columns if str(c).startswith("params"))
        params_columns = [c for c in counted if c != size] if "params" in size else []
    for column in params_columns:
        renamed = column if isinstance(x, str) else dict(x) | {"params": column}
        if isinstance(x, str) and form.columns != ("x",):
            renamed = {"params": column}
        variants.append((f"params counted as {column}", table, {"x": renamed}))
    rows = []
    for name, part, changes in variants:
        if changes and all(getattr(asked, k) == v for k, v in changes.items()):
            continue
        row: dict[str, Any] = {"choice": name}
        try:
            found = fit(part, law, replace(asked, **changes), checks=False)
        except UserError as e:
            rows.append(row | {"note": str(e)})
            continue
        row |= {"n": found.n} | {n: found.params[n] for n in form.exponents}
        if form.floor:
            row[form.floor] = found.params[form.floor]
        if {"alpha", "beta"} <= set(form.exponents) and form.columns == ("params", "tokens"):
            alpha, beta = found.params["alpha"], found.params["beta"]
            row["optimal_params_exponent"] = beta / (alpha + beta)
        if at is not None:
            row["predicted"] = float(found.draws(at)[0][0])
        rows.append(row | {"status": found.status})
    return pd.DataFrame(rows)
