"""Is the model good enough?"""

import pytest


@pytest.mark.measures("pass", of="checkpoint")
def test_humaneval(pass_at_k, gate):
    gate(pass_at_k(1))


@pytest.mark.measures("bleu.sacrebleu", "bleu4.codexglue", "exact_match", "edit_similarity")
def test_completion_of_heldout_functions(completion, gate):
    gate(*completion)


@pytest.mark.measures("mrr", "mrr_over_chance", of="checkpoint")
def test_retrieval_of_code_by_docstring(retrieval, gate):
    gate(*retrieval)


@pytest.mark.measures("perplexity", "bits_per_byte", "perplexity_gain_over_unigram")
def test_heldout_perplexity(perplexity, gate):
    gate(*perplexity)
