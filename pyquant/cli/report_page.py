"""The report as one web page that needs nothing from anywhere else."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

_SLOT = "{{report}}"


def html(tree: dict[str, Any]) -> str:
    """Return the page: the text of ``report.html`` with the measurements inside.

    Tensor names come from files of unknown origin. As JSON with ``<`` escaped they cannot end the
    script element that holds them, and the page's code writes them as text only.
    """
    page = files("pyquant.cli").joinpath("report.html").read_text(encoding="utf-8")
    data = json.dumps(tree, separators=(",", ":"), allow_nan=False)
    for character in "<>&":
        data = data.replace(character, f"\\u{ord(character):04x}")
    before, after = page.split(_SLOT)
    return before + data + after
