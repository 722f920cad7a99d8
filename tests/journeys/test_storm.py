"""A short storm of faults; the long one is `make storm`."""

from pathlib import Path

import pytest

from tests.site import Site
from tests.storm import Storm


@pytest.mark.timeout(300)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_storm_of_faults_loses_nothing_and_leaves_nothing(tmp_path: Path, site: Site, seed: int) -> None:
    storm = Storm(tmp_path, site, seed)
    try:
        storm.run(20)
    finally:
        storm.mend(all_of_it=True)
        storm.project.end()
