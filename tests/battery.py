"""Run as a script: one digest per operation, type and granularity, as JSON on standard output.

`test_isa.py` starts it under every CPU variant and several thread counts and compares the digests.
"""

import hashlib
import itertools
import json
import sys

import cpu_variants
import numpy as np
import reference
from cases import SCALES, hard_values, random_generator, random_params

import pyquant as pq
from pyquant import ops

# Small enough for a single run of a kernel with a remainder; and big enough for several threads.
SHAPES = {"small": (3, 7, 37), "big": (3, 193, 1031)}
WHERE = {
    "tensor": (None, None), "axis0": (0, None), "axis1": (1, None), "axis2": (2, None),
    "block0": (0, 2), "block1": (1, 32), "block2": (2, 32), "odd_block2": (2, 5),
}  # fmt: skip
STORAGE = ["int8", "uint8", "int16", "uint16"]


def float_types() -> dict[str, np.dtype]:
    types = {name: np.dtype(name) for name in ("float16", "float32", "float64")}
    try:
        import ml_dtypes
    except ImportError:
        return types
    return types | {"bfloat16": np.dtype(ml_dtypes.bfloat16)}


def digest(*arrays) -> str:
    result = hashlib.sha256()
    for array in arrays:
        array = np.asarray(array)
        result.update(f"{array.dtype}{array.shape}".encode())
        result.update(array.tobytes())
    return result.hexdigest()


def elementwise(name, shape, where):
    axis, block_size = WHERE[where]
    place = {"axis": axis, "block_size": block_size}
    params_shape = reference.params_shape(shape, axis, block_size)
    wide = (random_generator(name, where).standard_normal(shape) * 60).astype(np.float32)
    for type_name, x_type in float_types().items():
        x = wide.astype(x_type)
        yield f"calibrate/{type_name}", digest(
            *(v for scheme in ("symmetric", "affine")
              for p in [pq.calibrate(x, scheme=scheme, **place)]
              for v in (p.scale, p.zero_point)))  # fmt: skip
        if block_size is None:
            observer = pq.Observer("mse", axis=axis, bins=200).update(x)
            yield f"histogram/{type_name}", digest(*observer.state().values(), *observer.range())
        x.flat[:4] = [np.nan, np.inf, -np.inf, -0.0]
        for dtype in STORAGE if name == "small" else ["int8", "uint16"]:
            params = random_params(random_generator(where), params_shape, *reference.grid(dtype))
            q = ops.quantize_linear(x, *params, dtype=dtype, **place)
            yield f"quantize/{type_name}/{dtype}", digest(q)
            if type_name != "float64":
                back = ops.dequantize_linear(q, *params, dtype=type_name, **place)
                yield f"dequantize/{dtype}/{type_name}", digest(back)
        params = random_params(random_generator(where), params_shape, -8, 7)
        fake = pq.fake_quantize(x, pq.QuantParams(*params, "int4", **place))
        yield f"fake_quantize/{type_name}", digest(fake)
    grad = wide[::-1].copy()
    params = pq.QuantParams(*params, "int4", **place)
    yield "fake_quantize_grad", digest(*pq.fake_quantize_grad(grad, wide, params))


def integers(name, shape):
    rng = random_generator(name)
    acc = rng.integers(-(1 << 31), 1 << 31, shape, dtype=np.int32) >> 8
    for axis in (None, 0, 1, 2):
        n = () if axis is None else shape[axis]
        multiplier = (2.0 ** rng.uniform(-20, -12, n)).astype(np.float32)
        for dtype in STORAGE:
            for options in ({}, {"mode": "fixed"}, {"mode": "fixed", "rounding": "single"}):
                q = ops.requantize(acc, multiplier, 1, dtype=dtype, axis=axis, **options)
                yield f"requantize/{axis}/{dtype}/{'/'.join(options.values())}", digest(q)
    for bits in range(1, 17):
        kind = "int8" if bits <= 8 else "int16"
        codes = rng.integers(-(1 << (bits - 1)), 1 << (bits - 1), shape).astype(kind)
        packed = ops.pack_bits(codes, bits)
        yield f"pack_bits/{bits}", digest(packed, ops.unpack_bits(packed, bits, shape))
        plain = ops.unpack_bits(packed, bits, shape, signed=False)
        yield f"unpack_bits_unsigned/{bits}", digest(plain)


def hard():
    for scale_name, scale in SCALES.items():
        for type_name, x_type in float_types().items():
            x = hard_values(scale, -32768, 32767, random_generator(scale_name), 4000, x_type)
            for dtype in STORAGE:
                z = sum(reference.grid(dtype)) // 3
                q = ops.quantize_linear(x, scale, z, dtype=dtype)
                back = ops.dequantize_linear(q, scale, z)
                yield f"{scale_name}/{type_name}/{dtype}", digest(q, back)


