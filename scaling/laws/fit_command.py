"""`launch.py fit` without its flags: a table in, files and text out.

The shell (`scaling/commands/laws.py`) makes the `FitRequest` and prints what `fit_command` returns;
figures are drawn there too, from the `Outcome`, because reports stand below laws.
"""

import datetime
import pathlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from scaling import units
from scaling.errors import UserError
from scaling.laws import checks, measures, registration
from scaling.laws.automatic import Choice, choose
from scaling.laws.backtests import backtest
from scaling.laws.expressions import assignments, split
from scaling.laws.extrapolation import holdout
from scaling.laws.extrapolation import split as split_largest
from scaling.laws.law import Law
from scaling.laws.options import FitRequest
from scaling.laws.outcome import Outcome, show, write
from scaling.laws.rows import check_enough, groups, names_of, pooled, read_rows
from scaling.laws.table import Table, read_file, shape_table

if TYPE_CHECKING:
    from scaling.laws.result import Fit
    from scaling.laws.stacking import Stack


AUTO = "auto"  # --law: that which predicts best


def fit_command(asked: FitRequest) -> Outcome:
    """Fit a law to a table, or score a preregistered prediction on one.

    Raises UserError, before anything is compiled, for what cannot be meant.
    """
    checks.check_fit(asked)
    automatic = asked.law == AUTO and not asked.score
    if not automatic:
        checks.check_law(checks.known_law(asked.law, "--law"), asked)
    for name in split(asked.compare):
        checks.known_law(name, "--compare")
    if asked.then:
        checks.loss_read(checks.known_law(asked.then, "--then"))
    loaded = _load(asked)
    if asked.score:
        return Outcome(_score(asked.score, loaded))
    chosen = choose(loaded.rows, asked, by=asked.holdout_by) if automatic else None
    if chosen:
        asked = replace(asked, law=chosen.law)
        checks.check_law(checks.known_law(chosen.law), asked)
    form = checks.known_law(asked.law)
    _check_table(loaded.rows, form, asked)
    made = _Made(loaded, asked, form, chosen)
    for name, below, rows in _groups(loaded.rows, asked.by):
        made.fit(name, below, rows)
    if made.refused and not made.result.fits:
        raise UserError(f"--by: no group can be fitted; {made.refused[0]}")
    told = [*made.told, *(f"wrote {f}" for f in made.files)]
    text = "\n".join(line for line in told if line)
    return replace(made.result, text=text, files=tuple(made.files))


def _check_table(rows: pd.DataFrame, form: Law, asked: FitRequest) -> None:
    """Whether the table has what was asked for; of groups each is checked as it is fitted."""
    loss = asked.loss or form.target
    checks.check_columns(
        {
            "--x": str(asked.x) if form.columns == ("x",) else None,
            "--loss": asked.loss,
            "--sd": asked.sd,
            "--cluster": asked.cluster,
            "--by": asked.by,
            "--holdout_by": asked.holdout_by,
        },
        rows.columns,
    )
    renamed = assignments(asked.columns, "--columns")
    measures.check_falls(form, loss, renamed.get(loss, loss), rows)
    part = rows if asked.by is None else groups(rows, asked.by)[0][1]
    names = names_of(form, asked.x, part)
    checks.check_planned(form, asked.preregister, names)
    if asked.by is not None:
        return
    if asked.holdout_by:
        split_largest(rows, asked.holdout_by, loss)
    free = [n for n in form.names if n not in asked.fixed]
    check_enough(read_rows(rows, form, names, loss, asked), form, free, names, loss)


