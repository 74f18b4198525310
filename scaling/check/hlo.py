"""What a compiled program does, read off its optimized HLO text: collectives and memory traffic.

The compiler's own cost analysis counts the body of a loop once and says nothing of collectives;
here every instruction counts as often as its loops run. Takes the text of `compiled.as_text()`;
gives a `Program`. The forms of replica groups are those of XLA's `hlo/ir/replica_group.h`. Pure;
called by `compiled.py`.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

KINDS = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "all-to-all",
    "collective-permute",
    "collective-broadcast",
)

Pair = tuple[int, int]  # devices: from, to


@dataclass(frozen=True)
class Collective:
    """One collective instruction of one device's program."""

    kind: str  # of KINDS
    count: int  # times a call of the program runs it
    bytes: float  # of the whole array on one device, each time: gathered, or before it is scattered
    group: tuple[int, ...]  # devices that take part with one of them, by number in the mesh
    pairs: tuple[Pair, ...] = ()  # of a permute


@dataclass(frozen=True)
class Program:
    """One device's share of a compiled program; loops are multiplied in."""

    collectives: tuple[Collective, ...]
    memory_traffic: float  # bytes that its instructions read and write in the device's main memory
    open_loops: int  # loops of unknown length, whose body is counted once


@dataclass(frozen=True)
class _Instruction:
    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    arguments: str  # the text between the parentheses
    attributes: str
    root: bool


@dataclass
class _Computation:
    instructions: dict[str, _Instruction] = field(default_factory=dict)

    @functools.cached_property
    def root(self) -> _Instruction:
        found = [i for i in self.instructions.values() if i.root]
        return found[0] if found else list(self.instructions.values())[-1]

    @functools.cached_property
    def parameters(self) -> dict[int, str]:
        """Number -> name."""
        return {
            int(i.arguments): i.name for i in self.instructions.values() if i.opcode == "parameter"
        }

    @functools.cached_property
    def users(self) -> dict[str, list[_Instruction]]:
        """Name -> the instructions that take it."""
        found: dict[str, list[_Instruction]] = {}
        for instruction in self.instructions.values():
            for operand in instruction.operands:
                found.setdefault(operand, []).append(instruction)
        return found


def read(text: str, devices: int, slices: int = 1) -> Program:
    """The program of a module's text.

    Args:
      text: as the compiler prints it.
      devices: of the mesh; with several slices, slice by slice.
      slices: of TPUs, joined by a network. Each has a program of its own then, whose devices are
        numbered from 0, and what crosses slices is sent by the hosts.
    """
    computations, entry = _parse(text)
    walk = _Walk(computations, devices, slices)
    walk.visit(entry, 1)
    found = (*walk.collectives, *walk.in_pieces.values())
    return Program(found, walk.traffic, walk.open_loops)


# ---- the text

_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_LINE = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.*)$")
_NAME = re.compile(r"%([\w.\-]+)")
_ARRAY = re.compile(r"\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\](\{[^}]*\})?")


def _parse(text: str) -> tuple[dict[str, _Computation], str]:
    computations: dict[str, _Computation] = {}
    entry, current = "", _Computation()
    for line in text.splitlines():
        if (head := _HEAD.match(line)) and not line.startswith("HloModule"):
            current = computations.setdefault(head[2], _Computation())
            entry = head[2] if head[1] else entry
        elif match := _LINE.match(line):
            instruction = _instruction(match)
            current.instructions[instruction.name] = instruction
    return computations, entry


