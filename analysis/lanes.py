"""The two moves of UMAP's optimiser, made in eight layouts at once as vector instructions.

Layouts of one graph that differ in `min_dist` alone draw the same edges and the same negative samples. A point's
places in eight of them are sixteen numbers, one cache line: eight x, then eight y. numba's compiler does not find
this parallelism in a loop, so the moves are written as LLVM vector instructions, which it compiles for the processor
at hand; no other compiler is needed. A lane's result does not depend on what is in the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np import arrayobj

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from analysis.arrays import FloatArray

LANES = 8
# Numbers per point.
WIDTH = 2 * LANES
# Negative samples moved away from at once.
REPELLED = 6
# Rows of the array of curve parameters, each `WIDTH` long, its halves equal.
CURVES = 4

_X, _Y = list(range(LANES)), list(range(LANES, WIDTH))
_FLOAT, _INT = ir.FloatType(), ir.IntType(32)
# No reassociation: the result is then the same wherever the same instructions exist.
_FLAGS = ("nnan", "ninf", "nsz", "contract")
_MAX_MOVE = 4.0
_TINY = 1e-30


def _fit(function: Callable[[FloatArray], FloatArray], low: float, high: float, degree: int) -> list[float]:
    """Coefficients, constant first, of a polynomial near `function` in relative error; 0 at 0 where it is."""
    nodes = np.cos((2 * np.arange(400) + 1) / 800 * np.pi) * (high - low) / 2 + (high + low) / 2
    values = function(nodes)
    first = 1 if function(np.zeros(1))[0] == 0 else 0
    powers = np.vander(nodes, degree + 1, increasing=True)[:, first:]
    weights = 1 / np.maximum(np.abs(values), 1e-3)
    fitted = np.linalg.lstsq(powers * weights[:, None], values * weights, rcond=None)[0]
    return [0.0] * first + [float(value) for value in fitted]


# Together within 1e-5 of a power, far below what the random order of samples changes.
_LOG2_OF_1_PLUS = _fit(lambda x: np.log2(1 + x), np.sqrt(0.5) - 1, np.sqrt(2) - 1, 6)
_EXP2 = _fit(np.exp2, -0.5, 0.5, 4)


class _Vector:
    """A vector of float32 in LLVM, with the operators of arithmetic."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder, self.value = builder, value

    def _operand(self, other: _Vector | float) -> Any:
        return other.value if isinstance(other, _Vector) else self._constant(self.value.type, other)

    @staticmethod
    def _constant(kind: Any, value: float) -> Any:
        return ir.Constant(kind, [value] * kind.count)

    def __add__(self, other: _Vector | float) -> _Vector:
        return _Vector(self.builder, self.builder.fadd(self.value, self._operand(other), flags=_FLAGS))

    def __sub__(self, other: _Vector | float) -> _Vector:
        return _Vector(self.builder, self.builder.fsub(self.value, self._operand(other), flags=_FLAGS))

    def __mul__(self, other: _Vector | float) -> _Vector:
        return _Vector(self.builder, self.builder.fmul(self.value, self._operand(other), flags=_FLAGS))

    def __truediv__(self, other: _Vector | float) -> _Vector:
        return _Vector(self.builder, self.builder.fdiv(self.value, self._operand(other), flags=_FLAGS))

    def _choose(self, relation: str, other: _Vector | float) -> _Vector:
        other = self._operand(other)
        chosen = self.builder.fcmp_ordered(relation, self.value, other, flags=_FLAGS)
        return _Vector(self.builder, self.builder.select(chosen, self.value, other))

    def at_least(self, low: float) -> _Vector:
        return self._choose(">", low)

    def within(self, bound: float) -> _Vector:
        return self._choose(">", -bound)._choose("<", bound)

    def where_positive(self, condition: _Vector) -> _Vector:
        """Keep what stands where `condition` is above 0, and make the rest 0."""
        zero = self._constant(self.value.type, 0.0)
        positive = self.builder.fcmp_ordered(">", condition.value, zero, flags=_FLAGS)
        return _Vector(self.builder, self.builder.select(positive, self.value, zero))

    def take(self, places: Sequence[int], other: _Vector | None = None) -> _Vector:
        """Gather by place; places count on from this vector into `other`."""
        second = (other or self).value
        mask = ir.Constant(ir.VectorType(_INT, len(places)), list(places))
        return _Vector(self.builder, self.builder.shuffle_vector(self.value, second, mask))

    def polynomial(self, coefficients: Iterable[float]) -> _Vector:
        """Evaluate by Estrin's scheme, whose chain of dependent steps is short."""
        terms: list[_Vector | float] = list(coefficients)
        power = self
        while len(terms) > 1:
            pairs = [terms[i : i + 2] for i in range(0, len(terms), 2)]
            terms = [power * pair[1] + pair[0] if len(pair) == 2 else pair[0] for pair in pairs]
            power = power * power
        [value] = terms
        assert isinstance(value, _Vector)
        return value

    def power(self, exponent: _Vector) -> _Vector:
        """Raise positive numbers to a power, within a relative error of 1e-5."""
        builder, kind = self.builder, self.value.type
        integers = ir.VectorType(_INT, kind.count)

        def number(value: int) -> Any:
            return self._constant(integers, value)

        # x = m 2^e with m in [√½, √2): the bits of a float32 hold e above its 23 bits of fraction.
        bits = builder.bitcast(self.value, integers)
        e = builder.ashr(builder.sub(bits, number(0x3F3504F3)), number(23))
        m = _Vector(builder, builder.bitcast(builder.sub(bits, builder.shl(e, number(23))), kind))
        log2 = (m - 1.0).polynomial(_LOG2_OF_1_PLUS) + _Vector(builder, builder.sitofp(e, kind))
        product = (exponent * log2).within(126.0)
        # Adding 1.5 × 2²³ rounds to a whole number, which then stands in the lowest bits.
        rounded = product + 12582912.0
        whole = builder.sub(builder.bitcast(rounded.value, integers), number(0x4B400000))
        fraction = (product - (rounded - 12582912.0)).polynomial(_EXP2)
        scaled = builder.add(builder.bitcast(fraction.value, integers), builder.shl(whole, number(23)))
        return _Vector(builder, builder.bitcast(scaled, kind))


