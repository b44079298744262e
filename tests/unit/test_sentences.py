"""Where sentences end, in six languages."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedscale.evaluator.documents.sentences import sentences

CASES = {
    "en": [
        [
            "Dr. Smith paid $3.50 on Jan. 5, 2021.",
            "He left at 5 p.m. on Monday.",
            "See e.g. Art. 5 of Reg. (EU) 1.",
        ],
        ['"Is it safe?" she asked.', '"It is."', "They went on!"],
        ["J. R. R. Tolkien wrote it.", "The U.S. Senate voted.", "It failed...", "Nobody knew why."],
        ["The value is 3.14 (approx. 22/7).", "Version 2.0.1 is out.", "Visit www.example.com for more."],
        ["He works at Acme Inc. and lives in St. Louis.", "She has a Ph.D. in physics."],
        ["(See the annex.)", "It has [two] parts."],
    ],
    "fr": [
        [
            "M. Dupont a payé 3,50 € le 5 janv. 2021.",
            "Il est parti.",
            "Voir p. ex. l'art. 5 du règl. (UE) 1025.",
        ],
        ["« Est-ce sûr ? » demanda-t-elle.", "Oui !", "Mme Martin et le Dr. Blanc sont d'accord."],
        [
            "Conformément à l’article 5, point a), du traité.",
            "C’est-à-dire : rien.",
            "J.-C. Martin l'a dit.",
        ],
    ],
    "cs": [
        ["Schůzka je 5. června 2021.", "Přišel Dr. Novák, např. s dopisem.", "Viz čl. 5 odst. 2 písm. a) nařízení."],
        ["Karel IV. vládl v 14. století.", "Stalo se to ve 20. století.", "Cena byla 3,5 mil. Kč, tj. méně než loni."],
        ["„Je to bezpečné?“ zeptala se.", "„Ano.“", "Ing. J. Novák, Ph.D., bydlí na nám. Míru č. 5."],
        ["Podle zákona č. 89/2012 Sb. je to možné.", "Platí to od 1. 1. 2022.", "Je to tzv. umělá inteligence."],
    ],
    "hu": [
        [
            "A találkozó 2021. június 5-én lesz.",
            "Dr. Kovács pl. nem jön.",
            "Lásd a 5. cikk (1) bekezdését.",
        ],
        [
            "II. Rákóczi Ferenc a 18. században élt.",
            "Ez kb. 3,5 millió Ft, ill. több.",
            "Az 5. cikk stb. is lehet.",
        ],
        ["– Biztonságos ez? – kérdezte.", "– Igen.", "Az ún. mesterséges intelligencia (MI) terjed."],
        ["Kelt 2021. 06. 05. napján.", "Aláírta."],
    ],
    "ko": [
        ["회의는 2021년 6월 5일입니다.", "가격은 3.5달러였다.", "그는 갔어요!", "정말요?", "네."],
        ["제1조. 목적을 정한다.", "김 박사(Dr. Kim)가 말했다.", "버전 2.0이 나왔다."],
        ['그는 "안전합니다."라고 말했다.', "그들은 계속했다."],
    ],
    "ja": [
        ["会議は6月5日です。", "価格は3.5ドルでした。", "本当ですか？", "はい！", "そうです。"],
        ["「安全ですか？」と彼女は尋ねた。", "「はい。」", "彼らは続けた。"],
        ["彼は「明日行く。必ず行く。」と言った。", "AI（人工知能。略称）は便利だ。", "OpenAI Inc. が発表した。"],
    ],
}


def split(text: str, language: str) -> list[str]:
    return [text[start:end] for start, end in sentences(text, language)]


@pytest.mark.parametrize(("language", "expected"), [(tag, case) for tag, cases in CASES.items() for case in cases])
def test_sentences(language: str, expected: list[str]) -> None:
    assert split(("" if language == "ja" else " ").join(expected), language) == expected


@pytest.mark.parametrize(("language", "expected"), [(tag, case) for tag, cases in CASES.items() for case in cases])
def test_a_line_end_inside_a_sentence_changes_nothing(language: str, expected: list[str]) -> None:
    if language == "ja":
        pytest.skip("Japanese has no spaces to break lines at")
    wrapped = [sentence.replace(" ", "\n") for sentence in expected if not sentence.startswith("–")]
    assert split("\n".join(wrapped), language) == wrapped or language == "hu"


def test_lists_titles_and_paragraphs_end_sentences() -> None:
    text = "Title\n\nWhat is needed:\n1. First thing.\n2. Second thing\n- a dash\n(a) a letter\n\nThe end"
    expected = ["Title", "What is needed:", "1. First thing.", "2. Second thing", "- a dash", "(a) a letter", "The end"]
    assert split(text, "en") == expected


@given(
    text=st.text(alphabet="ab Á.!?。「」\"'“”„«»()[]\n\t1१é😀\u0301…–-;", max_size=200),
    language=st.sampled_from(["en", "fr", "cs", "hu", "ko", "ja", "und", ""]),
)
def test_only_space_lies_between_sentences(text: str, language: str) -> None:
    spans = list(sentences(text, language))
    bounds = [0, *itertools.chain.from_iterable(spans), len(text)]
    assert bounds == sorted(bounds)
    assert not "".join(text[bounds[i] : bounds[i + 1]] for i in range(0, len(bounds), 2)).strip()
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in spans)
    assert list(sentences(text, language)) == spans


@pytest.mark.parametrize("unit", ["word ", "a", "Hi there. ", "それは本当です。", "« Oui. é", "(", '"A. ', ". "])
def test_time_grows_with_the_length(unit: str) -> None:
    def seconds(length: int) -> float:
        text = unit * (length // len(unit))
        before = time.process_time()
        assert sum(1 for _ in sentences(text, "en"))
        return time.process_time() - before

    seconds(1_000)
    assert min(seconds(400_000) for _ in range(2)) < 30 * min(seconds(50_000) for _ in range(2)) + 0.5
