"""Where a request may go: redirects as a table, hosts that need no proxy,
and every spelling of an address inside.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from syncd.errors import BadResponseError
from syncd.github.proxies import Proxies, is_address, proxies_of, split_login
from syncd.github.urls import check_redirect, redirect_url, same_origin

GITHUB = "https://api.github.com/repos/acme/infra/tarball/1f3ac90"
LOOPBACK = "http://127.0.0.1:8480/repos/acme/infra"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://api.github.com/a", "https://api.github.com:443/b", True),
        ("https://API.github.com/a", "https://api.github.com/b", True),
        ("http://127.0.0.1:80/", "http://127.0.0.1/", True),
        ("https://api.github.com/", "http://api.github.com/", False),
        ("https://api.github.com/", "https://api.github.com:8443/", False),
        ("https://api.github.com/", "https://api.github.com.evil.example/", False),
        ("https://api.github.com/", "https://evil.example/api.github.com", False),
        ("https://api.github.com/", "https://api.github.com@evil.example/", False),
        ("https://github.com/", "https://api.github.com/", False),
        ("http://127.0.0.1:1000/", "http://127.0.0.1:1001/", False),
        ("http://127.0.0.1/", "http://localhost/", False),
    ],
)
def test_an_origin_is_scheme_host_and_port_together(one: str, other: str, same: bool) -> None:
    assert same_origin(one, other) is same and same_origin(other, one) is same


ALLOWED = [
    (GITHUB, "https://codeload.github.com/acme/infra/legacy.tar.gz/1f3ac90?token=AB"),
    (GITHUB, "https://objects.example:8443/x"),
    (LOOPBACK, "http://127.0.0.1:9999/x"),
    (LOOPBACK, "http://localhost:9999/x"),
    (LOOPBACK, "https://codeload.github.com/x"),
    (
        "https://ghe.corp/api/v3/x",
        "https://10.0.0.7/codeload/x",
    ),  # an Enterprise Server inside a company
]
REFUSED = [
    (GITHUB, "http://codeload.github.com/x"),
    (GITHUB, "http://api.github.com/x"),
    (GITHUB, "ftp://codeload.github.com/x"),
    (GITHUB, "file:///etc/passwd"),
    (GITHUB, "file://codeload.github.com/etc/passwd"),
    (GITHUB, "gopher://127.0.0.1:6379/_FLUSHALL"),
    (GITHUB, "data:text/plain,x"),
    (GITHUB, "javascript:alert(1)"),
    (GITHUB, "https://user:secret@codeload.github.com/x"),
    (GITHUB, "https://user@codeload.github.com/x"),
    (GITHUB, "https://@codeload.github.com/x"),
    (GITHUB, "https:///x"),
    (GITHUB, "http://127.0.0.1/x"),
    (GITHUB, "https://127.0.0.1/x"),
    (GITHUB, "https://127.1/x"),
    (GITHUB, "https://2130706433/x"),
    (GITHUB, "https://0x7f.0.0.1/x"),
    (GITHUB, "https://0177.0.0.1/x"),
    (GITHUB, "https://localhost/x"),
    (GITHUB, "https://x.localhost/x"),
    (GITHUB, "https://LOCALHOST/x"),
    (GITHUB, "https://localhost./x"),
    (GITHUB, "https://127.0.0.1./x"),
    (GITHUB, "https://[::1]/x"),
    (GITHUB, "https://[::ffff:127.0.0.1]/x"),
    (GITHUB, "https://0.0.0.0/x"),
    (GITHUB, "https://[::]/x"),
    (GITHUB, "https://169.254.169.254/latest/meta-data/"),
    (GITHUB, "https://2852039166/latest/"),
    (GITHUB, "https://0xa9fea9fe/latest/"),
    (GITHUB, "https://[fe80::1%25eth0]/x"),
    (GITHUB, "https://[::ffff:169.254.169.254]/x"),
    (GITHUB, "https://224.0.0.1/x"),
    (GITHUB, "https://[ff02::1]/x"),
    (LOOPBACK, "http://169.254.169.254/latest/meta-data/"),
    (LOOPBACK, "http://codeload.github.com/x"),
    (LOOPBACK, "http://10.0.0.1/x"),
]


@pytest.mark.parametrize(("url", "found"), ALLOWED)
def test_an_archive_may_come_from_another_host(url: str, found: str) -> None:
    check_redirect(url, found, "the archive", allowed=True)


@pytest.mark.parametrize(("url", "found"), ALLOWED + REFUSED)
def test_no_other_request_leaves_its_host(url: str, found: str) -> None:
    with pytest.raises(BadResponseError, match="redirected to"):
        check_redirect(url, found, "main of acme/infra", allowed=False)


@pytest.mark.parametrize(("url", "found"), REFUSED)
def test_what_is_inside_in_the_clear_or_names_somebody_is_refused_even_for_an_archive(
    url: str, found: str
) -> None:
    with pytest.raises(BadResponseError) as caught:
        check_redirect(url, found, "the archive", allowed=True)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "found"),
    [
        ("/repositories/7/tarball/x", "https://api.github.com/repositories/7/tarball/x"),
        ("y?a=b", "https://api.github.com/repos/acme/infra/tarball/y?a=b"),
        ("//codeload.github.com/x", "https://codeload.github.com/x"),
        (
            "https://codeload.github.com/a%20b?token=A%2FB",
            "https://codeload.github.com/a%20b?token=A%2FB",
        ),
        ("https://codeload.github.com/a b", "https://codeload.github.com/a%20b"),
        ("https://codeload.github.com/\u00c3\u00a9", "https://codeload.github.com/%C3%A9"),
        ("https://codeload.github.com/x#secret", "https://codeload.github.com/x"),
    ],
)
def test_a_location_is_taken_as_it_is_meant(location: str, found: str) -> None:
    assert redirect_url(GITHUB, location, "x") == found


@pytest.mark.parametrize(
    "location",
    ["https://[::1/x", "https://a:notaport/x", "https://a:99999999/x", "https://[nothing]/x"],
)
def test_a_location_that_is_no_address_is_an_answer_that_makes_no_sense(location: str) -> None:
    with pytest.raises(BadResponseError, match="no address"):
        redirect_url(GITHUB, location, "x")


@given(
    st.text(max_size=60)
    | st.builds(
        "{}://{}/{}".format,
        st.sampled_from(["https", "http", "file", ""]),
        st.text(max_size=20),
        st.text(max_size=5),
    )
)
def test_whatever_a_server_sends_as_location_is_judged_or_refused(location: str) -> None:
    try:
        found = redirect_url(GITHUB, location, "x")
        if not same_origin(found, GITHUB):
            check_redirect(GITHUB, found, "x", allowed=True)
            assert found.startswith("https://")
    except BadResponseError:
        pass


# --- proxies --------------------------------------------------------------------------------------

PROXY = "http://proxy.corp:3128"


@pytest.mark.parametrize(
    ("no_proxy", "host", "through"),
    [
        ((), "api.github.com", True),
        (("other.example",), "api.github.com", True),
        (("api.github.com",), "api.github.com", False),
        (("API.GitHub.com",), "api.github.com", False),
        (("github.com",), "api.github.com", False),
        ((".github.com",), "api.github.com", False),
        ((".github.com",), "github.com", False),
        (("hub.com",), "api.github.com", True),
        (("*",), "api.github.com", False),
        (("api.github.com:443",), "api.github.com", False),
        (("api.github.com:8443",), "api.github.com", True),
        (("10.0.0.0/8",), "10.1.2.3", False),
        (("10.0.0.0/8",), "11.1.2.3", True),
        (("10.1.2.3",), "10.1.2.3", False),
        (("fd00::/8",), "[fd00::7]", False),
        (("[fd00::7]",), "[fd00::7]", False),
        (("10.0.0.0/8",), "[fd00::7]", True),
        (("", " ", ".", "api.github.com:²", ":", "[::"), "api.github.com", True),
        (("*.github.com",), "api.github.com", False),
        (("*.github.com",), "github.com", False),
        (("*.github.com",), "evilgithub.com", True),
        (("*.GitHub.com:443",), "api.github.com", False),
        (("*.github.com:8443",), "api.github.com", True),
        (("*:443",), "api.github.com", False),
        (("*:8443",), "api.github.com", True),
        (("api.github.com.",), "api.github.com", False),
        (("[fd00::7]:443",), "[fd00::7]", False),
        (("[fd00::7]:8443",), "[fd00::7]", True),
        (("10.1.2.3:443",), "10.1.2.3", False),
        (("10.1.2.3:8443",), "10.1.2.3", True),
        ((), "127.0.0.1", False),
        ((), "localhost", False),
        ((), "[::1]", False),
        ((), "127.1", False),
    ],
)
def test_no_proxy_is_understood_as_other_tools_do_and_loopback_never_goes_through_one(
    no_proxy: tuple[str, ...], host: str, through: bool
) -> None:
    assert Proxies({"https": PROXY}, no_proxy).for_url(f"https://{host}/x") == (
        PROXY if through else None
    )


NO_PROXIES = {
    "commas": "a.example,b.example",
    "commas and spaces": " a.example , b.example ",
    "spaces": "a.example b.example",
    "a tab and a line end": "a.example\tb.example\n",
    "empty entries": ",,a.example,,b.example,",
}


@pytest.mark.parametrize("name", NO_PROXIES)
def test_the_entries_of_no_proxy_are_separated_by_commas_or_white_space(name: str) -> None:
    proxies = proxies_of({"HTTPS_PROXY": PROXY, "NO_PROXY": NO_PROXIES[name]})
    chosen = [proxies.for_url(f"https://{host}.example/") for host in ("a", "b", "c")]
    assert chosen == [None, None, PROXY] and proxies.warnings() == []


UNKNOWN = {
    "https://ghe.corp": "'https://ghe.corp'",
    "ghe.corp/path": "'ghe.corp/path'",
    "10.0.0.0/33": "'10.0.0.0/33'",
    "10.0.0.300": "'10.0.0.300'",
    "10.0.*": "'10.0.*'",
    "ghe*.corp": "'ghe*.corp'",
    "ada:canary@ghe.corp": "'ghe.corp'",
    "http://ada:canary@ghe.corp": "'ghe.corp'",
    "m\u00fcller.example": r"'m\xfcller.example'",
    "ghe.corp;other.corp": "'ghe.corp;other.corp'",
}


@pytest.mark.parametrize("entry", UNKNOWN)
def test_an_entry_of_no_proxy_that_is_not_understood_is_named_without_its_password(
    entry: str,
) -> None:
    proxies = proxies_of({"HTTPS_PROXY": PROXY, "NO_PROXY": f"good.example {entry}"})
    [said] = proxies.warnings()
    assert (
        said.startswith(f"NO_PROXY: {UNKNOWN[entry]} is not understood")
        and "*.DOMAIN" in said
        and "canary" not in said
    )
    assert (
        proxies.for_url("https://good.example/") is None
        and proxies.for_url("https://bad.example/") == PROXY
    )


def test_no_proxy_is_not_spoken_of_where_there_is_no_proxy() -> None:
    assert proxies_of({"NO_PROXY": "https://ghe.corp"}).warnings() == []


LOW, HIGH, ALL = "http://low.corp:1", "http://high.corp:2", "http://all.corp:3"
ORDERS: dict[str, tuple[dict[str, str], str | None]] = {
    "capitals alone": ({"HTTPS_PROXY": HIGH}, HIGH),
    "small letters alone": ({"https_proxy": LOW}, LOW),
    "small letters win": ({"HTTPS_PROXY": HIGH, "https_proxy": LOW}, LOW),
    "small letters win where they are empty": ({"HTTPS_PROXY": HIGH, "https_proxy": ""}, None),
    "capitals that are empty": ({"HTTPS_PROXY": "", "https_proxy": LOW}, LOW),
    "for all": ({"ALL_PROXY": ALL}, ALL),
    "the scheme's own wins over the one for all": ({"all_proxy": ALL, "HTTPS_PROXY": HIGH}, HIGH),
    "an empty one leaves the one for all": (
        {"https_proxy": "", "HTTPS_PROXY": HIGH, "ALL_PROXY": ALL},
        ALL,
    ),
    "an empty one for all": ({"all_proxy": "", "ALL_PROXY": ALL}, None),
    "of another scheme": ({"HTTP_PROXY": HIGH}, None),
    "an exception in small letters wins": (
        {"HTTPS_PROXY": HIGH, "no_proxy": "", "NO_PROXY": "api.github.com"},
        HIGH,
    ),
    "white space": ({"HTTPS_PROXY": f" {HIGH}\n"}, HIGH),
}


@pytest.mark.parametrize("name", ORDERS)
def test_a_proxy_variable_is_chosen_by_its_name_in_whatever_order_the_environment_is(
    name: str,
) -> None:
    """As Python's urllib and requests choose (`urllib.request.getproxies_environment`)."""
    environ, proxy = ORDERS[name]
    for one in (environ, dict(reversed(environ.items()))):
        assert proxies_of(one).for_url("https://api.github.com/") == proxy


