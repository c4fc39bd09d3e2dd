"""A GPU in software: `SECOND_DEVICE=1 pytest` makes it the default device of the library.

Its tensors do not mix with those on the CPU and are refused by NumPy, as a GPU's are, and its
products round otherwise. What it computes, the CPU does. It finds code and tests that take for
granted that results are on the CPU; it has no autocast, and other processes do not see it.
"""

import torch
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

from hf_latent_bridge import devices

NAME = "fake"
PRODUCTS = {f"aten::{name}" for name in ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot")}
RESHAPES = {"aten::view", "aten::_unsafe_view", "aten::_reshape_alias"}
MIXING = {"aten::index", "aten::index_put_", "aten::_index_put_impl_", "aten::copy_"}
OWN = {"empty.memory_format", "empty_strided", "_copy_from", "copy_", "_to_copy"}
CONVOLUTIONS = {"convolution_overrideable", "convolution_backward_overrideable"}


class FakeTensor(torch.Tensor):
    """A tensor on the second device; `values` is on the CPU."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, values):
        tensor = torch._C._acc.create_empty_tensor(values.shape, values.dtype)
        tensor.__class__ = cls
        tensor.values_on_cpu = values
        return tensor

    def __repr__(self, **options):
        return f"fake({self.cpu()!r})"

    def __format__(self, spec):
        return format(self.item(), spec) if self.dim() == 0 else repr(self)


class Backend(_DummyBackendModule):
    """What torch asks of a device's module."""

    def get_amp_supported_dtype(self):
        return [torch.float16, torch.bfloat16]

    def get_rng_state(self, device=None):
        return torch.get_rng_state()

    def set_rng_state(self, state, device=None):
        torch.set_rng_state(state)


def values(item):
    """The argument as the CPU takes it."""
    if isinstance(item, FakeTensor):
        return item.values_on_cpu
    return torch.device("cpu") if isinstance(item, torch.device) else item


def compute(op, *args, **kwargs):
    """Runs an operator on the CPU, and puts its results on the second device."""
    name = op._schema.name
    flat, shape = pytree.tree_flatten((args, kwargs))
    tensors = [item for item in flat if isinstance(item, torch.Tensor)]
    fakes = {id(t.values_on_cpu): t for t in tensors if isinstance(t, FakeTensor)}
    if fakes and name not in MIXING and any(t.ndim and t.device.type == "cpu" for t in tensors):
        raise RuntimeError(f"Expected all tensors to be on the same device: {name}")
    args, kwargs = pytree.tree_unflatten([values(item) for item in flat], shape)
    with torch.no_grad():
        result = calculate(op, name, args, kwargs)
    for fake in fakes.values():
        if fake.shape != fake.values_on_cpu.shape:  # resized in place
            fake.data = FakeTensor(fake.values_on_cpu)
    to_cpu = any(isinstance(item, torch.device) and item.type == "cpu" for item in flat)
    if to_cpu or (name == "aten::copy_" and flat[0].device.type == "cpu"):
        return result

    def on_device(out):
        if not isinstance(out, torch.Tensor) or isinstance(out, FakeTensor):
            return out
        return fakes[id(out)] if id(out) in fakes else FakeTensor(out)

    return pytree.tree_map(on_device, result)


def calculate(op, name, args, kwargs):
    if name in RESHAPES and not isinstance(args[-1], torch.dtype):
        return args[0].reshape(args[1])
    if name not in PRODUCTS:
        return op(*args, **kwargs)
    dtype = next(a.dtype for a in args if isinstance(a, torch.Tensor))
    wide = [a.double() if isinstance(a, torch.Tensor) else a for a in args]
    return (op(*wide, **kwargs) * (1 + 2**-50)).to(dtype)


def copy_from(source, target, non_blocking=False):
    values(target).copy_(values(source))
    return target


def backward_of_convolution(*args):
    grad, x, weight, *rest = args
    return compute(torch.ops.aten.convolution_backward.default, grad, x, weight, None, *rest)


def implement(library):
    """Gives the second device every operator that torch would otherwise compose of others."""

    def has(operator, key):
        return torch._C._dispatch_has_kernel_for_dispatch_key(operator, key)

    library.impl("_copy_from", copy_from, "PrivateUse1")
    library.impl("convolution_overrideable", as_kernel("convolution"), "PrivateUse1")
    library.impl("convolution_backward_overrideable", backward_of_convolution, "PrivateUse1")
    for name in ("empty.memory_format", "empty_strided"):
        library.impl(name, empty(name), "PrivateUse1")
    composed = ("CompositeExplicitAutograd", "CompositeExplicitAutogradNonFunctional")
    for full in torch._C._dispatch_get_all_op_names():
        name = full.removeprefix("aten::")
        if not full.startswith("aten::") or name in OWN | CONVOLUTIONS or ".out" in name:
            continue
        if any(has(full, key) for key in composed) and overload(name) is not None:
            library.impl(name, as_kernel(name), "PrivateUse1")


def overload(name):
    packet, _, variant = name.partition(".")
    return getattr(getattr(torch.ops.aten, packet, None), variant or "default", None)


def as_kernel(name):
    op = overload(name)
    return lambda *args, **kwargs: compute(op, *args, **kwargs)


def empty(name):
    op = overload(name)

    def kernel(*args, device=None, pin_memory=None, **kwargs):
        return FakeTensor(op(*args, device="cpu", **kwargs))

    return kernel


_setup_privateuseone_for_python_backend(NAME, backend_module=Backend())
DEVICE = torch.device(NAME, 0)
_FALLBACK = torch.library.Library("_", "IMPL")
_FALLBACK.fallback(compute, "PrivateUse1")
_ATEN = torch.library.Library("aten", "IMPL")
implement(_ATEN)
torch.__future__.set_overwrite_module_params_on_conversion(True)
torch.inference_mode = lambda mode=True: torch.no_grad() if mode else torch.enable_grad()
devices.default_device = lambda: DEVICE
