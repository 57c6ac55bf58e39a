"""A model behind a server of its own process answers as the model itself, or says why it does not."""

import pytest

from pytest_collabcode.backends.client import Client
from pytest_collabcode.backends.discovery import discover
from pytest_collabcode.backends.endpoint import EndpointBackend
from pytest_collabcode.errors import CheckpointError, ConfigurationError, MeasurementError
from pytest_collabcode.generation.engine import TorchBackend
from pytest_collabcode.models.load import load
from pytest_collabcode.records import Problem, Sampling
from pytest_collabcode.urls import KEY, endpoint_url

SECRET = "def launch_code_4711(password):"
PROBLEMS = [Problem(task_id="t/0", prompt="def total(rows):\n"), Problem(task_id="t/1", prompt=SECRET)]
TEXTS = [
    "def total(rows):\n    return sum(rows)\n",
    "s = 'é漢字 🎉 é'\nreturn é\n",
    "",
    "x",
    "é",
    "x = 1\n" * 60,
    "漢" * 90,
]


def backend(server, **options):
    client = Client(server.url, **{"pauses_s": (0.0, 0.0), **options})
    return EndpointBackend(discover(server.url), client=client)


def draw(asked, requests, sampling):
    drawn = []
    asked.draw(requests, sampling, on_batch=drawn.extend)
    return drawn


def test_greedy_text_is_that_of_the_model_itself(server, checkpoint):
    sampling = Sampling(max_new_tokens=12, stop=("\n\n",))
    own = TorchBackend(load(checkpoint)).generate(PROBLEMS, sampling)
    served = backend(server).generate(PROBLEMS, sampling)
    keys = ("task_id", "sample_index", "completion", "n_tokens", "stop_reason")
    assert [[getattr(g, k) for k in keys] for g in served] == [[getattr(g, k) for k in keys] for g in own]
    assert {r["prompt"] for r in server.seen() if "seed" in r} == {"def total(rows):", SECRET}  # without line breaks


def test_each_sample_has_a_seed_of_its_own_whatever_else_is_asked(server):
    sampling = Sampling(temperature=1.0, top_p=0.9, top_k=9, repetition_penalty=1.2, max_new_tokens=8, n_samples=3)
    drawn = backend(server).generate(PROBLEMS, sampling)
    sent = [request for request in server.seen() if "seed" in request]
    assert len({request["seed"] for request in sent}) == 6
    asked = {"temperature": 1.0, "top_p": 0.9, "top_k": 9, "repetition_penalty": 1.2, "max_tokens": 8}
    assert all(request.items() >= asked.items() for request in sent)
    again = draw(backend(server), [(PROBLEMS[1], 2), (PROBLEMS[0], 1)], sampling)
    assert {g.completion for g in again} == {drawn[5].completion, drawn[1].completion}


def test_finished_completions_are_handed_over_as_they_come(server):
    told, shown = [], []
    backend(server).draw(
        [(PROBLEMS[0], index) for index in range(10)],
        Sampling(max_new_tokens=2),
        progress=lambda done, total, text: shown.append((done, total)),
        on_batch=lambda batch: told.append(len(batch)),
    )
    assert (told, shown[-1]) == ([1] * 10, (10, 10))


@pytest.mark.parametrize("max_tokens", [3, 20, 1000])
def test_likelihoods_are_those_of_the_model_itself(server, checkpoint, max_tokens):
    own = TorchBackend(load(checkpoint)).log_likelihood(TEXTS, max_tokens=max_tokens)
    served = backend(server).log_likelihood(TEXTS, max_tokens=max_tokens)
    for text, mine, theirs in zip(TEXTS, own, served, strict=True):
        assert theirs.n_tokens == mine.n_tokens
        assert theirs.log_likelihood == pytest.approx(mine.log_likelihood, abs=1e-3)
        # Of a character that is several tokens, a server does not tell where its parts end.
        assert abs(theirs.n_bytes - mine.n_bytes) <= (0 if text.isascii() else 6), text


def test_no_more_text_is_sent_than_a_window_takes(server):
    backend(server).log_likelihood(["x = 1\n" * 10_000], max_tokens=16)
    assert max(len(request["prompt"]) for request in server.seen()) < 600


@pytest.mark.parametrize(
    ("faults", "tries"),
    [(["503"], 2), (["429", "500"], 3), (["drop"], 2), (["half"], 2), (["drop", "502"], 3)],
)
def test_what_fails_in_passing_is_asked_again(server, faults, tries):
    asked = backend(server)
    asked._shared(Sampling())  # asks what the server reads
    server.behave(faults=faults)
    [drawn] = draw(asked, [(PROBLEMS[0], 0)], Sampling(max_new_tokens=4))
    assert drawn.n_tokens > 0 and len(server.seen()) == tries


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (["503"] * 3, r"the server answered 503 in 3 tries; start the server"),
        (["drop"] * 3, r"no answer \(RemoteProtocolError\) in 3 tries"),
        (["page"], r"not what an OpenAI-compatible server answers"),
        (["shape"], r"not what an OpenAI-compatible server answers"),
        (["400"], r"the server answered 400; its log says why"),
        (["401"], r"the server answered 401; set \$COLLABCODE_API_KEY"),
        (["404"], r"the server answered 404; end the URL in /v1"),
        (["slow:3"], r"no answer within 0\.5 s; lower --collabcode-batch-size \(4 requests at once\)"),
    ],
)
def test_what_does_not_pass_is_one_sentence_without_the_prompt(server, faults, message, monkeypatch):
    monkeypatch.setenv(KEY, "sk-very-secret")
    asked = backend(server, at_once=4, answer_s=0.5)
    asked._shared(Sampling())
    server.behave(faults=faults)
    with pytest.raises(MeasurementError, match=message) as raised:
        draw(asked, [(PROBLEMS[1], 0)], Sampling(max_new_tokens=4))
    said = str(raised.value)
    assert server.url in said and "\n" not in said
    assert not any(word in said for word in ("launch_code", "sk-very-secret"))


