"""Tables as people publish them: the same numbers, or a refusal that names the cell."""

import csv
import gzip
import io
import math
import pathlib
import re
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaling.errors import UserError
from scaling.laws.fit_command import fit_command
from scaling.laws.rows import groups, numbers
from scaling.laws.table import read_file, read_table, shape_table
from scaling.laws.text_tables import read_text
from tests.laws.conftest import PUBLISHED, fit_request

UNITS = {"": 0, "k": 3, "K": 3, "M": 6, "B": 9, "G": 9, "T": 12, " million": 6, " billion": 9}


@dataclass(frozen=True)
class Written:
    """A table as text, and the numbers that it holds."""

    raw: bytes
    columns: dict[str, list[float]]
    mark: str  # before fractions
    sure: bool  # whether each column has a cell that shows the mark


@st.composite
def tables(draw: st.DrawFn) -> Written:
    """A table in one dialect: all its cells have the same mark before fractions."""
    mark, sure = draw(st.sampled_from(".,")), draw(st.booleans())
    rows = draw(st.integers(1, 6))
    columns: dict[str, list[float]] = {}
    written: list[list[str]] = []
    for i in range(draw(st.integers(1, 3))):
        group = draw(st.sampled_from(["", *"_ '\u202f", ",.".replace(mark, "")]))
        style = draw(st.sampled_from(["plain", "units", "percent", "power", "exponent"]))
        cells, values = [], []
        for k in range(rows):
            whole = draw(st.integers(0, 10 ** draw(st.integers(1, 10))))
            digits = draw(st.integers(0, 6))
            # One cell that cannot be misread makes a column sure; points that set off thousands
            # need one.
            if not k and (sure or group == "."):
                whole, digits = 1234567, 1
            text = f"{whole:0{digits + 1}d}"
            head, tail = (text[:-digits], text[-digits:]) if digits else (text, "")
            if group and style in ("plain", "units"):
                head = f"{int(head):,}".replace(",", group)
            sign = draw(st.sampled_from(["", "-"]))
            cell = sign + head + (mark + tail if tail else "")
            power = 0
            if style == "units":
                unit = draw(st.sampled_from(sorted(UNITS)))
                cell, power = cell + unit, UNITS[unit]
            elif style == "percent":
                cell, power = cell + draw(st.sampled_from(["%", " %"])), -2
            elif style == "power":
                power = draw(st.integers(-9, 21))
                cell += draw(
                    st.sampled_from(["×10^{}", "x10^{}", " * 10**{}", "×10^{{{}}}"])
                ).format(power)
            elif style == "exponent":
                power = draw(st.integers(-9, 21))
                cell += f"e{power}"
            cells.append(cell)
            values.append(float(f"{sign}{whole}e{power - digits}"))
        columns[f"x {i}"] = values
        written.append(cells)
    separator = draw(st.sampled_from(",;\t"))
    out = io.StringIO()
    writer = csv.writer(
        out, delimiter=separator, lineterminator=draw(st.sampled_from(["\n", "\r\n"])),
        quoting=draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])),
    )  # fmt: skip
    for line in draw(
        st.lists(st.sampled_from(['# made by hand, "2024', "% a;b;c", "#"]), max_size=2)
    ):
        out.write(f"{line}\n")
    writer.writerow([*columns, "model"])
    writer.writerows(
        [*row, f"gpt-{chr(97 + k)}"] for k, row in enumerate(zip(*written, strict=True))
    )
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]))
    return Written(out.getvalue().encode(encoding), columns, mark, sure)


@given(tables())
def test_a_table_reads_back_as_the_same_numbers_or_is_refused(written: Written) -> None:
    read, _ = read_text(written.raw, "t.csv", written.mark)
    assert list(read.columns) == [*written.columns, "model"]
    assert read["model"].tolist() == [f"gpt-{chr(97 + k)}" for k in range(len(read))]
    for name, values in written.columns.items():
        assert numbers(read, name).tolist() == values
    # What its own cells do not say is not guessed; what they do is not asked.
    refused = _refusal(lambda: read_text(written.raw, "t.csv"))
    read = read if refused else read_text(written.raw, "t.csv")[0]
    for name, values in written.columns.items():
        refused = refused or _refusal(lambda n=name: numbers(read, n))
        if not refused:
            assert numbers(read, name).tolist() == values
    assert not (refused and written.sure), refused
    assert not refused or re.search(r"column x \d holds .*--decimal", refused)


def _refusal(action: Callable[[], object]) -> str:
    try:
        action()
    except UserError as error:
        return str(error)
    return ""


@given(st.lists(st.floats(allow_nan=False), min_size=1, max_size=8))
def test_close_floats_stay_as_many_groups(values: list[float]) -> None:
    rows = "".join(f"{v!r},{i}\n" for i, v in enumerate([*values, *values]))
    read, _ = read_text(f"by,row\n,-1\n{rows}".encode(), "t.csv")
    found = groups(read, "by")
    assert [v for v, _ in found[:-1]] == sorted(set(values))
    assert found[-1][1]["row"].tolist() == [-1]
    assert all(len(part) == 2 * values.count(v) for v, part in found[:-1])


