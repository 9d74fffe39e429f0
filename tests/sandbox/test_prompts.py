from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyguard.errors import ConfigError
from policyguard.sandbox.prompts import DemoPrompt, UnknownColumn, demo_prompts, read_prompts
from policyguard.sandbox.scores import text_scores


def written(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_the_demos_prompts_are_many_and_all_different() -> None:
    prompts = demo_prompts()
    assert len(prompts) >= 240
    assert len(prompts) == len({prompt.text for prompt in prompts}) == len({prompt.id for prompt in prompts})
    assert {"avatars", "marketing", "storefront", "id-photos"} == {prompt.surface for prompt in prompts}


def test_one_user_goes_beyond_twenty_avatars_a_day() -> None:
    assert Counter(p.user for p in demo_prompts() if p.surface == "avatars")["u-busy"] == 30


def test_some_prompts_call_for_review_and_some_for_refusal() -> None:
    scores = [text_scores(prompt.text) for prompt in demo_prompts()]
    review = sum(0.3 <= found["violence"] < 0.5 for found in scores) / len(scores)
    refused = sum(max(found.values()) > 0.5 for found in scores) / len(scores)
    assert 0.06 <= review <= 0.10
    assert 0.04 <= refused <= 0.08


def test_a_prompt_is_not_in_its_repr() -> None:
    prompt = demo_prompts()[0]
    assert prompt.text not in repr(prompt)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"text": "a boat"}\n\n{"prompt": "a kite"}\n'),
        ("a.csv", "prompt,n\na boat,\na kite,\n"),
        ("a.csv", "a boat\na kite\n"),
        ("a.csv", "\nprompt\na boat\n  \n,,\na kite\n"),
        ("a.tsv", "Prompt\tCategory\na boat\tBasic\na kite\tBasic\n"),
        ("a.json", '{"text": "a boat"}\n{"text": "a kite"}\n'),
        ("a.txt", "a boat\n\n  a kite\n"),
        ("a.csv", "id;prompt;n\n1;a boat;\n2;a kite;\n"),
        ("a.csv", '"what, for whom";prompt\n"x, y";a boat\nz;a kite\n'),
        ("a.csv", "Prompt\tid\r\na boat\t1\r\na kite\t2\r\n"),
        ("a.json", '[{"prompt": "a boat"}, {"text": "a kite"}]'),
        ("a.json", '[\n  "a boat",\n  "a kite"\n]\n'),
        ("a.jsonl", '"a boat"\n"a kite"\n'),
    ],
)
def test_json_lines_csv_and_plain_text_are_read(tmp_path: Path, name: str, text: str) -> None:
    assert [prompt.text for prompt in read_prompts(written(tmp_path, name, text))] == ["a boat", "a kite"]


TABLE = "id;Beschreibung;Titel\n1;a boat;x\n2;a kite;y\n"
OBJECTS = '[{"id": 1, "Beschreibung": "a boat", "Titel": "x"}, {"id": 2, "Beschreibung": "a kite"}]'


@pytest.mark.parametrize(("name", "text"), [("a.csv", TABLE), ("a.json", OBJECTS)])
def test_a_file_with_other_columns_says_which_there_are_and_reads_the_one_that_is_named(
    tmp_path: Path, name: str, text: str
) -> None:
    path = written(tmp_path, name, text)
    with pytest.raises(UnknownColumn, match=r"there is .*`[Bb]eschreibung`, `[Tt]itel`"):
        read_prompts(path)
    assert [prompt.text for prompt in read_prompts(path, " beschreibung ")] == ["a boat", "a kite"]
    with pytest.raises(ConfigError, match=r"did you mean `[Tt]itel`"):
        read_prompts(path, "titl")


def test_a_prompt_with_a_comma_in_it_is_not_cut(tmp_path: Path) -> None:
    with pytest.raises(UnknownColumn):
        read_prompts(written(tmp_path, "a.csv", "a boat, by night\na kite, by day\n"))


def test_a_prompt_keeps_its_capitals_and_its_length(tmp_path: Path) -> None:
    assert [p.text for p in read_prompts(written(tmp_path, "a.csv", "A Boat\nKite\n"))] == ["A Boat", "Kite"]
    long = "x" * 200_000
    for name, text in (("a.csv", f"prompt\n{long}\n"), ("a.jsonl", json.dumps({"text": long})), ("a.txt", long)):
        assert [long] == [prompt.text for prompt in read_prompts(written(tmp_path, name, text))]
    assert csv.field_size_limit() == 131_072


@given(text=st.text(max_size=300), name=st.sampled_from(["a.jsonl", "a.csv", "a.tsv", "a.txt"]))
def test_any_text_is_read_or_refused_in_plain_words(
    tmp_path_factory: pytest.TempPathFactory, text: str, name: str
) -> None:
    path = written(tmp_path_factory.getbasetemp(), name, text)
    said = ""
    try:
        assert all(prompt.text.strip() for prompt in read_prompts(path))
    except ConfigError as error:
        said = str(error)
    assert not said or str(path) in said


def test_what_a_file_does_not_say_is_filled_in_turn(tmp_path: Path) -> None:
    prompts = read_prompts(written(tmp_path, "a.txt", "\n".join(f"boat {i}" for i in range(100))))
    assert (len({p.user for p in prompts}), len({p.tenant for p in prompts})) == (50, 5)
    assert Counter({"avatars": 50, "marketing": 50}) == Counter(p.surface for p in prompts)
    assert not any(p.edit for p in prompts)


def test_what_a_file_says_is_kept(tmp_path: Path) -> None:
    line = "text,surface,user,tenant,tier,n,edit,size\na boat,storefront,u9,t9,pro,3,true,1024x1536\n"
    expected = DemoPrompt(
        id="2",
        text="a boat",
        surface="storefront",
        user="u9",
        tenant="t9",
        tier="pro",
        n=3,
        edit=True,
        size="1024x1536",
    )
    assert [expected] == read_prompts(written(tmp_path, "a.csv", line))


@pytest.mark.parametrize(
    ("name", "text", "where"),
    [
        ("a.jsonl", '{"text": "a boat"}\n{', ":2: this is no JSON"),
        ("a.jsonl", "[1]", ":1: this is no JSON object"),
        ("a.jsonl", '{"size": "1024x1024"}', ":1: there is no `text` or `prompt`"),
        ("a.csv", "text,n\na boat,many\n", ":2: a value cannot be read"),
        ("a.jsonl", '{"text": "a boat", "size": 7}', ":1: a value cannot be read"),
        ("a.jsonl", '{"text": "a boat", "n": 2.7}', ":1: a value cannot be read"),
        ("a.jsonl", '{"text": "a boat", "n": true}', ":1: a value cannot be read"),
        ("a.jsonl", '{"text": "a boat", "n": Infinity}', ":1: a value cannot be read"),
        ("a.jsonl", '{"text": "\\ud800"}', ":1: the prompt is no text"),
        ("a.jsonl", "[" * 200_000, ":1: this is no JSON"),
        ("a.csv", 'text\na boat\n"a kite\nanother\n', ":4: this is no CSV"),
        ("a.txt", "\n", "has no prompts"),
    ],
)
def test_an_error_names_file_and_line(tmp_path: Path, name: str, text: str, where: str) -> None:
    path = written(tmp_path, name, text)
    with pytest.raises(ConfigError) as caught:
        read_prompts(path)
    assert str(path) in str(caught.value)
    assert where in str(caught.value)


def test_a_file_that_is_missing_or_no_text_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        read_prompts(tmp_path / "none.txt")
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError):
        read_prompts(tmp_path / "a.txt")
