"""Which questions a run that answers with spans has right: by how many of their sort its text has.

    python launch.py sweep --experiment=experiments/baselines.py:tasks --workdir=out
    python -m benchmarks.answers --workdir=out

Prints for each run that answers questions what share of those held out it has exactly right: of
all, and of those whose text has one, two, three, or more questions of the same sort ("default of"),
so that a name has to be found and not only a sort of answer; and how many of its mistakes are the
answer to another question of the text.
"""

import argparse
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from scaling import files
from scaling.config import choices
from scaling.errors import UserError
from scaling.families import build
from scaling.objectives.spans.rows import best
from scaling.records import RunDirectory, find_runs
from scaling.train.opened import newest

MORE = 4  # questions of a sort; as many or more are counted together
_ROWS = 64  # a batch
_HEAD = 80  # tokens of a text by which it is told from others


def judged(frame: pd.DataFrame) -> dict[str, float]:
    """Shares that are right: of `all`, and of texts with 1, 2, 3 or 4 and more questions of a sort,
    NaN where there is none; and `another's`, of the mistakes those that are another's answer.

    Args:
      frame: a row a question: `text` and `question`; `answer` and `said`, (first, last) each.
    """
    sort = frame["question"].str.split().str[0]
    count = frame.groupby(["text", sort])["question"].transform("size").clip(upper=MORE)
    right = frame["answer"] == frame["said"]
    found = {"all": right.mean()}
    for many in range(1, MORE + 1):
        found[f"{many}{'+' * (many == MORE)}"] = right[count == many].mean()
    answers = frame.groupby("text")["answer"].agg(set)
    wrong = frame[~right]
    others = [
        said in answers[text] for said, text in zip(wrong["said"], wrong["text"], strict=True)
    ]
    return found | {"another's": float(np.mean(others)) if others else float("nan")}


def asked(batch: Mapping[str, np.ndarray], said_Bx2: np.ndarray) -> pd.DataFrame:
    """The frame of `judged`, of examples as tokens and of the places that are said."""
    rows = []
    ends = zip(batch["tokens"], batch["start"], batch["end"], said_Bx2, strict=True)
    for tokens, start, end, said in ends:
        row = tokens.tolist()
        begins = row.index(row[0], 1) + 1  # behind the second separator
        # How much of a function there is room for depends on the question: it is known by its head.
        text = tuple(row[begins : begins + _HEAD])
        question = bytes(row[1 : begins - 1]).decode(errors="replace")
        places = (int(start) - begins, int(end) - begins), tuple((said - begins).tolist())
        rows.append((text, question, *places))
    return pd.DataFrame(rows, columns=["text", "question", "answer", "said"])


def answered(run: RunDirectory) -> pd.DataFrame:
    """The frame of `judged`, of all that is held out of a run's data."""
    opened = newest(run)
    config, used, model = opened.config, opened.used, build(opened.config.model)
    kind = choices.kind(config.data)
    examples = kind.examples(config.data, config.data, "validation", files.data_dir())
    batch = examples.take(np.arange(len(examples)))

    @jax.jit
    def say(batch: Mapping[str, jax.Array]) -> jax.Array:
        logits_BxLx2 = model.apply({"params": used}, batch)["spans"].astype(jnp.float32)
        return best(jnp.where((batch["answerable"] > 0)[..., None], logits_BxLx2, -1e30))

    said = []
    for first in range(0, len(examples), _ROWS):
        numbers = np.arange(first, first + _ROWS) % len(examples)  # one shape, one program
        said.append(say({name: jnp.asarray(x[numbers]) for name, x in batch.items()}))
    return asked(batch, np.concatenate(jax.device_get(said))[: len(examples)])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", default="out", help="of the runs")
    given = parser.parse_args()
    rows = {}
    for run in find_runs(given.workdir):
        done = run.status().get("state") == "done"
        if done and run.config().objective.name == "spans":
            rows[run.path.name] = judged(answered(run))
    if not rows:
        raise UserError(f"no run in {given.workdir} that answers with spans has reached its end")
    print((100 * pd.DataFrame(rows).T).round(1).to_string())


if __name__ == "__main__":
    main()
