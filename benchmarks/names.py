"""Which names an encoder-decoder translates: those that are the same in both languages, and others.

    python launch.py sweep --experiment=experiments/translation.py --workdir=out
    python -m benchmarks.names --workdir=out

Prints for each run that translates names what share of those held out it has exactly right: of
all, of those that are written the same in both languages, of those that are nearly so (an edit
distance of at most a third of the longer one), and of the others; and how many of its mistakes are
the source, copied. The line "copying" is of who always copies; "3 like ..." of three seeds of one
recipe, whose probabilities are averaged byte by byte. Names are those of German from
English, unless `--source` says otherwise.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import pandas as pd

from scaling.data.kinds.pairs import PairsConfig, sources
from scaling.data.kinds.pairs.aligned import Split
from scaling.records import RunDirectory, find_runs
from scaling.serving.continuation import continue_texts
from scaling.train.ensemble import alike

_USUAL = PairsConfig().validation_fraction
NEAR = 1 / 3  # of the longer text's characters


def distance(one: str, other: str) -> int:
    """Insertions, deletions and exchanges of a character that lead from one to the other
    (Levenshtein 1966).
    """
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def kind_of(source: str, target: str) -> str:
    """same, near or other."""
    if source == target:
        return "same"
    near = distance(source, target) <= NEAR * max(len(source), len(target))
    return "near" if near else "other"


def judged(pairs: Sequence[tuple[str, str]], found: Sequence[str]) -> dict[str, float]:
    """Shares that are right: of `all`, and of each kind of pair, NaN where there is none; and
    `copied`, of the mistakes those that are the source.
    """
    table = pd.DataFrame(pairs, columns=["source", "target"]).assign(found=found)
    table["kind"] = [kind_of(*pair) for pair in pairs]
    right = table["found"] == table["target"]
    shares = {kind: right[table["kind"] == kind].mean() for kind in ("same", "near", "other")}
    wrong = table[~right]
    return {"all": right.mean()} | shares | {"copied": (wrong["found"] == wrong["source"]).mean()}


def told(seen: Sequence[tuple[str, str]], asked: Sequence[tuple[str, str]]) -> dict[str, float]:
    """How well the letters of a name tell that it is alike in both languages: by a logistic
    regression on stretches of one to four characters of the names that are `seen`, the `area` under
    the curve of those that are asked for, and of who copies what is more likely alike than not, the
    shares copied of those `same` and of the `others`.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score

    letters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(1, 4), lowercase=False, sublinear_tf=True
    )
    rows = letters.fit_transform([source for source, _ in seen])
    rule = LogisticRegression(C=10.0, max_iter=2000).fit(rows, [a == b for a, b in seen])
    likely = rule.predict_proba(letters.transform([source for source, _ in asked]))[:, 1]
    same = np.array([a == b for a, b in asked])
    copied = {"same": (likely > 0.5)[same].mean(), "others": (likely > 0.5)[~same].mean()}
    return {"area": roc_auc_score(same, likely)} | {k: float(v) for k, v in copied.items()}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="out", help="of the runs")
    parser.add_argument("--source", default="names:en-de", help="of the names")
    parser.add_argument("--beams", type=int, default=1, help="texts that are followed at once")
    parser.add_argument(
        "--held_out",
        type=float,
        default=_USUAL,
        help="data.validation_fraction of the runs that are judged; above the usual one, names are "
        "asked for that it alone holds out, to choose by",
    )
    given = parser.parse_args()
    held_out, names = given.held_out, sources.find(given.source)
    asked_for = Split(names, "validation", held_out).rows
    if held_out > _USUAL:
        asked_for = np.setdiff1d(asked_for, Split(names, "validation", _USUAL).rows)
    taken, seen = names.take(asked_for), names.take(Split(names, "train", held_out).rows)
    pairs = [(source.decode(), target.decode()) for source, target in taken]
    asked = [source for source, _ in pairs]
    kinds = pd.Series([kind_of(*pair) for pair in pairs]).value_counts()
    letters = told([(source.decode(), target.decode()) for source, target in seen], pairs)
    print(
        f"by its letters a name is told to be alike with an area of {letters['area']:.2f}; copied "
        f"would be {letters['same']:.0%} of those alike and {letters['others']:.0%} of the others"
    )
    print(f"{len(pairs)} names: " + ", ".join(f"{n} {kind}" for kind, n in kinds.items()))
    rows, asked_of = {"copying": judged(pairs, asked)}, list[RunDirectory]()
    for run in find_runs(given.workdir):
        data = run.config().data
        if (
            not run.is_done
            or not isinstance(data, PairsConfig)
            or not data.source.startswith("names:")
        ):
            continue
        if data.longest is not None:
            continue
        if data.validation_fraction != held_out:
            print(f"{run.path.name} is left out: it holds out {data.validation_fraction:g} of all")
            continue
        rows[run.path.name] = judged(pairs, continue_texts(run.path, asked, 0, beams=given.beams))
        asked_of.append(run)
    for first, *others in alike(asked_of):
        beside = [run.path for run in others]
        found = continue_texts(first.path, asked, 0, beams=given.beams, beside=beside)
        rows[f"{len(others) + 1} like {first.path.name}"] = judged(pairs, found)
    print((100 * pd.DataFrame(rows).T).round(1).to_string())


if __name__ == "__main__":
    main()
