"""Filters on what language models really write: six languages, each fault, and questions without one."""

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from embedscale.core.documents import Chunk
from embedscale.core.generation import Candidate, Filtered, Filtering, Reason
from embedscale.evaluator import builtin
from embedscale.evaluator.generation import filtering
from embedscale.evaluator.generation.filtering import filtered
from embedscale.evaluator.generation.filters.language import LanguageFilter

PASSAGES = {
    "en": "The provider shall keep the technical documentation at the disposal of the authorities for ten years after "
    "the system was placed on the market, and shall tell them at once of any serious incident.",
    "fr": "Le fournisseur tient la documentation technique à la disposition des autorités pendant dix ans après la "
    "mise sur le marché du système, et leur signale aussitôt tout incident grave.",
    "cs": "Poskytovatel uchovává technickou dokumentaci pro potřeby vnitrostátních orgánů po dobu deseti let od "
    "uvedení systému na trh a neprodleně jim oznámí každý závažný incident.",
    "hu": "A szolgáltató a műszaki dokumentációt a rendszer forgalomba hozatalát követő tíz évig megőrzi a hatóságok "
    "számára, és haladéktalanul bejelenti nekik a súlyos váratlan eseményeket.",
    "ko": "제공자는 시스템이 시장에 출시된 날부터 십 년 동안 기술 문서를 관계 당국이 열람할 수 있도록 "
    "보관하고 중대한 사고가 발생하면 지체 없이 알려야 한다.",
    "ja": "提供者は、システムが市場に投入された日から十年間、技術文書を当局が閲覧できるように"
    "保管し、重大な事故が起きたときは遅滞なく当局に通知しなければならない。",
}
GOOD = {
    "en": ["How many years must papers about a system be stored?", "Who has to be informed about accidents?"],
    "fr": ["Combien de temps faut-il archiver les papiers d'un système ?", "Qui faut-il prévenir d'un accident ?"],
    "cs": ["Jak dlouho se musí archivovat podklady k systému?", "Komu se hlásí vážné nehody?"],
    "hu": ["Hány évig kell eltenni egy rendszer iratait?", "Kit kell értesíteni egy balesetről?"],
    "ko": ["시스템 관련 서류는 몇 년이나 간직해야 하나요?", "큰 사고가 나면 누구에게 연락하나요?"],
    "ja": ["システムの書類は何年残しておく必要がありますか？", "大きな事故が起きたら誰に連絡しますか？"],
}
PREAMBLES = {
    "en": [
        "Here are two questions based on the context information:",
        "Sure! Here is a question about the passage.",
        "Certainly, here are the questions you asked for.",
        "1. How long must papers be stored?",
        "Question 2: Who has to be informed about accidents?",
        "Q1: Who has to be informed about accidents?",
        "**Question:** Who has to be informed about accidents?",
        "- Who has to be informed about accidents?",
        '{"question": "Who has to be informed about accidents?"}',
        "I'm sorry, but I cannot write questions about this.",
        "As an AI language model, I am not able to do this.",
        "The questions are as follows:",
    ],
    "fr": [
        "Voici deux questions basées sur les informations :",
        "Bien sûr ! Voici une question.",
        "(1) Qui faut-il prévenir d'un accident ?",
        "Réponse : les autorités compétentes.",
        "Je suis désolé, mais je ne peux pas.",
    ],
    "cs": [
        "Zde jsou dvě otázky k uvedenému textu:",
        "Níže jsou uvedeny dvě otázky.",
        "Samozřejmě! Jak dlouho?",
        "Otázka 1: Komu se hlásí vážné nehody?",
        "2) Komu se hlásí vážné nehody?",
    ],
    "hu": [
        "Íme két kérdés a szöveg alapján:",
        "Az alábbi kérdések a szövegről szólnak.",
        "Természetesen! Kit kell értesíteni?",
        "1. kérdés: Kit kell értesíteni egy balesetről?",
        "Kérdés: Kit kell értesíteni egy balesetről?",
    ],
    "ko": [
        "다음은 주어진 내용을 바탕으로 한 두 가지 질문입니다.",
        "물론입니다! 질문을 드리겠습니다.",
        "질문 1: 큰 사고가 나면 누구에게 연락하나요?",
        "1. 큰 사고가 나면 누구에게 연락하나요?",
        "답변: 관계 당국입니다.",
    ],
    "ja": [
        "以下は、文書に基づく二つの質問です。",
        "もちろんです。質問を作成します。",
        "質問1：大きな事故が起きたら誰に連絡しますか？",
        "１．大きな事故が起きたら誰に連絡しますか？",
        "申し訳ありませんが、質問を作成できません。",
    ],
}
LEAKS = {
    "en": [
        "How long are papers stored according to the document?",
        "Who is told, in the context provided?",
    ],
    "fr": ["Selon le texte, combien de temps garde-t-on les papiers ?", "Que dit le contexte fourni des accidents ?"],
    "cs": ["Jak dlouho se podle textu uchovávají podklady?", "Co se říká ve výše uvedeném úryvku o nehodách?"],
    "hu": ["A szöveg szerint hány évig kell eltenni az iratokat?", "Mit mond a megadott kontextus a balesetről?"],
    "ko": ["주어진 문서에 따르면 서류는 몇 년 간직하나요?", "위 글에서 사고는 누구에게 알리나요?"],
    "ja": ["この文書によると、書類は何年残しますか？", "与えられた情報では、誰に連絡しますか？"],
}
COPIES = {
    "en": "Who shall keep the technical documentation at the disposal of the authorities for ten years?",
    "fr": "Qui tient la documentation technique à la disposition des autorités pendant dix ans après la vente ?",
    "cs": "Kdo uchovává technickou dokumentaci pro potřeby vnitrostátních orgánů po dobu deseti let od uvedení?",
    "hu": "Ki a műszaki dokumentációt a rendszer forgalomba hozatalát követő tíz évig megőrzi a hatóságok számára?",
    "ko": "누가 시스템이 시장에 출시된 날부터 십 년 동안 기술 문서를 관계 당국이 열람할 수 있도록 하나요?",
    "ja": "システムが市場に投入された日から十年間、技術文書を当局が閲覧できるように保管しますか？",
}
LANGUAGES = tuple(PASSAGES)
OTHER = {language: LANGUAGES[place - 1] for place, language in enumerate(LANGUAGES)}