def _instruction(match: re.Match[str]) -> _Instruction:
    rest = match[3]
    end = _closing(rest, 0) if rest.startswith("(") else rest.index(" ")
    shape, rest = rest[:end], rest[end:].lstrip()
    begin = rest.index("(")
    end = _closing(rest, begin)
    arguments = rest[begin + 1 : end - 1]
    return _Instruction(
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


def _called(instruction: _Instruction, attribute: str) -> list[str]:
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


_MESH_GROUPS = re.compile(r"@?mesh[\[<]([^\]>]*)[\]>](?:, device_ids=\(([^{]*)\))? \{([^}]*)\}")


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


# ---- walking through the program

# They move nothing: names for what is there, or the second half of what began elsewhere.
_FREE = {
    "parameter",
    "constant",
    "get-tuple-element",
    "tuple",
    "bitcast",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "iota",
    "domain",
    "add-dependency",
}


class _Walk:
    """Adds up what a module does, computation by computation."""

    def __init__(self, computations: dict[str, _Computation], devices: int, slices: int):
        self._computations, self._slices = computations, slices
        self._devices = devices // slices  # of a slice
        self.collectives: list[Collective] = []
        self.in_pieces: dict[tuple[str, str], Collective] = {}  # by kind and channel, see `_fused`
        self.traffic = 0.0
        self.open_loops = 0

    def visit(self, name: str, times: int) -> None:
        """Everything in a computation that runs `times` times."""
        computation = self._computations[name]
        for instruction in computation.instructions.values():
            opcode = instruction.opcode
            if opcode == "while":
                trips = self._trips(computation, instruction)
                self.open_loops += trips is None
                (body,) = _called(instruction, "body")
                self.visit(body, times * (1 if trips is None else trips))
            elif opcode in ("call", "async-start"):
                for callee in _called(instruction, "calls") + _called(instruction, "to_apply"):
                    self.visit(callee, times)
            elif opcode == "conditional":
                # One of them runs; counted as if all did.
                for key in ("branch_computations", "true_computation", "false_computation"):
                    for callee in _called(instruction, key):
                        self.visit(callee, times)
            elif opcode not in _FREE and not opcode.endswith(("-done", "-update")):
                found = self._collective(computation, instruction, times)
                if found is not None:
                    self.collectives.append(found)
                if opcode == "fusion":
                    for callee in _called(instruction, "calls"):
                        self._fused(self._computations[callee], times)
                self.traffic += times * self._traffic(computation, instruction)

    def _collective(
        self, where: _Computation, instruction: _Instruction, times: int
    ) -> Collective | None:
        kind = instruction.opcode.removesuffix("-start")
        if kind == "send":
            return self._across(where, instruction, times)
        if kind not in KINDS:
            return None
        operands = [where.instructions[o] for o in instruction.operands if o in where.instructions]
        size = sum(array_bytes(operand.shape) for operand in operands)
        if kind == "collective-permute":
            match = re.search(r"source_target_pairs=\{(.*?)\}\}", instruction.attributes)
            pairs = re.findall(r"(\d+),(\d+)", match[1]) if match else []
            found = tuple((int(a), int(b)) for a, b in pairs if a != b)
            return Collective(kind, times, size, found[0], found) if found else None
        group = groups(instruction.attributes, self._devices)[0]
        if kind == "all-gather":
            size *= len(group)
        return Collective(kind, times, size, group) if len(group) > 1 else None

    def _across(self, where: _Computation, send: _Instruction, times: int) -> Collective | None:
        """A collective between slices: the host takes the array (`send`) and returns the result
        (`recv`). Each device of a slice works with its twins in the others.
        """
        match = re.search(r'_xla_megascale_transfer_type="(\w+)"', send.attributes)
        if match is None:
            return None
        kind = match[1].lower().replace("_", "-")
        size = array_bytes(where.instructions[send.operands[0]].shape)
        twins = tuple(slice_ * self._devices for slice_ in range(self._slices))
        if kind not in KINDS:  # from one slice to one other
            return Collective("collective-permute", times, size, twins[:2], ((twins[0], twins[1]),))
        return Collective(kind, times, size * (len(twins) if kind == "all-gather" else 1), twins)

    def _fused(self, fused: _Computation, times: int) -> None:
        """Collectives that a TPU runs in pieces, in fusions beside other work. The pieces of one
        share its channel; some lie in a loop that only hides them, so it runs as often as the
        rarest of them. A reduce-scatter is written as an all-reduce of which a slice is taken.
        """
        for inner in fused.instructions.values():
            found = self._collective(fused, inner, times)
            if found is not None:
                if found.kind == "all-reduce" and _only_sliced(fused, inner):
                    found = dataclasses.replace(found, kind="reduce-scatter")
                channel = re.search(r"channel_id=(\d+)", inner.attributes)
                key = (found.kind, channel[1] if channel else inner.name)
                known = self.in_pieces.get(key, found)
                self.in_pieces[key] = min(found, known, key=lambda c: c.count)

    def _trips(self, where: _Computation, loop: _Instruction) -> int | None:
        """How often a loop runs: as the compiler noted, or from `i < limit` in its condition."""
        if match := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes):
            return int(match[1])
        (condition,) = _called(loop, "condition")
        cond = self._computations[condition]
        root = cond.root
        if root.opcode == "fusion":
            (callee,) = _called(root, "calls")
            inner = self._computations[callee]
            names = {inner.parameters[i]: operand for i, operand in enumerate(root.operands)}
            compare = inner.root
            sides = [names.get(o, o) for o in compare.operands]
        else:
            compare, sides = root, list(root.operands)
        if compare.opcode != "compare" or "direction=LT" not in compare.attributes:
            return None
        counter, limit = (cond.instructions.get(side) for side in sides)
        last = self._integer(where, loop, limit)
        first = self._integer(where, loop, counter)
        return None if last is None else max(0, last - (first or 0))

    def _integer(
        self, where: _Computation, loop: _Instruction, value: _Instruction | None
    ) -> int | None:
        """A constant of a loop's condition, or of what the loop starts from."""
        if value is None:
            return None
        if value.opcode == "constant" and value.arguments.lstrip("-").isdigit():
            return int(value.arguments)
        if value.opcode != "get-tuple-element":
            return None
        index = re.search(r"index=(\d+)", value.attributes)
        start = where.instructions.get(loop.operands[0])
        if index is None or start is None or start.opcode != "tuple":
            return None
        source = where.instructions.get(start.operands[int(index[1])])
        while source is not None and source.opcode in ("copy", "bitcast", "convert"):
            source = where.instructions.get(source.operands[0])
        if source is not None and source.opcode == "constant":
            return int(source.arguments) if source.arguments.lstrip("-").isdigit() else None
        return None

    # ---- memory traffic

    def _traffic(self, where: _Computation, instruction: _Instruction) -> float:
        """Bytes of main memory that one instruction reads and writes.

        Operands and results, whole, but for slices: of an array that is only sliced, the slice is
        read, and of one that is updated in place, the update is written.
        """
        opcode = instruction.opcode
        operands = (where.instructions.get(name) for name in instruction.operands)
        shapes = [operand.shape for operand in operands if operand is not None]

        def size(shape: str) -> float:
            return array_bytes(shape, main_memory=True)

        if opcode in ("dynamic-slice", "slice", "gather"):
            return 2 * size(instruction.shape)
        if opcode in ("dynamic-update-slice", "scatter"):
            return 2 * size(shapes[2 if opcode == "scatter" else 1])
        if opcode in ("slice-start", "dynamic-slice-start"):  # its shape names operand and result
            return max(0.0, array_bytes(instruction.shape) - sum(map(array_bytes, shapes)))
        if opcode.endswith("-start"):
            return size(instruction.shape)
        if opcode == "fusion":
            (callee,) = _called(instruction, "calls")
            return self._fusion_traffic(self._computations[callee])
        return size(instruction.shape) + sum(map(size, shapes))

    def _fusion_traffic(self, fused: _Computation) -> float:
        written = sum(_written(fused, name) for name in _results(fused))
        return written + sum(_read(fused, name) for name in fused.parameters.values())


