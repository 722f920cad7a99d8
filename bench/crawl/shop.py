"""A made-up shop of any number of pages, the same each time, and what is on its products."""

import gzip
import multiprocessing
import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

START = "/start.html"
FIELDS = ("title", "price", "sku", "stock", "brand")
LISTED = 24  # products on a page of a list
IN_A_SHELF = 400  # products of a subcategory, about: 17 pages of lists, so that all is near the start page
CATEGORIES = 12
SHELVES_AT_LEAST = 24
INFOS = 10
COMPRESSION = 6


def _words(text: str) -> list[str]:
    return text.split()


_ADJECTIVES = _words("quiet amber folding northern woven enamelled slim sturdy walnut brushed linen tidal copper oiled")
_NOUNS = _words("kettle lamp stool ladder basket mirror shelf clock rug tray bench hook bowl press caddy rack")
_MAKERS = _words("Aldgate Brimley Corvane Dunmore Elstow Farrow Galbraith Hexham Ilford Jessop Kenmare Lowther")
_STOCKS = ("in stock", "only a few left", "back next week", "sold out")
_WORDS = _words(
    "the a this our each with for from into over under without after before when while because although however "
    "surface handle hinge grain colour finish seam corner edge base frame joint fitting thread fabric timber steel "
    "glass cotton leather ceramic holds folds opens turns keeps carries covers supports resists cleans lasts fits "
    "light heavy narrow broad plain warm dry bright even firm smooth compact durable simple careful small large "
    "kitchen hallway garden workshop bedroom office balcony cupboard drawer window table morning winter summer "
    "made finished tested packed repaired delivered returned measured chosen washed dried stored assembled"
)