class _Made:
    """What the groups of a table have come to so far."""

    def __init__(self, loaded: Table, asked: FitRequest, form: Law, chosen: Choice | None):
        self.loaded, self.asked, self.form, self.chosen = loaded, asked, form, chosen
        self.told = [f"{loaded.source}: {loaded.read} rows", *loaded.notes]
        self.told += [chosen.sentence] if chosen else []
        self.result = Outcome("")
        self.files: list[pathlib.Path] = []
        self.refused: list[str] = []

    def fit(self, name: str, below: str, rows: pd.DataFrame) -> None:
        """One group's fit, and all else that was asked for; raises UserError where it is alone."""
        from scaling.laws.fitting import fit  # brings jax: all that was typed is checked

        asked, by = self.asked, self.asked.by
        try:
            named = _conventions(self.loaded, asked, rows, self.form)
            found = fit(rows, asked.law, options=asked, conventions=named)
        except UserError as e:
            if by is None:
                raise
            self.refused.append(f"{by} = {name}: {e}")
            self.told.append(f"\n{by} = {name}\nnot fitted: {e}")
            return
        second = self.then(rows, found) if asked.then else None
        mixed = pooled(rows[rows[found.loss].notna()], tuple(found.x.values()), asked.cluster)
        each = measures.flops_per_joule(rows)
        found = replace(found, flags=(*mixed, *found.flags), flops_per_joule=each)
        if by is None:
            left_out = tuple(n for n in self.loaded.notes if "left out" in n)
            dropped = self.loaded.read - found.n
            found = replace(found, dropped=dropped, flags=(*left_out, *found.flags))
        self.result.fits[name] = found
        self.result.tables[name], self.result.folders[name] = rows, below
        self.told += [f"\n{by} = {name}" if by else "", str(found)]
        if second is not None:
            self.result.seconds[name] = second
            from scaling.laws.chain import Chain  # brings jax

            self.told += [str(second), Chain(found, second).says()]
        extra = self.extra(name, rows, found)
        averaged = self.average(name, rows, found) if asked.average else None
        shown = {k: v for k, v in extra.items() if k != "backtest_rows"}
        self.told += [f"\n{k}\n{show(v)}" for k, v in shown.items()]
        self.told += [averaged.says()] if averaged else []
        if asked.out:
            self.write(name, pathlib.Path(asked.out) / below, rows, found, extra)

    def then(self, rows: pd.DataFrame, first: "Fit") -> "Fit":
        """The second law, of the loss that the first predicts."""
        from scaling.laws.fitting import fit  # brings jax

        form = checks.known_law(self.asked.then)
        if first.loss == form.target:
            raise UserError(f"--then={form.name} predicts {form.target} from itself")
        asked = replace(self.asked, x={checks.loss_read(form): first.loss}, loss=None, fixed={})
        return fit(rows, form.name, options=asked)

    def average(self, name: str, rows: pd.DataFrame, found: "Fit") -> "Stack":
        """The laws that were compared, as one prediction."""
        from scaling.laws.fitting import fit  # brings jax
        from scaling.laws.stacking import Stack, weights

        asked = replace(self.asked, loss=found.loss)
        chosen = self.chosen or choose(
            rows, asked, laws=list(dict.fromkeys([asked.law, *split(asked.compare)])),
            by=asked.holdout_by,
        )  # fmt: skip
        share = weights(chosen.tests)
        kept = [law for law in share if share[law] > 0]
        fits = [found if n == found.law else fit(rows, n, options=asked) for n in kept]
        made = Stack(tuple(fits), tuple(share[n] for n in kept))
        self.result.averages[name] = made
        return made

    def extra(self, name: str, rows: pd.DataFrame, found: "Fit") -> dict[str, pd.DataFrame]:
        """The tests and tables that were asked for."""
        from scaling.laws import isoflop, selection

        asked, extra = replace(self.asked, loss=found.loss), dict[str, pd.DataFrame]()
        if asked.holdout_by:
            tested = holdout(rows, asked.law, asked, by=asked.holdout_by)
            self.result.holdouts[name] = tested
            self.told.append(tested.sentence)
        if asked.backtest:
            done = backtest(rows, asked.law, asked, by=asked.holdout_by)
            self.result.backtests[name] = done
            self.told += [done.sentence, *(f"note: no prediction {r}" for r in done.refused)]
            extra |= {"backtest": done.table, "backtest_rows": done.rows}
        if self.chosen:
            extra["laws"] = self.chosen.table
            self.result.choices[name] = self.chosen.table
        if asked.compare:
            laws = list(dict.fromkeys([asked.law, *split(asked.compare)]))
            extra["comparison"] = selection.compare(
                rows, laws, asked, by=asked.holdout_by, rolling=asked.backtest
            )
            self.result.comparisons[name] = extra["comparison"]
        if asked.sensitivity:
            extra["sensitivity"] = selection.sensitivity(rows, asked.law, asked)
            self.result.sensitivities[name] = extra["sensitivity"]
        if asked.approaches:
            extra["approaches"] = isoflop.side_by_side(
                rows, level=asked.level, run=asked.cluster, loss=found.loss, seed=asked.seed
            )
            self.result.approaches[name] = extra["approaches"]
        return extra

    def write(
        self,
        name: str,
        folder: pathlib.Path,
        rows: pd.DataFrame,
        found: "Fit",
        extra: dict[str, pd.DataFrame],
    ) -> None:
        """fit.json, the tables, and the prediction of a planned run."""
        self.files.append(write(folder / "fit.json", found.to_json()))
        if (second := self.result.seconds.get(name)) is not None:
            self.files.append(write(folder / "then.json", second.to_json()))
        if (averaged := self.result.averages.get(name)) is not None:
            self.files.append(write(folder / "stack.json", averaged.to_json()))
        self.files += [write(folder / f"{k}.csv", v.to_csv(index=False)) for k, v in extra.items()]
        if self.asked.preregister:
            when = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            predicts = self.result.averages.get(name, found)
            text = registration.preregister(predicts, self.asked.preregister, table=rows, when=when)
            self.files.append(write(folder / "prediction.json", text))


