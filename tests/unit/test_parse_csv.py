"""Delimited text, written by people: every row comes through or is refused with its number, none is swallowed."""

from __future__ import annotations

import csv
import io
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dagster_project.ingest.cards.file import FileStream
from dagster_project.ingest.chunk import Chunk, Kind, Refused
from dagster_project.ingest.errors import CardError, DataRefusedError
from dagster_project.ingest.parse import csv as parser
from dagster_project.ingest.parse.csv import read_csv
from dagster_project.ingest.parse.shape import distinct_names, row_numbers

Row = list[str | None]


class Read:
    def __init__(self, data: bytes, nul_bytes: str = "replace", **dialect: Any) -> None:
        stream = FileStream.model_validate({"name": "s", "files": ["*"], "csv": dialect, "nul_bytes": nul_bytes})
        self.chunks: list[Chunk] = list(read_csv(io.BytesIO(data), stream, "file.csv"))
        self.names = list(self.chunks[0].columns) if self.chunks else []
        self.rows: list[Row] = []
        self.ordinals: list[int] = []
        self.refused: list[Refused] = []
        for chunk in self.chunks:
            columns = [column.values.to_pylist() for column in chunk.columns.values()]
            assert all(len(column) == chunk.rows for column in columns)
            assert list(chunk.columns) == self.names
            self.rows += [list(row) for row in zip(*columns, strict=True)]
            self.ordinals += row_numbers(chunk).to_pylist()
            self.refused += chunk.refused
        numbers = sorted([*self.ordinals, *(r.ordinal or 0 for r in self.refused)])
        assert numbers == list(range(1, len(numbers) + 1))

    @property
    def codes(self) -> list[tuple[int | None, str]]:
        return [(each.ordinal, each.code) for each in self.refused]


def test_empty_and_quoted_empty_are_two_things() -> None:
    read = Read(b'a,b,c\n,"",x\n')
    assert read.rows == [[None, "", "x"]]
    assert read.chunks[0].columns["a"].kind == Kind.NULL
    assert read.chunks[0].columns["b"].kind == Kind.UNTYPED


def test_nothing_is_interpreted() -> None:
    read = Read(b"a,b,c,d\n007,NA, x ,1e5\nnull,TRUE,+5,-0\n")
    assert read.rows == [["007", "NA", " x ", "1e5"], ["null", "TRUE", "+5", "-0"]]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", ":", "^", "~", "\x1f"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_delimiter_and_line_ends_are_found(delimiter: str, newline: str) -> None:
    rows = [["a", "b", "c"], ["1", 'x"y', "3"], ["4", f"p{delimiter}q", "6"], ["7", "two\nlines", "9"]]
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL).writerows(rows)
    data = text.getvalue()
    if newline == "\r":
        data = data.replace("\n", "\r")
        rows[3][1] = "two\rlines"
    read = Read(data.encode())
    assert read.names == rows[0]
    assert read.rows == rows[1:]


def test_commas_inside_a_semicolon_file_do_not_mislead() -> None:
    read = Read(b"name;price\nA, B and C;1,50\nD, E;2,00\n")
    assert read.names == ["name", "price"]


def test_one_column_has_no_delimiter() -> None:
    assert Read(b"name\nA B\nC: D\n").rows == [["A B"], ["C: D"]]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be", "cp1252", "latin-1"]
)
def test_encodings_are_found(encoding: str) -> None:
    rows = [[f"Zoë {n}", "Müller, Jürgen", "naïve café"] for n in range(50)]
    text = "a,b,c\n" + "".join(f'{a},"{b}",{c}\n' for a, b, c in rows)
    assert Read(text.encode(encoding)).rows == rows


def test_other_alphabets_are_found_or_declared() -> None:
    rows = [["Лев Николаевич Толстой", "Война и мир, роман"], ["Фёдор Достоевский", "Братья Карамазовы"]] * 20
    text = "author;title\n" + "".join(";".join(row) + "\n" for row in rows)
    assert Read(text.encode("cp1251")).rows == rows
    assert Read("名前,題\n夏目漱石,こころ\n".encode("shift_jis"), encoding="shift_jis").rows == [["夏目漱石", "こころ"]]


