"""What a language model says around its questions: announcements, refusals, numbers and labels that are left."""

import re

# "2. cikk", "(2) bekezdés" and "24. 12. 2025" begin with an ordinal or a date, and no list.
_NO_ORDINAL = r"\s*(?!(?-i:[a-záéíóöőúüűàâçèêëîïôùûœčďěňřšťýž])|\d)\w"
_MARK = r"[-*•–—·‣▪◦#>]\s|\*\*|```|\d{1,3}[)\]]|[(\[]\d{1,3}[)\]]" + _NO_ORDINAL + r"|\d{1,3}\s?[.:、．]" + _NO_ORDINAL
_LABEL = (
    r"(?:\d{1,3}\.\s*)?(?:question|query|answer|réponse|otázka|odpověď|kérdés|válasz|질문|문제|답변?|質問|設問|問題|回答|問|答)"
    r"\s*(?:n[°o]\s*)?\d{0,3}\s*[.:：)、]|[qa]\s?\d{0,3}\s?[:：)]|q\d+\.|[\[{]?\s*\"\w+\"\s*:"
)
_ANNOUNCEMENTS = {
    "en": r".{0,80}\b(?:here|below) (?:are|is)\b.{0,60}\bquestions?\b",
    "fr": r".{0,80}\bvoici\b.{0,60}\bquestions?\b",
    "cs": r".{0,80}\b(?:zde|tady|níže|následují(?:cí)?)\b.{0,60}\botáz\w+[^?]*$",
    "hu": r".{0,80}\b(?:íme|itt van(?:nak)?|alább(?:iak)?|az alábbi\w*|a következő\w*)\b.{0,60}\bkérdés\w*[^?]*$",
    "ko": r".{0,40}(?:다음|아래|여기).{0,60}(?:질문|문제|문항).{0,20}(?:니다|세요|이다|에요|예요)[.:]?$",
    "ja": r".{0,40}(?:以下|次|こちら).{0,60}(?:質問|設問|問題).{0,20}(?:です|ます|した)[。.:：]?$",
}
_ASSENT = (
    r"(?:sure|certainly|of course|okay|ok|absolutely|bien sûr|certainement|d['’]accord|jistě|samozřejmě|persze|rendben"
    r"|természetesen|물론(?:입니다|이죠)?|네|알겠습니다|もちろん(?:です)?|はい|承知しました)\s*(?:[!.:。！]|[,、](?!.*[?？]$))"
)
_REFUSAL = (
    r"i(?:['’]m| am) (?:sorry|unable|afraid)\b[^?]*$|as an ai (?:language )?(?:model|assistant)\b"
    r"|je suis désolé|omlouvám se|sajnálom|elnézést|죄송합니다|죄송하지만|申し訳"
)
_BEGIN = re.compile("|".join((_MARK, _LABEL, *_ANNOUNCEMENTS.values(), _ASSENT, _REFUSAL)), re.IGNORECASE)
_OPEN_END = (":", "：")


def is_preamble(text: str) -> bool:
    """Whether a text is an announcement or a refusal, or has a number, a label or an assent before its question."""
    text = text.strip()
    return text.rstrip("*_").endswith(_OPEN_END) or bool(_BEGIN.match(text))