def chunk(text: str, document: str = "a") -> Chunk:
    return Chunk(document, 0, len(text), text, len(text) // 4)


def run(texts: Sequence[str], language: str = "en", **limits: object) -> Filtered:
    passage = chunk(PASSAGES[language])
    candidates = [Candidate(text, (passage.id,)) for text in texts]
    return asyncio.run(filtered(candidates, {passage.id: passage}, Filtering(language, **limits)))


def reasons(texts: Sequence[str], language: str = "en", **limits: object) -> list[Reason | None]:
    why = {candidate.text: reason for candidate, reason in run(texts, language, **limits).dropped}
    return [why.get(text) for text in texts]


def questions(passage: Chunk, count: int) -> list[Candidate]:
    return [Candidate(f"Who pays the fee number {n} for parking in street {n}?", (passage.id,)) for n in range(count)]


@pytest.mark.parametrize("language", LANGUAGES)
def test_good_questions_stay_in_their_order(language: str) -> None:
    assert [candidate.text for candidate in run(GOOD[language], language).kept] == GOOD[language]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("texts", "reason"), [(PREAMBLES, Reason.PREAMBLE), (LEAKS, Reason.CONTEXT_LEAK)], ids=["preamble", "leak"]
)
def test_each_fault_is_told_and_may_be_let_through(language: str, texts: dict[str, list[str]], reason: Reason) -> None:
    assert reasons(texts[language], language) == [reason] * len(texts[language])
    assert reason not in reasons(texts[language], language, off=frozenset({reason}))


@pytest.mark.parametrize("language", LANGUAGES)
def test_other_faults_in_each_language(language: str) -> None:
    foreign, copy, good = GOOD[OTHER[language]][0], COPIES[language], GOOD[language][0]
    repeated = f"{good.upper()} !"
    found = reasons([foreign, copy, good, repeated, good[:3], good * 12], language)
    length = Reason.LENGTH
    assert found == [Reason.LANGUAGE, Reason.COPYING, None, Reason.DUPLICATE, length, length]
    assert reasons([copy], language, max_copied_words=40) == [None]
    everything = run([foreign, copy, good, repeated, good[:3], *PREAMBLES[language]], language, off=frozenset(Reason))
    assert len(everything.kept) == 5 + len(PREAMBLES[language])