def test_an_encoding_that_shows_itself_late_is_still_found() -> None:
    ascii_part = b"".join(b"%d,plain text\n" % n for n in range(120_000))
    read = Read(b"n,t\n" + ascii_part + "120000,café\n".encode("cp1252") + b"120001,x\n")
    assert read.rows[-2:] == [["120000", "café"], ["120001", "x"]]
    assert len(read.rows) == 120_002
    assert read.refused == []


def test_broken_bytes_in_a_utf8_file_refuse_their_rows_alone() -> None:
    good = "".join(f"{n},žluťoučký kůň\n" for n in range(2000)).encode()
    read = Read(b"n,t\n" + good + b"x,\xff\xfe\n" + good)
    assert read.codes == [(2001, "undecodable")]
    assert len(read.rows) == 4000


def test_central_europe_is_told_from_the_west() -> None:
    polish = ["Antoni Słonimski", "Konstanty Gałczyński", "Bolesław Prus, Lalka", "Władysław Reymont, Chłopi"] * 10
    read = Read(("a\n" + "".join(f'"{each}"\n' for each in polish)).encode("cp1250"))
    assert [row[0] for row in read.rows] == polish


def test_a_declared_encoding_that_does_not_fit_refuses_rows() -> None:
    read = Read("a,b\n1,é\n2,x\n".encode("latin-1"), encoding="utf-8")
    assert read.rows == [["2", "x"]]
    assert read.codes == [(1, "undecodable")]


def test_an_encoding_that_does_not_exist_is_the_cards_mistake() -> None:
    with pytest.raises(CardError, match="klingon"):
        Read(b"a\n1\n", encoding="klingon")


def test_ragged_rows_are_refused_with_line_and_number() -> None:
    read = Read(b"a,b\n1,2\n3\n4,5,6\n\n7,8\n9\n")
    assert read.rows == [["1", "2"], ["7", "8"]]
    assert read.ordinals == [1, 4]
    assert [(r.ordinal, r.code, r.line) for r in read.refused] == [
        (2, "ragged_row", "3"),
        (3, "ragged_row", "4,5,6"),
        (5, "ragged_row", "9"),
    ]
    assert "1 fields where the header has 2" in read.refused[0].message


def test_a_truncated_last_line_is_refused() -> None:
    assert Read(b'a,b\n1,2\n3,"unfin').codes == [(2, "unclosed_quote")]
    assert Read(b"a,b\n1,2\n3").codes == [(2, "ragged_row")]


def test_a_quote_never_closed_swallows_nothing_else() -> None:
    body = b"".join(b"%d,name %d,x\n" % (n, n) for n in range(1, 50_001))
    read = Read(b"n,name,z\n" + b'0,"oops,x\n' + body)
    assert read.codes == [(1, "unclosed_quote")]
    assert read.refused[0].line == '0,"oops,x'
    assert len(read.rows) == 50_000
    assert read.rows[0] == ["1", "name 1", "x"]


def test_a_quote_never_closed_among_quoted_fields_swallows_nothing_else() -> None:
    body = b"".join(b'%d,"name %d",x\n' % (n, n) for n in range(1, 5001))
    read = Read(b"n,name,z\n" + body + b'5001,"oops,x\n' + body)
    assert read.codes == [(5001, "unclosed_quote")]
    assert len(read.rows) == 10_000


def test_two_quotes_never_closed_that_pair_up_by_chance_swallow_nothing() -> None:
    body = b"".join(b"%d,x\n" % n for n in range(5000))
    read = Read(b'n,t\n1,"open\n' + body + b'2,close"\n' + body)
    assert len(read.rows) == 10_001
    assert read.codes == [(1, "unclosed_quote")]
    assert read.rows[5000] == ["2", 'close"']


def test_long_texts_of_many_lines_are_kept() -> None:
    text = "\n".join(f"line {n}, with a comma" for n in range(900))
    read = Read(f'a,b\n1,"{text}"\n2,x\n'.encode())
    assert read.rows == [["1", text], ["2", "x"]]


def test_stray_quotes_stay_in_the_text() -> None:
    data = b'a,b,c\n1,5" pipe,x\n2,"he said "hi" twice",y\n3,"fine, ""really""",z\n4,a"b"c,w\n5,"",v\n'
    read = Read(data)
    assert read.refused == []
    assert read.rows == [
        ["1", '5" pipe', "x"],
        ["2", 'he said "hi" twice', "y"],
        ["3", 'fine, "really"', "z"],
        ["4", 'a"b"c', "w"],
        ["5", "", "v"],
    ]


