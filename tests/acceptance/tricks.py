"""What somebody might try, to have images made that no policy decided, or others than it allows.

A trick is one request over HTTP. `EVIL` asks for what every surface refuses; `FINE` for what is allowed, but for
`moderation: low`: a trick with it may be served, as it was decided.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from acceptance.forms import BOUNDARY, as_form, as_json, png
from tool_bodies import MAIN, data_url
from wire.client_forms import CLIENTS
from wire.form_grammar import png_with
from wire.form_ways import HOSTILE, TYPES

GENERATIONS, EDITS, RESPONSES = "/v1/images/generations", "/v1/images/edits", "/v1/responses"
PROMPT = "a swordfight at dawn"
EVIL: dict[str, Any] = {"prompt": PROMPT, "n": 9, "quality": "high", "moderation": "low", "safety_identifier": "forged"}
FINE: dict[str, Any] = {"prompt": "a cat", "moderation": "low", "safety_identifier": "forged"}
JSON = ("content-type", "application/json")
FORM = ("content-type", f"multipart/form-data; boundary={BOUNDARY}")
Header = tuple[str, str]


@dataclass(frozen=True)
class Trick:
    """`served`: an answer of the upstream is fine, because it was decided. Where not, there has to be a refusal."""

    body: bytes = b""
    target: str = GENERATIONS
    method: str = "POST"
    headers: tuple[Header, ...] = (JSON,)
    served: bool = False


def sent(values: Any, target: str = GENERATIONS, *headers: Header, method: str = "POST", served: bool = False) -> Trick:
    return Trick(as_json(values)[0], target, method, headers or (JSON,), served)


def evil(target: str = GENERATIONS, *headers: Header, method: str = "POST") -> Trick:
    return sent(EVIL, target, *headers, method=method)


def fine(*headers: Header, **more: Any) -> Trick:
    return sent({**FINE, **more}, GENERATIONS, JSON, *headers, served=True)


def typed(*types: str, body: Any = EVIL, target: str = GENERATIONS, served: bool = False) -> Trick:
    data = body if isinstance(body, bytes) else as_json(body)[0]
    return Trick(data, target, "POST", tuple(("content-type", type_) for type_ in types), served)


def text(body: str | bytes, *headers: Header, target: str = GENERATIONS, served: bool = False) -> Trick:
    data = body.encode() if isinstance(body, str) else body
    return Trick(data, target, "POST", (JSON, *headers), served)


def form(*parts: tuple[str, str], files: tuple[str, ...] = ("image",), served: bool = False) -> Trick:
    """Fields may be there twice."""
    body = as_form({}, *((name, png()) for name in files))[0]
    fields = "".join(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{n}"\r\n\r\n{v}\r\n' for n, v in parts)
    return Trick(fields.encode() + body, EDITS, "POST", (FORM,), served)


URLENCODED = b"prompt=a+swordfight+at+dawn&n=9&quality=high&moderation=low"
CONTENT_TYPES: Mapping[str, Trick] = {
    "no content type": typed(),
    "text/plain": typed("text/plain"),
    "text/json": typed("text/json"),
    "a vendor's JSON": typed("application/vnd.openai+json"),
    "JSON lines": typed("application/x-ndjson"),
    "octets": typed("application/octet-stream"),
    "JSON in UTF-16 that says so": typed("application/json; charset=utf-16", body=json.dumps(EVIL).encode("utf-16")),
    "JSON in UTF-16 that does not": typed("application/json", body=json.dumps(EVIL).encode("utf-16")),
    "JSON in UTF-32": typed("application/json", body=json.dumps(EVIL).encode("utf-32")),
    "JSON in UTF-7": typed("application/json; charset=utf-7", body=json.dumps(EVIL).replace("s", "+AHM-").encode()),
    "JSON in another charset": typed("application/json; charset=latin-1"),
    "two charsets": typed("application/json; charset=utf-8; charset=utf-16"),
    "capitals": typed("APPLICATION/JSON", body=FINE, served=True),
    "a charset in capitals": typed("application/json;charset=UTF-8", body=FINE, served=True),
    "a semicolon at the end": typed("application/json;", body=FINE, served=True),
    "two types in one header": typed("application/json, text/plain"),
    "two headers, JSON first": typed("application/json", "text/plain"),
    "two headers, JSON last": typed("multipart/form-data; boundary=x", "application/json"),
    "JSON twice": typed("application/json", "application/json"),
    "an url-encoded generation": typed("application/x-www-form-urlencoded", body=URLENCODED),
    "an url-encoded edit": typed("application/x-www-form-urlencoded", body=URLENCODED, target=EDITS),
    "a form as a generation": Trick(as_form(EVIL)[0], headers=(FORM,)),
    "a generation as a form": typed(FORM[1]),
    "a form without a boundary": typed("multipart/form-data", body=as_form(EVIL, ("image", png()))[0], target=EDITS),
    "a form with two boundaries": typed(
        f"multipart/form-data; boundary=x; boundary={BOUNDARY}", body=as_form(EVIL, ("image", png()))[0], target=EDITS
    ),
    "a mixed form": typed(f"multipart/mixed; boundary={BOUNDARY}", body=as_form(EVIL)[0], target=EDITS),
    "gzip": text(gzip.compress(as_json(EVIL)[0]), ("content-encoding", "gzip")),
    "x-gzip": text(gzip.compress(as_json(EVIL)[0]), ("content-encoding", "x-gzip")),
    "deflate": text(zlib.compress(as_json(EVIL)[0]), ("content-encoding", "deflate")),
    "br that is none": text(as_json(EVIL)[0], ("content-encoding", "br")),
    "identity and gzip": text(gzip.compress(as_json(EVIL)[0]), ("content-encoding", "identity, gzip")),
    "two encodings": text(
        gzip.compress(as_json(EVIL)[0]), ("content-encoding", "identity"), ("content-encoding", "gzip")
    ),
    "gzip that is not declared": text(gzip.compress(as_json(EVIL)[0])),
    "a transfer of gzip": text(gzip.compress(as_json(EVIL)[0]), ("te", "gzip"), ("content-encoding", "GZIP")),
}

HARMLESS, HARMFUL = '"prompt": "a cat"', f'"prompt": "{PROMPT}"'
BODIES: Mapping[str, Trick] = {
    "the harmful prompt last": text(f"{{{HARMLESS}, {HARMFUL}}}"),
    "the harmful prompt first": text(f"{{{HARMFUL}, {HARMLESS}}}"),
    "n twice": text(f'{{{HARMLESS}, "n": 1, "n": 9}}'),
    "model twice": text(f'{{{HARMLESS}, "model": "gpt-image-2-2026-04-21", "model": "gpt-image-1.5"}}'),
    "moderation twice": text(f'{{{HARMLESS}, "moderation": "auto", "moderation": "low"}}'),
    "moderation twice, once escaped": text(f'{{{HARMLESS}, "moderation": "auto", "\\u006doderation": "low"}}'),
    "moderation escaped": text(f'{{{HARMLESS}, "\\u006d\\u006fderation": "low"}}', served=True),
    "n escaped": text(f'{{{HARMLESS}, "\\u006e": 9}}'),
    "prompt escaped": text(f'{{"\\u0070rompt": "{PROMPT}"}}'),
    "a prompt in escapes": text('{"prompt": "a \\u0073\\u0077ord\\u0066ight"}'),
    "hidden in a null": text(f'{{"prompt": null, {HARMFUL}}}'),
    "NaN": text(f'{{{HARMLESS}, "n": NaN}}'),
    "Infinity": text(f'{{{HARMLESS}, "n": Infinity}}'),
    "n beyond all numbers": text(f'{{{HARMLESS}, "n": {"9" * 400}}}'),
    "n as a fraction": text(f'{{{HARMLESS}, "n": 9.0}}'),
    "n with an exponent": text(f'{{{HARMLESS}, "n": 1e1}}'),
    "n as a text": text(f'{{{HARMLESS}, "n": "9"}}'),
    "n in a list": text(f'{{{HARMLESS}, "n": [9]}}'),
    "n as true": text(f'{{{HARMLESS}, "n": true}}'),
    "n below zero": text(f'{{{HARMLESS}, "n": -1}}'),
    "a byte order mark": text(b"\xef\xbb\xbf" + as_json(EVIL)[0]),
    "bytes after the object": text(as_json(FINE)[0] + as_json(EVIL)[0]),
    "a zero after the object": text(as_json(FINE)[0] + b"\0"),
    "a comment": text(f"{{{HARMLESS} /* , */ , {HARMFUL}}}"),
    "a comma at the end": text(f"{{{HARMFUL},}}"),
    "single quotes": text("{'prompt': 'a swordfight'}"),
    "no object": sent([EVIL]),
    "a text": text(json.dumps(json.dumps(EVIL))),
    "nothing": text(""),
    "a prompt in a list": sent({**FINE, "prompt": [PROMPT]}),
    "a prompt in parts": sent({**FINE, "prompt": [{"type": "text", "text": PROMPT}]}),
    "a prompt in an object": sent({**FINE, "prompt": {"text": PROMPT}}),
    "no prompt, but messages": sent({"messages": [{"role": "user", "content": PROMPT}]}),
    "messages beside": sent({**FINE, "messages": [{"role": "user", "content": PROMPT}]}),
    "input beside": sent({**FINE, "input": PROMPT}),
    "tools beside": sent({**FINE, "tools": [{"type": "image_generation", "n": 9}]}),
    "a negative prompt beside": sent({**FINE, "negative_prompt": PROMPT}),
    "extra_body on the wire": sent({**FINE, "extra_body": {"moderation": "low", "n": 9}}),
    "a request in a request": sent({"body": EVIL}),
    "a prototype": sent({**FINE, "__proto__": {"n": 9}}),
    "keys in capitals": sent({**FINE, "N": 9}),
    "a key with a space": sent({**FINE, "n ": 9}),
    "a key with a zero": sent({**FINE, "n\0": 9}),
    "a key of full width": sent({**FINE, "\uff4e": 9}),
    "a key that nobody sees": sent({**FINE, "n\u200b": 9}),
    "a key in brackets": sent({**FINE, "n[]": 9}),
    "a model of another name": sent({**FINE, "model": "gpt-image-2-2026-04-21 "}),
    "a model in capitals": sent({**FINE, "model": "GPT-IMAGE-2-2026-04-21"}),
    "a quality in capitals": sent({**FINE, "quality": "LOW"}),
    "a size with a space": sent({**FINE, "size": " 1024x1024"}),
    "a stream as a text": sent({**FINE, "stream": "true"}),
    "moderation as an object": sent({**FINE, "moderation": {"level": "low"}}),
    "moderation as false": sent({**FINE, "moderation": False}),
    "half a character": text(b'{"prompt": "a cat \\ud800"}'),
    "a character too long": text(b'{"prompt": "a \xc0\xafcat"}'),
    "a million brackets": text('{"prompt": "a", "x": ' + "[" * 450_000 + "]" * 450_000 + "}"),
    "a million brackets that stay open": text("[" * 900_000),
    "too many keys": text("{" + ",".join(f'"k{i}": 1' for i in range(20_000)) + f", {HARMLESS}}}"),
    "a megabyte beside": sent({**FINE, "user": "u" * 1_100_000}),
    "somebody else's name": sent({**FINE, "user": "boss"}, served=True),
}

FIELD = ("prompt", "a hat")
WHOLE = as_form({"prompt": "a hat"}, ("image", png()))[0]
HOLDING = f'a\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="n"\r\n\r\n9\r\n--{BOUNDARY}--\r\n'.encode()
FORMS: Mapping[str, Trick] = {
    "a form with moderation": form(FIELD, ("moderation", "low"), served=True),
    "a form with moderation twice": form(FIELD, ("moderation", "auto"), ("moderation", "low")),
    "a form with a prompt twice": form(FIELD, ("prompt", PROMPT)),
    "a form with n twice": form(FIELD, ("n", "1"), ("n", "9")),
    "a form with n in brackets": form(FIELD, ("n[]", "9")),
    "a form with a nested prompt": form(FIELD, ("prompt[text]", PROMPT)),
    "a form with a nested field": form(FIELD, ("extra_body[moderation]", "low")),
    "a form with a field in capitals": form(FIELD, ("N", "9")),
    "a form with messages": form(FIELD, ("messages", PROMPT)),
    "a form with a hidden picture": form(FIELD, files=("image", "picture")),
    "a form with a picture as text": form(FIELD, ("image", "x"), files=()),
    "a form with a prompt as file": form(files=("image", "prompt")),
    "a form with a quoted name": form(FIELD, ('x"; name="n', "9")),
    "a form with another name behind": form(FIELD, ("n\"; filename*=utf-8''x; x=\"", "9")),
    "a form that ends early": replace(
        form(FIELD), body=as_form({"prompt": "a hat"}, ("image", png()))[0] + as_form(EVIL)[0]
    ),
    "a form with something before": replace(form(FIELD), body=b'prompt="x"\r\n' + as_form(EVIL, ("image", png()))[0]),
    "a form in a form": form(FIELD, ("x", f"\r\n--{BOUNDARY}--\r\n--{BOUNDARY}")),
    "a form inside of a picture": replace(
        form(FIELD), body=as_form({"prompt": "a hat"}, ("image", png_with(HOLDING)))[0]
    ),
    "a form with a tab in a name": form(FIELD, ("n\x0b", "9")),
    "a form with a tab behind a name": replace(form(FIELD), body=WHOLE.replace(b'"prompt"', b'"prompt"\x0b')),
    "a form with a part in base64": replace(
        form(FIELD), body=WHOLE.replace(b'"prompt"', b'"prompt"\r\nContent-Transfer-Encoding: base64')
    ),
    **{
        f"a form of the type {kind}": typed(kind.replace("{b}", BOUNDARY), body=WHOLE, target=EDITS)
        for kind in TYPES[HOSTILE]
        if kind.isascii() and kind.isprintable()
    },
    **{
        f"a form of {client}": Trick(body, EDITS, headers=(("content-type", kind),), served=True)
        for client, (body, kind) in ((client, write(png())) for client, write in CLIENTS.items())
    },
    "a form with line feeds only": replace(form(FIELD), body=as_form(EVIL, ("image", b"x"))[0].replace(b"\r\n", b"\n")),
    "an edit by a picture elsewhere": sent({**FINE, "images": [{"image_url": "http://127.0.0.1/a.png"}]}, EDITS),
    "an edit by a file of somebody": sent({**FINE, "images": [{"file_id": "file-1"}]}, EDITS),
    "an edit with moderation in JSON": sent({**FINE, "images": [{"image_url": data_url()}]}, EDITS, served=True),
}

PATHS: Mapping[str, Trick] = {
    f"POST {path.encode('unicode_escape').decode()}": evil(path)
    for path in (
        "//v1/images/generations",
        "/v1//images/generations",
        "/v1/images//generations",
        "/v1/images/generations/",
        "/v1/images/generations//",
        "/v1/./images/generations",
        "/v1/images/./generations",
        "/v1/models/../images/generations",
        "/v1/%2e/images/generations",
        "/v1/models/%2e%2e/images/generations",
        "/v1/images%2fgenerations",
        "/v1/images%2Fgenerations",
        "/v1/images%252fgenerations",
        "/v1/images%5cgenerations",
        "/v1%2fimages%2fgenerations",
        "/%76%31/images/generations",
        "/v1/%69mages/generations",
        "/v1/images/%67enerations",
        "/v1/images/generation%73",
        "/v1/images/generations;x=1",
        "/v1/images;v=2/generations",
        "/v1;/images/generations",
        "/V1/IMAGES/GENERATIONS",
        "/v1/Images/Generations",
        "/v1/images/generations%20",
        "/v1/images/generations%00",
        "/v1/images/generations%0a",
        "/v1/images/generations%09x",
        "/v1/images/generations%3f",
        "/v1/images/generations%23",
        "/v1/images\\generations",
        "/v1/%EF%BD%89mages/generations",
        "/v1/images/generations/x",
        "/v1/images/edits/../generations",
        "/v1/images",
        "/v1/images/",
        "/v1/images/variations",
        "/v1/images/new",
        "/openai/v1/images/generations",
        "/openai/deployments/gpt-image-2/images/generations",
        "/openai/deployments/gpt-image-2/images/generations?api-version=2026-01-01",
        "/v1/engines/gpt-image-2/images/generations",
        "/v2/images/generations",
        "http://elsewhere.test/v1/images/generations",
        "HTTP://127.0.0.1/v1/images//generations",
        "/v1/images/generations?moderation=low",
        "/v1/images/generations?n=9&prompt=a+swordfight",
    )
} | {
    f"POST {path} fine": sent(FINE, path)
    for path in (
        "/v1/images/generations?moderation=low",
        "/v1/images/generations?%6Doderation=low",
        "/v1/images/generations?MODERATION=low",
        "/v1/images/generations?n=9",
        "/v1/images/generations?model=gpt-image-1.5",
        "/v1/images/generations?prompt[]=a+swordfight",
        "/v1/images/generations/?n=1",
    )
}

METHODS: Mapping[str, Trick] = {
    **{f"{method} an image": evil(method=method) for method in ("PUT", "PATCH", "DELETE", "QUERY", "IMAGES", "post")},
    **{
        f"GET with {header}": evil(GENERATIONS, JSON, (header, "POST"), method="GET")
        for header in ("x-http-method-override", "x-http-method", "x-method-override", "X-HTTP-Method-Override")
    },
    "OPTIONS with an override": evil(GENERATIONS, JSON, ("x-http-method-override", "POST"), method="OPTIONS"),
    "HEAD with an override": evil(GENERATIONS, JSON, ("x-http-method-override", "POST"), method="HEAD"),
    "PUT that says POST": evil(GENERATIONS, JSON, ("x-http-method-override", "POST"), method="PUT"),
    "POST that says GET": evil(GENERATIONS, JSON, ("x-http-method-override", "GET")),
}

BATCH = {"endpoint": GENERATIONS, "input_file_id": "file-1", "completion_window": "24h"}
ELSEWHERE: Mapping[str, Trick] = {
    "a batch of images": sent(BATCH, "/v1/batches"),
    "a batch in another spelling": sent(BATCH, "/v1/batches/"),
    "a batch of the tool": sent({**BATCH, "endpoint": RESPONSES}, "/v1//batches"),
    "variations as a form": Trick(as_form({"n": 9}, ("image", png()))[0], "/v1/images/variations", headers=(FORM,)),
    "another surface's route": evil("/m/v1/images/generations"),
}

HEADERS: Mapping[str, Trick] = {
    "another user": fine(("x-user-id", "boss")),
    "another user, twice": fine(("x-user-id", "boss"), ("x-user-id", "u1")),
    "another tier": sent({**FINE, "quality": "high"}, GENERATIONS, JSON, ("x-plan", "pro")),
    "another tenant": fine(("x-tenant", "rich")),
    "a peer that says it is trusted": fine(("x-forwarded-for", "10.0.0.1"), ("x-user-id", "boss")),
    "a peer by another header": fine(("forwarded", "for=10.0.0.1"), ("x-real-ip", "10.0.0.1"), ("x-user-id", "boss")),
    "a decision of its own": evil(GENERATIONS, JSON, ("x-policyguard-decision", "dec_01")),
    "an adjustment of its own": fine(("x-policyguard-adjusted", "n=9->9")),
    "a user of its own": fine(("x-policyguard-user", "boss")),
    "another surface by a header": sent({**FINE, "n": 4}, GENERATIONS, JSON, ("x-policyguard-surface", "marketing")),
    "two surfaces by a header": sent(
        {**FINE, "n": 4},
        GENERATIONS,
        JSON,
        ("x-policyguard-surface", "avatars"),
        ("x-policyguard-surface", "marketing"),
    ),
    "a review that is not there": evil(GENERATIONS, JSON, ("x-policyguard-review", "rev_01")),
    "a retry that is none": evil(GENERATIONS, JSON, ("x-stainless-retry-count", "5")),
    "a raw answer": evil(GENERATIONS, JSON, ("x-stainless-raw-response", "true")),
    "another organisation": fine(("openai-organization", "org-rich"), ("openai-project", "proj-rich")),
    "another key beside": fine(("api-key", "sk-1"), ("x-api-key", "sk-2")),
    "another path by a header": evil(GENERATIONS, JSON, ("x-original-url", "/v1/models"), ("x-rewrite-url", "/")),
    "a prefix by a header": evil(GENERATIONS, JSON, ("x-forwarded-prefix", "/x"), ("x-script-name", "/v1")),
    "headers between neighbours": fine(("connection", "content-type, x-user-id, authorization")),
    "a header of 60 kB": evil(GENERATIONS, JSON, ("x-long", "x" * 60_000)),
    "5,000 headers": evil(GENERATIONS, JSON, *((f"x-{i}", "x") for i in range(5_000))),
    "a safety identifier by a header": fine(("safety-identifier", "forged"), ("openai-safety-identifier", "forged")),
}


# ---- the tool of the Responses API ------------------------------------------------------------------------


def tool(*, served: bool = False, of_tool: Mapping[str, Any] | None = None, **changes: Any) -> Trick:
    one = {"type": "image_generation", "moderation": "low", **(of_tool or {})}
    body = {"model": MAIN, "input": "a cat", "tools": [one], "safety_identifier": "forged", **changes}
    return sent(body, RESPONSES, served=served)


IMAGE_TOOL = {"type": "image_generation", "moderation": "low", "quality": "high"}
CHOICE = {"type": "allowed_tools", "mode": "required", "tools": [IMAGE_TOOL]}
TOOL: Mapping[str, Trick] = {
    "the tool with low moderation": tool(served=True),
    "moderation beside the tool": tool(moderation={"model": "omni-moderation-latest"}, served=True),
    "a harmful input": tool(input=PROMPT),
    "a harmful input in parts": tool(input=[{"role": "user", "content": [{"type": "input_text", "text": PROMPT}]}]),
    "harmful instructions": tool(instructions=PROMPT),
    "a harmful function": tool(tools=[IMAGE_TOOL, {"type": "function", "name": "f", "description": PROMPT}]),
    "a harmful earlier call": tool(
        input=[{"type": "function_call_output", "call_id": "c", "output": PROMPT}, {"role": "user", "content": "go"}]
    ),
    "the tool twice": tool(tools=[IMAGE_TOOL, IMAGE_TOOL]),
    "the tool in a list": tool(tools=[[IMAGE_TOOL]]),
    "the tool in the choice only": tool(tools=[], tool_choice=CHOICE),
    "the tool in the choice, too": tool(tool_choice=CHOICE),
    "the choice with parameters": tool(tool_choice=IMAGE_TOOL),
    "the tool beside a server of tools": tool(
        tools=[IMAGE_TOOL, {"type": "mcp", "server_label": "x", "server_url": "http://x"}]
    ),
    "a server of tools in the choice": tool(tool_choice={"type": "mcp", "server_label": "x"}),
    "the tool beside an interpreter": tool(tools=[IMAGE_TOOL, {"type": "code_interpreter", "container": "auto"}]),
    "the tool in an escape": text(
        json.dumps({"model": MAIN, "input": PROMPT, "tools": [IMAGE_TOOL]}).replace("image_gen", "\\u0069mage_gen"),
        target=RESPONSES,
    ),
    "tools twice": text(
        f'{{"model": "{MAIN}", "input": "{PROMPT}", "tools": [], "tools": [{json.dumps(IMAGE_TOOL)}]}}',
        target=RESPONSES,
    ),
    "a later name of the tool": tool(tools=[{"type": "image_generation_2027"}]),
    "the tool in capitals": tool(tools=[{"type": "Image_Generation"}, IMAGE_TOOL]),
    "an earlier response": tool(previous_response_id="resp_1"),
    "an earlier response without the tool": tool(previous_response_id="resp_1", tools=None),
    "a conversation": tool(conversation="conv_1"),
    "a stored prompt": tool(prompt={"id": "pmpt_1"}),
    "a stored prompt without the tool": tool(prompt={"id": "pmpt_1"}, tools=None),
    "in the background": tool(background=True),
    "a dear tier": tool(service_tier="priority"),
    "a picture by its file": tool(
        input=[{"role": "user", "content": [{"type": "input_image", "file_id": "file-1"}, {"type": "input_text"}]}]
    ),
    "a picture elsewhere": tool(
        input=[{"role": "user", "content": [{"type": "input_image", "image_url": "http://127.0.0.1/x.png"}]}]
    ),
    "an earlier item": tool(input=[{"type": "item_reference", "id": "msg_1"}]),
    "99 calls": tool(max_tool_calls=99),
    "no number of calls": tool(max_tool_calls=None, served=True),
    "many images of the tool": tool(of_tool={"n": 9}),
    "another main model": tool(model="gpt-5.2-pro"),
    "a high quality of the tool": tool(of_tool={"quality": "high"}),
    "moderation of the tool twice": text(
        json.dumps({"model": MAIN, "input": "a cat", "tools": [IMAGE_TOOL]}).replace(
            '"moderation"', '"moderation": "auto", "moderation"'
        ),
        target=RESPONSES,
    ),
    "a mask elsewhere": tool(of_tool={"input_image_mask": {"file_id": "file-1"}}),
    "the tool as text": typed(
        "text/plain", body={"model": MAIN, "input": PROMPT, "tools": [IMAGE_TOOL]}, target=RESPONSES
    ),
    **{
        f"the tool at {path}": sent({"model": MAIN, "input": PROMPT, "tools": [IMAGE_TOOL]}, path)
        for path in (
            "/v1/responses/",
            "/v1//responses",
            "/v1/Responses",
            "/v1/%72esponses",
            "/v1/responses%2f",
            "/v1/./responses",
            "/v1/responses;x",
            "/openai/v1/responses",
            "/v1/responses?background=true",
        )
    },
    "the tool by GET": sent(
        {"model": MAIN, "input": PROMPT, "tools": [IMAGE_TOOL]},
        RESPONSES,
        JSON,
        ("x-http-method-override", "POST"),
        method="GET",
    ),
}

TRICKS: Mapping[str, Trick] = {
    **CONTENT_TYPES,
    **BODIES,
    **FORMS,
    **PATHS,
    **METHODS,
    **ELSEWHERE,
    **HEADERS,
    **TOOL,
}
