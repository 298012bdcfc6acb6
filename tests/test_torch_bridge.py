"""pyquant.torch: the values and gradients of the library inside torch's autograd."""

import subprocess
import sys

import numpy as np
import pytest

import pyquant as pq

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install pyquant[torch]")

from pyquant.torch import fake_quantize  # noqa: E402

RNG = np.random.default_rng(4)
SHAPE = (6, 5, 8)
GRANULARITIES = {
    "tensor": (None, None, ()),
    "first axis": (0, None, (6,)),
    "middle axis": (1, None, (5,)),
    "last axis": (-1, None, (8,)),
    "blocks": (-1, 3, (6, 5, 3)),
}
GRIDS = {"int8": False, "int4": True, "uint8": False, "int2": True, "uint16": False}


def case(granularity, dtype, float_dtype=np.float32):
    """x, scale, integer zero point and the arguments that describe them."""
    axis, block_size, shape = GRANULARITIES[granularity]
    grid = pq.QuantParams(1.0, 0, dtype, GRIDS[dtype])
    x = (2 * RNG.standard_normal(SHAPE)).astype(float_dtype)
    scale = RNG.uniform(2, 6, shape).astype(np.float32) / (grid.qmax - grid.qmin)
    zero_point = RNG.integers(max(grid.qmin, -3), min(grid.qmax, 200), shape, endpoint=True)
    options = {
        "dtype": dtype, "narrow_range": GRIDS[dtype], "axis": axis, "block_size": block_size,
    }  # fmt: skip
    return x, scale, zero_point.astype(np.int32), options


@pytest.mark.parametrize("dtype", GRIDS)
@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_values_and_gradients_are_those_of_the_library(granularity, dtype):
    x, scale, zero_point, options = case(granularity, dtype)
    upstream = RNG.standard_normal(SHAPE).astype(np.float32)
    tensor = torch.tensor(x, requires_grad=True)
    scales = torch.nn.Parameter(torch.tensor(scale))
    zeros = torch.nn.Parameter(torch.tensor(zero_point, dtype=torch.float32))
    y = fake_quantize(tensor, scales, zeros, **options)
    y.backward(torch.from_numpy(upstream))

    params = pq.QuantParams(scale, zero_point, **options)
    assert np.array_equal(y.detach().numpy(), pq.fake_quantize(x, params))
    expected = pq.fake_quantize_grad(upstream, x, params)
    for parameter, gradient in zip((tensor, scales, zeros), expected, strict=True):
        assert parameter.grad.dtype == torch.float32
        assert np.array_equal(parameter.grad.numpy(), gradient)


def surrogate(x, scale, zero_point, rounding, qmin, qmax):
    """What is differentiated: rounding's error is frozen, the clamp is not."""
    return scale * (np.clip(x / scale + rounding + zero_point, qmin, qmax) - zero_point)


def difference(f, point, h):
    return (f(point + h) - f(point - h)) / (2 * h)


