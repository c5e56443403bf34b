"""Where webhooks can't be made to go, by whatever URL, name or answer of a resolver."""

import pytest

from app.streams.processors.hook_guard import HookGuard, NotAllowed, parse

ANY = HookGuard(["*"])

NOT_PLAIN = [
    "ftp://example.com/",
    "//example.com/",
    "https://",
    "https:///path",
    "https://user@example.com/",
    "https://user:pass@example.com/",
    "https://example.com@127.0.0.1/",
    "https://example.com\\@127.0.0.1/",
    "https://example.com/#fragment",
    "https://example.com/a b",
    "https://example.com/\r\nHost: other",
    "https://exämple.com/",
    "https://example.com:0/",
    "https://example.com:99999/",
    "https://example.com:port/",
    "https://exa_mple..com/",
    "https://[::1/",
    "https://[fe80::1%25eth0]/",
    "javascript:alert(1)",
    "file:///etc/passwd",
    "https://%31%32%37.0.0.1/",
    "",
    "https://" + "a" * 3000,
]
NOT_PUBLIC = [
    "127.0.0.1",
    "127.1.2.3",
    "0.0.0.0",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "fec0::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2001:0:0:0:0:0:80ff:fffe",
]


@pytest.mark.parametrize("url", NOT_PLAIN)
def test_only_plain_urls_are_taken(url):
    with pytest.raises(NotAllowed):
        ANY.check(url)


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_no_address_that_is_not_public_is_called(address):
    literal = f"[{address}]" if ":" in address else address
    with pytest.raises(NotAllowed):
        ANY.check(f"https://{literal}/")
    target = ANY.check("https://hooks.example.com/")
    with pytest.raises(NotAllowed):
        ANY.addresses(target, lambda _host, _port: [address])


@pytest.mark.parametrize("spelling", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1"])
def test_other_spellings_of_an_address_are_names_that_are_looked_up_and_examined(spelling):
    target = ANY.check(f"https://{spelling}/")
    with pytest.raises(NotAllowed):
        ANY.addresses(target, lambda _host, _port: ["127.0.0.1"])


def test_a_name_that_leads_to_one_good_and_one_bad_address_is_not_called():
    target = ANY.check("https://hooks.example.com/")
    with pytest.raises(NotAllowed):
        ANY.addresses(target, lambda _host, _port: ["93.184.216.34", "10.0.0.1"])
    assert ANY.addresses(target, lambda _host, _port: ["93.184.216.34"]) == ["93.184.216.34"]


def test_without_an_allow_list_nothing_is_called():
    with pytest.raises(NotAllowed):
        HookGuard([]).check("https://hooks.example.com/")


def test_a_network_of_the_list_admits_its_addresses_but_no_name():
    guard = HookGuard(["hooks.internal", "10.1.0.0/16"])
    target = guard.check("https://hooks.internal/")
    assert guard.addresses(target, lambda _host, _port: ["10.1.2.3"]) == ["10.1.2.3"]
    with pytest.raises(NotAllowed):
        guard.addresses(target, lambda _host, _port: ["10.2.0.1"])
    with pytest.raises(NotAllowed):
        guard.check("https://10.1.2.3/")


@pytest.mark.parametrize(
    ("entry", "good", "bad"),
    [
        (
            "example.com",
            ["https://example.com/", "https://EXAMPLE.com./x"],
            ["https://a.example.com"],
        ),
        (
            "*.example.com",
            ["https://a.b.example.com/"],
            ["https://example.com", "https://xexample.com"],
        ),
        ("example.com:8443", ["https://example.com:8443/"], ["https://example.com/"]),
        (
            "example.com",
            ["http://example.com/"],
            ["http://example.com:443/", "https://example.com:80/"],
        ),
    ],
)
def test_an_entry_admits_its_host_and_port_alone(entry, good, bad):
    guard = HookGuard([entry])
    for url in good:
        guard.check(url)
    for url in bad:
        with pytest.raises(NotAllowed):
            guard.check(url)


@pytest.mark.parametrize(
    "entry", ["", "a b", "https://example.com", "*example.com", "a:0", "10.0.0.1/8"]
)
def test_an_entry_that_is_none_is_refused_at_start(entry):
    with pytest.raises(ValueError):  # noqa: PT011 - ipaddress's own among them
        HookGuard([entry])


def test_a_url_is_taken_apart_as_it_is_sent():
    target = parse("https://Hooks.Example.com:8443/a/b?c=d")
    assert (target.host, target.port, target.path) == ("hooks.example.com", 8443, "/a/b?c=d")
    assert target.host_header == "hooks.example.com:8443"
    assert parse("http://[2001:db8::1]").host_header == "[2001:db8::1]"
