"""What metrics and compose promise to export."""

from __future__ import annotations

import pytest

from vidinv import compose, metrics


@pytest.mark.parametrize("package", [compose, metrics])
def test_all_is_sorted_and_exists(package):
    assert sorted(package.__all__) == package.__all__
    assert all(hasattr(package, name) for name in package.__all__)