def _load(asked: FitRequest) -> Table:
    """The rows of the table that was asked for, shaped as asked. Raises UserError."""
    if bool(asked.table) == bool(asked.workdir):
        raise UserError(
            "give exactly one of --table (a file) and --workdir or --experiment (our own runs)"
        )
    path = pathlib.Path(asked.table)
    if asked.workdir:
        found = [pathlib.Path(asked.workdir) / f"table.{kind}" for kind in ("parquet", "csv")]
        found = [p for p in found if p.is_file()]
        if not found:
            raise UserError(
                f"--workdir={asked.workdir} has no table.parquet; `launch.py report` writes it"
            )
        path = found[0]
    try:
        raw, told = read_file(path, asked.decimal)
    except UserError as e:
        raise UserError(f"--{'workdir' if asked.workdir else 'table'}: {e}") from None
    rows, notes = shape_table(raw, columns=asked.columns, derive=asked.derive, where=asked.where)
    return Table(rows, len(raw), (*told, *notes), path.name)


def _conventions(loaded: Table, asked: FitRequest, rows: pd.DataFrame, form: Law) -> dict[str, str]:
    if asked.workdir:
        return measures.conventions(rows, asked.loss or form.target)
    renamed = assignments(asked.columns, "--columns").items()
    named = {new: f'"{old}" of {loaded.source}' for new, old in renamed}
    out = {"counting": f"as in {loaded.source}; loss in the units of its column"}
    return out | named | assignments(asked.derive, "--derive")


def _groups(rows: pd.DataFrame, by: str | None) -> list[tuple[str, str, pd.DataFrame]]:
    """Label, sub-folder and rows of each group; both empty without groups."""
    if by is None:
        return [("", "", rows)]
    found = groups(rows, by)
    values = [value for value, _ in found]
    return [
        (label, folder, part)
        for label, folder, (_, part) in zip(
            units.labels(values), units.folder_names(values), found, strict=True
        )
    ]


def _score(score: str, loaded: Table) -> str:
    """How a prediction written before did on this table."""
    try:
        registered = pathlib.Path(score).read_text()
    except (OSError, ValueError):
        raise UserError(
            f"--score={score}: no such prediction; `launch.py fit --preregister` writes one"
        ) from None
    try:
        return registration.score(registered, loaded.rows).sentence
    except UserError as e:
        raise UserError(f"--score={score}: {e}") from None
