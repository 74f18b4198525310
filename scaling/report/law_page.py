"""The page of `launch.py fit --out`: the fit in words, its tests and tables, its figures.

Takes what `scaling.laws.fit_command` made and the figures that `laws.py` drew of it; gives
one HTML document that loads nothing.
"""

from collections.abc import Mapping, Sequence

import pandas as pd
from markupsafe import Markup

from scaling.laws.outcome import Outcome
from scaling.report.figures import Drawn
from scaling.report.page import embedded, now, template_of


def render_law(outcome: Outcome, drawn: Mapping[str, Sequence[Drawn]]) -> str:
    """One section a group of the fit."""
    tables = {
        "Backtest, by the factor of extrapolation": {
            name: done.table for name, done in outcome.backtests.items()
        },
        "Laws that the columns allow, by backtest": outcome.choices,
        "Other laws on the same rows": outcome.comparisons,
        "The answer under other choices": outcome.sensitivities,
        "Compute-optimal exponents by three approaches": outcome.approaches,
    }
    groups = [
        {
            "name": name,
            "fit": str(fit),
            "backtest": outcome.backtests.get(name),
            "holdout": outcome.holdouts.get(name),
            "tables": [(k, _html(t[name])) for k, t in tables.items() if name in t],
            "figures": [embedded(d, prefix=f"g{i}-") for d in drawn.get(name, ())],
        }
        for i, (name, fit) in enumerate(outcome.fits.items())
    ]
    laws = ", ".join(sorted({fit.law for fit in outcome.fits.values()}))
    return template_of("law.html.jinja").render(title=f"Law: {laws}", groups=groups, written=now())


def _html(table: pd.DataFrame) -> Markup:
    return Markup(table.to_html(index=False, border=0, na_rep="-", float_format="{:.5g}".format))
