"""Questions whose form is wrong: what a language model says around its questions, and lengths that none has."""

import re
import unicodedata

from embedscale.core.generation import Filtering

# What comes before a question, at the beginning of a line, or is none.
_PREAMBLES = (
    # Marks and numbers of lists, and labels; "2. cikk" and "1. ledna" begin with an ordinal, in small letters.
    r"[-*•–—·‣▪◦#>]\s",
    r"\*\*|```|[\[{\"]*\s*\"?(?:questions?|text)\"\s*:",
    r"[(\[]?\d{1,3}[)\]]\s*",
    r"\d{1,3}\s?[.:、．](?!\d)\s*(?-i:[^\W\d_a-záéíóöőúüűàâçèêëîïôùûœčďěňřšťůýž])",
    r"(?:q|a|s|question|answer|query|réponse|otázka|odpověď|kérdés|válasz|질문|문제|답변?|質問|設問|問題|回答|問|答)"
    r"\s*(?:n[°o]\s*)?[.#]?\s*\d{0,3}\s*[.:：)、](?!\d)",
    # Announcements.
    r".{0,80}\b(?:here|below) (?:are|is)\b.{0,60}\bquestions?\b",
    r".{0,80}\bvoici\b.{0,60}\bquestions?\b",
    r".{0,80}\b(?:zde|tady|níže|následuj\w+)\b.{0,60}\botáz\w+.{0,60}[.:]?$(?<!\?)",
    r"(?:.{0,80}\b)?(?:íme|itt van(?:nak)?|alább(?:iak)?|az alábbi\w*|a következő\w*)\b.{0,60}\bkérdés\w*[^?]*$",
    r".{0,40}(?:다음|아래|여기).{0,60}(?:질문|문제|문항).{0,20}(?:니다|세요|이다|에요|예요)[.:]?$",
    r".{0,40}(?:以下|次|こちら).{0,60}(?:質問|設問|問題).{0,20}(?:です|ます|した)[。.:：]?$",
    # Assent and refusal.
    r"(?:sure|certainly|of course|okay|ok|absolutely|bien sûr|certainement|d'accord|jistě|samozřejmě|persze"
    r"|természetesen|rendben|물론(?:입니다|이죠)?|네|알겠습니다|もちろん(?:です)?|はい|承知しました)\s*[!.,:。、！](?!\S*\?$)",
    r"(?:i'm|i am) (?:sorry|unable|afraid)\b.{0,20}\b(?:but|to|i)\b.{0,80}[^?]$",
    r"as an ai (?:language )?(?:model|assistant)\b",
    r"(?:je suis désolé|omlouvám se|sajnálom|elnézést|죄송합니다|죄송하지만|申し訳)",
)
_PREAMBLE = re.compile(r"\s*(?:" + "|".join(_PREAMBLES) + ")", re.IGNORECASE)
_OPEN_END = (":", "：")


def is_preamble(text: str) -> bool:
    """Whether a text is an announcement, a refusal or an end of one, or a question with a number or label before it."""
    return text.rstrip("*_ \n").endswith(_OPEN_END) or bool(_PREAMBLE.match(text))


def has_length(text: str, filtering: Filtering) -> bool:
    """Whether a text has as many columns as are allowed."""
    return filtering.min_characters <= columns(text) <= filtering.max_characters


def columns(text: str) -> int:
    """Width on a terminal, spaces at the ends left out: a character of Chinese, Japanese or Korean has two columns."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text.strip())
