"""What a compiled program does in one call: its collectives, and what it moves in main memory.

The compiler's own cost analysis counts the body of a loop once and says nothing of collectives;
here every instruction counts as often as its loops run. Takes the text of `compiled.as_text()`;
gives a `Program`. Pure; called by `compiled.py`.
"""

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass

from scaling.check.hlo import Computation, Instruction, array_bytes, called, groups, parse

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


def read(text: str, devices: int, slices: int = 1) -> Program:
    """The program of a module's text.

    Args:
      text: as the compiler prints it.
      devices: of the mesh; with several slices, slice by slice.
      slices: of TPUs, joined by a network. Each has a program of its own then, whose devices are
        numbered from 0, and what crosses slices is sent by the hosts.
    """
    computations, entry = parse(text)
    walk = _Walk(computations, devices, slices)
    walk.visit(entry, 1)
    found = (*walk.collectives, *walk.in_pieces.values())
    return Program(found, walk.traffic, walk.open_loops)


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

    def __init__(self, computations: dict[str, Computation], devices: int, slices: int):
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
                (body,) = called(instruction, "body")
                self.visit(body, times * (1 if trips is None else trips))
            elif opcode in ("call", "async-start"):
                for callee in called(instruction, "calls") + called(instruction, "to_apply"):
                    self.visit(callee, times)
            elif opcode == "conditional":
                # One of them runs; counted as if all did.
                for key in ("branch_computations", "true_computation", "false_computation"):
                    for callee in called(instruction, key):
                        self.visit(callee, times)
            elif opcode not in _FREE and not opcode.endswith(("-done", "-update")):
                found = self._collective(computation, instruction, times)
                if found is not None:
                    self.collectives.append(found)
                if opcode == "fusion":
                    for callee in called(instruction, "calls"):
                        self._fused(self._computations[callee], times)
                self.traffic += times * self._traffic(computation, instruction)

    def _collective(
        self, where: Computation, instruction: Instruction, times: int
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

    def _across(self, where: Computation, send: Instruction, times: int) -> Collective | None:
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

    def _fused(self, fused: Computation, times: int) -> None:
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

    def _trips(self, where: Computation, loop: Instruction) -> int | None:
        """How often a loop runs: as the compiler noted, or from `i < limit` in its condition."""
        if match := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.attributes):
            return int(match[1])
        (condition,) = called(loop, "condition")
        cond = self._computations[condition]
        root = cond.root
        if root.opcode == "fusion":
            (callee,) = called(root, "calls")
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
        self, where: Computation, loop: Instruction, value: Instruction | None
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

    def _traffic(self, where: Computation, instruction: Instruction) -> float:
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
            (callee,) = called(instruction, "calls")
            return self._fusion_traffic(self._computations[callee])
        return size(instruction.shape) + sum(map(size, shapes))

    def _fusion_traffic(self, fused: Computation) -> float:
        written = sum(_written(fused, name) for name in _results(fused))
        return written + sum(_read(fused, name) for name in fused.parameters.values())


def _only_sliced(fused: Computation, instruction: Instruction) -> bool:
    users = fused.users.get(instruction.name, [])
    while users and all(user.opcode == "bitcast" for user in users):
        users = [u for user in users for u in fused.users.get(user.name, [])]
    return bool(users) and all(user.opcode == "dynamic-slice" for user in users)


def _results(fused: Computation) -> Iterator[str]:
    root = fused.root
    yield from root.operands if root.opcode == "tuple" else (root.name,)


def _source(fused: Computation, name: str) -> Instruction:
    """What a name stands for, seen through bitcasts."""
    found = fused.instructions[name]
    while found.opcode == "bitcast":
        found = fused.instructions[found.operands[0]]
    return found


def _written(fused: Computation, name: str) -> float:
    found = _source(fused, name)
    shape = fused.instructions[name].shape
    # A piece of a collective hands its arrays on; see `_Walk._fused`.
    passed_on = found.opcode == "parameter" or found.opcode.removesuffix("-start") in KINDS
    if array_bytes(shape, main_memory=True) == 0 or passed_on:
        return 0.0
    if found.opcode == "dynamic-update-slice":
        return array_bytes(fused.instructions[found.operands[1]].shape)
    return array_bytes(shape)


def _read(fused: Computation, name: str) -> float:
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


def _is_not_target(fused: Computation, update: Instruction, name: str) -> bool:
    """Whether a dynamic-update-slice takes the parameter as anything but the array it updates."""
    return _source(fused, update.operands[0]).name != name