@pytest.mark.parametrize(
    ("cells", "expected", "said"),
    [
        (["70M", "1.4B", "500k", "7 b"], [7e7, 1.4e9, 5e5, 7e9], '"1.4B" is 1,400,000,000'),
        (["1,400,000", "1,400"], [1.4e6, 1400], 'thousands set off by ","'),
        (["1,400", "3.5"], [1400, 3.5], 'thousands set off by ","'),
        (["1,400", "3,5"], [1.4, 3.5], 'decimal commas ("1,400" is 1.4)'),
        (["1.400,5", "1.400"], [1400.5, 1400], 'thousands set off by "."'),
        (["1_000", "12_345_678"], [1000, 12345678], '"_"'),
        (["1 400 000", "1\u202f400"], [1.4e6, 1400], '" "'),
        (["10^9", "1.5×10⁹", "2^20", "10^{-3}"], [1e9, 1.5e9, 2**20, 1e-3], '"10^9" is 1,000'),
        (["45%", "3.5 %", ""], [0.45, 0.035, math.nan], 'percent ("45%" is 0.45)'),
        (["0,123", "1234,567"], [0.123, 1234.567], "decimal commas"),
        (["−3.5", "—", "+2"], [-3.5, math.nan, 2], ""),
        (["2.3M"], [2300000.0], "M for 1e6"),
        (["inf", "1e400", "nan"], [math.inf, math.inf, math.nan], ""),
    ],
)
def test_cells(cells: list[str], expected: list[float], said: str) -> None:
    text = "x\tname\n" + "".join(f"{cell}\ta\n" for cell in cells)
    read, told = read_text(text.encode(), "t.tsv")
    np.testing.assert_array_equal(numbers(read, "x"), expected)
    assert said in told
    assert "\n" not in told


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        (["1,400"], '"1,400" in row 1, which could be 1400 or 1.4: .*--decimal'),
        (["7", "12,345M"], '"12,345M" in row 2, which could be 12345000000 or 12345000'),
        (["3.5", "2,25"], '"2,25" in row 2, which has a decimal comma, row 1 a decimal point'),
        (["45%", "0.3"], '"0.3" in row 2, .* with and without %'),
        (["3", "diverged", "nan", "?"], r'"diverged" in row 2, which is no number \(2 such'),
        (["125m"], ".* no number"), (["12,34,567"], ".* no number"), (["1__0"], ".* no number"),
        (["1_0"], ".* no number"), (["3 5"], ".* no number"), (["0x10"], ".* no number"),
        (["1e5k"], ".* no number"), (["~3"], ".* no number"), (["3.1±0.1"], ".* no number"),
    ],
)  # fmt: skip
def test_what_is_no_number_or_two_is_named(cells: list[str], message: str) -> None:
    read, _ = read_text(("x\tname\n" + "".join(f"{c}\ta\n" for c in cells)).encode(), "t.tsv")
    with pytest.raises(UserError, match=f"column x holds {message}"):
        numbers(read, "x")
    if "--decimal" in message or "%" in message:
        with pytest.raises(UserError, match=f"--where: column x holds {message}"):
            shape_table(read, where="x > 1")
    assert len(shape_table(read, where="name == 'a'")[0]) == len(cells)


def test_a_row_keeps_its_number_where_others_are_left_out() -> None:
    read, _ = read_text(b"x,y\n1,1\n2,2\nbad,3\n", "t.csv")
    with pytest.raises(UserError, match='"bad" in row 3'):
        numbers(shape_table(read, where="y > 2")[0], "x")
    assert numbers(shape_table(read, where="x != 'bad'")[0], "x").tolist() == [1, 2]


