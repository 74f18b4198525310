"""Arithmetic over the columns of a table, typed by a person: parsed, never run as code.

`derive` makes a column, `where` chooses rows. The expression is read with `ast` and walked; only
numbers, text, None, column names (dotted ones too), arithmetic, comparisons, and/or/not and a dozen
functions are known, each with what it takes: numbers, text or conditions. Called by `table.py`.
"""

import ast
import functools
import math
import operator
import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import numpy as np

from scaling.errors import UserError, nearest

LONGEST = 2000  # characters of an expression

# Of numbers, row by row. `max` and `min` take two or more, `round` also a number of digits.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "ceil": np.ceil, "exp": np.exp, "floor": np.floor, "isfinite": np.isfinite,
    "log": np.log, "log10": np.log10, "log2": np.log2, "maximum": np.maximum, "max": np.maximum,
    "min": np.minimum, "minimum": np.minimum, "round": np.round, "sqrt": np.sqrt,
}  # fmt: skip
_SEVERAL = ("max", "maximum", "min", "minimum")

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Is: operator.eq, ast.IsNot: operator.ne,
}  # fmt: skip
_UNARY: dict[type, Callable[[Any], Any]] = {ast.USub: operator.neg, ast.UAdd: operator.pos}
# What people write who know other languages, and what it is called here.
_ELSEWHERE: dict[type, str] = {
    ast.BitAnd: '& binds before comparisons; write "and"',
    ast.BitOr: '| binds before comparisons; write "or"',
    ast.Invert: '~ binds before comparisons; write "not"',
    ast.BitXor: '^ is no power here; write "**"',
    ast.In: 'in is not known; write "x==1 or x==2"',
    ast.NotIn: 'not in is not known; write "x!=1 and x!=2"',
    ast.MatMult: "@ is not known",
    ast.LShift: "<< is not known",
    ast.RShift: ">> is not known",
}


def evaluate(expression: str, columns: Mapping[str, np.ndarray], flag: str = "") -> Any:
    """The value of an expression over columns: an array [rows] or a scalar.

    Args:
      expression: as typed.
      columns: arrays of floats, of bools, or of text (dtype object) in which empty cells are None;
        empty cells of numbers are NaN, and both equal None in a comparison.
      flag: where it was typed, for the message.

    Numbers are floats throughout. Division by zero and the like give inf or NaN, without a warning.

    Raises UserError for anything that is not arithmetic on known columns, or that takes numbers,
    text and conditions for one another.
    """
    if len(expression) > LONGEST:
        raise UserError(
            f"{flag or 'an expression'} has {len(expression)} characters; at most {LONGEST}"
        )
    source = expression.strip()
    quoted = f'{flag}: "{source}"' if flag else f'"{source}"'
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UserError(
            f"{quoted} is no expression of columns and numbers{_slip(source, columns)}"
        ) from None
    try:
        with np.errstate(all="ignore"):
            return _Walk(source, quoted, columns)(tree.body)
    except (TypeError, ValueError, RecursionError) as e:
        raise UserError(f"{quoted} does not work on these columns: {e}") from None
    except (ZeroDivisionError, OverflowError):
        raise UserError(f"{quoted} divides by zero or overflows") from None


