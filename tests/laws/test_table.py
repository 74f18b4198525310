"""Tables of any format, and expressions that are read but never run."""

import pathlib

import numpy as np
import pandas as pd
import pytest

from scaling.errors import UserError
from scaling.laws.expressions import evaluate
from scaling.laws.table import read_file, read_table, shape_table

TABLE = pd.DataFrame(
    {"Model Size": [1e6, 2e6, 4e6], "flops": [6e13, 2.4e14, 9.6e14], "set": ["a", "b", "a"]}
)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl", "json", "tsv"])
def test_formats_agree(tmp_path: pathlib.Path, kind: str) -> None:
    path = tmp_path / f"runs.{kind}"
    {
        "csv": lambda: TABLE.to_csv(path, index=False),
        "tsv": lambda: TABLE.to_csv(path, index=False, sep="\t"),
        "parquet": lambda: TABLE.to_parquet(path),
        "jsonl": lambda: TABLE.to_json(path, orient="records", lines=True),
        "json": lambda: TABLE.to_json(path, orient="records"),
    }[kind]()
    read = read_table(
        path, columns="params=Model Size", derive="tokens=flops/(6*params)", where="params>1e6"
    )
    assert read.read == 3
    assert len(read.rows) == 2
    np.testing.assert_allclose(read.rows["tokens"], [2e7, 4e7])
    assert any("1 rows do not satisfy" in note for note in read.notes)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("flops / (6 * params)", [10.0, 20.0]),
        ("log10(params) ** 2 - 1", [35.0, 48.0]),
        ("-params // 3e6", [-1.0, -4.0]),
        ("1e6 <= params < 5e6", [True, False]),
        ("not params > 5e6 and kind == 'a'", [True, False]),
        ("max(params, 2e6)", [2e6, 1e7]),
        ("params / 0", [np.inf, np.inf]),
        ("optim.peak_lr < 0.02 and model.moe.width == 8", [True, False]),
    ],
)
def test_expressions(expression: str, expected: list[float]) -> None:
    columns = {
        "params": np.array([1e6, 1e7]), "flops": np.array([6e7, 1.2e9]),
        "kind": np.array(["a", "b"], object), "optim.peak_lr": np.array([0.01, 0.03]),
        "model.moe.width": np.array([8.0, 8.0]),
    }  # fmt: skip
    np.testing.assert_allclose(evaluate(expression, columns), expected)


@pytest.mark.parametrize(
    "expression",
    [
        "__import__('os').system('touch owned')", "loss.__class__", "[x for x in loss]",
        "lambda: 1", "open('x')", "loss[0]", "f'{loss}'", "loss if loss else 1", "(yield)",
        "eval('1')", "loss; loss", "", "loss +", "1" * 3000, "9**9**9**9", "loss + 'a'",
        "(x := 1)", "loss.real", "(loss).T", "loss.T.x", "f(loss).a",
        "sqrt(loss, out=loss)", "'a' * 99999999999", "not_a_column + 1",
    ],
)  # fmt: skip
def test_anything_else_is_refused(expression: str) -> None:
    with pytest.raises(UserError):
        evaluate(expression, {"loss": np.ones(3)})


def test_an_unknown_dotted_column_is_named() -> None:
    with pytest.raises(UserError, match=r'no column optim.lr \(did you mean "optim.peak_lr"'):
        evaluate("optim.lr < 1", {"optim.peak_lr": np.ones(2)})


def test_errors_name_what_is_wrong(tmp_path: pathlib.Path) -> None:
    with pytest.raises(UserError, match="no such table"):
        read_file(tmp_path / "absent.csv")
    (tmp_path / "empty.csv").write_text("")
    with pytest.raises(UserError, match="cannot be read as a table"):
        read_file(tmp_path / "empty.csv")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(UserError, match="cannot be read as a table"):
        read_file(tmp_path / "broken.parquet")
    with pytest.raises(UserError, match='did you mean "Model Size"'):
        shape_table(TABLE, columns="params=Model size")
    with pytest.raises(UserError, match="not of the form name=value"):
        shape_table(TABLE, derive="tokens")
    with pytest.raises(UserError, match="no row satisfies"):
        shape_table(TABLE, where="flops < 0")
    with pytest.raises(UserError, match="not a condition"):
        shape_table(TABLE, where="flops * 2")
