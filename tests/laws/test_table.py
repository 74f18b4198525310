"""Tables of any format, and expressions that are read but never run."""

import json
import pathlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.errors import UserError
from scaling.laws.expressions import evaluate
from scaling.laws.json_rows import read_lines
from scaling.laws.rows import groups, numbers
from scaling.laws.table import read_file, read_table, shape_table
from scaling.units import folder_names

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


@pytest.mark.parametrize(
    ("expression", "way"),
    [
        ("params>1e7 & loss<4.5", '& binds before comparisons; write "and"'),
        ("(params>1e7) & (loss<4.5)", 'write "and"'),
        ("params>1e7 | loss<4.5", 'write "or"'),
        ("~(loss<4.5)", 'write "not"'),
        ("loss<4.5 and ~flag", 'write "not"'),
        ("params>1e7 && loss<4.5", '"and" for &&'),
        ("params>1e7 || loss<4.5", '"or" for ||'),
        ("!(loss<4.5)", '"not" for !'),
        ("loss = 3", '"==" to compare'),
        ("Model Size > 3", '--columns="model_size=Model Size"'),
        ("params^2 > 3", '^ is no power here; write "**"'),
        ("params == 1e6 or 1e7", '"or" takes conditions, and 1e7 is a number'),
        ("params and loss<3", "compare it, as in params==1"),
        ("not params", '"not" takes conditions'),
        ("kind and loss<3", "kind is text"),
        ("params in (1, 2)", "in is not known"),
        ("(loss<3) + 1", "arithmetic takes numbers"),
        ("-kind", "kind is text"),
        ("kind == 3", "cannot be compared"),
        ("loss < (params < 3)", "cannot be compared"),
        ("(loss<3) < (params<3)", "neither less nor more"),
        ("loss < None", "neither less nor more"),
        ("loss is 3", 'write "=="'),
        ("max(loss)", "two or more"),
        ("log(loss, params)", "log takes one value, not 2"),
        ("sqrt()", "sqrt takes one value, not 0"),
        ("abs(loss, loss)", "abs takes one value"),
        ("log(kind)", "kind is text"),
        ("round(loss, params)", "whole number of digits"),
        ("round(loss, 0.5)", "whole number of digits"),
        ("round(loss, 1, 2)", "round takes one value"),
        ("isfinite(loss) * 2", "is a condition"),
        ("logg(loss)", "no function logg"),
    ],
)
def test_what_could_be_misread_is_refused_with_the_way_out(expression: str, way: str) -> None:
    columns = {
        "params": np.array([1e6, 1e8]), "loss": np.array([2.0, 3.0]),
        "kind": np.array(["a", None], object), "flag": np.array([True, False]),
        "Model Size": np.array([1.0, 2.0]),
    }  # fmt: skip
    kept = {k: v.copy() for k, v in columns.items()}
    with pytest.raises(UserError) as error:
        evaluate(expression, columns, "--where")
    assert way in str(error.value)
    assert str(error.value).startswith("--where: ")
    # A second argument is never taken for the place of the result.
    for name, value in kept.items():
        assert (columns[name] == value).all()


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("kind == None", [False, True, False]), ("kind is not None", [True, False, True]),
        ("kind != 'a'", [False, True, True]), ("kind < 'b'", [True, False, False]),
        ("'b' == kind", [False, False, True]), ("lr == None", [False, False, True]),
        ("lr != 0.1", [False, True, True]), ("lr > 0.1", [False, True, False]),
        ("lr is None or kind is None", [False, True, True]), ("flag", [True, False, True]),
        ("flag == True and not flag == 0", [True, False, True]),
        ("kind == kind", [True, False, True]),
        ("0.05 < lr < 0.15 < max(lr, 1, 2)", [True, False, False]),
        ("round(lr, 0) == 0 == floor(lr)", [True, True, False]),
    ],
)  # fmt: skip
def test_none_is_a_value_in_conditions(expression: str, expected: list[bool]) -> None:
    columns = {
        "kind": np.array(["a", None, "b"], object), "lr": np.array([0.1, 0.3, np.nan]),
        "flag": np.array([True, False, True]),
    }  # fmt: skip
    assert evaluate(expression, columns).tolist() == expected


def test_a_name_whose_letters_python_composes() -> None:
    assert evaluate("µ > 1", {"µ": np.array([1.0, 2.0])}).tolist() == [False, True]