@pytest.mark.parametrize(
    ("language", "text"),
    [
        ("en", "Sure enough, how long must I wait?"),
        ("en", "Of course, who pays for it?"),
        ("en", "As an AI system provider, what must I report?"),
        ("en", "Which questions must an importer answer?"),
        ("en", "I am sorry to ask, but how long may I park here?"),
        ("en", "3.5 tonnes or more: who may drive here?"),
        ("en", "2024 budget: how much goes to schools?"),
        ("fr", "Quelles questions le fournisseur doit-il poser ?"),
        ("cs", "1. ledna 2025 vstupuje v platnost co přesně?"),
        ("cs", "Jaké otázky musí následující dovozce zodpovědět?"),
        ("hu", "5. cikk tiltott gyakorlatok mesterséges intelligencia"),
        ("cs", "24. 12. 2025 otevírací doba úřadu"),
        ("hu", "(2) bekezdés szerinti kötelezettségek"),
        ("hu", "A következő kérdés kire vonatkozik?"),
        ("ko", "다음 질문에는 누가 대답해야 하나요?"),
        ("ko", "네트워크 요금은 얼마인가요?"),
        ("ja", "次の問題は誰が解決しますか？"),
        ("ja", "はいしゃの予約はどこでしますか？"),
        ("ja", "問い合わせはどこにしますか？"),
    ],
)
def test_what_only_looks_like_a_preamble_is_a_question(language: str, text: str) -> None:
    assert reasons([text], language) == [None]


@pytest.mark.parametrize("language", builtin.LANGUAGES)
def test_no_filter_drops_a_question_of_the_set_that_ships(language: str) -> None:
    dataset = builtin.load(f"builtin:velmar/{language}")
    chunks = {key: chunk(text, key) for key, text in dataset.documents()}
    candidates = [
        Candidate(text, tuple(chunks[key].id for key in dataset.qrels[query])) for query, text in dataset.queries()
    ]
    found = asyncio.run(filtered(candidates, {one.id: one for one in chunks.values()}, Filtering(language)))
    assert list(found.kept) == candidates


@pytest.mark.parametrize(
    ("language", "leaks", "copies", "duplicates", "near"),
    [("en", 37, 27, 0, 0), ("fr", 85, 41, 0, 0), ("cs", 19, 36, 3, 1), ("hu", 18, 16, 2, 1)],
)
def test_what_each_filter_alone_drops_of_the_ai_act_sets(
    ai_act: Path, language: str, leaks: int, copies: int, duplicates: int, near: int
) -> None:
    """Questions that a language model wrote and nobody filtered; faults of form and language they have none."""
    content = json.loads((ai_act / f"{language.upper()}_dataset.json").read_text("utf-8"))
    by_key = {key: chunk(text, key) for key, text in content["corpus"].items()}
    chunks = {one.id: one for one in by_key.values()}
    relevant = content["relevant_docs"]
    asked = [Candidate(text, tuple(by_key[k].id for k in relevant[q])) for q, text in content["queries"].items()]
    dropped = {}
    for reason in Reason:
        only = Filtering(language, off=frozenset(Reason) - {reason})
        dropped[reason] = len(asyncio.run(filtered(asked, chunks, only)).dropped)
    expected = dict.fromkeys(Reason, 0) | {Reason.CONTEXT_LEAK: leaks, Reason.COPYING: copies}
    assert dropped == expected | {Reason.DUPLICATE: duplicates, Reason.NEAR_DUPLICATE: near}


def test_short_search_terms_are_told_from_another_language_only_beyond_doubt() -> None:
    english, hungarian = LanguageFilter("en-GB"), LanguageFilter("hu")
    assert not any(map(english.is_other, ["AI Act", "CE marking 2024", "GDPR", "notified body", "ISO 9001", "17 §"]))
    assert not any(map(hungarian.is_other, ["CE-jelölés", "AI Act bírság", "szülői pótlék 2025"]))
    assert english.is_other("szülői pótlék összege 2025")
    assert hungarian.is_other("parental allowance amount in 2025")
    assert not LanguageFilter("tlh").is_other("nuqneH")


