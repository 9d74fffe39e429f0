"""Hostile policies: what a file may hold so that a loader crashes, hangs or eats the memory. Run as a program, it loads
each in one process and prints `name cost megabytes codes`: its CPU time as a multiple of that of a large good folder,
and the highest resident size so far.
"""

from __future__ import annotations

import re
import resource
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from time import process_time

from policyguard.errors import Diagnostic
from policyguard.policy.diagnostics import render
from policyguard.policy.load import check

Files = Mapping[str, bytes]
ORG = b"version: 1\norganisation: Example Corp\ncaller:\n  user: {required: true}\n"
HEAD = b"version: 1\nsurface: avatars\ntitle: Pictures\nowner: growth@example.com\nstakes: low\n"


def surface(added: str | bytes) -> Files:
    """A good organisation, and a surface with something added."""
    return {"org.yaml": ORG, "avatars.yaml": HEAD + (added.encode() if isinstance(added, str) else added)}


def organisation(added: str) -> Files:
    return {"org.yaml": ORG + added.encode(), "avatars.yaml": HEAD}


def raw(text: bytes) -> Files:
    return {"org.yaml": ORG, "avatars.yaml": text}


def rule(when: str) -> Files:
    """As a block, so that nothing of it is YAML."""
    return surface("rules:\n  - id: a\n    then: deny\n    when: |\n      " + when.replace("\n", "\n      ") + "\n")


def rules(count: int, when: Callable[[int], str], then: str = "flag") -> Files:
    rows = "".join(f"- {{id: r{i}, when: '{when(i)}', then: {then}}}\n" for i in range(count))
    return surface("rules:\n" + rows)


