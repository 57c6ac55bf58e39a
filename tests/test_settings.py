"""Options are parsed at the border; a wrong one is answered in one sentence."""

from pathlib import Path

import pytest

from pytest_collabcode.errors import ConfigurationError
from pytest_collabcode.options import model_option
from pytest_collabcode.settings import default_store, make_settings


@pytest.mark.parametrize(
    ("text", "name", "path"),
    [("ckpt", "", "ckpt"), ("a=ckpt", "a", "ckpt"), ("demo/fedavg=x=y", "demo/fedavg", "x=y"), ("/a/b", "", "/a/b")],
)
def test_a_model_is_a_path_or_a_name_and_a_path(text, name, path):
    assert model_option(text) == model_option(text).__class__(path=Path(path), name=name)


@pytest.mark.parametrize(
    ("text", "name", "url"),
    [
        ("http://127.0.0.1:8000/v1", "", "http://127.0.0.1:8000/v1"),
        ("a=https://gpu7/v1/#org/m=1", "a", "https://gpu7/v1#org/m=1"),
        ("https://gpu7/v1#a=b", "", "https://gpu7/v1#a=b"),
    ],
)
def test_a_model_may_be_the_url_of_a_server(text, name, url):
    option = model_option(text)
    assert (option.name, option.url) == (name, url)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": ["a="]}, r"--model='a=' names no path"),
        ({"models": [""]}, r"names no path"),
        ({"models": ["=ckpt"]}, r"--model='=ckpt' begins with =; write --model=PATH"),
        ({"models": ["a b=x"]}, r"name='a b' may hold letters"),
        ({"options": {"profile": "dem"}}, r"--collabcode-profile='dem': did you mean 'demo'\?"),
        ({"options": {"thresholds": "/nowhere.toml"}}, r"--collabcode-thresholds=/nowhere\.toml: no such file"),
        ({"options": {"baseline": "/nowhere.json"}}, r"--collabcode-baseline=/nowhere\.json: no such file"),
        ({"options": {"seed": "x"}}, r"--collabcode-seed='x' is not a whole number"),
        ({"options": {"workers": "-1"}}, r"--collabcode-workers=-1 is negative"),
        ({"options": {"batch_size": "0"}}, r"--collabcode-batch-size=0 is less than 1"),
        ({"options": {"backend": "vlm"}}, r"--collabcode-backend='vlm': did you mean 'vllm'\?"),
        ({"adapters": ["tuned="]}, r"--collabcode-adapter='tuned=' names no path"),
        ({"models": ["a=http://gpu7/v1"]}, r"would cross the network in the clear"),
        ({"options": {"sed": "1"}}, r"option 'sed' is unknown: did you mean 'seed'\?"),
        ({"reports": ["jsn:x"]}, r"--collabcode-report='jsn:x': did you mean 'json'\?"),
        ({"reports": ["json"]}, r"names no path; write json:PATH"),
    ],
)
def test_a_wrong_option_is_refused(arguments, message):
    with pytest.raises(ConfigurationError, match=message):
        make_settings(directory=Path(), **arguments)


def test_regimes_may_stand_in_one_option_and_repeat_nothing():
    settings = make_settings(directory=Path(), regimes=["centralized, fedavg", "fedavg"])
    assert settings.regimes == ("centralized", "fedavg")


def test_the_store_is_the_option_then_the_environment_then_the_directory(monkeypatch):
    monkeypatch.delenv("COLLABCODE_STORE", raising=False)
    assert default_store(Path("/x")) == Path("/x/.collabcode")
    monkeypatch.setenv("COLLABCODE_STORE", "/env")
    assert make_settings(directory=Path("/x")).store == Path("/env")
    assert make_settings(directory=Path("/x"), options={"store": "/opt"}).store == Path("/opt")
