"""The optimized HLO text of a compiled program, parsed: computations, shapes, groups of devices.

Takes `compiled.as_text()`, the one form in which every jax version and platform shows what the
compiler made; the forms of replica groups are those of XLA's `hlo/ir/replica_group.h`. Pure; called
by `program.py`, which walks through the computations.
"""

import functools
import math
import re
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class Instruction:
    """One line of a computation: `name = shape opcode(arguments), attributes`."""

    name: str
    shape: str  # as written, with layouts; see `array_bytes`
    opcode: str
    operands: tuple[str, ...]  # names among the arguments
    arguments: str  # the text between the parentheses
    attributes: str
    root: bool


@dataclass
class Computation:
    """A function of the module: the program, the body of a loop, what a fusion holds."""

    instructions: dict[str, Instruction] = field(default_factory=dict)

    @functools.cached_property
    def root(self) -> Instruction:
        """The one whose value is the computation's."""
        found = [i for i in self.instructions.values() if i.root]
        return found[0] if found else list(self.instructions.values())[-1]

    @functools.cached_property
    def parameters(self) -> dict[int, str]:
        """Number -> name."""
        return {
            int(i.arguments): i.name for i in self.instructions.values() if i.opcode == "parameter"
        }

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Name -> the instructions that take it."""
        found: dict[str, list[Instruction]] = {}
        for instruction in self.instructions.values():
            for operand in instruction.operands:
                found.setdefault(operand, []).append(instruction)
        return found


# ---- the text

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_NAME = re.compile(r"%([\w.\-]+)")
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\](\{[^}]*\})?")


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """Every computation of a module by name, and the name of the one that runs first."""
    computations: dict[str, Computation] = {}
    entry, current = "", Computation()
    for line in text.splitlines():
        if (head := _HEAD.match(line)) and not line.startswith("HloModule"):
            current = computations.setdefault(head[2], Computation())
            entry = head[2] if head[1] else entry
        elif match := _LINE.match(line):
            instruction = _instruction(match)
            current.instructions[instruction.name] = instruction
    return computations, entry


def _instruction(match: re.Match[str]) -> Instruction:
    rest = match[3]
    end = _closing(rest, 0) if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    begin = rest.index("(")
    end = _closing(rest, begin)
    arguments = rest[begin + 1 : end - 1]
    return Instruction(
        name=match[2],
        shape=shape,
        opcode=rest[:begin],
        operands=tuple(_NAME.findall(arguments)),
        arguments=arguments,
        attributes=rest[end:],
        root=bool(match[1]),
    )


def _closing(text: str, begin: int) -> int:
    """The place after the parenthesis that closes the one at `begin`."""
    depth = 0
    for i in range(begin, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i + 1
    return len(text)


def called(instruction: Instruction, attribute: str) -> list[str]:
    """The computations that an attribute names: `body=%x`, `calls=%x`, `branches={%x, %y}`."""
    match = re.search(rf"\b{attribute}=(\{{[^}}]*\}}|%[\w.\-]+)", instruction.attributes)
    return _NAME.findall(match[1]) if match else []


_BITS = {"pred": 8, "token": 0, "opaque": 0}


def array_bytes(shape: str, main_memory: bool = False) -> float:
    """Bytes of all arrays of a shape's text; with `main_memory`, without those that a layout puts
    elsewhere: `S(1)` is a TPU's on-chip memory, `S(2)` its flags.
    """
    total = 0.0
    for dtype, sizes, layout in _ARRAY.findall(shape):
        if main_memory and "S(" in layout:
            continue
        digits = re.match(r"[a-z]+(\d+)", dtype)
        bits = _BITS.get(dtype, int(digits[1]) if digits else 0)
        total += math.prod(int(n) for n in sizes.split(",") if n) * bits / 8
    return total


# ---- the devices of a collective


def groups(attributes: str, devices: int) -> list[tuple[int, ...]]:
    """The groups of devices of a collective, from its attributes: `replica_groups` in any of its
    forms. All devices are one group when none are given.
    """
    start = attributes.find("replica_groups=")
    if start < 0:
        return [tuple(range(devices))]
    text = attributes[start + len("replica_groups=") :]
    if text.startswith("{{"):  # {{0,1},{2,3}}
        return [_numbers(g) for g in re.findall(r"\{([\d,]+)\}", text[: text.index("}}") + 1])]
    if match := re.match(r"(\[[\d,]+\]<=\[[\d,]+\](?:T\([\d,]+\))?)", text):
        return [tuple(row) for row in _iota(match[1]).tolist()]
    if match := re.match(
        r"@?mesh[\[<]([^\]>]*)[\]>](?:, device_ids=\(([^{]*)\))? \{([^}]*)\}", text
    ):
        return _mesh_groups(match[1], match[2], match[3])
    return [tuple(range(devices))]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(",") if n)


def _iota(text: str) -> np.ndarray:
    """[2,4]<=[4,2]T(1,0): the numbers 0 to 7 as 4x2, transposed, then as 2x4."""
    match = re.match(r"\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    assert match is not None, text
    shape, source = _numbers(match[1]), _numbers(match[2])
    numbers = np.arange(math.prod(source)).reshape(source)
    return numbers.transpose(_numbers(match[3]) if match[3] else None).reshape(shape)


def _mesh_groups(mesh: str, order: str | None, axes: str) -> list[tuple[int, ...]]:
    """mesh['a'=4,'b'=2] {'b'}: the devices along b of a 4x2 mesh are a group. An axis may be a part
    of one, a:(2)4, the 4 in the middle of an `a` cut into 2, 4 and the rest.
    """
    entries = [entry.split("=") for entry in mesh.split(",")]
    names = [name.strip("'\"") for name, _ in entries]
    sizes = [int(size) for _, size in entries]
    if order is None:
        numbers = np.arange(math.prod(sizes))
    elif order.startswith("["):
        source = order.split("T")[0]
        flat = f"[{math.prod(sizes)}]<=" + (order if "T" in order else source)
        numbers = _iota(flat)
    else:
        numbers = np.array(_numbers(order))
    wanted: dict[str, list[tuple[int, int]]] = {}  # axis -> parts: (size before it, its size)
    for name, before, part in re.findall(r"'?\"?([^,'\":{}]+)'?\"?(?::\((\d+)\)(\d+))?", axes):
        whole = sizes[names.index(name)]
        wanted.setdefault(name, []).append((int(before or 1), int(part or whole)))
    shape: list[int] = []
    moved: list[int] = []  # dimensions that run inside a group
    for name, size in zip(names, sizes, strict=True):
        cut = 1
        for start, length in sorted(wanted.get(name, [])):
            if start > cut:
                shape.append(start // cut)
            moved.append(len(shape))
            shape.append(length)
            cut = start * length
        shape.append(size // cut)
    still = [i for i in range(len(shape)) if i not in moved]
    grid = numbers.reshape(shape).transpose(still + moved)
    rows = grid.reshape(-1, math.prod(shape[i] for i in moved))
    return [tuple(row) for row in rows.tolist()]
