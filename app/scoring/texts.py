"""Steps from texts to sparse rows of counts and weights.

The same words and n-grams as scikit-learn's vectorizers, by the same rules of Python: ``lower``,
``re`` and ``unicodedata``.
"""

import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from app.scoring.encoder import Level
from app.scoring.matrix import Dense, Matrix, SparseRows, dense
from app.scoring.step import Step

_WHITE_SPACES: Final = re.compile(r"\s\s+")


@dataclass(eq=False)
class CountTerms(Step, kind="count_terms"):
    """Texts to the number of times that each term of the vocabulary occurs.

    ``analyzer`` is word, char or char_wb; ``accents`` None, ascii or unicode; ``shortest`` and
    ``longest`` bound the n-grams; ``pattern`` finds words, of which ``stop_words`` are left out.
    Term ``i`` of ``vocabulary`` is counted in column ``i``. ``binary`` counts 1 at most.
    """

    vocabulary: list[str]
    analyzer: str
    shortest: int
    longest: int
    lowercase: bool
    accents: str | None
    pattern: str
    stop_words: list[str]
    binary: bool
    _columns: dict[str, int] = field(init=False)
    _terms: Callable[[str], Iterable[str]] = field(init=False)

    def __post_init__(self) -> None:
        self._columns = {term: column for column, term in enumerate(self.vocabulary)}
        if self.analyzer == "word":
            find, stop_words = re.compile(self.pattern).findall, frozenset(self.stop_words)
            self._terms = lambda text: self._word_grams(
                [word for word in find(text) if word not in stop_words]
            )
        elif self.analyzer == "char":
            self._terms = self._char_grams
        else:
            self._terms = self._padded_grams

    def __call__(self, value: Sequence[Level]) -> SparseRows:
        starts, columns, counts = [0], [], []
        for text in value:
            found: dict[int, int] = {}
            for term in self._terms(self._cleaned(str(text))):
                column = self._columns.get(term)
                if column is not None:
                    found[column] = found.get(column, 0) + 1
            columns += sorted(found)
            counts += [1 if self.binary else found[column] for column in sorted(found)]
            starts.append(len(columns))
        return SparseRows(
            np.array(starts, dtype=np.int64),
            np.array(columns, dtype=np.int64),
            np.array(counts, dtype=np.float64),
            len(self.vocabulary),
        )

    def _cleaned(self, text: str) -> str:
        text = text.lower() if self.lowercase else text
        if self.accents is None or text.isascii():
            return text
        letters = unicodedata.normalize("NFKD", text)
        if self.accents == "ascii":
            return letters.encode("ascii", "ignore").decode("ascii")
        return "".join(letter for letter in letters if not unicodedata.combining(letter))

    def _word_grams(self, words: list[str]) -> Iterable[str]:
        if self.longest == 1:
            return words
        return (
            " ".join(words[start : start + size])
            for size in range(self.shortest, self.longest + 1)
            for start in range(len(words) - size + 1)
        )

    def _char_grams(self, text: str) -> Iterable[str]:
        text = _WHITE_SPACES.sub(" ", text)
        return (
            text[start : start + size]
            for size in range(self.shortest, self.longest + 1)
            for start in range(len(text) - size + 1)
        )

    def _padded_grams(self, text: str) -> Iterable[str]:
        for word in text.split():
            padded = f" {word} "
            for size in range(self.shortest, self.longest + 1):
                yield padded[:size]
                for start in range(1, len(padded) - size + 1):
                    yield padded[start : start + size]
                # A word that is no longer than this is counted once, not again for longer sizes.
                if len(padded) <= size:
                    break


@dataclass(eq=False)
class WeighTerms(Step, kind="weigh_terms"):
    """Counts to weights: logarithms of them if ``sublinear``, times ``idf`` unless it is None."""

    sublinear: bool
    idf: Dense | None

    def __call__(self, value: Matrix) -> SparseRows:
        rows = value if isinstance(value, SparseRows) else sparse(dense(value))
        weights = rows.values
        if self.sublinear:
            weights = np.log(weights) + 1.0
        if self.idf is not None:
            weights = weights * self.idf[rows.columns]
        return rows.with_values(weights)


def sparse(matrix: Dense) -> SparseRows:
    """The same matrix with only the values that differ from 0."""
    rows, columns = np.nonzero(matrix)
    starts = np.searchsorted(rows, np.arange(len(matrix) + 1))
    return SparseRows(starts, columns, matrix[rows, columns], matrix.shape[1])
