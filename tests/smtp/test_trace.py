import pytest

from sendooway.smtp.trace import received

DATE = "Thu, 26 Nov 2026 10:11:12 +0100"


@pytest.mark.parametrize(
    ("client_name", "client_address", "source"),
    [
        ("client.test", "192.0.2.1", "client.test ([192.0.2.1])"),
        ("client.test", "2001:db8::1", "client.test ([IPv6:2001:db8::1])"),
        ("client.test", "", "client.test"),
        ("", "192.0.2.1", "unknown ([192.0.2.1])"),
        ("", "", "unknown"),
    ],
)
def test_it_tells_who_the_client_says_it_is_and_where_it_comes_from(
    client_name: str, client_address: str, source: str
) -> None:
    field = received(
        client_name=client_name,
        client_address=client_address,
        localname="proxy.test",
        session="cae32bd2",
        date=DATE,
        tls=True,
        utf8=False,
    )
    assert field == (
        f"Received: from {source}\r\n\tby proxy.test (Sendooway) with ESMTPSA id cae32bd2;\r\n\t{DATE}\r\n"
    ).encode("ascii")


@pytest.mark.parametrize(
    ("tls", "utf8", "protocol"),
    [(False, False, "ESMTPA"), (True, False, "ESMTPSA"), (False, True, "UTF8SMTPA"), (True, True, "UTF8SMTPSA")],
)
def test_it_names_the_protocol_of_the_connection_and_of_the_mail(tls: bool, utf8: bool, protocol: str) -> None:
    field = received(
        client_name="client.test",
        client_address="",
        localname="proxy.test",
        session="cae32bd2",
        date=DATE,
        tls=tls,
        utf8=utf8,
    )
    assert f" with {protocol} id ".encode("ascii") in field