def test_points_beside_decimal_commas_are_asked_about() -> None:
    raw = b"params;loss\n1.400;3,45\n2.800;3,1\n"
    with pytest.raises(UserError, match=r'column params holds "1\.400" in row 1.*--decimal'):
        read_text(raw, "t.csv")
    for decimal, expected in ((",", [1400, 2800]), (".", [1.4, 2.8])):
        read, _ = read_text(raw, "t.csv", decimal)
        assert numbers(read, "params").tolist() == expected
        assert numbers(read, "loss").tolist() == [3.45, 3.1]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("a,b\n1,2\n3,4\n", {"a": [1, 3], "b": [2, 4]}),
        ("# a study, 2024\n\na;b\n1;2\n3;4\n", {"a": [1, 3], "b": [2, 4]}),
        ("Results of a study\na;b\n1,5;2\n3,5;4\n", {"a": [1.5, 3.5], "b": [2, 4]}),
        ("sep=;\r\na;b\r\n1;2\r\n3;4\r\n", {"a": [1, 3], "b": [2, 4]}),
        ('"a" , "b"\n1, 2\n\n3, 4\n,\n', {"a": [1, 3], "b": [2, 4]}),
        ("1,2\n3,4\n", {"#1": [1, 3], "#2": [2, 4]}),
        ("# a,b\n1,2\n3,4\n", {"a": [1, 3], "b": [2, 4]}),
        ("#a b\n1\t2\n3\t4\n", {"#1": [1, 3], "#2": [2, 4]}),
        (",a\n0,1\n1,3\n", {"#1": [0, 1], "a": [1, 3]}),
        ("a,b,\n1,2,\n3,4,\n", {"a": [1, 3], "b": [2, 4]}),
        ("a\n1\n3\n", {"a": [1, 3]}),
        ("a\tb\n1\t2\n3\t4", {"a": [1, 3], "b": [2, 4]}),
        ("a,b\n1,2\n3,4\n# end\n", {"a": [1, 3], "b": [2, 4]}),
        ("a,b\n1,2\n", {"a": [1], "b": [2]}),
    ],
)
def test_headers_comments_and_separators(text: str, columns: dict[str, list[float]]) -> None:
    read, told = read_text(text.encode(), "t.csv")
    assert {name: read[name].tolist() for name in read.columns} == columns
    assert told or text[0] in 'a",' or text.startswith("# a,b")
    assert not told or text[0] not in 'a",' or "\t" in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("loss,a,loss\n1,2,3\n", r'header names "loss" 2 times \(columns 1, 3\)'),
        ("# x\na,b\n1,2\n3\n", "line 4 has 1 cells, the header 2"),
        ("a,b\n1,400,3\n2,800,4\n", "line 2 has 3 cells, the header 2: if commas stand in numbers"),
        ("1;2\n3;4;5\n6;7\n", "line 2 has 3 cells, the first row 2"),
        ("a\0b\n1", "NUL"),
        ("# only\n", "empty"),
    ],
)
def test_tables_that_are_none_name_the_line(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_text(text.encode(), "t.csv")


def test_places_name_columns_of_a_file_without_a_header(tmp_path: pathlib.Path) -> None:
    (tmp_path / "runs.txt.gz").write_bytes(
        gzip.compress("70M;a;3,5\n1.4B;b;3,25\n".encode("utf-16"))
    )
    read = read_table(tmp_path / "runs.txt.gz", columns="params=#1,loss=#3", where="loss<3.4")
    assert read.rows[["params", "loss"]].values.tolist() == [[1.4e9, 3.25]]
    (told, *_) = read.notes
    for part in ("UTF-16", '";"', "no header", 'M for 1e6 ("70M" is 70,000,000) in #1', "decimal"):
        assert part in told
    with pytest.raises(UserError, match="the table has 3 columns, no #4"):
        shape_table(read.rows[["#1", "#2", "#3"]], columns="loss=#4")


def test_text_in_json_is_a_number_where_one_is_needed(tmp_path: pathlib.Path) -> None:
    lines = ['{"params": "70M", "kind": "1"}', '{"params": "1.4B", "kind": "1.0"}']
    (tmp_path / "runs.jsonl").write_text("\n".join(lines))
    read = read_table(tmp_path / "runs.jsonl", where="params > 1e8")
    assert numbers(read.rows, "params").tolist() == [1.4e9]
    assert '"70M" is 70,000,000' in read.notes[0]
    # As text they are two.
    assert len(groups(read_file(tmp_path / "runs.jsonl")[0], "kind")) == 2


def test_the_published_tables_read_as_pandas_reads_them() -> None:
    for path in sorted(PUBLISHED.glob("*.csv")):
        pd.testing.assert_frame_equal(read_file(path)[0], pd.read_csv(path), rtol=1e-15)


def test_a_fit_says_how_its_table_was_read(tmp_path: pathlib.Path) -> None:
    sizes = np.geomspace(1e6, 1e9, 8)
    rows = [f"{p / 1e6:.1f}M;{1.5 + 40 * p**-0.3:.5f}".replace(".", ",") for p in sizes]
    (tmp_path / "runs.csv").write_text("Größe;Verlust\n" + "\n".join(rows), encoding="cp1252")
    options = {"table": str(tmp_path / "runs.csv"), "columns": "params=Größe,loss=#2"}
    made = fit_command(fit_request(**options, bootstrap=0))
    assert made.fits[""].params["alpha"] == pytest.approx(0.3, rel=0.02)
    line = made.text.splitlines()[1]
    assert line.startswith('read as: Windows-1252; cells separated by ";"; ')
    assert "decimal commas" in line
    assert "M for 1e6" in line


MARKS = "0123456789.,;\t\n\r\"'#% eEkMB-+^*x_()abn:/{}\u00a0−⁰"


@given(st.one_of(st.text(alphabet=MARKS, max_size=60).map(str.encode), st.binary(max_size=60)))
def test_any_bytes_are_a_table_or_one_line(raw: bytes) -> None:
    refused = _refusal(lambda: read_text(raw, "t.csv"))
    read, told = (pd.DataFrame(), "") if refused else read_text(raw, "t.csv")
    said = [refused, told, *(_refusal(lambda n=name: numbers(read, n)) for name in read.columns)]
    assert not any("\n" in line or "\r" in line for line in said)
    assert not read.columns.duplicated().any()
