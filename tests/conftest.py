"""Fixtures shared by the tests: where the repository is, and where the real data are if there are any."""

from __future__ import annotations

from pathlib import Path

import pytest

from ocsdf3d.bench import data_folder


@pytest.fixture(scope="session")
def repository() -> Path:
    """Root of the checkout that holds these tests."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real meshes and clouds; tests that ask for it are skipped where it is absent."""
    try:
        return data_folder()
    except FileNotFoundError as error:
        pytest.skip(str(error))
