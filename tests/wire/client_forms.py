"""An edit as the HTTP libraries of other languages write it, byte by byte: a prompt, a picture and nothing forced.

The prompt is not ASCII, since some libraries say more about such a field, unless the client's name says `ascii`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

PROMPT, ASCII = "ein Hut für die Katze 🎩", "a hat for the cat"
Written = tuple[bytes, str]


def lines(boundary: str, *parts: tuple[str, bytes], end: str = "\r\n") -> bytes:
    """Each part is its headers and its data."""
    written = [f"--{boundary}\r\n{head}\r\n\r\n".encode() + data + b"\r\n" for head, data in parts]
    return b"".join(written) + f"--{boundary}--{end}".encode()


def go_openai(picture: bytes) -> Written:
    """sashabaranov/go-openai over mime/multipart: fields that were not given are there, and empty."""
    boundary = "5d1a7c3f9be04e4c8a2d6f10b3c7e9a1d2f4b6c8e0a1c3d5f7092b4d6e8f"
    body = lines(
        boundary,
        (
            'Content-Disposition: form-data; name="image"; filename="my \\"best\\" cat.png"\r\n'
            "Content-Type: application/octet-stream",
            picture,
        ),
        ('Content-Disposition: form-data; name="prompt"', PROMPT.encode()),
        ('Content-Disposition: form-data; name="n"', b"1"),
        ('Content-Disposition: form-data; name="size"', b""),
        ('Content-Disposition: form-data; name="response_format"', b""),
    )
    return body, f"multipart/form-data; boundary={boundary}"


def go_with_a_boundary_of_its_own(picture: bytes) -> Written:
    """mime/multipart quotes a boundary that needs it, and sorts the headers of a part."""
    body = lines(
        "cat/hat:1",
        ('Content-Disposition: form-data; name="prompt"', PROMPT.encode()),
        ('Content-Disposition: form-data; name="image[]"; filename="a.png"\r\nContent-Type: image/png', picture),
    )
    return body, 'multipart/form-data; boundary="cat/hat:1"'


def ruby_net_http(picture: bytes) -> Written:
    """Net::HTTP's `set_form`."""
    boundary = "Zf3kQ0vTgN_7cQ-3o9yR1sHk2mXw5pLd8bJt4uEa6iGz0nVhCqYrWg"
    body = lines(
        boundary,
        ('Content-Disposition: form-data; name="prompt"', PROMPT.encode()),
        (
            'Content-Disposition: form-data; name="image"; filename="a \\"b\\".png"\r\n'
            "Content-Type: application/octet-stream",
            picture,
        ),
    )
    return body, f"multipart/form-data; boundary={boundary}"


def ruby_faraday(picture: bytes) -> Written:
    """faraday-multipart over multipart-post: identity encodings, lengths, and a type that nobody gave."""
    boundary = "-----------RubyMultipartPost-4c7c9f0b1a2d3e4f5a6b7c8d9e0f1a2b"
    body = lines(
        boundary,
        ('Content-Disposition: form-data; name="prompt"', PROMPT.encode()),
        (
            'Content-Disposition: form-data; name="image"; filename="a.png"\r\n'
            f"Content-Length: {len(picture)}\r\nContent-Type: \r\nContent-Transfer-Encoding: binary",
            picture,
        ),
        end="\r\n\r\n",
    )
    return body, f"multipart/form-data; boundary={boundary}"


def openai_ruby(picture: bytes) -> Written:
    """OpenAI's own gem: a type for every field, names in percent encoding, and a boundary of eighty characters."""
    boundary = "Hq3w" * 20
    body = lines(
        boundary,
        ('Content-Disposition: form-data; name="prompt"\r\nContent-Type: text/plain', PROMPT.encode()),
        (
            'Content-Disposition: form-data; name="image"; filename="my%20%22cat%22.png"\r\n'
            "Content-Type: application/octet-stream",
            picture,
        ),
    )
    return body, f"multipart/form-data; boundary={boundary}"


def openai_java(picture: bytes) -> Written:
    """OpenAI's own SDK over OkHttp."""
    boundary = "3f1c9e0a-7b52-4f6d-9a38-c41d5e7f2b60"
    body = lines(
        boundary,
        ('Content-Disposition: form-data; name="image[]"; filename="a.png"\r\nContent-Type: image/png', picture),
        ('Content-Disposition: form-data; name="prompt"\r\nContent-Type: text/plain; charset=utf-8', PROMPT.encode()),
    )
    return body, f"multipart/form-data; boundary={boundary}"


