"""What did the way of collaborating cost, against the centralized model on the same text?"""

import pytest


@pytest.mark.measures("perplexity_relative", of="compared")
def test_perplexity_relative_to_centralized(perplexity_relative, gate):
    gate(*perplexity_relative)
