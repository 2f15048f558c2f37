"""Raw pointers and short vectors for Numba: the few LLVM instructions that the CPU kernels are written in.

A `Vector` is an LLVM vector of `LANES[dtype]` numbers; LLVM splits it into whatever registers the machine has
(one AVX-512, two AVX2, four SSE registers). Arithmetic may be fused (`contract`) and nothing else.
"""

import operator
from collections.abc import Callable, Iterator
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core.datamodel import models
from numba.extending import intrinsic, overload, register_model

LANES = {types.float32: 16, types.float64: 8}
FLAGS = ("contract",)
INT32, INT64 = ir.IntType(32), ir.IntType(64)


class Vector(types.Type):
    """Numba type of a vector of float32 or float64."""

    def __init__(self, dtype: types.Float) -> None:
        self.dtype = dtype
        self.lanes = LANES[dtype]
        super().__init__(name=f"Vector({dtype}x{self.lanes})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """Held as a plain LLVM vector value."""

    def __init__(self, manager: Any, fe_type: Vector) -> None:
        element = ir.DoubleType() if fe_type.dtype == types.float64 else ir.FloatType()
        super().__init__(manager, fe_type, ir.VectorType(element, fe_type.lanes))


def _splat(builder: Any, kind: ir.VectorType, scalar: Any) -> Any:
    single = builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.Constant(INT32, 0))
    return builder.shuffle_vector(
        single, single, ir.Constant(ir.VectorType(INT32, kind.count), [0] * kind.count)
    )


def _filled(kind: ir.VectorType, number: float) -> ir.Constant:
    return ir.Constant(kind, [ir.Constant(kind.element, number)] * kind.count)


def _call(builder: Any, name: str, kind: ir.VectorType, *operands: Any) -> Any:
    suffix = f"v{kind.count}f{64 if kind.element == ir.DoubleType() else 32}"
    function = ir.FunctionType(kind, [kind] * len(operands))
    return builder.call(builder.module.globals.get(f"llvm.{name}.{suffix}") or ir.Function(
        builder.module, function, f"llvm.{name}.{suffix}"), operands)  # fmt: skip


# --- pointers ---------------------------------------------------------------------------------------------------


@intrinsic
def pointer(_: Any, address: Any, like: Any) -> Any:
    """The integer `address` as a pointer to numbers of the type of `like`."""
    pointer = types.CPointer(like)

    def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(pointer))

    return pointer(address, like), code


@intrinsic
def address(_: Any, pointer: Any) -> Any:
    """A pointer as an integer."""

    def code(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.ptrtoint(args[0], INT64)

    return types.int64(pointer), code


@intrinsic
def offset(_: Any, pointer: Any, count: Any) -> Any:
    """`pointer` moved by `count` elements."""

    def code(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.gep(args[0], [args[1]], inbounds=True)

    return pointer(pointer, count), code


@intrinsic
def load(_: Any, pointer: Any, index: Any) -> Any:
    """One element."""

    def code(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.load(builder.gep(args[0], [args[1]], inbounds=True), align=pointer.dtype.bitwidth // 8)

    return pointer.dtype(pointer, index), code


@intrinsic
def invariant(_: Any, pointer: Any, index: Any) -> Any:
    """One element that does not change while the kernel runs, so that LLVM may move the load out of a loop."""

    def code(_: Any, builder: Any, __: Any, args: Any) -> Any:
        element = builder.gep(args[0], [args[1]], inbounds=True)
        value = builder.load(element, align=pointer.dtype.bitwidth // 8)
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return value

    return pointer.dtype(pointer, index), code


@intrinsic
def store(_: Any, pointer: Any, index: Any, value: Any) -> Any:
    """Store one element."""

    def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
        builder.store(
            args[2], builder.gep(args[0], [args[1]], inbounds=True), align=pointer.dtype.bitwidth // 8
        )
        return context.get_dummy_value()

    return types.none(pointer, index, pointer.dtype), code


@intrinsic
def fetch_add(_: Any, pointer: Any) -> Any:
    """Atomically take the next number from a shared int64 counter."""

    def code(_: Any, builder: Any, __: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", args[0], ir.Constant(INT64, 1), "acq_rel")

    return types.int64(pointer), code


def _prefetcher(write: int) -> Any:
    def typed(_: Any, pointer: Any, index: Any) -> Any:
        def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
            element = builder.gep(args[0], [args[1]])
            hint = ir.FunctionType(ir.VoidType(), [element.type, INT32, INT32, INT32])
            function = builder.module.declare_intrinsic("llvm.prefetch", [element.type], hint)
            builder.call(function, [element, *(ir.Constant(INT32, flag) for flag in (write, 3, 1))])
            return context.get_dummy_value()

        return types.none(pointer, index), code

    return intrinsic(typed)


prefetch = _prefetcher(0)  # ask for the cache line that holds an element: (pointer, index)
prefetch_to_write = _prefetcher(1)


# --- vectors ----------------------------------------------------------------------------------------------------


@intrinsic
def vload(_: Any, pointer: Any, index: Any) -> Any:
    """A vector of consecutive elements."""
    vector = Vector(pointer.dtype)

    def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
        kind = context.get_value_type(vector)
        start = builder.bitcast(builder.gep(args[0], [args[1]], inbounds=True), kind.as_pointer())
        return builder.load(start, align=pointer.dtype.bitwidth // 8)

    return vector(pointer, index), code


@intrinsic
def vstore(_: Any, pointer: Any, index: Any, vector: Any) -> Any:
    """Store a vector to consecutive elements."""

    def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
        start = builder.gep(args[0], [args[1]], inbounds=True)
        start = builder.bitcast(start, context.get_value_type(vector).as_pointer())
        builder.store(args[2], start, align=pointer.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(pointer, index, vector), code


@intrinsic
def spread(_: Any, scalar: Any) -> Any:
    """A vector with the same number in all lanes."""
    vector = Vector(scalar)

    def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
        return _splat(builder, context.get_value_type(vector), args[0])

    return vector(scalar), code


@intrinsic
def total(_: Any, vector: Any) -> Any:
    """The sum of all lanes (in the order that suits the machine)."""

    def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
        value, count = args[0], vector.lanes
        while count > 1:  # halve: adds of full registers first, then shuffles inside one
            half = count // 2
            low = ir.Constant(ir.VectorType(INT32, half), list(range(half)))
            high = ir.Constant(ir.VectorType(INT32, half), list(range(half, count)))
            value = builder.fadd(
                builder.shuffle_vector(value, value, low), builder.shuffle_vector(value, value, high)
            )
            count = half
        return builder.extract_element(value, ir.Constant(INT32, 0))

    return vector.dtype(vector), code


@intrinsic
def totals(_: Any, pointer: Any) -> Any:
    """The sums of as many consecutive vectors as a vector has lanes, as one vector."""
    vector = Vector(pointer.dtype)

    def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
        lanes, kind = vector.lanes, context.get_value_type(vector)
        halvings = list(_halvings(lanes, 16 * 8 // pointer.dtype.bitwidth))
        labels = [[entry] * lanes for entry in range(lanes)]
        for low, _high in halvings:  # where does the sum of each vector end up?
            labels = [
                [(x + y)[index] for index in low] for x, y in zip(labels[::2], labels[1::2], strict=True)
            ]
        # the vector that ends up in lane i must be vector i
        order = [0] * lanes
        for lane, entry in enumerate(labels[0]):
            order[entry] = lane
        loaded = []
        for source in order:
            start = builder.gep(args[0], [ir.Constant(INT64, lanes * source)], inbounds=True)
            start = builder.bitcast(start, kind.as_pointer())
            loaded.append(builder.load(start, align=pointer.dtype.bitwidth // 8))
        for low, high in halvings:
            masks = [ir.Constant(ir.VectorType(INT32, lanes), list(mask)) for mask in (low, high)]
            loaded = [
                builder.fadd(builder.shuffle_vector(x, y, masks[0]), builder.shuffle_vector(x, y, masks[1]))
                for x, y in zip(loaded[::2], loaded[1::2], strict=True)
            ]
        return loaded[0]

    return vector(pointer), code


def _halvings(lanes: int, block: int) -> Iterator[tuple[list[int], list[int]]]:
    """Shuffles of two vectors whose sum holds both, folded to half their lanes; last within blocks of 16 bytes."""
    size = lanes // 2
    while size:
        span = lanes if size >= block else block
        low = [
            vector * lanes + start + inside
            for block_start in range(0, lanes, span)
            for vector in (0, 1)
            for start in range(block_start, block_start + span, 2 * size)
            for inside in range(size)
        ]
        yield low, [index + size for index in low]
        size //= 2


def _arithmetic(method: str) -> Callable[..., Any]:
    @intrinsic
    def operation(_: Any, left: Any, right: Any) -> Any:
        vector = left if isinstance(left, Vector) else right

        def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
            kind = context.get_value_type(vector)
            operands = [
                arg if isinstance(type_, Vector) else _splat(builder, kind, arg)
                for arg, type_ in zip(args, (left, right), strict=True)
            ]
            return getattr(builder, method)(*operands, flags=FLAGS)

        return vector(left, right), code

    return operation


def _overload(symbol: Any, method: str) -> None:
    operation = _arithmetic(method)

    @overload(symbol, strict=False)
    def build(left: Any, right: Any) -> Any:
        sides = [side for side in (left, right) if isinstance(side, Vector)]
        if not sides or any(side not in (sides[0], sides[0].dtype) for side in (left, right)):
            return None
        return lambda left, right: operation(left, right)


_overload(operator.add, "fadd")
_overload(operator.sub, "fsub")
_overload(operator.mul, "fmul")
_overload(operator.truediv, "fdiv")


@intrinsic
def vmax(_: Any, vector: Any, scalar: Any) -> Any:
    """Lane by lane, the larger of a vector and a number; a lane that is NaN stays so.

    One instruction on x86, whose max gives its second operand where either is NaN.
    """

    def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
        bound = _splat(builder, context.get_value_type(vector), args[1])
        return builder.select(builder.fcmp_ordered(">", bound, args[0]), bound, args[0])

    return vector(vector, scalar), code


@intrinsic
def vmin(_: Any, vector: Any, scalar: Any) -> Any:
    """Lane by lane, the smaller of a vector and a number; a lane that is NaN stays so."""

    def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
        bound = _splat(builder, context.get_value_type(vector), args[1])
        return builder.select(builder.fcmp_ordered("<", bound, args[0]), bound, args[0])

    return vector(vector, scalar), code


@intrinsic
def plain_nan(_: Any, vector: Any) -> Any:
    """The vector with each NaN replaced by the usual one, whose lower bits are zero."""

    def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
        usual = _filled(context.get_value_type(vector), float("nan"))
        return builder.select(builder.fcmp_unordered("uno", args[0], args[0]), usual, args[0])

    return vector(vector), code


@intrinsic
def vabs(_: Any, vector: Any) -> Any:
    """Absolute values."""

    def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
        return _call(builder, "fabs", context.get_value_type(vector), args[0])

    return vector(vector), code


@intrinsic
def where_positive(_: Any, test: Any, yes: Any, no: Any) -> Any:
    """Lane by lane, `yes` where `test` is above zero, else `no`."""

    def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
        zero = _filled(context.get_value_type(test), 0.0)
        return builder.select(builder.fcmp_ordered(">", args[0], zero), args[1], args[2])

    return test(test, yes, no), code


@intrinsic
def scale_by_power(_: Any, vector: Any, rounded: Any) -> Any:
    """`vector` times 2 to the integer that sits in the low bits of `rounded` (a float32 plus 1.5 * 2^23).

    A NaN in both stays NaN if the lower bits of `rounded` are zero (see `plain_nan`).
    """

    def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
        kind = context.get_value_type(vector)
        whole = ir.VectorType(INT32, kind.count)
        shift = ir.Constant(whole, [23] * kind.count)
        exponent = builder.shl(builder.bitcast(args[1], whole), shift)
        return builder.bitcast(builder.add(builder.bitcast(args[0], whole), exponent), kind)

    return vector(vector, rounded), code


@intrinsic
def library_exp(_: Any, vector: Any) -> Any:
    """exp of the platform's mathematical library, lane by lane."""

    def code(context: Any, builder: Any, __: Any, args: Any) -> Any:
        return _call(builder, "exp", context.get_value_type(vector), args[0])

    return vector(vector), code