class _Memory:
    """Access to a one-dimensional float32 array that numba passed in."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any) -> None:
        self.builder = builder
        make_array: Any = arrayobj.make_array
        self.data = make_array(kind)(context, builder, array).data

    def _pointer(self, row: Any, count: int) -> Any:
        place = self.builder.gep(self.data, [self.builder.mul(row, ir.Constant(row.type, WIDTH))])
        return self.builder.bitcast(place, ir.VectorType(_FLOAT, count).as_pointer())

    def load(self, row: Any, count: int = WIDTH) -> _Vector:
        value = self.builder.load(self._pointer(row, count))
        value.align = 4
        return _Vector(self.builder, value)

    def store(self, row: Any, vector: _Vector) -> None:
        self.builder.store(vector.value, self._pointer(row, WIDTH)).align = 4

    def curve(self, row: int, count: int) -> _Vector:
        return self.load(ir.Constant(ir.IntType(64), row), count)

    def same(self, number: Any) -> _Vector:
        """Return a vector of one number throughout."""
        kind = ir.VectorType(_FLOAT, WIDTH)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), number, ir.Constant(_INT, 0))
        return _Vector(self.builder, first).take([0] * WIDTH)


def _attract(_: Any, points: Any, head: Any, tail: Any, curves: Any, alpha: Any, pull: Any) -> Any:
    """Move two points that share an edge together, the tail `pull` times as far as the head."""
    signature = types.void(points, head, tail, curves, alpha, pull)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        points, head, tail, curves, alpha, pull = arguments
        memory = _Memory(context, builder, signature.args[0], points)
        curve = _Memory(context, builder, signature.args[3], curves).curve
        a, b, two_ab = (curve(row, LANES) for row in (0, 1, 2))
        here, there = memory.load(head), memory.load(tail)
        apart = here - there
        x, y = apart.take(_X), apart.take(_Y)
        squared = x * x + y * y
        safe = squared.at_least(_TINY)
        power = safe.power(b)
        strength = (two_ab * power / (safe * (a * power + 1.0))).where_positive(squared)
        move = (strength.take(_X + _X) * apart).within(_MAX_MOVE) * memory.same(alpha)
        memory.store(head, here - move)
        memory.store(tail, there + move * memory.same(pull))
        return context.get_dummy_value()

    return signature, generate


def _repel(_: Any, points: Any, head: Any, others: Any, curves: Any, alpha: Any) -> Any:
    """Move a point away from six others, all seen from where it stands; itself counts for nothing."""
    signature = types.void(points, head, others, curves, alpha)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        points, head, others, curves, alpha = arguments
        memory = _Memory(context, builder, signature.args[0], points)
        curve = _Memory(context, builder, signature.args[3], curves).curve
        a, b, two_b = (curve(row, WIDTH) for row in (0, 1, 3))
        here = memory.load(head)
        here_x, here_y = here.take(_X + _X), here.take(_Y + _Y)
        rows = [builder.extract_value(others, i) for i in range(REPELLED)]
        moves = []
        # Two others at a time: their x in one vector of twice the lanes, their y in another.
        for first, second in zip(rows[::2], rows[1::2], strict=True):
            one, two = memory.load(first), memory.load(second)
            x = here_x - one.take(_X + [WIDTH + lane for lane in _X], two)
            y = here_y - one.take(_Y + [WIDTH + lane for lane in _Y], two)
            squared = x * x + y * y
            power = squared.at_least(_TINY).power(b)
            strength = (two_b / ((squared + 0.001) * (a * power + 1.0))).where_positive(squared)
            moves.append(((strength * x).within(_MAX_MOVE), (strength * y).within(_MAX_MOVE)))
        x = moves[0][0] + moves[1][0] + moves[2][0]
        y = moves[0][1] + moves[1][1] + moves[2][1]
        total = x.take(_X + [WIDTH + lane for lane in _X], y) + x.take(_Y + [WIDTH + lane for lane in _Y], y)
        memory.store(head, here + total * memory.same(alpha))
        return context.get_dummy_value()

    return signature, generate


# numba calls them with the types of the arguments; to Python's own they take one argument less.
attract: Any = intrinsic(_attract)
repel: Any = intrinsic(_repel)