def _only_sliced(fused: _Computation, instruction: _Instruction) -> bool:
    users = fused.users.get(instruction.name, [])
    while users and all(user.opcode == "bitcast" for user in users):
        users = [u for user in users for u in fused.users.get(user.name, [])]
    return bool(users) and all(user.opcode == "dynamic-slice" for user in users)


def _results(fused: _Computation) -> Iterator[str]:
    root = fused.root
    yield from root.operands if root.opcode == "tuple" else (root.name,)


def _source(fused: _Computation, name: str) -> _Instruction:
    """What a name stands for, seen through bitcasts."""
    found = fused.instructions[name]
    while found.opcode == "bitcast":
        found = fused.instructions[found.operands[0]]
    return found


def _written(fused: _Computation, name: str) -> float:
    found = _source(fused, name)
    shape = fused.instructions[name].shape
    # A piece of a collective hands its arrays on; see `_Walk._fused`.
    passed_on = found.opcode == "parameter" or found.opcode.removesuffix("-start") in KINDS
    if array_bytes(shape, main_memory=True) == 0 or passed_on:
        return 0.0
    if found.opcode == "dynamic-update-slice":
        return array_bytes(fused.instructions[found.operands[1]].shape)
    return array_bytes(shape)


def _read(fused: _Computation, name: str) -> float:
    """Bytes that a fusion reads of a parameter."""
    whole = array_bytes(fused.instructions[name].shape, main_memory=True)
    if whole == 0:
        return 0.0
    sliced, names = 0.0, [name]
    while names:
        for user in fused.users.get(names.pop(), []):
            if user.opcode == "bitcast":
                names.append(user.name)
            elif user.opcode == "tuple" or user.opcode.removesuffix("-start") in KINDS:
                continue  # handed on
            elif user.opcode in ("dynamic-slice", "slice", "gather"):
                sliced += array_bytes(user.shape)
            elif user.opcode != "dynamic-update-slice" or _is_not_target(fused, user, name):
                return whole
    return min(sliced, whole)


def _is_not_target(fused: _Computation, update: _Instruction, name: str) -> bool:
    """Whether a dynamic-update-slice takes the parameter as anything but the array it updates."""
    return _source(fused, update.operands[0]).name != name