def test_a_proxy_is_chosen_by_scheme_and_its_password_is_known_and_not_shown() -> None:
    proxies = Proxies({"https": "http://ada:pass%20word@proxy.corp:3128"})
    assert proxies.for_url("http://ghe.example/x") is None
    assert proxies.passwords() == ["pass%20word", "pass word"] and "pass" not in repr(proxies)


@pytest.mark.parametrize(
    ("proxy", "expected"),
    [
        ("http://proxy.corp:3128", ("http://proxy.corp:3128", None)),
        ("proxy.corp:3128", ("http://proxy.corp:3128", None)),
        ("http://ada:pass%20w%40rd@proxy.corp:3128", ("http://proxy.corp:3128", "ada:pass w@rd")),
        ("https://ada@[fd00::7]:8443", ("https://[fd00::7]:8443", "ada:")),
    ],
)
def test_a_proxys_login_is_taken_out_of_its_address(
    proxy: str, expected: tuple[str, str | None]
) -> None:
    assert split_login(proxy) == expected


@pytest.mark.parametrize(
    ("proxy", "good"),
    [
        ("http://proxy.corp:3128", True),
        ("proxy.corp:3128", True),
        ("https://ada:p%23ss@[fd00::7]:8443/", True),
        ("http://[bad", False),
        ("http://a:99999", False),
        ("http://ada:p#ss@proxy.corp:3128", False),
        ("http://pro xy:3128", False),
        ("http://", False),
        ("http://b\u00fccher.test:1", False),
        ("http://proxy.corp:3128/path", False),
    ],
)
def test_what_is_no_address_of_a_proxy_is_known_before_anything_is_sent_through_it(
    proxy: str, good: bool
) -> None:
    assert is_address(proxy) is good
