"""URLs of endpoints: what `--model=URL` may say.

Prompts hold organizations' code, so they leave this machine under TLS only, and no URL carries a secret.
Not covered: asking the server (backends/).
Source: RFC 3986; loopback addresses as RFC 6890 lists them.
"""

from __future__ import annotations

import ipaddress
from urllib.parse import urlsplit

from pytest_collabcode.errors import ConfigurationError

KEY = "COLLABCODE_API_KEY"  # environment variable


def is_url(text: str) -> bool:
    """Return whether a model is named by URL rather than by path.

    Example:
        >>> is_url("http://127.0.0.1:8000/v1"), is_url("ckpt/x"), is_url("name=https://a/v1")
        (True, False, False)
    """
    return text.startswith(("http://", "https://"))


def endpoint_url(text: str) -> str:
    """Check the URL of an OpenAI-compatible endpoint, as in http://127.0.0.1:8000/v1#model.

    Args:
        text: scheme, host, optional port and path; the fragment is the model's name on the server.
    Returns:
        The URL without trailing slashes, the fragment kept.
    Raises:
        ConfigurationError: no host, a bad port, credentials, a query, or no TLS to another machine.
    Example:
        >>> endpoint_url("http://127.0.0.1:8000/v1/#org/model")
        'http://127.0.0.1:8000/v1#org/model'
        >>> endpoint_url("http://gpu7:8000/v1")
        Traceback (most recent call last):
        pytest_collabcode.errors.ConfigurationError: --model=http://gpu7:8000/v1: prompts hold organizations' code \
and would cross the network in the clear; use https://, or a tunnel: ssh -L 8000:127.0.0.1:8000 gpu7
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"--model: the URL cannot be read ({error}); write http://HOST:PORT/v1") from None
    if "@" in parts.netloc:  # not repeated: it may be a password
        raise ConfigurationError(f"--model: the URL holds credentials; put the key into ${KEY} instead")
    if not host:
        raise ConfigurationError(f"--model={text}: the URL names no host; write http://HOST:PORT/v1")
    if parts.query:
        raise ConfigurationError(
            f"--model={parts.scheme}://{parts.netloc}{parts.path}: a query is not sent; leave it out"
        )
    if parts.scheme == "http" and not is_loopback(text):
        number = port or 80
        raise ConfigurationError(
            f"--model={text}: prompts hold organizations' code and would cross the network in the clear; "
            f"use https://, or a tunnel: ssh -L {number}:127.0.0.1:{number} {host}"
        )
    return parts._replace(path=parts.path.rstrip("/")).geturl()


def is_loopback(url: str) -> bool:
    """Return whether a URL's host is this machine.

    Example:
        >>> [is_loopback(f"http://{host}/v1") for host in ("localhost:1", "[::1]:8000", "10.0.0.1", "gpu")]
        [True, True, False, False]
    """
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
