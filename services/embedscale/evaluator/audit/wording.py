"""Questions whose words give the answer's place away: they name the text they were made from, or quote it."""

import re
from collections.abc import Sequence
from functools import lru_cache

LONG_RUN = 8
"""So many words in a row, in a question as in its document, are a quotation."""

# Thai, Lao, Burmese, Chinese and Japanese have no spaces between words; Korean ones end in another way each time.
_SYLLABLE = r"\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3"
_SYLLABLES_A_WORD = 3
_IS_SYLLABLE = re.compile(f"[{_SYLLABLE}]")
_LETTERS = rf"[^\W{_SYLLABLE}]+"
_WORDS = re.compile(rf"[{_SYLLABLE}]|{_LETTERS}(?:['’‑-]{_LETTERS})*")

# What the texts that questions are made from are called, in phrases that mean this one text.
_NAMED = {
    "en": r"\b(?:the|this|given|provided) (?:context information|document|passage|excerpt|snippet|text)\b(?! of)"
    r"|\b(?:in|from|to|on) the (?:given |provided |above )?context\b(?! of)"
    r"|\b(?:provided|given|above) (?:information|context)\b|\b(?:information|context) (?:provided|given|above)\b"
    r"|\bthis (?:section|chapter|paragraph|page)\b|\b(?:described|listed|mentioned|stated) (?:above|below)\b",
    "fr": r"\b(?:le|ce|du|au|les) (?:présent )?(?:document|texte|extrait)s?\b(?! de| d'| du)"
    r"|\binformations? (?:contextuelles?|fournies?|données?)\b|\bcontexte (?:fourni|donné)\b"
    r"|\b(?:dans|d'après|d’après|selon) le contexte\b(?! d)"
    r"|\b(?:ce|cette|présente?) (?:article|chapitre|page|paragraphe|passage|section)\b|\bci-dess(?:us|ous)\b",
    "cs": r"\b(?:podle|dle|v|ve|z|ze) (?:(?:tohoto|tomto|uvedeného|uvedeném|daného|daném) )?"
    r"(?:dokumentu|textu|úryvku)\b|\b(?:(?:hlav|kapitol|příloh)\w+ [ivx]+|v? uvedeného|v? uvedeném|tohoto) "
    r"(?:dokumentu|textu)\b|\b(?:uvedených|poskytnutých) (?:informací|informacích)\b"
    r"|\b(?:daném|daného|uvedeném|uvedeného|poskytnutém|poskytnutého) kontextu\b"
    r"|\bt(?:omto|ohoto|éto) (?:kapitol[ey]|oddílu|odstavc[ei]|pasáž[ei]|úryvku)\b"
    r"|\bvýše (?:popsan|uveden|zmíněn)\w+",
    "hu": r"\b(?:a|az adott|a megadott|a fenti|ez a|ebben a) (?:dokumentum|szöveg|szövegrészlet|kontextus)"
    r"(?:ban|ben|ból|ből|nak|nek|ot|et)?\b|\b(?:fenti|megadott) (?:információ|kontextus|részlet|szöveg)\w*"
    r"|\bebben a (?:bekezdés|fejezet|rész|szakasz)\w*",
    "de": r"\b(?:dem|diesem|das|dieses|des|im) (?:vorliegenden |gegebenen |obigen )?"
    r"(?:dokument|text|textabschnitt|auszug)s?\b|\b(?:angegebenen|bereitgestellten) (?:informationen|kontext)\b",
    "es": r"\b(?:el|este|del|al) (?:documento|texto|pasaje|extracto)\b(?! de)"
    r"|\binformación (?:proporcionada|contextual|dada)\b|\bcontexto (?:proporcionado|dado)\b",
    "ko": r"(?<![가-힣])(?:주어진|제시된|제공된|위의?|이|본|해당) ?"
    r"(?:문서|문맥|지문|본문|글|텍스트|맥락|정보|단락|문단|발췌)|(?:문서|지문|본문)(?:에|의|에서|에 따르면)\b"
    r"|(?:글|내용|문맥|텍스트)에 (?:따르면|의하면)",
    "ja": r"(?:この|上記の?|以下の|前述の?|与えられた|提供された|提示された)"
    r"(?:文書|文章|文脈|本文|情報|資料|抜粋|段落|テキスト)"
    r"|(?<![一-鿿])本(?:文書|文章|資料|テキスト)"
    r"|(?:文書|文章|文脈|本文|資料|テキスト|抜粋)(?:に(?:よると|よれば|基づ)|の中で|内で|では)",
}
_ANY_NAMED = re.compile("|".join(_NAMED.values()), re.IGNORECASE)


def named_context(question: str) -> str:
    """Return the words that name the text that the question was made from; empty where there are none."""
    found = _ANY_NAMED.search(question)
    return found.group(0) if found else ""


def quotation(question: str, documents: Sequence[str]) -> str:
    """Return the longest run of words that the question has in common with a document, if it has eight; or nothing."""
    run = copied(question, documents)
    return " ".join(run) if words_in(run) >= LONG_RUN else ""


def copied(question: str, documents: Sequence[str]) -> list[str]:
    """Return the longest run of words that is in one of the documents; of syllables, where words have no spaces."""
    words = _WORDS.findall(question.casefold())
    spaced = [_spaced(document) for document in documents]
    longest: list[str] = []
    start = 0
    for end in range(1, len(words) + 1):
        while not any(f" {' '.join(words[start:end])} " in document for document in spaced) and start < end:
            start += 1
        longest = max(longest, words[start:end], key=_weight)
    return longest


@lru_cache(16)
def _spaced(document: str) -> str:
    """Words with a space before and after each; questions about one document come together."""
    return f" {' '.join(_WORDS.findall(document.casefold()))} "


def words_in(run: Sequence[str]) -> int:
    """How many words a run has; three syllables make one."""
    return _weight(run) // _SYLLABLES_A_WORD


def _weight(run: Sequence[str]) -> int:
    return sum(1 if _IS_SYLLABLE.fullmatch(word) else _SYLLABLES_A_WORD for word in run)
