"""Is it fast enough, against a reference in the same run and against what the device can do?"""

import pytest


@pytest.mark.measures(
    "generation_throughput",
    "generation_speedup",
    "generation_mfu",
    "generation_mfu_of_data_sheet",
    "generation_peak_memory",
    "decode_throughput",
    "decode_mbu",
    "decode_mbu_of_data_sheet",
    "time_to_first_token",
    "first_token_speedup",
    "first_token_mfu",
    "first_token_mfu_of_data_sheet",
    of="checkpoint",
)
def test_generation_throughput(throughput, gate):
    gate(*throughput("generation"))


@pytest.mark.measures(
    "training_throughput",
    "training_speedup",
    "training_mfu",
    "training_mfu_of_data_sheet",
    "training_peak_memory",
    of="trained",
)
def test_training_throughput(throughput, gate):
    gate(*throughput("training"))
