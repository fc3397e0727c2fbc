"""HTTP framing of an answer that came in reads."""

from inferometer.load.framing import parse_response

CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
)


def test_each_piece_of_the_body_has_the_stamp_of_its_read():
    cut = CHUNKED.index(b"6\r\n")
    found = parse_response([(1, CHUNKED[:cut]), (2, CHUNKED[cut:])])
    assert found.status == 200
    assert found.pieces == [(1, b"hello"), (2, b" world")]
    assert found.ended


def test_a_body_with_a_length_ends_with_its_last_byte():
    found = parse_response([(1, b"HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\n{}")])
    assert (found.status, found.body, found.ended, found.until_close) == (404, b"{}", True, False)


def test_a_body_without_length_ends_with_the_connection():
    found = parse_response([(1, b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nhel"), (2, b"lo")])
    assert (found.body, found.ended, found.until_close) == (b"hello", False, True)


def test_a_word_before_the_answer_is_passed_over():
    found = parse_response([(1, b"HTTP/1.1 100 Continue\r\n\r\n" + CHUNKED)])
    assert (found.status, found.body, found.ended) == (200, b"hello world", True)


def test_what_is_no_http_is_said_to_be_none():
    assert parse_response([(1, b"SSH-2.0-OpenSSH_9.2\r\n")]).broken


def test_half_an_answer_has_not_ended():
    found = parse_response([(1, CHUNKED[:-3])])
    assert not found.ended
    assert not found.until_close


def test_a_trailer_is_no_header_and_what_follows_the_answer_is_left_out():
    trailed = CHUNKED.replace(b"0\r\n\r\n", b"0\r\nContent-Type: text/plain\r\n\r\n")
    for more in (b"", b"\r\n", b"HTTP/1.1 404 Gone\r\nContent-Length: 1\r\n\r\nx", b"junk"):
        found = parse_response([(1, trailed + more)])
        assert (found.status, found.body, found.ended, found.broken) == (200, b"hello world", True, "")
        assert found.headers["content-type"] == "text/event-stream"