@pytest.mark.parametrize("field", ["repetition_penalty", "top_k"])
@pytest.mark.parametrize("how", [{"reads": []}, {"reads": [], "forbids": True}])
def test_a_sampling_that_the_server_would_ignore_is_refused(server, field, how):
    asked = backend(server.behave(**how))
    with pytest.raises(MeasurementError, match=f"the server does not read {field}, and 3 is asked for"):
        asked.generate(PROBLEMS, Sampling(temperature=0.5, **{field: 3}))
    [drawn] = draw(asked, [(PROBLEMS[0], 0)], Sampling(temperature=0.5, max_new_tokens=2))  # it can do this
    assert drawn.n_tokens == 2


def test_a_server_that_reads_them_is_sent_every_setting(server):
    draw(backend(server), [(PROBLEMS[0], 0)], Sampling(max_new_tokens=2))
    sent = server.seen()[-1]
    assert (sent["repetition_penalty"], sent["top_k"], sent["min_p"], sent["top_p"]) == (1.0, -1, 0.0, 1.0)


def test_what_a_server_does_not_tell_is_not_measured(server):
    silent = backend(server.behave(echoes=False))
    with pytest.raises(MeasurementError, match="does not echo a prompt with log-probabilities"):
        silent.log_likelihood(["x = 1"], max_tokens=8)
    with pytest.raises(MeasurementError, match="tells only the likeliest tokens"):
        silent.token_scores([("a", "b")], Sampling())
    with pytest.raises(MeasurementError, match="gives no embeddings"):
        silent.embed(["x = 1"])


def test_the_key_goes_into_the_header_and_nowhere_else(server, monkeypatch):
    monkeypatch.setenv(KEY, "sk-very-secret")
    asked = backend(server)
    [drawn] = draw(asked, [(PROBLEMS[0], 0)], Sampling(max_new_tokens=2))
    assert server.seen()[-1]["authorization"] == "Bearer sk-very-secret"
    assert "sk-very-secret" not in repr((asked.checkpoint, drawn))
    monkeypatch.setenv(KEY, "two\nlines")
    with pytest.raises(ConfigurationError, match=f"{KEY} holds characters that no key has") as raised:
        backend(server)
    assert "two" not in str(raised.value)


def test_a_subject_is_url_and_model_and_what_the_server_says_of_it(server):
    found = discover(server.url)
    assert (found.name, found.url) == ("tiny", f"{server.url}#tiny")
    assert found.weights_digest == discover(f"{server.url}#tiny", name="other").weights_digest
    server.behave(models=["org/a", "org/b"])
    a, b = discover(f"{server.url}#org/a"), discover(f"{server.url}#org/b", name="mine")
    assert (a.name, b.name) == ("a", "mine") and a.weights_digest != b.weights_digest
    with pytest.raises(CheckpointError, match=r"it serves 2 models; name one: .*#org/a"):
        discover(server.url)
    with pytest.raises(CheckpointError, match=r"nothing with the model 'org/aa'; did you mean 'org/a'\?"):
        discover(f"{server.url}#org/aa")
    with pytest.raises(CheckpointError, match=r"answered 404; end the URL in /v1"):
        discover(server.url.removesuffix("/v1"))


def test_a_model_that_is_served_but_not_listed_can_be_named(server):
    server.behave(models=["a", "b"], lists=["a"])
    assert discover(f"{server.url}#b").name == "b"
    server.behave(models=["b"], lists=None)  # it has no such list at all
    assert discover(f"{server.url}#b").url == f"{server.url}#b"
    with pytest.raises(CheckpointError, match="answered 404"):
        discover(server.url)
    with pytest.raises(CheckpointError, match="completes nothing with the model 'c'"):
        discover(f"{server.url}#c")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://gpu7:8000/v1", r"cross the network in the clear; use https://, or a tunnel: ssh -L 8000"),
        ("http://10.0.0.5/v1#m", r"in the clear"),
        ("https://user:hunter2@gpu7/v1", r"holds credentials"),
        ("https://gpu7/v1?key=hunter2", r"a query is not sent"),
        ("http://127.0.0.1:99999/v1", r"cannot be read"),
        ("http:///v1", r"names no host"),
    ],
)
def test_a_url_that_would_leak_or_cannot_work_is_refused(url, message):
    with pytest.raises(ConfigurationError, match=message) as raised:
        endpoint_url(url)
    assert "hunter2" not in str(raised.value)