def _laughs() -> bytes:
    lines = ["a: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    return "\n".join(lines).encode()


def _nested(depth: int) -> bytes:
    """Block mappings, each one space deeper: the text grows with the square of its depth."""
    return b"".join(b" " * i + b"a:\n" for i in range(depth))


SEEDS: dict[str, Callable[[], Files]] = {
    # ---- YAML
    "flow sequences": lambda: surface(b"rules: " + b"[" * 200_000),
    "flow sequences that end": lambda: surface(b"rules: " + b"[" * 200_000 + b"]" * 200_000),
    "a million brackets": lambda: raw(b"[" * 1_000_000),
    "flow mappings": lambda: surface(b"rules: " + b"{a: " * 200_000),
    "flow mappings of nothing": lambda: raw(b"{" * 900_000),
    "block sequences": lambda: surface(b"rules:\n" + b"- " * 200_000 + b"a\n"),
    "block mappings": lambda: raw(_nested(1_300)),
    "questions": lambda: raw(b"? " * 400_000),
    "colons": lambda: raw(b": " * 400_000),
    "anchors": lambda: raw(b"".join(b"- &a%d x\n" % i for i in range(60_000))),
    "aliases": lambda: raw(b"- &a x\n" + b"- *a\n" * 150_000),
    "tags": lambda: raw(b"- !!str x\n" * 90_000),
    "a billion laughs": lambda: raw(_laughs()),
    "merges": lambda: raw(b"a: &a {b: 1}\n" + b"<<: *a\n" * 100_000),
    "a huge plain text": lambda: surface(b"title2: " + b"x" * 990_000),
    "a huge quoted text": lambda: surface(b'title2: "' + b"x\\n" * 300_000 + b'"'),
    "a huge quoted text of line breaks": lambda: surface(b'title2: "' + b"\n" * 900_000 + b'"'),
    "a huge block": lambda: surface(b"title2: |\n" + b"  x\n" * 219_000),
    "a quote that does not end": lambda: surface(b"title2: '" + b"''" * 480_000),
    "a huge key": lambda: surface(b"x" * 900_000 + b": 1"),
    "a huge key in question": lambda: surface(b"? " + b"x" * 900_000 + b"\n: 1"),
    "a huge title": lambda: raw(HEAD.replace(b"Pictures", b"x" * 900_000)),
    "a huge condition": lambda: rule("request.n > 1 || " * 50_000 + "true"),
    "a huge surface id": lambda: raw(HEAD.replace(b"avatars", b"a" * 900_000)),
    "a hundred thousand keys": lambda: surface(b"".join(b"k%d: 1\n" % i for i in range(100_000))),
    "nineteen thousand keys": lambda: surface(b"".join(b"k%d: 1\n" % i for i in range(19_000))),
    "nineteen thousand keys near to one": lambda: surface(b"".join(b"moderation%d: 1\n" % i for i in range(19_000))),
    "nineteen thousand keys and none that is needed": lambda: raw(b"".join(b"titel%d: 1\n" % i for i in range(19_000))),
    "nineteen thousand times one key": lambda: surface(b"k: 1\n" * 19_000),
    "nineteen thousand empty keys": lambda: surface(b"".join(b"k%d:\n" % i for i in range(19_000))),
    "nineteen thousand wrong items": lambda: surface("request: {formats: {allow: [" + "jpgg, " * 19_000 + "]}}\n"),
    "nineteen thousand wrong rows": lambda: surface("rules: [" + "1, " * 19_000 + "]\n"),
    "nineteen thousand empty rows": lambda: surface("rules: [" + "{}, " * 19_000 + "]\n"),
    "nineteen thousand reviewers": lambda: surface("review: {reviewers: [" + "'group:a', " * 19_000 + "]}\n"),
    "nineteen thousand unknown models": lambda: surface(
        "request: {models: {allow: [" + ", ".join(f"gpt-image-{i}" for i in range(10, 19_010)) + "]}}\n"
    ),
    "nineteen thousand wrong sizes": lambda: surface(
        "request: {sizes: {allow: [" + ", ".join(f"{i}x7" for i in range(10_000, 29_000)) + "]}}\n"
    ),
    "nineteen thousand categories": lambda: surface(
        "moderation: {deny_at: {" + ", ".join(f"sexual{i}: 0.5" for i in range(19_000)) + "}}\n"
    ),
    "a very long line": lambda: surface("rules: [" + "{id: a, when: reqest.n > 1, then: deny}, " * 10_000 + "]\n"),
    "a long line with a tab at its end": lambda: surface(b"rules: [" + b"a, " * 15_000 + b"\t`]\n"),
    "zero bytes": lambda: raw(b"\x00" * 900_000),
    "byte order marks": lambda: raw(b"\xef\xbb\xbf" * 300_000),
    "bytes that are no UTF-8": lambda: raw(HEAD + b"\xff" * 900_000),
    "half a character": lambda: raw(b"a" * 999_000 + b"\xe2\x82"),
    "line ends of old Macs": lambda: raw(HEAD.replace(b"\n", b"\r")),
    "carriage returns": lambda: raw(b"\r" * 900_000),
    "line ends of Windows": lambda: raw(b"\r\n" * 450_000),
    "line separators": lambda: raw("\u2028".encode() * 300_000),
    "wide characters": lambda: surface(("k: " + "漢" * 300_000).encode()),
    "documents": lambda: raw(b"---\n" * 200_000),
    "directives": lambda: raw(b"%YAML 1.1\n" * 90_000),
    "remarks": lambda: raw(b"# x\n" * 219_000),
    "digits": lambda: surface(b"request: {n: {max: " + b"9" * 900_000 + b"}}"),
    "exponents": lambda: surface(b"request: {n: {max: 1e" + b"9" * 900_000 + b"}}"),
    "too large": lambda: raw(b"a" * 3_000_000),
    # ---- a set
    "fifty thousand rules": lambda: rules(50_000, lambda i: "request.n > 1"),
    "five hundred rules to try": lambda: rules(
        500, lambda i: f"request.pixels > {i} && now.getHours() > {i % 9} && size(request.prompt) > {i}"
    ),
    "five hundred rules of their own": lambda: rules(
        500, lambda i: " || ".join(f"request.n > {j}" for j in range(i % 90 + 1)) + ' && caller.user == "a"' * (i % 7)
    ),
    "sixty thousand characters of conditions": lambda: rules(
        37, lambda i: " || ".join(f"request.n > {j}" for j in range(i % 20 + 80))
    ),
    "five hundred large patterns": lambda: rules(500, lambda i: f'request.prompt.matches("(?i)x{{500}}y{{400}}{i}")'),
    "five hundred patterns of letters": lambda: rules(500, lambda i: f'request.prompt.matches("[a-z0-9]{{900}}{i}")'),
    "ten thousand rules of one shape": lambda: rules(10_000, lambda i: f"request.n > {i}"),
    "ten thousand misspelt rules": lambda: rules(10_000, lambda i: "reqest.n > 1"),
    "ten thousand patterns": lambda: rules(10_000, lambda i: f'request.prompt.matches("a{i}.*b")'),
    "exemptions of unknown rules": lambda: surface(
        "rules:\n"
        + "".join(f"- {{id: r{i}, when: request.n > 1, then: flag}}\n" for i in range(5_000))
        + "exempt:\n  - {when: request.n > 1, until: 2027-01-01, by: a, why: b, rules: ["
        + ", ".join(f"s{i}" for i in range(20_000))
        + "]}\n"
    ),
    "ten thousand routes": lambda: surface(
        "routes:\n" + "".join(f"- POST /a{i}/images/generations\n" for i in range(10_000))
    ),
    "one route ten thousand times": lambda: surface("routes:\n" + "- POST /images/generations\n" * 10_000),
    "three thousand own routes": lambda: surface(
        "routes:\n" + "".join(f"- {{route: POST /a{i}, fields: {{prompt: body.a}}}}\n" for i in range(3_000))
    ),
    "a route of ten thousand fields": lambda: surface(
        "routes:\n- route: POST /a\n  fields: {" + ", ".join(f"f{i}: body.a{i}" for i in range(10_000)) + "}\n"
    ),
    "ten thousand budgets": lambda: surface(
        "budgets:\n" + "".join(f"- {{id: b{i}, limit: $1 / day, per: caller.usr}}\n" for i in range(10_000))
    ),
    "ten thousand steps": lambda: surface(
        "review:\n  reviewers: [a]\n  escalate:\n" + "  - {after: 1h, to: [b]}\n" * 10_000
    ),
    "groups in groups": lambda: organisation(
        "groups:\n" + "".join(f"  g{i}: [a{i}]\n" for i in range(10_000))
        + "defaults: {review: {reviewers: [" + ", ".join(f"'group:g{i}x'" for i in range(5_000)) + "]}}\n"
    ),
    "ten thousand caller values": lambda: organisation("".join(f"  c{i}: {{}}\n" for i in range(10_000))),
    "ten thousand proxies": lambda: organisation("trusted_proxies: [" + "10.0.0.1/8, " * 10_000 + "]\n"),
    "two hundred surfaces of one name": lambda: {
        "org.yaml": ORG, **{f"s{i}.yaml": HEAD for i in range(200)}
    },
    "two hundred surfaces": lambda: {
        "org.yaml": ORG,
        **{f"s{i}.yaml": HEAD.replace(b"avatars", b"s%d" % i) for i in range(200)},
    },
    "two hundred broken files": lambda: {
        "org.yaml": ORG, **{f"s{i}.yaml": b"[" * 10_000 for i in range(200)}
    },
    # ---- conditions
    "parentheses": lambda: rule("(" * 4_900 + "true" + ")" * 4_900),
    "a hundred thousand parentheses": lambda: rule("(" * 100_000),
    "negations": lambda: rule("!" * 9_900 + "true"),
    "minuses": lambda: rule("-" * 9_900 + "1 == 1"),
    "a hundred thousand operators": lambda: rule("request.n > 1" + " || request.n > 1" * 100_000),
    "a chain of and": lambda: rule("true" + " && true" * 1_200),
    "a chain of additions": lambda: rule("1" + " + 1" * 2_400 + " > 1"),
    "questions in questions": lambda: rule("true ? " * 1_400 + "true" + " : true" * 1_400),
    "lists in lists": lambda: rule("[" * 4_900 + "]" * 4_900 + " == []"),
    "fields of fields": lambda: rule("request" + ".n" * 4_900),
    "calls of calls": lambda: rule("size(" * 1_900 + ")" * 1_900),
    "loops in loops": lambda: rule("[1].exists(x, " * 600 + "true" + ")" * 600),
    "a long text": lambda: rule('request.prompt == "' + "x" * 9_900 + '"'),
    "a text without an end": lambda: rule('"' + "\\x41" * 2_400),
    "a text of escapes": lambda: rule('"' + "\\\\" * 4_900 + '" == ""'),
    "a raw text": lambda: rule("r'" + "\\" * 9_901 + "'"),
    "three quotes": lambda: rule('"""' + '"' * 9_000),
    "a pattern of repeats": lambda: rule('request.prompt.matches("((a{1000}){1000}){1000}")'),
    "a pattern that backtracks": lambda: rule('request.prompt.matches("(a*)*(a|a)*' + "(a?){50}" * 30 + '$")'),
    "a pattern of classes": lambda: rule('request.prompt.matches("' + "\\\\\\\\pL" * 1_000 + '")'),
    "a pattern of alternatives": lambda: rule('request.prompt.matches("' + "a|" * 4_900 + '")'),
    "a pattern of brackets": lambda: rule('request.prompt.matches("' + "(" * 4_900 + ")" * 4_900 + '")'),
    "a duration": lambda: rule('now - now == duration("' + "1" * 9_000 + 'h")'),
    "a long duration": lambda: rule('now - now == duration("' + "1h" * 4_500 + '")'),
    "a number": lambda: rule("request.n == " + "9" * 9_900),
    "a hex number": lambda: rule("request.n == 0x" + "f" * 9_900),
    "a double": lambda: rule("scores.hate > 0." + "9" * 9_900),
    "a name": lambda: rule("a" * 9_900),
    "a field that is near to nothing": lambda: rule("request." + "n" * 9_900 + " > 1"),
    "zero bytes in a condition": lambda: surface('rules: [{id: a, then: deny, when: "' + "\\0" * 5_000 + '"}]'),
    "remarks in a condition": lambda: rule("//\n" * 3_000),
    "characters of every kind": lambda: rule("".join(c for c in map(chr, range(0x21, 0x2000)) if c.isprintable())),
    "one condition many times wrong": lambda: rule(" || ".join(["reqest.n > 1"] * 100)),
    "ten thousand exemptions": lambda: surface(
        "rules: [{id: a, when: request.n > 1, then: flag}]\nexempt:\n"
        + "- {rules: [a], when: request.n > 1, until: 2027-01-01, by: a, why: b}\n" * 7_000
    ),
}  # fmt: skip


def loaded(folder: Path, files: Files) -> list[Diagnostic]:
    """What is said of these files; each problem is also shown, as `policyguard check` does."""
    for path in folder.iterdir():
        path.unlink()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    problems = check(folder)
    texts = {str(folder / name): content.decode("utf-8", "replace") for name, content in files.items()}
    for problem in problems[:50]:
        render(problem, texts[problem.file])
    return problems


def megabytes() -> float:
    """The peak of this process. On Linux `ru_maxrss` has that of who started it, too."""
    status = Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1]) / 1024  # type: ignore[index]
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        loaded(Path(folder), rule("request.n > 1"))  # the first use loads the grammar
        good, _ = cost(Path(folder), rules(500, lambda i: f'request.prompt.contains("w{i}")'))
        for name in sys.argv[1:] or SEEDS:
            seconds, codes = cost(Path(folder), SEEDS[name]())
            print(f"{name}\t{seconds / good:.2f}\t{megabytes():.0f}\t{' '.join(codes)}", flush=True)


def cost(folder: Path, files: Files) -> tuple[float, list[str]]:
    start = process_time()
    codes = sorted({problem.code for problem in loaded(folder, files)})
    return process_time() - start, codes


if __name__ == "__main__":
    main()