class _Walk:
    """One expression being evaluated: node in, value out."""

    def __init__(self, source: str, quoted: str, columns: Mapping[str, np.ndarray]):
        self.source, self.quoted, self.columns = source, quoted, columns

    def fail(self, why: str) -> NoReturn:
        raise UserError(f"{self.quoted}: {why}")

    def text(self, node: Any) -> str:
        """A part of the expression as it was typed."""
        return ast.get_source_segment(self.source, node) or ast.unparse(node)

    def __call__(self, node: Any) -> Any:
        match node:
            case ast.Constant(value=None | bool() | str() as value):
                return value
            case ast.Constant(value=int() | float() as value):
                return float(value)
            case ast.Name(id=name):
                return self.column(name)
            case ast.Attribute() if re.fullmatch(r"\w+(\.\w+)+", dotted := ast.unparse(node)):
                # No attribute is ever read: the whole text is the name of a column, or nothing.
                return self.column(dotted)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return _BINARY[type(op)](self.number(left), self.number(right))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                return _UNARY[type(op)](self.number(operand))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return np.logical_not(self.condition(operand, "not"))
            case ast.BoolOp(op=joint, values=operands):
                both = isinstance(joint, ast.And)
                parts = [self.condition(part, "and" if both else "or") for part in operands]
                return functools.reduce(np.logical_and if both else np.logical_or, parts)
            case ast.Compare(left=left, ops=ops, comparators=others):
                out, sides = True, [left, *others]
                for sign, first, second in zip(ops, sides, others, strict=False):
                    out = np.logical_and(out, self.compare(sign, first, second))
                return out
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self.call(name, arguments)
            case ast.BinOp(op=op) | ast.UnaryOp(op=op) if type(op) in _ELSEWHERE:
                self.fail(_ELSEWHERE[type(op)])
        self.fail(
            f"{self.text(node)} is not allowed; use columns, numbers, + - * / // % **, "
            f"comparisons, and, or, not, and {', '.join(sorted(FUNCTIONS))}"
        )

    def column(self, name: str) -> np.ndarray:
        if name in self.columns:
            return self.columns[name]
        # Python composes the letters of names; the header may not have.
        same = [c for c in self.columns if unicodedata.normalize("NFKC", c) == name]
        if len(same) == 1:
            return self.columns[same[0]]
        self.fail(f"the table has no column {name}{nearest(name, self.columns)}")

    def number(self, node: Any) -> Any:
        value = self(node)
        if (kind := _kind(value)) != "a number":
            self.fail(f"{self.text(node)} is {kind}; arithmetic takes numbers")
        return value

    def condition(self, node: Any, word: str) -> Any:
        value = self(node)
        if (kind := _kind(value)) != "a condition":
            text = self.text(node)
            way = f"compare it, as in {text}==1" if kind == "a number" else "compare it"
            self.fail(f'"{word}" takes conditions, and {text} is {kind}; {way}')
        return value

    def compare(self, sign: ast.cmpop, left: Any, right: Any) -> Any:
        """One comparison; empty cells equal None, differ from all else, and are never less."""
        for node in (left, right):  # 'a > 1e7 & b < 4' compares with 1e7 & b
            if isinstance(node, ast.BinOp | ast.UnaryOp) and type(node.op) in _ELSEWHERE:
                self.fail(_ELSEWHERE[type(node.op)])
        if type(sign) in _ELSEWHERE:
            self.fail(_ELSEWHERE[type(sign)])
        first, second = self(left), self(right)
        kinds = {_kind(first), _kind(second)}
        equality = isinstance(sign, ast.Eq | ast.NotEq | ast.Is | ast.IsNot)
        if isinstance(sign, ast.Is | ast.IsNot) and "None" not in kinds:
            self.fail('"is" compares with None; write "=="')
        if "None" in kinds:
            if not equality:
                self.fail("None is neither less nor more; use ==, !=")
            empty = _empty(second if first is None else first)
            return empty if isinstance(sign, ast.Eq | ast.Is) else np.logical_not(empty)
        if len(kinds) > 1 and not (equality and kinds == {"a number", "a condition"}):
            sides = (f"{self.text(n)} is {_kind(v)}" for n, v in ((left, first), (right, second)))
            self.fail(f"{' and '.join(sides)}; they cannot be compared")
        if kinds == {"a condition"} and not equality:
            self.fail(f"{self.text(left)} is a condition, which is neither less nor more")
        if kinds == {"text"}:
            known = np.logical_not(_empty(first) | _empty(second))
            first, second = np.broadcast_arrays(np.asarray(first, object), second)
            out = np.zeros(first.shape, bool)
            out[known] = _COMPARE[type(sign)](first[known], np.asarray(second)[known])
            return out | ~known if isinstance(sign, ast.NotEq) else out
        return _COMPARE[type(sign)](first, second)

    def call(self, name: str, arguments: list[Any]) -> Any:
        if name not in FUNCTIONS:
            self.fail(f"no function {name}{nearest(name, FUNCTIONS)}")
        count = len(arguments)
        if name in _SEVERAL and count < 2:
            self.fail(f"{name} compares two or more values of a row, as in {name}(a, b)")
        if name not in _SEVERAL and count != 1 and (name != "round" or count != 2):
            self.fail(f"{name} takes one value, not {count}")
        values = [self.number(a) for a in arguments]
        if name == "round" and count == 2:
            digits = values[1]
            if np.ndim(digits) or digits != int(digits) or abs(digits) > 300:
                self.fail("round takes a whole number of digits, as in round(loss, 2)")
            return np.round(values[0], int(digits))
        return functools.reduce(FUNCTIONS[name], values) if count > 1 else FUNCTIONS[name](*values)