def test_backslashes_before_quotes_are_found() -> None:
    rows = b"".join(b'"%d";"say \\"hi\\"; ok";"x\\\\"\n' % n for n in range(100))
    read = Read(b'"n";"t";"u"\n' + rows)
    assert read.refused == []
    assert read.rows[7] == ["7", 'say "hi"; ok', "x\\"]


def test_a_backslash_before_a_quote_late_in_the_file_is_understood() -> None:
    early = b"".join(b'"%d";"plain";"x"\n' % n for n in range(30_000))
    read = Read(b'"n";"t";"u"\n' + early + b'"30000";"a \\"; b";"y"\n')
    assert read.refused == []
    assert read.rows[-1] == ["30000", 'a "; b', "y"]


def test_backslashes_are_text_where_nothing_says_otherwise() -> None:
    assert Read(b"path,n\nC:\\dir\\new,1\n\\N,2\n").rows == [["C:\\dir\\new", "1"], ["\\N", "2"]]


def test_spaces_before_quotes() -> None:
    read = Read(b'"a", "b", "c"\n"1", "x, y", "3"\n"4", "z", ""\n')
    assert read.names == ["a", "b", "c"]
    assert read.rows == [["1", "x, y", "3"], ["4", "z", ""]]


def test_single_quotes_where_they_quote() -> None:
    assert Read(b"a;b\n'x;y';1\n'z';2\n").rows == [["x;y", "1"], ["z", "2"]]
    assert Read(b"a,b\nit's,1\ndon't,2\n").rows == [["it's", "1"], ["don't", "2"]]


def test_names_are_made_distinct() -> None:
    assert Read(b"a,a,,b,a_2,\n1,2,3,4,5,6\n").names == ["a", "a_3", "column_3", "b", "a_2", "column_6"]
    assert distinct_names(["x", "x", "x"]) == ["x", "x_2", "x_3"]


def test_a_header_with_line_ends_and_quotes() -> None:
    assert Read(b'"first\nname","say ""hi"""\n1,2\n').names == ["first\nname", 'say "hi"']


def test_no_header_names_and_skipped_lines() -> None:
    assert Read(b"1,2\n3,4\n", header=False).names == ["column_1", "column_2"]
    assert Read(b"1,2\n3,4\n", header=False, names=["x", "y"]).rows == [["1", "2"], ["3", "4"]]
    read = Read(b"Report, of today\n\nmade by me\na,b\n1,2\n", skip_lines=3)
    assert read.names == ["a", "b"]
    assert read.rows == [["1", "2"]]
    assert Read(b"a,b\n1,2\n", names=["x", "y"]).names == ["x", "y"]
    with pytest.raises(DataRefusedError, match=r"3 `csv.names`, the header has 2"):
        Read(b"a,b\n1,2\n", names=["x", "y", "z"])


def test_what_the_card_states_is_not_second_guessed() -> None:
    assert Read(b"a;b,c\n1;2,3\n", delimiter=",").names == ["a;b", "c"]
    assert Read(b'a,b\n"x,1\n"y,2\n', quote="").rows == [['"x', "1"], ['"y', "2"]]
    assert Read(b"a,b\nx~,y,1\n", escape="~").rows == [["x,y", "1"]]


@pytest.mark.parametrize(
    ("data", "names"), [(b"", []), (b"\n\n", []), (b"\xef\xbb\xbf", []), (b"a,b\n", ["a", "b"]), (b"a,b", ["a", "b"])]
)
def test_empty_files_and_headers_alone(data: bytes, names: list[str]) -> None:
    read = Read(data)
    assert read.names == names
    assert read.rows == []
    assert read.refused == []


def test_nul_characters_are_replaced_and_counted_or_refused() -> None:
    read = Read(b"a,b\n1,x\0y\n2,z\n")
    assert read.rows == [["1", "x\ufffdy"], ["2", "z"]]
    assert read.chunks[0].replaced_nul == 1
    read = Read(b"a,b\n1,x\0y\n2,z\n", nul_bytes="quarantine")
    assert read.rows == [["2", "z"]]
    assert read.codes == [(1, "nul")]


def test_rows_longer_than_blocks_and_blocks_cut_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser, "BLOCK", 1000)
    monkeypatch.setattr(parser, "SAMPLE", 512)
    rows: list[Row] = [[str(n), "long " * (n % 700), f'q "{n}"\nnew, line'] for n in range(300)]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([["a", "b", "c"], *rows])
    assert Read(text.getvalue().encode()).rows == [[value or None for value in row] for row in rows]


