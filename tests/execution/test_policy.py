import pytest

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.execution.policy import DEFAULT_LIMITS, Limits


def test_cpu_time_decides_before_the_wall_clock():
    assert DEFAULT_LIMITS.cpu_s * 2 <= DEFAULT_LIMITS.wall_s


@pytest.mark.parametrize("wrong", [{"cpu_s": 0}, {"wall_s": -1.0}, {"memory_bytes": 0}, {"cpu_s": 20}])
def test_impossible_limits_are_refused_by_name(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Limits(**wrong)
