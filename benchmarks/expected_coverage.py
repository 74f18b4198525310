"""How often a table's 90 % intervals would hold its runs if the engine were exactly right.

Runs of one table share the doubt about the law, the discrepancy and the scale of errors, so that
they are missed together: a table whose intervals are right can hold far fewer than 90 % of them, or
all. Takes a fit below a table's first cut, which says how its runs above are distributed jointly
(every account is normal at the law's tangent; the scale of errors is drawn once a table); draws
whole tables from that, and predicts the runs above each later cut by conditioning on those below:
what an engine would do whose model is true. Called by `real_coverage.py --expected`.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.linalg import solve_triangular
from scipy.special import ndtr
from scipy.stats import chi2

from benchmarks.published import Published
from scaling.laws import Options, fit

SCALES = 7  # at which the scale of errors is taken: the middles of equal shares of its distribution
SLIGHT = 0.005  # share of an account below which it is left out
LEVEL = 0.9
BAR = 0.75  # share of its runs that each table is asked to hold


@dataclass(frozen=True)
class Whole:
    """Normal distributions of a table's runs, one of which is true."""

    share: np.ndarray  # [kinds]: probability of each
    mean: np.ndarray  # [kinds, rows]
    root: np.ndarray  # [kinds, rows, rows]: lower Cholesky factors of the covariances

    def held(self, cuts: np.ndarray, draws: int, rng: np.random.Generator) -> np.ndarray:
        """Share of runs in intervals, over all cuts of each of some tables that are drawn [draws].

        cuts: the number of rows, the first ones, that are known at each [cuts].
        """
        kinds, rows = self.mean.shape
        true = rng.choice(kinds, draws, p=self.share)
        normal = rng.normal(size=(draws, rows))
        loss = self.mean[true] + np.einsum("drq,dq->dr", self.root[true], normal)
        # In units of the conditional standard deviations, given all earlier rows.
        apart = np.stack([
            solve_triangular(root, (loss - mean).T, lower=True)
            for mean, root in zip(self.mean, self.root, strict=True)
        ])  # [kinds, rows, draws]  # fmt: skip
        fits = -0.5 * apart**2 - np.log(np.einsum("krr->kr", self.root))[:, :, None]
        inside, predicted = np.zeros(draws), 0
        for known in cuts:
            evidence = np.log(self.share)[:, None] + fits[:, :known].sum(axis=1)
            weight = np.exp(evidence - evidence.max(axis=0))
            weight /= weight.sum(axis=0)
            place = np.zeros((rows - known, draws))
            for k in range(kinds):
                told, left = self.root[k, known:, :known], self.root[k, known:, known:]
                middle = self.mean[k, known:, None] + told @ apart[k, :known]
                spread = np.sqrt((left**2).sum(axis=1))[:, None]
                place += weight[k] * ndtr((loss.T[known:] - middle) / spread)
            inside += (np.abs(place - 0.5) < LEVEL / 2).sum(axis=0)
            predicted += rows - known
        return inside / predicted


def whole_of(table: Published, by: str, first: float) -> tuple[Whole, np.ndarray] | None:
    """The runs above the first cut (a level of the column), as the fit below it sees them, in the
    order of the column; and the column. None where that fit knows no discrepancy.
    """
    rows = table.rows.astype(dict.fromkeys(("params", "tokens", "flops", "loss"), float))
    rows = rows.sort_values(by, kind="stable")
    low = rows[by] < first * (1 - 1e-6)
    above = rows[~low]
    found = fit(rows[low], table.law, Options(bootstrap=20, fixed=table.fixed), checks=False)
    known = found.forecast
    if known is None:
        return None
    raw, columns = found.raw_of(above), found.columns_of(above)
    told, covariance = known.told(raw, columns), known.covary(raw, columns)
    scale, dof = known.sureness(raw)
    kept = known.share > SLIGHT
    middle = known.share @ told.mean
    mean = middle + scale * (told.mean[kept] - middle)
    # One draw of the scale for all runs: few backtests say how large all errors are.
    at = (np.arange(SCALES) + 0.5) / SCALES
    scales = scale * np.sqrt(dof / chi2.ppf(at[:, None], dof))
    wide = scales[:, None, :, None] * covariance[kept] * scales[:, None, None, :]
    wide = wide.reshape(-1, *covariance.shape[1:])
    share = np.tile(known.share[kept] / known.share[kept].sum() / SCALES, SCALES)
    root = np.linalg.cholesky(wide + 1e-12 * np.eye(wide.shape[-1]))
    return Whole(share, np.tile(mean, (SCALES, 1)), root), above[by].to_numpy()


def expected(
    tables: list[Published], by: str, rows: pd.DataFrame, draws: int, seed: int = 0
) -> pd.DataFrame:
    """Shares that tables would hold [draws, tables], over the cuts of what was measured.

    rows: as `real_coverage.scored`, of these tables.
    """
    out = {}
    for at, table in enumerate(tables):
        measured = rows[(rows.table == table.name) & rows.refused.isna()]
        cuts = np.sort(measured.cut.unique())
        found = whole_of(table, by, cuts[0]) if len(cuts) else None
        if found is None:
            continue
        whole, column = found
        known = np.array([(column < cut * (1 - 1e-6)).sum() for cut in cuts])
        rng = np.random.default_rng([seed, at])
        out[table.name] = whole.held(known, draws, rng)
    return pd.DataFrame(out)


def told(drawn: pd.DataFrame, held: pd.Series) -> str:
    """A line for each table, and what the least of all is expected to be.

    held: the measured share of each table.
    """
    held = held[drawn.columns]
    lines = pd.DataFrame({
        "expected": drawn.mean(), "from": drawn.quantile(0.05), "to": drawn.quantile(0.95),
        f"below {BAR:.0%}": (drawn < BAR).mean(), "measured": held,
        "draws below that": (drawn < held).mean(),
    })  # fmt: skip
    least, under = drawn.min(axis=1), (drawn < BAR).sum(axis=1)
    low, high = least.quantile([0.05, 0.95])
    return (
        f"{lines.round(2).to_string()}\nif the engine were exactly right, the least of "
        f"{len(held)} tables would hold {least.median():.0%} (90 % of draws {low:.0%} to "
        f"{high:.0%}); at least one holds less than {BAR:.0%} in {(least < BAR).mean():.0%} of "
        f"draws, and {under.mean():.1f} do on average; measured: least {held.min():.0%} "
        f"({(least < held.min()).mean():.0%} of draws are lower), {(held < BAR).sum()} below"
    )