def test_a_row_past_all_bounds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parser, "MAX_RECORD", 100_000)
    monkeypatch.setattr(parser, "BLOCK", 10_000)
    monkeypatch.setattr(parser, "SAMPLE", 1000)
    read = Read(b"a,b\n1,2\n3," + b"x" * 500_000 + b"\n5,6\n")
    assert "row_too_long" in {code for _, code in read.codes}
    assert read.rows[0] == ["1", "2"]
    assert read.rows[-1] == ["5", "6"]


cell = st.text(alphabet=st.sampled_from("ab1 ,;\"'\n\\é日|\t"), max_size=8)


@settings(max_examples=300)
@given(
    st.integers(2, 4).flatmap(lambda n: st.lists(st.lists(cell, min_size=n, max_size=n), min_size=1, max_size=12)),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_what_a_writer_wrote_is_read_again(rows: list[list[str]], quoting: Any, newline: str) -> None:
    header = [f"name{n}" for n in range(len(rows[0]))]
    text = io.StringIO(newline="")
    csv.writer(text, quoting=quoting, lineterminator=newline).writerows([header, *rows])
    read = Read(text.getvalue().encode(), delimiter=",", quote='"', encoding="utf-8")
    kept = [row for row in rows if quoting == csv.QUOTE_ALL or any(row) or len(row) > 1]
    assert [[value or "" for value in row] for row in read.rows] == kept
    assert read.refused == []


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    read = Read(b"a,b\n" + data)
    assert len(read.rows) + len(read.refused) >= 0


@settings(max_examples=200)
@given(st.text(alphabet=st.sampled_from('ab,"\n\\'), max_size=60))
def test_any_arrangement_of_quotes_loses_no_letter(text: str) -> None:
    read = Read(b"a,b\n" + text.encode(), delimiter=",", quote='"', encoding="utf-8")
    letters = sum(text.count(letter) for letter in "ab")
    kept = "".join(value or "" for row in read.rows for value in row) + "".join(r.line or "" for r in read.refused)
    assert sum(kept.count(letter) for letter in "ab") == letters


def test_a_carriage_return_inside_a_row_does_not_cut_it() -> None:
    read = Read(b'id,v\r\n1,"a\r\nb"\r\n2,c\rd\r\n3,\n4,""\n5,"e\rf\r\ng"\r\n6,h\ri\rj\r\n')
    assert read.rows == [["1", "a\r\nb"], ["2", "c\rd"], ["3", None], ["4", ""], ["5", "e\rf\r\ng"], ["6", "h\ri\rj"]]


def test_a_row_that_a_carriage_return_breaks_is_refused_whole() -> None:
    read = Read(b"id,v\r\n1,a\r\n2,c\rd,e\r\n3,b\r\n")
    assert read.rows == [["1", "a"], ["3", "b"]]
    assert read.codes == [(2, "ragged_row")]
    assert read.refused[0].line == "2,c\rd,e\r\n"
    assert "a carriage return inside the row, and 3 fields where the header has 2" in read.refused[0].message


def test_lines_that_end_in_two_ways_are_read_both() -> None:
    read = Read(b"id,v\n1,a\n2,b\r3,c\r4,d\n5,e\n")
    assert read.rows == [["1", "a"], ["2", "b"], ["3", "c"], ["4", "d"], ["5", "e"]]


def test_a_carriage_return_in_quotes_leaves_the_fast_way_open(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise AssertionError

    monkeypatch.setattr(parser._Reader, "_slow", never)
    assert Read(b'id,v\r\n1,"a\rb"\r\n2,c\r\n').rows == [["1", "a\rb"], ["2", "c"]]


def test_a_long_record_is_not_looked_at_after_every_block(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    real = parser._Reader._some

    def some(self: Any, buffer: bytes, window: int, *, final: bool) -> Any:
        seen.append(len(buffer))
        return real(self, buffer, window, final=final)

    monkeypatch.setattr(parser._Reader, "_some", some)
    long = "x" * 40_000_000
    assert Read(f"id,v\n1,{long}\n2,b\n".encode()).rows == [["1", long], ["2", "b"]]
    assert sum(seen) < 8 * len(long)