@dataclass(frozen=True)
class Shop:
    """How many pages of each kind there are, and where."""

    pages: int
    products: int
    infos: int

    @property
    def shelves(self) -> int:
        """How many subcategories there are."""
        return max(SHELVES_AT_LEAST, -(-self.products // IN_A_SHELF))

    def on_shelf(self, shelf: int) -> range:
        """Return the products of a subcategory."""
        return range(shelf, self.products, self.shelves)

    def lists(self, shelf: int) -> int:
        """Return how many pages the list of a subcategory has."""
        return max(1, -(-len(self.on_shelf(shelf)) // LISTED))

    def paths(self) -> Iterator[str]:
        """Yield the path of every page."""
        yield START
        yield from (category_path(n) for n in range(CATEGORIES))
        yield from (list_path(n, page) for n in range(self.shelves) for page in range(self.lists(n)))
        yield from (info_path(n) for n in range(self.infos))
        yield from (product_path(n) for n in range(self.products))


def shop_of(pages: int) -> Shop:
    """Return the shop that has exactly so many pages; what is left over becomes pages of information."""
    products = pages
    while True:
        shop = Shop(pages, products, 0)
        others = 1 + CATEGORIES + sum(shop.lists(n) for n in range(shop.shelves))
        if products + others + INFOS <= pages:
            return Shop(pages, products, pages - products - others)
        products -= max(1, (products + others + INFOS - pages) // 2)
        if products < SHELVES_AT_LEAST:
            raise ValueError(f"a shop has at least 100 pages, not {pages}")


def category_path(number: int) -> str:
    """Return where a category is."""
    return f"/c/{number}.html"


def list_path(shelf: int, page: int) -> str:
    """Return where a page of a subcategory's list is."""
    return f"/s/{shelf}/{page + 1}.html"


def info_path(number: int) -> str:
    """Return where a page of information is."""
    return f"/info/{number}.html"


def product_path(number: int) -> str:
    """Return where a product is."""
    return f"/p/{number // 1000}/{number}.html"


def product(number: int) -> dict[str, str]:
    """Return the five fields of a product, as a crawler must find them."""
    dice = random.Random(number)
    return {
        "title": f"{dice.choice(_ADJECTIVES).title()} {dice.choice(_NOUNS)} no. {number}",
        "price": f"{dice.randrange(3, 900)}.{dice.randrange(100):02d} EUR",
        "sku": f"SKU-{number:07d}",
        "stock": dice.choice(_STOCKS),
        "brand": dice.choice(_MAKERS),
    }


def page(shop: Shop, path: str) -> str:
    """Return the HTML of a page."""
    kind, *numbers = path.removesuffix(".html").strip("/").split("/")
    dice = random.Random(path)
    match kind:
        case "p":
            title, trail, body = _product(shop, int(numbers[-1]), dice)
        case "s":
            title, trail, body = _list(shop, int(numbers[0]), int(numbers[1]) - 1, dice)
        case "c":
            title, trail, body = _category(shop, int(numbers[0]), dice)
        case "info":
            title, trail, body = f"Information {numbers[0]}", "", _prose(dice, 24)
        case _:
            title, trail, body = "The shop", "", _prose(dice, 10) + _cards(_some(shop, dice, 30), dice)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{title} - The shop</title>\n'
        f'<meta name="description" content="{_sentence(dice)}">\n</head>\n<body class="page page--{kind}">\n'
        f'{_HEAD}\n<nav class="breadcrumbs" aria-label="Breadcrumbs"><a href="{START}">Home</a>{trail}</nav>\n'
        f'<main id="content" class="content">\n{body}\n</main>\n{_foot(shop)}\n</body>\n</html>\n'
    )


def _link(path: str, text: str, name: str) -> str:
    return f'<a class="{name}" href="{path}">{text}</a>'


def _sentence(dice: random.Random) -> str:
    return " ".join(dice.choices(_WORDS, k=dice.randrange(9, 18))).capitalize() + "."


def _prose(dice: random.Random, paragraphs: int) -> str:
    return "\n".join(
        f'<p class="prose__paragraph">{" ".join(_sentence(dice) for _ in range(5))}</p>' for _ in range(paragraphs)
    )


def _some(shop: Shop, dice: random.Random, count: int) -> list[int]:
    return [dice.randrange(shop.products) for _ in range(count)]


_HEAD = (
    '<header class="header"><div class="header__inner">\n'
    f'<a class="header__logo" href="{START}"><span class="visually-hidden">The shop</span></a>\n'
    '<form class="search" action="/search"><input class="search__field" type="search" name="q"></form>\n'
    '<nav class="menu" aria-label="Menu"><ul class="menu__list">\n'
    + "\n".join(
        f'<li class="menu__entry">{_link(category_path(n), f"{_NOUNS[n].title()}s and more", "menu__link")}</li>'
        for n in range(CATEGORIES)
    )
    + "\n</ul></nav></div></header>"
)


def _foot(shop: Shop) -> str:
    links = "\n".join(
        f'<li class="footer__entry">{_link(info_path(n), f"Information {n}", "footer__link")}</li>'
        for n in range(shop.infos)
    )
    return (
        f'<footer class="footer"><ul class="footer__list">\n{links}\n</ul>\n'
        '<p class="footer__contact">Write to <a href="mailto:shop@shop.example">us</a>, or go '
        '<a href="#content">to the top</a>.</p></footer>'
    )


def _cards(numbers: list[int], dice: random.Random) -> str:
    cards = []
    for number in numbers:
        path, seen = product_path(number), product(number)
        cards.append(
            f'<li class="card" data-number="{number}"><a class="card__picture" href="{path}"><span '
            f'class="card__image card__image--{number % 40}"></span></a>\n<h3 class="card__title">'
            f'{_link(path, seen["title"], "card__link")}</h3><p class="card__price">{seen["price"]}</p>\n'
            f'<p class="card__words">{_sentence(dice)} {_sentence(dice)}</p></li>'
        )
    return '<ul class="cards">\n' + "\n".join(cards) + "\n</ul>"


def _category(shop: Shop, number: int, dice: random.Random) -> tuple[str, str, str]:
    shelves = "\n".join(
        f'<li class="shelves__entry">{_link(list_path(n, 0), f"Shelf {n}", "shelves__link")}</li>'
        for n in range(number, shop.shelves, CATEGORIES)
    )
    title = f"{_NOUNS[number].title()}s and more"
    body = f'<h1>{title}</h1>\n<ul class="shelves">\n{shelves}\n</ul>\n{_cards(_some(shop, dice, 24), dice)}\n'
    return title, _trail(number), body + _prose(dice, 8)


def _trail(category: int) -> str:
    return " / " + _link(category_path(category), f"{_NOUNS[category].title()}s and more", "breadcrumbs__link")


def _list(shop: Shop, shelf: int, at: int, dice: random.Random) -> tuple[str, str, str]:
    last = shop.lists(shelf) - 1
    near = sorted({0, last, *(n for n in range(at - 3, at + 4) if 0 <= n <= last)})
    pages = "\n".join(_link(list_path(shelf, n), str(n + 1), "pagination__link") for n in near if n != at)
    shown = shop.on_shelf(shelf)[at * LISTED : (at + 1) * LISTED]
    body = (
        f'<h1>Shelf {shelf}, page {at + 1}</h1>\n{_cards(list(shown), dice)}\n<nav class="pagination">\n{pages}\n</nav>'
    )
    return f"Shelf {shelf}, page {at + 1}", _trail(shelf % CATEGORIES), f"{body}\n{_prose(dice, 4)}"


def _product(shop: Shop, number: int, dice: random.Random) -> tuple[str, str, str]:
    seen = product(number)
    shelf = number % shop.shelves
    rows = "\n".join(
        f'<tr class="specs__row"><th class="specs__name">{dice.choice(_WORDS).title()} {n}</th>'
        f'<td class="specs__value">{dice.randrange(1, 900)} mm, {dice.choice(_WORDS)}</td></tr>'
        for n in range(18)
    )
    reviews = "\n".join(
        f'<article class="review"><h3 class="review__title">{dice.choice(_MAKERS)} writes</h3><p class="review__stars">'
        f'{dice.randrange(1, 6)} of 5</p><p class="review__text">{_sentence(dice)} {_sentence(dice)}</p></article>'
        for _ in range(10)
    )
    body = (
        f'<article class="product" data-number="{number}">\n<h1 class="product__title">{seen["title"]}</h1>\n'
        f'<p class="product__price"><span class="amount">{seen["price"]}</span></p>\n'
        f'<p class="product__sku">Number: <span class="sku">{seen["sku"]}</span></p>\n'
        f'<p class="product__stock">{seen["stock"]}</p>\n'
        f'<p class="product__brand">By <span class="brand">{seen["brand"]}</span></p>\n'
        f'<p><a href="#reviews">What others say</a></p>\n<div class="product__description">{_prose(dice, 6)}</div>\n'
        f'<table class="specs">\n{rows}\n</table>\n<section id="reviews" class="reviews">\n{reviews}\n</section>\n</article>\n'
        f'<section class="related"><h2>Others look at</h2>\n{_cards(_some(shop, dice, 22), dice)}\n</section>'
    )
    trail = _trail(shelf % CATEGORIES) + " / " + _link(list_path(shelf, 0), f"Shelf {shelf}", "breadcrumbs__link")
    return seen["title"], trail, body


def build(pages: int, root: Path) -> Shop:
    """Write all pages of a shop, compressed, and return it."""
    shop = shop_of(pages)
    paths = list(shop.paths())
    for folder in {str(Path(path).parent) for path in paths}:
        (root / folder.strip("/")).mkdir(parents=True, exist_ok=True)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for _ in pool.imap_unordered(partial(_write, shop, root), paths, chunksize=200):
            pass
    return shop


def _write(shop: Shop, root: Path, path: str) -> None:
    file = root / (path.strip("/") + ".gz")
    file.write_bytes(gzip.compress(page(shop, path).encode(), COMPRESSION, mtime=0))