@pytest.mark.parametrize("dtype", ["int8", "int4", "int2"])
def test_gradients_are_finite_differences_of_the_surrogate(dtype):
    _, scale, zero_point, options = case("tensor", dtype)
    params = pq.QuantParams(scale, zero_point, **options)
    s, z = float(params.scale), int(zero_point)
    # Every code and some beyond the grid; not the two at the corners of the clamp, where the
    # surrogate has a left and a right derivative.
    codes = np.setdiff1d(np.arange(params.qmin - 3, params.qmax + 4), [params.qmin, params.qmax])
    x = s * (RNG.choice(codes, SHAPE) - z + RNG.uniform(-0.4, 0.4, SHAPE))
    rounding = np.rint(x / s) - x / s
    q = (params.qmin, params.qmax)

    tensor = torch.tensor(x, requires_grad=True)
    scales = torch.tensor(s, dtype=torch.float64, requires_grad=True)
    zeros = torch.tensor(float(z), dtype=torch.float64, requires_grad=True)
    upstream = RNG.standard_normal(SHAPE)
    fake_quantize(tensor, scales, zeros, **options).backward(torch.from_numpy(upstream))

    h = 1e-6
    by_x = difference(lambda v: surrogate(v, s, z, rounding, *q), x, h)
    by_scale = difference(lambda v: surrogate(x, v, z, rounding, *q), s, h * s)
    by_zero = difference(lambda v: surrogate(x, s, v, rounding, *q), float(z), h)
    np.testing.assert_allclose(tensor.grad.numpy(), upstream * by_x, atol=1e-6)
    np.testing.assert_allclose(scales.grad.item(), (upstream * by_scale).sum(), rtol=1e-5)
    np.testing.assert_allclose(zeros.grad.item(), (upstream * by_zero).sum(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float32", "float64"])
def test_float_types_stay_what_they_are(name):
    if name == "bfloat16":
        pytest.importorskip("ml_dtypes")
    x = torch.linspace(-3, 3, 61, dtype=getattr(torch, name)).requires_grad_()
    scale = torch.nn.Parameter(torch.tensor(0.25))
    y = fake_quantize(x, scale, dtype="int4")
    y.sum().backward()
    assert y.dtype == x.grad.dtype == x.dtype
    assert scale.grad.dtype == torch.float32
    wide = x.detach().to(torch.float32).numpy()
    expected = pq.fake_quantize(wide, pq.QuantParams(0.25, 0, "int4"))
    assert np.array_equal(y.detach().to(torch.float32).numpy(), expected)
    assert (x.grad == ((x / 0.25).round() <= 7).logical_and((x / 0.25).round() >= -8)).all()


def test_memory_is_shared_and_not_copied(monkeypatch):
    """The arrays that the operators see lie where the tensors lie."""
    from pyquant import ops

    seen = {}
    original = ops.fake_quantize_linear

    def spy(x, scale, zero_point, *, out, **options):
        seen.update(x=x.data_ptr(), scale=scale.data_ptr(), out=out.data_ptr())
        return original(x, scale, zero_point, out=out, **options)

    monkeypatch.setattr(ops, "fake_quantize_linear", spy)
    x, scale = torch.randn(1000), torch.tensor(0.1)
    y = fake_quantize(x, scale)
    assert seen == {"x": x.data_ptr(), "scale": scale.data_ptr(), "out": y.data_ptr()}


def test_strides_empty_and_scalars():
    x = torch.randn(8, 6, requires_grad=True)
    for view in (x.t(), x[::2, 1:4], x.expand(3, 8, 6), x[:0], x[0, 0]):
        y = fake_quantize(view, 0.1, dtype="int4")
        params = pq.QuantParams(0.1, 0, "int4")
        assert np.array_equal(y.detach().numpy(), pq.fake_quantize(view.detach().numpy(), params))
        (gradient,) = torch.autograd.grad(y.sum(), x)
        assert gradient.shape == x.shape
    assert torch.autograd.grad(fake_quantize(x.t(), 0.1, axis=None).sum(), x)[0].eq(1).all()
    one = torch.nn.Parameter(torch.tensor([0.1]))
    fake_quantize(x, one).sum().backward()
    assert one.grad.shape == (1,)


def test_only_what_needs_a_gradient_gets_one():
    x, scale = torch.randn(10), torch.nn.Parameter(torch.tensor(0.1))
    fake_quantize(x, scale).sum().backward()
    assert x.grad is None and scale.grad is not None
    assert not fake_quantize(x, 0.1).requires_grad
    with torch.no_grad():
        assert not fake_quantize(x, scale).requires_grad


def test_a_learned_zero_point_counts_as_the_nearest_integer_of_the_grid():
    x = torch.randn(50)
    rounded = fake_quantize(x, 0.1, torch.tensor(2.6), dtype="int4")
    assert torch.equal(rounded, fake_quantize(x, 0.1, 3, dtype="int4"))
    clamped = fake_quantize(x, 0.1, torch.tensor(99.0), dtype="int4")
    assert torch.equal(clamped, fake_quantize(x, 0.1, torch.tensor(7), dtype="int4"))


def test_mistakes_are_named():
    x = torch.randn(4, requires_grad=True)
    with pytest.raises(ValueError, match=r"scale=-0\.5 must be positive"):
        fake_quantize(x, torch.tensor(-0.5))
    with pytest.raises(ValueError, match="zero_point=99 lies outside the grid"):
        fake_quantize(x, 0.1, 99, dtype="int4")
    with pytest.raises(ValueError, match="zero_point=nan must be finite"):
        fake_quantize(x, 0.1, torch.tensor(float("nan")))
    with pytest.raises(ValueError, match="scale must have shape"):
        fake_quantize(x, torch.ones(3), axis=0)
    with pytest.raises(TypeError, match="x must be a torch tensor, not ndarray"):
        fake_quantize(np.ones(3, np.float32), 0.1)
    with pytest.raises(TypeError, match=r"not torch\.strided on meta"):
        fake_quantize(torch.empty(3, device="meta"), 0.1)
    with pytest.raises(TypeError, match="sparse_coo"):
        fake_quantize(torch.ones(3).to_sparse(), 0.1)
    with pytest.raises(TypeError):
        fake_quantize(torch.ones(3, dtype=torch.int32), 0.1)
    y = fake_quantize(x, 0.1)
    (gradient,) = torch.autograd.grad((y * y).sum(), x, create_graph=True)
    with pytest.raises(RuntimeError):
        gradient.sum().backward()


def test_a_change_before_backward_is_noticed():
    x, scale = torch.randn(4), torch.nn.Parameter(torch.tensor(0.1))
    y = fake_quantize(x, scale)
    with torch.no_grad():
        scale.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_importing_pyquant_does_not_import_torch():
    code = "import sys, pyquant; assert not {'torch', 'pyquant.torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_torch_the_error_names_the_extra():
    code = "import sys; sys.modules['torch'] = None; import pyquant.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode and "pip install 'pyquant[torch]'" in done.stderr


class QuantizedLinear(torch.nn.Linear):
    """A layer with 2-bit weights, a learned step per output and a learned 4-bit input."""

    def __init__(self, inputs, outputs):
        super().__init__(inputs, outputs)
        start = 2 * self.weight.detach().abs().mean(dim=1)
        self.weight_scale = torch.nn.Parameter(start)
        self.input_scale = torch.nn.Parameter(torch.tensor(0.2))
        self.input_zero_point = torch.nn.Parameter(torch.tensor(8.0))

    def forward(self, x):
        w = fake_quantize(
            self.weight, self.weight_scale, dtype="int2", narrow_range=True, axis=0
        )  # fmt: skip
        x = fake_quantize(x, self.input_scale, self.input_zero_point, dtype="uint4")
        return torch.nn.functional.linear(x, w, self.bias)


def test_a_training_loop_learns_weights_and_scales():
    torch.manual_seed(0)
    x = torch.randn(512, 16)
    y = (torch.sin(x[:, 0] * 2) + x[:, 1] * x[:, 2] > 0).long()
    model = torch.nn.Sequential(QuantizedLinear(16, 64), torch.nn.ReLU(), QuantizedLinear(64, 2))
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(150):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0], (losses[0], losses[-1])
    for name, parameter in model.named_parameters():
        assert not torch.equal(before[name], parameter), f"{name} did not move"
    assert all((p > 0).all() for n, p in model.named_parameters() if n.endswith("_scale"))
    state = model.state_dict()
    assert "0.weight_scale" in state and "2.input_zero_point" in state


def test_a_learned_scale_finds_the_best_clip():
    """Gradient descent on the scale alone ends where a search over scales ends."""
    torch.manual_seed(0)
    x = torch.randn(20000)
    scale = torch.nn.Parameter(torch.tensor(x.abs().max().item() / 7))
    optimizer = torch.optim.Adam([scale], lr=3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        (fake_quantize(x, scale, dtype="int4") - x).square().mean().backward()
        optimizer.step()
    errors = {
        s: (fake_quantize(x, s, dtype="int4") - x).square().mean().item()
        for s in np.linspace(0.2, 0.6, 81).tolist()
    }
    best = min(errors, key=errors.get)
    learned = (fake_quantize(x, scale, dtype="int4") - x).square().mean().item()
    assert abs(scale.item() - best) < 0.03
    assert learned < 1.02 * errors[best]
