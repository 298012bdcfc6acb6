"""cuBLASLt's int8 product through ctypes, with a workspace and a search among its algorithms."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

R_32I, R_8I, COMPUTE_32I = 10, 3, 72
TRANSA, WORKSPACE_BYTES = 3, 1
CHOICES, WORKSPACE = 16, 64 << 20


class _Choice(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = (
        ("algorithm", ctypes.c_uint64 * 8),
        ("workspace", ctypes.c_size_t),
        ("state", ctypes.c_int),
        ("waves", ctypes.c_float),
        ("reserved", ctypes.c_int * 4),
    )


def _library() -> ctypes.CDLL:
    for version in (13, 12):
        try:  # loaded already, as by torch, or where the system looks
            return ctypes.CDLL(f"libcublasLt.so.{version}")
        except OSError:
            continue
    from cuda import pathfinder  # as CuPy finds it in wheels

    return ctypes.CDLL(pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path)


class Product:
    """C (m, n) = A (m, k) B^T for row-major int8 A and B (n, k): column-major, C^T = B A^T."""

    def __init__(self, cp: Any, m: int, n: int, k: int) -> None:
        self._cp, self._lt = cp, _library()
        self._handle, self._product = ctypes.c_void_p(), ctypes.c_void_p()
        self._check(self._lt.cublasLtCreate(ctypes.byref(self._handle)))
        self._check(
            self._lt.cublasLtMatmulDescCreate(ctypes.byref(self._product), COMPUTE_32I, R_32I)
        )
        transposed = ctypes.c_int(1)
        self._check(
            self._lt.cublasLtMatmulDescSetAttribute(
                self._product, TRANSA, ctypes.byref(transposed), ctypes.c_size_t(4)
            )
        )
        self._b, self._a = self._layout(R_8I, k, n), self._layout(R_8I, k, m)
        self._c = self._layout(R_32I, n, m)
        self._workspace = cp.empty(WORKSPACE, cp.uint8)
        self._one, self._zero = ctypes.c_int32(1), ctypes.c_int32(0)
        self._choices = self._heuristic()
        self._chosen = self._choices[0]

    def _check(self, status: int) -> None:
        if status:
            raise RuntimeError(f"cuBLASLt answered {status}")

    def _layout(self, kind: int, rows: int, columns: int) -> ctypes.c_void_p:
        layout = ctypes.c_void_p()
        self._check(
            self._lt.cublasLtMatrixLayoutCreate(
                ctypes.byref(layout), kind, ctypes.c_uint64(rows), ctypes.c_uint64(columns),
                ctypes.c_int64(rows),
            )
        )  # fmt: skip
        return layout

    def _heuristic(self) -> list[_Choice]:
        preference, most = ctypes.c_void_p(), ctypes.c_size_t(WORKSPACE)
        self._check(self._lt.cublasLtMatmulPreferenceCreate(ctypes.byref(preference)))
        self._check(
            self._lt.cublasLtMatmulPreferenceSetAttribute(
                preference, WORKSPACE_BYTES, ctypes.byref(most), ctypes.c_size_t(8)
            )
        )
        found, count = (_Choice * CHOICES)(), ctypes.c_int()
        self._check(
            self._lt.cublasLtMatmulAlgoGetHeuristic(
                self._handle, self._product, self._b, self._a, self._c, self._c, preference,
                CHOICES, found, ctypes.byref(count),
            )
        )  # fmt: skip
        if count.value == 0:
            raise RuntimeError("cuBLASLt has no algorithm for this product")
        return list(found[: count.value])

    def choose(self, seconds: Callable[[], float]) -> None:
        """Keep the fastest of the heuristic's algorithms; `seconds` times calls of this."""
        timed = []
        for choice in self._choices:
            self._chosen = choice
            try:
                timed.append((seconds(), len(timed), choice))
            except RuntimeError:
                continue
        self._chosen = min(timed)[2]

    def __call__(self, a: Any, b: Any, c: Any) -> None:
        stream = self._cp.cuda.get_current_stream()
        self._check(
            self._lt.cublasLtMatmul(
                self._handle, self._product, ctypes.byref(self._one),
                ctypes.c_void_p(b.data.ptr), self._b, ctypes.c_void_p(a.data.ptr), self._a,
                ctypes.byref(self._zero), ctypes.c_void_p(c.data.ptr), self._c,
                ctypes.c_void_p(c.data.ptr), self._c, ctypes.byref(self._chosen.algorithm),
                ctypes.c_void_p(self._workspace.data.ptr), ctypes.c_size_t(WORKSPACE),
                ctypes.c_void_p(stream.ptr),
            )
        )  # fmt: skip