def _kind(value: Any) -> str:
    """What a value may be used as, in a person's words."""
    if value is None:
        return "None"
    kind = np.asarray(value).dtype.kind
    return "a condition" if kind == "b" else "a number" if kind in "fiu" else "text"


def _empty(value: Any) -> Any:
    """Where the cells are empty: None in text, NaN in numbers."""
    array = np.asarray(value)
    return array == np.array(None) if array.dtype.kind == "O" else array != array


def _slip(source: str, columns: Mapping[str, Any]) -> str:
    """What to write in the place of something that Python cannot read."""
    slips = (
        (r"&&", '"and" for &&'), (r"\|\|", '"or" for ||'), (r"!(?!=)", '"not" for !'),
        (r"(?<![=<>!])=(?!=)", '"==" to compare'),
    )  # fmt: skip
    for there, way in slips:
        if re.search(there, source):
            return f"; write {way}"
    spaced = [c for c in columns if not all(p.isidentifier() for p in c.split(".")) and c in source]
    if spaced:
        name = max(spaced, key=len)
        plain = re.sub(r"\W+", "_", name).strip("_").lower() or "x"
        return f'; give "{name}" a plain name first: --columns="{plain}={name}"'
    return ""


def split(text: str, separators: str = ",;") -> list[str]:
    """Parts of a list, cut at separators that stand outside brackets and quotes."""
    parts, depth, quote = [""], 0, ""
    for c in text:
        if quote:
            quote = "" if c == quote else quote
        elif c in "'\"":
            quote = c
        elif c in "([":
            depth += 1
        elif c in ")]":
            depth -= 1
        if c in separators and depth == 0 and not quote:
            parts.append("")
        else:
            parts[-1] += c
    return [p.strip() for p in parts if p.strip()]


def assignments(text: str, flag: str) -> dict[str, str]:
    """'a=b,c=d' as {a: b, c: d}. Raises UserError that names the flag."""
    out: dict[str, str] = {}
    for part in split(text):
        name, equals, value = (p.strip() for p in part.partition("="))
        if not equals or not name or not value:
            raise UserError(f'{flag}: "{part}" is not of the form name=value')
        if name in out:
            raise UserError(f"{flag} gives {name} twice: {out[name]} and {value}")
        out[name] = value
    return out


def numbers(text: str, flag: str) -> dict[str, float]:
    """'a=1,b=2e3' as floats. Raises UserError that names the flag for what is no finite number."""
    out = {}
    for name, value in assignments(text, flag).items():
        try:
            out[name] = float(value)
        except ValueError:
            out[name] = math.nan
        if not math.isfinite(out[name]):
            raise UserError(f'{flag}: {name}="{value}" is no finite number')
    return out