def test_lengths_are_columns() -> None:
    limits = {"min_characters": 10, "max_characters": 20, "off": frozenset(Reason) - {Reason.LENGTH}}
    texts = ["123456789", "1234567890", "1" * 20, "1" * 21, "누구에게요", "누구에게", "誰" * 10, "誰" * 11]
    length = Reason.LENGTH
    assert reasons(texts, **limits) == [length, None, None, length, None, length, None, length]


def test_the_same_question_of_two_chunks_stays_once_and_is_about_both() -> None:
    first, second = chunk("One text of some kind.", "a"), chunk("Another text of some kind.", "b")
    asked = [Candidate("What is the purpose of it?", (one.id,), quote=one.text) for one in (first, second)]
    found = asyncio.run(filtered(asked, {first.id: first, second.id: second}, Filtering("en")))
    assert found.kept == [replace(asked[0], chunks=(first.id, second.id))]
    assert found.dropped == [(asked[1], Reason.DUPLICATE)]


def test_near_duplicates_are_dropped_but_other_numbers_make_another_question() -> None:
    start = "Which obligations do all providers of high-risk systems have towards the market surveillance authorities"
    texts = [f"{start} under Article 16?", f"{start}, under Article 16?", f"{start} under Articles 16?",
             f"{start} under Article 17?", "Who pays the fee for parking in the centre?"]  # fmt: skip
    assert reasons(texts) == [None, Reason.DUPLICATE, Reason.NEAR_DUPLICATE, None, None]
    assert reasons(texts, near_duplicate=1.0)[2] is None


@pytest.mark.parametrize("named", ["round_trip_model", "judge_model"])
def test_a_model_that_nothing_reaches_is_not_passed_over(named: str) -> None:
    with pytest.raises(ValueError, match="nothing is given"):
        run(GOOD["en"], **{named: "model"})
    reason = Reason(named.removesuffix("_model"))
    assert len(run(GOOD["en"], off=frozenset({reason}), **{named: "model"}).kept) == 2


def test_every_candidate_is_kept_or_dropped_once_and_counted() -> None:
    texts = [text for language in LANGUAGES for kind in (GOOD, PREAMBLES, LEAKS) for text in kind[language]] * 3
    found = run(texts)
    assert len(found.kept) + len(found.dropped) == len(texts) == len(found.kept) + sum(found.counts().values())
    assert [candidate.text for candidate in found.kept] == GOOD["en"]
    assert found == run(texts)


PARTS = ("_checks", "_first_faults", "normal", "near_duplicates")
"""All that takes time in a run without models."""


async def test_nothing_is_filtered_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    threads: dict[str, set[int]] = defaultdict(set)

    def noted(name: str) -> Callable[..., object]:
        part = getattr(filtering, name)

        def run(*arguments: object) -> object:
            threads[name].add(threading.get_ident())
            return part(*arguments)

        return run

    for name in PARTS:
        monkeypatch.setattr(filtering, name, noted(name))
    passage = chunk(PASSAGES["en"])
    assert len((await filtered(questions(passage, 1000), {passage.id: passage}, Filtering("en"))).kept) == 1000
    assert set(threads) == set(PARTS)
    assert threading.get_ident() not in set.union(*threads.values())


async def test_it_stops_when_it_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    passage, checked = chunk(PASSAGES["en"]), list[int]()
    began, released = threading.Event(), threading.Event()

    def noted(candidates: Sequence[Candidate], checks: object) -> list[None]:
        checked.append(len(candidates))
        began.set()
        assert released.wait(60)
        return [None] * len(candidates)

    monkeypatch.setattr(filtering, "_first_faults", noted)
    task = asyncio.create_task(filtered(questions(passage, 20_000), {passage.id: passage}, Filtering("en")))
    await asyncio.to_thread(began.wait)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    released.set()
    assert sum(checked) < 2_000
