"""Questions in another language than the one that was asked for."""

from embedscale.evaluator.datasets.languages import identifier

_PLAUSIBLE = set("ar cs de en es fr hu it ja ko nl pl pt ro ru sv tr uk zh".split())  # noqa: SIM905
"""Languages that models answer in when they are asked for another. Close relatives of one are left out: a short Czech
question may well be Slovak."""
_SURE = 30.0
"""So many times as likely must another language be. Of 1,744 real questions in five languages none comes near, and of
three words from each none either."""


class LanguageFilter:
    """Tells what is in another language than `language`, a BCP 47 tag; one that nobody can tell is never another."""

    def __init__(self, language: str) -> None:
        self._language = language.partition("-")[0].lower()
        self._known = self._language in identifier().nb_classes
        self._others = _PLAUSIBLE - {self._language}

    def is_other(self, text: str) -> bool:
        """Whether the text is in another language, beyond doubt."""
        if not self._known:
            return False
        likely: dict[str, float] = dict(identifier().rank(text))
        return max(likely[other] for other in self._others) > _SURE * likely[self._language]