def java_okhttp(picture: bytes) -> Written:
    """OkHttp 4's MultipartBody says how long each part is."""
    boundary = "3f1c9e0a-7b52-4f6d-9a38-c41d5e7f2b60"
    prompt = PROMPT.encode()
    body = lines(
        boundary,
        (
            'Content-Disposition: form-data; name="prompt"\r\n'
            f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(prompt)}",
            prompt,
        ),
        (
            'Content-Disposition: form-data; name="image"; filename="my %22cat%22.png"\r\n'
            f"Content-Type: image/png\r\nContent-Length: {len(picture)}",
            picture,
        ),
    )
    return body, f"multipart/form-data; boundary={boundary}"


def java_apache_ascii(picture: bytes) -> Written:
    """Apache HttpClient 4, strict: ASCII by the name of ISO-8859-1, identity encodings."""
    boundary = "-Qm8_Xk3vTz0LwYp5RbNc7HsGd1JfAe9Ui"
    body = lines(
        boundary,
        (
            'Content-Disposition: form-data; name="prompt"\r\n'
            "Content-Type: text/plain; charset=ISO-8859-1\r\nContent-Transfer-Encoding: 8bit",
            ASCII.encode(),
        ),
        (
            'Content-Disposition: form-data; name="image"; filename="a.png"\r\n'
            "Content-Type: image/png\r\nContent-Transfer-Encoding: binary",
            picture,
        ),
    )
    return body, f"multipart/form-data; boundary={boundary}"


def java_apache_extended(picture: bytes) -> Written:
    """Apache HttpClient 5, extended: a name in quotes and in percent encoding."""
    boundary = "Qm8_Xk3vTz0LwYp5RbNc7HsGd1JfAe9Ui"
    body = lines(
        boundary,
        ('Content-Disposition: form-data; name="prompt"\r\nContent-Type: text/plain; charset=UTF-8', PROMPT.encode()),
        (
            'Content-Disposition: form-data; name="image"; filename="katze%20%C3%BC.png"; '
            "filename*=\"UTF-8''katze%20%C3%BC.png\"\r\nContent-Type: image/png",
            picture,
        ),
    )
    return body, f"multipart/form-data; boundary={boundary}"


def dart_http(picture: bytes) -> Written:
    """package:http's MultipartRequest: lower case, `binary` for what is not ASCII, the type first."""
    boundary = "dart-http-boundary-+_-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijkl"
    body = lines(
        boundary,
        (
            'content-disposition: form-data; name="prompt"\r\n'
            "content-type: text/plain; charset=utf-8\r\ncontent-transfer-encoding: binary",
            PROMPT.encode(),
        ),
        ('content-type: image/png\r\ncontent-disposition: form-data; name="image"; filename="a.png"', picture),
    )
    return body, f"multipart/form-data; boundary={boundary}"


def dotnet(picture: bytes) -> Written:
    """MultipartFormDataContent: a quoted boundary, bare names, a file name twice."""
    boundary = "b2f0b3f4-8a0e-4d2e-8c1a-5f1e7d9c6b3a"
    body = lines(
        boundary,
        ("Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=prompt", PROMPT.encode()),
        (
            "Content-Type: image/png\r\n"
            "Content-Disposition: form-data; name=image; filename=a.png; filename*=utf-8''a.png",
            picture,
        ),
    )
    return body, f'multipart/form-data; boundary="{boundary}"'


def kotlin_ktor(picture: bytes) -> Written:
    """ktor joins what was said of the file, in the order in which it was said."""
    boundary = "-1f2e3d4c5b6a79880123456789abcdef-7cafe0123babe4567890feed1-2b"
    body = lines(
        boundary,
        (
            f"Content-Disposition: form-data; name=prompt\r\nContent-Length: {len(PROMPT.encode())}",
            PROMPT.encode(),
        ),
        ('Content-Type: image/png\r\nContent-Disposition: form-data; filename="a.png"; name=image', picture),
    )
    return body, f"multipart/form-data; boundary={boundary}"


def browser(picture: bytes) -> Written:
    """A page with a second file that nobody chose."""
    boundary = "----WebKitFormBoundary7MA4YWxkTrZu0gW"
    body = lines(
        boundary,
        ('Content-Disposition: form-data; name="prompt"', PROMPT.encode()),
        ('Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png', picture),
        ('Content-Disposition: form-data; name="mask"; filename=""\r\nContent-Type: application/octet-stream', b""),
    )
    return body, f"multipart/form-data; boundary={boundary}"


CLIENTS: Mapping[str, Callable[[bytes], Written]] = {
    write.__name__: write
    for write in (
        go_openai,
        go_with_a_boundary_of_its_own,
        ruby_net_http,
        ruby_faraday,
        openai_ruby,
        openai_java,
        java_okhttp,
        java_apache_ascii,
        java_apache_extended,
        dart_http,
        dotnet,
        kotlin_ktor,
        browser,
    )
}


def prompt_of(client: str) -> str:
    return ASCII if client.endswith("ascii") else PROMPT
