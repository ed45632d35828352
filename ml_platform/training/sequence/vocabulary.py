"""What the sequence model's weights are numbered by: products, categories and item statistics.

A product's slot is its place among the training Mondays' catalogues plus one; slot UNSEEN is shared by every product
that was in none of them, which is what a product new since the training is. The same holds for categories. Written
beside the weights as JSON, so that a bundle can be read without the data it was trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ml_platform.errors import PlatformError
from ml_platform.ranking.baskets import Catalogue

UNSEEN = 0


class VocabularyMismatch(PlatformError):
    """The catalogue has other statistics than the model was trained on, or a vocabulary cannot be read."""


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """products: int64 [v] rising; product_categories: int64 [v], the category's slot; statistics: their names."""

    products: np.ndarray
    product_categories: np.ndarray
    categories: tuple[str, ...]
    statistics: tuple[str, ...]

    @classmethod
    def of_catalogues(cls, catalogues: Sequence[Catalogue]) -> "Vocabulary":
        """Everything in these catalogues, oldest first; a product has the category that the newest gives it."""
        newest_first = list(reversed(catalogues))
        products, first = np.unique(np.concatenate([c.products for c in newest_first]), return_index=True)
        named = np.concatenate([c.categories for c in newest_first]).astype(str)[first]
        categories = tuple(np.unique(named).tolist())
        return cls(products, category_slots(categories, named), categories, catalogues[-1].names)

    def slots(self, products: np.ndarray) -> np.ndarray:
        """The slot int64 [n] of each product [n]."""
        places = np.minimum(np.searchsorted(self.products, products), len(self.products) - 1)
        return np.where(self.products[places] == products, places + 1, UNSEEN)

    @cached_property
    def slot_categories(self) -> np.ndarray:
        """The category's slot int64 [v + 1] of every product's slot."""
        return np.concatenate([[UNSEEN], self.product_categories])

    def to_json(self) -> dict[str, Any]:
        return {
            "products": self.products.tolist(),
            "product_categories": self.product_categories.tolist(),
            "categories": list(self.categories),
            "statistics": list(self.statistics),
        }

    @classmethod
    def from_json(cls, stated: Mapping[str, Any]) -> "Vocabulary":
        """Reads what `to_json` gave. Raises VocabularyMismatch."""
        try:
            products = np.array(stated["products"], dtype=np.int64)
            product_categories = np.array(stated["product_categories"], dtype=np.int64)
            categories, statistics = tuple(map(str, stated["categories"])), tuple(map(str, stated["statistics"]))
        except (KeyError, TypeError, ValueError) as error:
            raise VocabularyMismatch(f"the vocabulary cannot be read: {error!r}", next_step="train again") from error
        if not len(products) or products.shape != product_categories.shape or (np.diff(products) <= 0).any():
            raise VocabularyMismatch("the vocabulary's products do not rise", next_step="train again")
        return cls(products, product_categories, categories, statistics)


def category_slots(categories: Sequence[str], named: np.ndarray) -> np.ndarray:
    """The slot int64 [n] of each category name [n] among the rising `categories`; UNSEEN for one not among them."""
    rising = np.array(categories)
    places = np.minimum(np.searchsorted(rising, named.astype(str)), len(rising) - 1)
    return np.where(rising[places] == named.astype(str), places + 1, UNSEEN)
