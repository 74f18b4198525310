"""Arithmetic over the columns of a table, typed by a person: parsed, never run as code.

`derive` makes a column, `where` chooses rows. The expression is read with `ast` and walked; only
numbers, text, column names (dotted ones too), arithmetic, comparisons, and/or/not and a dozen
functions are known. Called by `table.py`.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from scaling.errors import UserError, nearest

LONGEST = 2000  # characters of an expression

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": np.abs, "ceil": np.ceil, "exp": np.exp, "floor": np.floor, "isfinite": np.isfinite,
    "log": np.log, "log10": np.log10, "log2": np.log2, "maximum": np.maximum, "max": np.maximum,
    "min": np.minimum, "minimum": np.minimum, "round": np.round, "sqrt": np.sqrt,
}  # fmt: skip

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
    ast.BitAnd: np.logical_and, ast.BitOr: np.logical_or,
}  # fmt: skip
_COMPARE: dict[type, Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip
_UNARY: dict[type, Callable[[Any], Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Not: np.logical_not,
    ast.Invert: np.logical_not,
}  # fmt: skip


def evaluate(expression: str, columns: Mapping[str, np.ndarray]) -> Any:
    """The value of an expression over columns: an array [rows] or a scalar.

    Numbers are floats throughout. Division by zero and the like give inf or NaN, without a warning.

    Raises UserError for anything that is not arithmetic on known columns.
    """
    if len(expression) > LONGEST:
        raise UserError(f"an expression has {len(expression)} characters; at most {LONGEST}")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UserError(f'"{expression}" is no expression of columns and numbers') from None

    def walk(node: Any) -> Any:
        match node:
            case ast.Expression(body=body):
                return walk(body)
            case ast.Constant(value=bool() | str() as value):
                return value
            case ast.Constant(value=int() | float() as value):
                return float(value)
            case ast.Name(id=name):
                if name not in columns:
                    raise UserError(
                        f'"{expression}": the table has no column {name}{nearest(name, columns)}'
                    )
                return columns[name]
            case ast.Attribute():
                # No attribute is ever read: the whole text is the name of a column, or nothing.
                if (dotted := ast.unparse(node)) in columns:
                    return columns[dotted]
                if re.fullmatch(r"\w+(\.\w+)+", dotted):
                    raise UserError(
                        f'"{expression}": the table has no column {dotted}'
                        f"{nearest(dotted, columns)}"
                    )
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
                return _BINARY[type(op)](walk(left), walk(right))
            case ast.UnaryOp(op=op, operand=operand) if type(op) in _UNARY:
                return _UNARY[type(op)](walk(operand))
            case ast.BoolOp(op=joint, values=operands):
                join = np.logical_and if isinstance(joint, ast.And) else np.logical_or
                out = walk(operands[0])
                for part in operands[1:]:
                    out = join(out, walk(part))
                return out
            case ast.Compare(left=left, ops=ops, comparators=others):
                out, first = True, walk(left)
                for sign, other in zip(ops, others, strict=True):
                    if type(sign) not in _COMPARE:
                        break
                    second = walk(other)
                    out = np.logical_and(out, _COMPARE[type(sign)](first, second))
                    first = second
                else:
                    return out
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                if name not in FUNCTIONS:
                    raise UserError(f'"{expression}": no function {name}{nearest(name, FUNCTIONS)}')
                return FUNCTIONS[name](*(walk(a) for a in arguments))
        raise UserError(
            f'"{expression}": {ast.unparse(node)} is not allowed; use columns, numbers, + - * / '
            f"**, comparisons, and, or, not, and {', '.join(sorted(FUNCTIONS))}"
        )

    try:
        with np.errstate(all="ignore"):
            return walk(tree)
    except (TypeError, ValueError, np.exceptions.DTypePromotionError) as e:
        raise UserError(f'"{expression}" does not work on these columns: {e}') from None
    except (ZeroDivisionError, OverflowError):
        raise UserError(f'"{expression}" divides by zero or overflows') from None


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
    out = {}
    for part in split(text):
        name, equals, value = part.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise UserError(f'{flag}: "{part}" is not of the form name=value')
        out[name.strip()] = value.strip()
    return out
