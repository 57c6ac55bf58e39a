"""Is it fast enough, against a reference loop in the same run?"""

import pytest


@pytest.mark.measures("generation_throughput", "generation_speedup", of="checkpoint")
def test_generation_throughput(throughput, gate):
    gate(*throughput("generation"))


@pytest.mark.measures("training_throughput", "training_speedup", of="trained")
def test_training_throughput(throughput, gate):
    gate(*throughput("training"))
