"""Abbreviations that sentencex does not know, without their full stop."""

_TITLES = """dr prof mr mrs ms m mm mme mlle me st ste sr jr hon rev gen col capt lt sgt ing mgr bc mudr judr rndr phdr
doc csc drsc id ifj özv ph"""
_EVERYWHERE = "art no nos nr vol pp p fig sec para ch cf eq reg dir approx ca"
_BY_LANGUAGE = {
    "en": "arts regs secs paras pt pts ann jan feb mar apr jun jul aug sep sept oct nov dec",
    "fr": "al chap env règl dir av apr janv févr avr juill sept oct nov déc tél",
    "cs": """čl odst písm č čís str sv např tj tzv tzn resp popř příp kap obr tab ust zák vyhl nař sb nám ul tř mil mld
    tis""",
    "hu": "kb ún pl ill sz évf old bek tv vö max min ua u i ker krt",
}

TITLES = frozenset(_TITLES.split())
"""Stand before a name."""

_COMMON = frozenset(_EVERYWHERE.split())
_BEFORE_NUMBER = {language: _COMMON | frozenset(words.split()) for language, words in _BY_LANGUAGE.items()}


def before_number(language: str) -> frozenset[str]:
    """Abbreviations that a number or a bracket follows, as in "Art. 5"; elsewhere they may end a sentence."""
    return _BEFORE_NUMBER.get(language, _COMMON)
