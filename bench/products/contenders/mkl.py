"""MKL's u8 s8 product, `cblas_gemm_s8u8s32`, from the `mkl` wheel through ctypes; packed as well.

The arguments are converted once: a call from Python costs two microseconds. MKL has no layers.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from bench.cases import aligned
from bench.contenders import offers
from bench.products.cases import INT32, Data
from bench.timing import Contender

NAME = "MKL"
# mkl_cblas.h. In row-major order a is the unsigned operand and b the signed one.
ROW_MAJOR, NO_TRANS, PACKED, B_MATRIX, FIX_OFFSET = 101, 111, 151, 162, 173


@cache
def _library() -> Any:
    try:
        files = metadata.files("mkl") or []
    except metadata.PackageNotFoundError as error:
        raise ImportError("mkl is not installed") from error
    found = [Path(str(file.locate())).resolve() for file in files if "mkl_rt" in file.name]
    if not found:
        raise ImportError("the mkl wheel has no libmkl_rt here")
    if sys.platform.startswith("linux"):
        # One OpenMP runtime in the process, its workers put to sleep as soon as may be.
        os.environ.setdefault("MKL_THREADING_LAYER", "GNU")
    library = ctypes.CDLL(str(found[0]), mode=ctypes.RTLD_GLOBAL)
    library.cblas_gemm_s8u8s32_pack_get_size.restype = ctypes.c_size_t
    return library


def _call(function: Any, *arguments: Any) -> Callable[[], None]:
    """A call with arguments converted now: Python integers as C int."""
    return partial(function, *(ctypes.c_int(x) if isinstance(x, int) else x for x in arguments))


def contenders(data: Data, threads: int) -> list[Contender]:
    if data.case.op != INT32:
        return []
    library, case = _library(), data.case
    library.MKL_Set_Num_Threads(threads)
    m, n, k = case.m, case.n, case.k
    one, none, zero = ctypes.c_float(1), ctypes.c_float(0), ctypes.c_int8(0)
    a, b, offset = data.a_unsigned, data.b, aligned(1, np.int32)
    size = library.cblas_gemm_s8u8s32_pack_get_size(B_MATRIX, m, n, k)
    packed = aligned(size, np.uint8)
    address = lambda array: ctypes.c_void_p(array.ctypes.data)  # noqa: E731
    _call(
        library.cblas_gemm_s8u8s32_pack,
        *(ROW_MAJOR, B_MATRIX, NO_TRANS, m, n, k, address(b), n, address(packed)),
    )()
    found = []
    for name, function, kind, right in (
        (f"{NAME} packed", library.cblas_gemm_s8u8s32_compute, PACKED, packed),
        (NAME, library.cblas_gemm_s8u8s32, NO_TRANS, b),
    ):

        def product(
            y: np.ndarray, function: Any = function, kind: int = kind, right: np.ndarray = right
        ) -> Callable[[], None]:
            return _call(
                function,
                *(ROW_MAJOR, NO_TRANS, kind, FIX_OFFSET, m, n, k, one, address(a), k, zero),
                *(address(right), n, zero, none, address(y), n, address(offset)),
            )

        def fresh(product: Any = product) -> np.ndarray:
            y = np.empty((m, n), np.int32)
            product(y)()
            return y

        out = aligned((m, n), np.int32)
        names = {"gemm": product(out), "fresh": fresh, "out": out}
        names["alive"] = (a, b, packed, offset)
        found += [
            replace(made, array=_reader(data, made.array))
            for made in offers(name, names, threads, fresh="fresh()", out="gemm()")
        ]
    return found


def _reader(data: Data, array: Any) -> Callable[[Any], np.ndarray]:
    return lambda result: data.signed(array(result))
