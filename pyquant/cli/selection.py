"""Which tensors of a checkpoint a command works on."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from pyquant.checkpoint.source import Checkpoint
from pyquant.checkpoint.tensors import FLOAT_TYPES, TensorSpec


def wanted(spec: TensorSpec, include: Sequence[str], exclude: Sequence[str]) -> bool:
    """Is it a float tensor of 2 dimensions or more, or one that --include names?"""
    if spec.dtype not in FLOAT_TYPES or spec.size == 0:
        return False
    if any(fnmatchcase(spec.name, glob) for glob in exclude):
        return False
    if include:
        return any(fnmatchcase(spec.name, glob) for glob in include)
    return len(spec.shape) > 1


def refuse_idle_globs(source: Checkpoint, globs: Sequence[str]) -> None:
    """Raise ``ValueError`` for an --include that names nothing."""
    names = list(source.where())
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise ValueError(f"--include {glob!r} matches none of the {len(names)} tensors of IN")
