"""Fake quantization inside torch's autograd; importing this module imports torch.

Not re-exported by `pyquant`, which needs NumPy alone: write ``import pyquant.torch``.
"""

from __future__ import annotations

from typing import Any

from pyquant import ops
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
    zero point. Tensors are computed on where they lie, without copies of contiguous ones. Those on
    a GPU need CuPy, run on torch's current stream, and their values are not checked.

    Parameters
    ----------
    x : tensor of float16, bfloat16, float32 or float64, on the CPU or an NVIDIA GPU
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
        `x` is not a dense floating-point tensor on the CPU or an NVIDIA GPU.
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
        y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
        ops.fake_quantize_linear(
            x, scale, _zero_points(zero_point, dtype, narrow_range), out=y, **ctx.options
        )
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
            grad, x, scale, _zero_points(zero_point, dtype, narrow_range), **ctx.options
        )
        needed = ctx.needs_input_grad
        results = [
            _like(gradient, value) if need else None
            for gradient, value, need in zip(
                gradients, (x, scale, zero_point), needed[:3], strict=True
            )
        ]
        return (*results, None, None, None, None)


def _zero_points(zero_point: torch.Tensor | int, dtype: str, narrow_range: bool) -> Any:
    if not isinstance(zero_point, torch.Tensor) or not zero_point.dtype.is_floating_point:
        return zero_point
    if zero_point.device.type == "cpu" and not zero_point.isfinite().all():
        bad = zero_point[~zero_point.isfinite()].flatten()[0].item()
        raise ValueError(f"zero_point={bad} must be finite")
    grid = grid_of(dtype, narrow_range)
    return zero_point.detach().round().clamp(grid.qmin, grid.qmax).to(torch.int32)


def _like(gradient: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """A gradient with the dtype, shape and place of what it belongs to."""
    return gradient.to(device=tensor.device, dtype=tensor.dtype).reshape(tensor.shape)