def test_columns_are_renamed_at_once() -> None:
    table = pd.DataFrame({"a": [1, 2], "b": [3, 4]})
    swapped, _ = shape_table(table, columns="a=b,b=a")
    assert swapped.to_dict("list") == {"a": [3, 4], "b": [1, 2]}
    widened, _ = shape_table(table, columns="c=a,d=a,a=b")
    assert widened.to_dict("list") == {"a": [3, 4], "b": [3, 4], "c": [1, 2], "d": [1, 2]}
    quoted, _ = shape_table(pd.DataFrame({"Size, M": [1]}), columns="params='Size, M'")
    assert quoted["params"].tolist() == [1]
    with pytest.raises(UserError, match="--columns gives a twice: b and c"):
        shape_table(table, columns="a=b,a=c")


def test_whole_numbers_of_any_size_stay_apart(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "runs.jsonl"
    values = [2**64 + 1, 2**64 + 2, 2**53 + 1, None, -(2**70), 10**400]
    path.write_text("".join(f"{json.dumps({'seed': v, 'loss': 1.5})}\n" for v in values))
    read, _ = read_file(path)
    assert read["seed"].tolist() == values
    assert [len(part) for _, part in groups(read, "seed")] == [1] * len(values)
    np.testing.assert_array_equal(
        numbers(read, "seed"), [2.0**64, 2.0**64, 2.0**53, np.nan, -(2.0**70), np.inf]
    )
    assert len(read_table(path, where="seed > 1e18").rows) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"loss": 1}\n{"loss": }\n', "line 2 is no JSON"),
        ('{"loss": 1}\n\n[1, 2]\n', "line 3 is no JSON object"),
        ('{"loss": 1, "loss": 2}\n', 'line 1 names "loss" twice'),
        ('{"loss": 1' + "0" * 9999 + "}", "line 1 cannot be read"),
        ("", "has no rows"),
    ],
)
def test_a_broken_line_is_named(text: str, message: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / "runs.jsonl").write_text(text)
    with pytest.raises(UserError, match=rf"runs\.jsonl.*{message}"):
        read_file(tmp_path / "runs.jsonl")


VALUES = st.lists(
    st.one_of(
        st.none(),
        st.floats(allow_nan=False),
        st.sampled_from([0.95, 0.95 + 2**-53, 0.999, 0.9999, 2**64 + 1, 2**64 + 2, 1, 1.0, True]),
        st.sampled_from(["None", "a b", "a/b", "a_b", "A b", "", "1", "nan", "True"]),
    ),
    min_size=1,
    max_size=8,
)


@given(VALUES)
def test_as_many_groups_come_out_as_values_go_in(values: list[object]) -> None:
    rows = [{"by": v, "loss": i} for i, v in enumerate(values)]
    found = groups(read_lines("\n".join(map(json.dumps, rows)), "t.jsonl"), "by")
    # Equal values are one group; True is not 1, "1" is not 1, and only None is empty.
    distinct = {(isinstance(v, bool), isinstance(v, str), v) for v in values}
    assert len(found) == len(distinct)
    assert sorted(i for _, part in found for i in part["loss"]) == list(range(len(values)))
    assert len(set(folder_names([v for v, _ in found]))) == len(found)


TOKENS = (
    *("loss", "kind", "flag", "optim.lr", "nope", "1", "0.5", "9e999", "'a'", "None", "True", "+"),
    *("-", "*", "/", "//", "%", "**", "<", ">", "==", "!=", "and", "or", "not", "&", "|", "~", "^"),
    *("(", ")", ",", "max(", "log(", "round(", "isfinite(", "in", "is", "[", "]", "lambda", ":"),
    *("if", "else", "@", "<<", "1j", "...", "b'x'", "f'{loss}'"),
)


@given(st.lists(st.sampled_from(TOKENS), max_size=9).map(" ".join))
def test_any_expression_is_a_value_or_one_line_that_names_its_flag(expression: str) -> None:
    columns = {
        "loss": np.array([1.0, np.nan]), "kind": np.array(["a", None], object),
        "flag": np.array([True, False]), "optim.lr": np.array([1.0, 2.0]),
    }  # fmt: skip
    try:
        value = evaluate(expression, columns, "--where")
    except UserError as error:
        line = str(error)
    else:
        line = "--where: fine"
        assert np.broadcast_to(np.asarray(value), 2).shape == (2,)
    assert line.startswith("--where: ")
    assert "\n" not in line
