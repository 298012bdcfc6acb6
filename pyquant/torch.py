"""Fake quantization inside torch's autograd; importing this module imports torch.

Not re-exported by `pyquant`, which needs NumPy alone: write ``import pyquant.torch``.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pyquant import ops
from pyquant._arguments import Array
from pyquant._grid import grid_of

try:
    import torch
    from torch.autograd.function import once_differentiable
except ImportError:
    raise ImportError("pyquant.torch needs PyTorch: pip install 'pyquant[torch]'") from None

__all__ = ["fake_quantize"]


def fake_quantize(
    x: torch.Tensor,
    scale: torch.Tensor | float,
    zero_point: torch.Tensor | int = 0,
    *,
    dtype: str = "int8",
    narrow_range: bool = False,
    axis: int | None = None,
    block_size: int | None = None,
) -> torch.Tensor:
    """``dequantize(quantize(x))`` with gradients for x, scale and zero point.

    The values are those of `pyquant.fake_quantize`, the gradients those of
    `pyquant.fake_quantize_grad`: masked straight-through for x, LSQ for the scale, LSQ+ for the
    zero point. CPU tensors are computed on where they lie, without copies of contiguous ones.

    Parameters
    ----------
    x : tensor of float16, bfloat16, float32 or float64 on the CPU
        bfloat16 needs the ml_dtypes package.
    scale : float or tensor
        Positive; shape ``()`` or ``(1,)`` per tensor, ``(x.shape[axis],)`` with `axis`, and
        ``x.shape`` with ``ceil(n / block_size)`` along `axis` with `block_size`. A
        ``torch.nn.Parameter`` learns.
    zero_point : int or tensor of scale's shape
        Integers inside the grid. A floating-point tensor, which can learn, counts as the nearest
        integer of the grid, and its gradient passes straight through that rounding.
    dtype, narrow_range, axis, block_size
        As in `pyquant.ops.quantize_linear`.

    Returns
    -------
    tensor of x's shape and dtype

    Raises
    ------
    TypeError
        `x` is not a dense floating-point tensor on the CPU.
    ValueError
        As `pyquant.quantize`; among them a scale that an optimizer has made zero or negative.

    Notes
    -----
    The gradient is not differentiable again: a second backward pass raises RuntimeError. Esser et
    al. 2020 ("Learned Step Size Quantization") divide the scale's gradient by
    ``sqrt(n * qmax)``, n the number of elements that share it, when the optimizer is SGD.

    Examples
    --------
    >>> import torch, pyquant.torch
    >>> x = torch.tensor([0.3, 9.0], requires_grad=True)
    >>> scale = torch.nn.Parameter(torch.tensor(0.25))
    >>> y = pyquant.torch.fake_quantize(x, scale, dtype="int4")
    >>> y.sum().backward()
    >>> y.tolist(), x.grad.tolist(), round(scale.grad.item(), 2)
    ([0.25, 1.75], [1.0, 0.0], 6.8)
    """
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"x must be a torch tensor, not {type(x).__name__}")
    y: torch.Tensor = _FakeQuantize.apply(
        x, scale, zero_point, dtype, narrow_range, axis, block_size
    )
    return y


class _FakeQuantize(torch.autograd.Function):
    """What autograd sees; the arithmetic is `ops.fake_quantize_linear` and its gradient."""

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        scale: torch.Tensor | float,
        zero_point: torch.Tensor | int,
        dtype: str,
        narrow_range: bool,
        axis: int | None,
        block_size: int | None,
    ) -> torch.Tensor:
        ctx.options = {
            "dtype": dtype, "narrow_range": narrow_range, "axis": axis, "block_size": block_size,
        }  # fmt: skip
        # save_for_backward notices when one of them is changed in place before backward.
        ctx.save_for_backward(*(v for v in (x, scale, zero_point) if isinstance(v, torch.Tensor)))
        ctx.constants = [
            None if isinstance(v, torch.Tensor) else v for v in (x, scale, zero_point)
        ]
        values = _array(x, "x")
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        ops.fake_quantize_linear(
            values, _scales(scale), _zero_points(zero_point, dtype, narrow_range),
            out=_array(y, "out"), **ctx.options,
        )  # fmt: skip
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
        saved = list(ctx.saved_tensors)
        x, scale, zero_point = (
            saved.pop(0) if value is None else value for value in ctx.constants
        )
        dtype, narrow_range = ctx.options["dtype"], ctx.options["narrow_range"]
        gradients = ops.fake_quantize_grad_linear(
            _array(grad, "grad"), _array(x, "x"), _scales(scale),
            _zero_points(zero_point, dtype, narrow_range), **ctx.options,
        )  # fmt: skip
        needed = ctx.needs_input_grad
        results = [
            _tensor_like(gradient, value) if need else None
            for gradient, value, need in zip(
                gradients, (x, scale, zero_point), needed[:3], strict=True
            )
        ]
        return (*results, None, None, None, None)


def _array(tensor: torch.Tensor, name: str) -> Array:
    """The tensor's own memory as an array."""
    if tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise TypeError(
            f"{name} must be a dense tensor on the CPU in this version, not {tensor.layout} on "
            f"{tensor.device}"
        )
    tensor = tensor.detach()
    if tensor.dtype != torch.bfloat16:
        return np.asarray(tensor.numpy())
    try:
        import ml_dtypes
    except ImportError:
        raise ImportError(
            f"{name} is bfloat16, which needs the ml_dtypes package: pip install 'pyquant[files]'"
        ) from None
    return np.asarray(tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16))


def _scales(scale: torch.Tensor | float) -> Any:
    return _array(scale, "scale") if isinstance(scale, torch.Tensor) else scale


def _zero_points(zero_point: torch.Tensor | int, dtype: str, narrow_range: bool) -> Any:
    if not isinstance(zero_point, torch.Tensor):
        return zero_point
    array = _array(zero_point, "zero_point")
    if not zero_point.dtype.is_floating_point:
        return array
    if not np.isfinite(array).all():
        raise ValueError(f"zero_point={array[~np.isfinite(array)].flat[0]} must be finite")
    grid = grid_of(dtype, narrow_range)
    return np.clip(np.rint(array), grid.qmin, grid.qmax).astype(np.int32)


def _tensor_like(gradient: Array, tensor: torch.Tensor) -> torch.Tensor:
    """A gradient in the dtype and shape of what it belongs to."""
    if gradient.dtype.name == "bfloat16":
        made = torch.from_numpy(gradient.view(np.int16)).view(torch.bfloat16)
    else:
        made = torch.from_numpy(gradient)
    return made.to(tensor.dtype).reshape(tensor.shape)