def dynamic(shape):
    x = random_generator("dynamic").standard_normal(shape).astype(np.float32)
    yield "dynamic", digest(*ops.dynamic_quantize_linear(x))
    q = pq.quantize(x, dtype="int4", axis=1, block_size=32, packed=True)
    error = pq.error(x, q)
    values = [error.mse, error.sqnr_db, error.max_abs, error.cosine, error.clipped]
    yield "pq_quantize_and_error", digest(q.data, q.scale, q.dequantize(), np.array(values))


def signed_and_not(rng, shape):
    """Codes of both types, extremes among them."""
    for dtype in ("int8", "uint8"):
        low, high = reference.grid(dtype)
        codes = rng.integers(low, high, shape, dtype, endpoint=True)
        if codes.size:
            codes.flat[:: max(codes.size // 7, 1)] = low
        yield codes


def products():
    """Every edge of a tile, and what is cut into blocks for caches and threads."""
    rng = random_generator("products")
    rows = (1, 2, 3, 4, 6, 7, 8, 9, 12, 13, 16, 17, 25)
    columns, depths = (1, 8, 9, 16, 17, 32, 33, 65), (1, 2, 3, 4, 5, 7, 9, 63, 64, 65, 131)
    for m, n in itertools.product(rows, columns):
        results = []
        for k in depths:
            for a in signed_and_not(rng, (m, k)):
                for b in signed_and_not(rng, (k, n)):
                    za, zb = a[:, :1], b[:1]
                    results += [
                        ops.matmul_integer(a, b), ops.matmul_integer(a, pq.pack(b), 7, 9),
                        ops.matmul_integer(a, b, za, zb),
                    ]  # fmt: skip
        yield f"products/{m}x{n}", digest(*results)
    for m, n, k in [(1, 300, 2100), (500, 70, 300), (19, 990, 777), (999, 2, 65), (260, 260, 260)]:
        for a, b in itertools.product(signed_and_not(rng, (m, k)), signed_and_not(rng, (k, n))):
            name = f"products/{m}x{n}x{k}/{a.dtype}/{b.dtype}"
            results = [
                ops.matmul_integer(a, b, 3), ops.matmul_integer(a, pq.pack(b), 0, 5),
                ops.matmul_integer(np.asfortranarray(a), np.asfortranarray(b), 1, b[0]),
            ]  # fmt: skip
            for options in ({}, {"mode": "fixed"}, {"mode": "fixed", "rounding": "single"}):
                scales = 2.0 ** rng.uniform(-9, -7, n)
                results.append(
                    ops.qlinear_matmul(a, 0.02, 3, b, scales, 5, k**0.5 * 0.004, 9, **options)
                )
            yield name, digest(*results)
    a, b = next(signed_and_not(rng, (9, 4, 30))), next(signed_and_not(rng, (9, 30, 20)))
    yield "products/batches", digest(ops.matmul_integer(a, b, 1, 2), ops.matmul_integer(a, b[0]))
    long = next(signed_and_not(rng, (2, 150_000)))
    yield "products/long", digest(ops.qlinear_matmul(long, 1e-4, 0, long.T, 1e-3, 0, 1.0, 0))
    for m, block in [(1, 70_000), (20, 33_100), (20, 16_500)]:
        *_, a = signed_and_not(rng, (m, 75_000))
        *_, b = signed_and_not(rng, (75_000, 9))
        scale = rng.uniform(0.1, 1, (-(-75_000 // block), 9)).astype(np.float32)
        left = pq.QuantizedArray(a, pq.QuantParams(0.5, 3, "uint8"))
        right = pq.QuantizedArray(b, pq.QuantParams(scale, 0, "uint8", axis=0, block_size=block))
        yield f"products/long_blocks/{m}/{block}", digest(
            pq.matmul(left, right), pq.matmul(left, pq.pack(right)),
            ops.qlinear_matmul(a, 1e-4, a[:, :1], b, 1e-3, b[:1], 1.0, 0),
        )  # fmt: skip


def layers():
    rng = random_generator("layers")
    params = pq.QuantParams(0.4, 3, dtype="uint8")
    for m, n, k in [(1, 65, 40), (5, 17, 131), (16, 128, 256), (300, 130, 515)]:
        x = rng.standard_normal((m, k), dtype=np.float32)
        bias = rng.standard_normal(n, dtype=np.float32)
        for place, where in {
            "tensor": {}, "output": {"axis": 0}, "block": {"axis": 1, "block_size": 32},
            "odd_block": {"axis": 1, "block_size": 9},
        }.items():  # fmt: skip
            for dtype, scheme in (("int8", "symmetric"), ("uint8", "affine"), ("int4", "affine")):
                w = pq.quantize(
                    rng.standard_normal((n, k), dtype=np.float32), dtype=dtype, scheme=scheme,
                    **where,
                )  # fmt: skip
                packed = pq.pack(w, transposed=True)
                results = [pq.linear(x, packed, bias), pq.linear(x, w, relu=True)]
                for q in (pq.quantize(x, axis=0), pq.quantize(x, dtype="uint8", scheme="affine")):
                    results.append(pq.linear(q, packed, bias, clip=(-2, 3)))
                for x_type in float_types().values():
                    results.append(pq.linear(x.astype(x_type), packed))
                results.append(pq.linear(x, packed, x_params=pq.QuantParams(0.03, -7)))
                if "block_size" not in where:
                    for left in (x, pq.quantize(x)):
                        results.append(pq.linear(left, packed, out_params=params).data)
                yield f"layers/{m}x{n}x{k}/{place}/{dtype}", digest(*results)


def convolutions():
    """Tiles and channel by channel, alone and cut into bands and parts for threads."""
    rng = random_generator("convolutions")
    layers = [
        ((2, 3, 11, 13), 40, (3, 2), 1), ((1, 33, 9, 9), 35, (1, 1), 1), ((2, 40, 9), 40, (5,), 8),
        ((1, 70, 12, 9), 140, (3, 3), 70), ((1, 64, 60, 61), 70, (3, 3), 1),
        ((1, 130, 61, 60), 130, (5, 5), 130), ((1, 300, 7, 7), 520, (3, 3), 1),
        ((1, 6, 4, 9, 8), 9, (2, 3, 3), 3),
    ]  # fmt: skip
    for shape, outputs, kernel, groups in layers:
        w_shape = (outputs, shape[1] // groups, *kernel)
        bias = rng.integers(-9999, 9999, outputs, dtype=np.int32)
        scale = rng.uniform(0.001, 0.01, outputs).astype(np.float32)
        options = {"pads": [1] * 2 * len(kernel), "group": groups}
        for x in signed_and_not(rng, shape):
            for w in signed_and_not(rng, w_shape):
                zeros = x.flat[0], np.resize(w.ravel(), outputs)
                results = [ops.conv_integer(x, w, *zeros, **options)]
                for mode in ("float", "fixed"):
                    results.append(
                        ops.qlinear_conv(x, 0.02, zeros[0], w, scale, zeros[1], 3.0, np.int8(5),
                                         bias, mode=mode, **options)
                    )  # fmt: skip
                last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
                results.append(ops.conv_integer(last, w, *zeros, layout="NHWC", **options))
                name = f"convolutions/{shape}/{kernel}/{groups}/{x.dtype}/{w.dtype}"
                yield name, digest(*results)
        if len(kernel) == 2:
            real = rng.standard_normal(shape).astype(np.float32)
            weight = pq.quantize(rng.standard_normal(w_shape).astype(np.float32), axis=0)
            packed = pq.pack_convolution(weight, groups=groups)
            static = pq.QuantParams(0.03, 7, "uint8")
            options = {"groups": groups, "stride": 2, "padding": "same"}
            results = [pq.conv2d(real, w, scale, x_params=p, **options)
                       for w in (weight, packed) for p in (None, static)]  # fmt: skip
            yield f"convolutions/{shape}/{kernel}/{groups}/conv2d", digest(*results)


def lengths():
    """Every remainder of a vector, and starts that are aligned to nothing."""
    wide = (random_generator("lengths").standard_normal(400) * 90).astype(np.float32)
    acc = (wide * 1e6).astype(np.int32)
    codes = wide.clip(-128, 127).astype(np.int8)
    for length in range(140):
        for start in (0, 1, 5):
            x = wide[start : start + length]
            params = pq.QuantParams(0.7, -3)
            everything = [pq.fake_quantize(x, params), *pq.fake_quantize_grad(x, x, params)]
            for x_type in float_types().values():
                narrow = x.astype(x_type)
                everything += [ops.quantize_linear(narrow, 0.7, z, dtype=d)
                               for z, d in ((1, "int8"), (2, "uint16"))]  # fmt: skip
                everything += [*ops.minmax(narrow), ops.absmax(narrow)]
            q = codes[start : start + length]
            everything += [ops.dequantize_linear(q, 0.7, 3, dtype=d)
                           for d in ("float32", "float16")]  # fmt: skip
            everything += [ops.requantize(acc[start : start + length], 1e-6, 3, mode=mode)
                           for mode in ("float", "fixed")]  # fmt: skip
            for bits in (1, 2, 3, 4, 5, 7):
                everything.append(ops.pack_bits(q >> (8 - bits), bits))
                everything.append(ops.unpack_bits(everything[-1], bits, length))
            yield f"lengths/{length}/{start}", digest(*everything)


def run() -> dict[str, str]:
    results = dict(hard()) | dict(lengths()) | dict(products()) | dict(layers())
    results |= dict(convolutions())
    for name, shape in SHAPES.items():
        for where in WHERE:
            for key, value in elementwise(name, shape, where):
                results[f"{name}/{where}/{key}"] = value
        for key, value in (*integers(name, shape), *dynamic(shape)):
            results[f"{name}/{key}"] = value
    return results


if __name__ == "__main__":
    np.seterr(all="ignore")
    json.dump(
        {"isa": cpu_variants.best(), "threads": pq.get_num_threads(), "digests": run()},
        sys.stdout,
    )
