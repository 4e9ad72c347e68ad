"""The HTML of the bookshop: the structure and CSS classes of books.toscrape.com, so that one card reads both.

Pure functions from products to bytes; `root` is the relative way to the shop's top, so that the site works below any
prefix. Which URL shows what is decided in storefront.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from dagster_project.sample.shop import Product, description_of
from dagster_project.sample.spelling import slug_of

_STARS = ("Zero", "One", "Two", "Three", "Four", "Five")
_FIVE_ICONS = '<i class="icon-star"></i>' * 5
_NOTICE = (
    '<div class="alert alert-warning" role="alert"><strong>Warning!</strong> This is a sample shop for trying out a '
    "scraper. Titles and authors are real; prices, stock, stars, publishers, editions and covers are generated.</div>"
)
STYLES = b"""body{font:14px/1.5 Helvetica,Arial,sans-serif;margin:0;color:#333}
.page_inner{max-width:1170px;margin:0 auto;padding:0 15px}.header{border-bottom:1px solid #ddd;margin-bottom:1em}
ol.row,ul.breadcrumb,ul.pager,.nav-list,.nav-list ul{list-style:none;padding:0}ol.row{display:flex;flex-wrap:wrap}
ol.row li{width:180px;padding:12px}.product_pod h3{font-size:15px;height:3em;overflow:hidden}
.image_container img{height:200px}.breadcrumb li{display:inline}.breadcrumb li+li:before{content:" / "}
.sidebar{float:left;width:190px}.sidebar+div{margin-left:210px}.price_color{color:#2d7a2d;font-size:18px}
.pager li{display:inline;margin-right:1em}.alert{background:#fcf8e3;padding:8px 14px;margin:1em 0}
table{border-collapse:collapse}th,td{border:1px solid #ddd;padding:6px 14px;text-align:left}
.product_main,#product_gallery{display:inline-block;vertical-align:top;margin-right:30px}
.star-rating i:before{content:"\\2605";font-style:normal;color:#ccc}
.star-rating.One i:nth-child(-n+1):before,.star-rating.Two i:nth-child(-n+2):before,
.star-rating.Three i:nth-child(-n+3):before,.star-rating.Four i:nth-child(-n+4):before,
.star-rating.Five i:before{color:#e6a100}
"""


class Listing(NamedTuple):
    """One page of a list of products."""

    heading: str
    root: str
    """Way to the shop's top: "", "../", "../../../../"."""
    page_prefix: str
    """Way to the page-N.html of this list ("" or "catalogue/")."""
    page: int
    pages: int
    total: int
    products: Sequence[Product]
    categories: Sequence[tuple[str, int]]


def category_path(name: str, number: int) -> str:
    """Return a category's folder below the shop's top."""
    return f"catalogue/category/books/{slug_of(name)}_{number}"


def cover_path(product: Product) -> str:
    """Return the path of a product's cover below the shop's top; the name carries the product's number."""
    name = f"{product.upc}{product.number:016x}"
    return f"media/cache/{name[:2]}/{name[2:4]}/{name}.png"


def listing_page(listing: Listing) -> bytes:
    """Return a listing: 20 products, the categories, previous and next."""
    first = (listing.page - 1) * 20 + 1
    root = listing.root
    return _page(
        listing.heading,
        root,
        f"""<div class="container-fluid page"><div class="page_inner">
<ul class="breadcrumb">
<li><a href="{root}index.html">Home</a></li>
<li class="active">{escape(listing.heading)}</li>
</ul>
<div class="row">
<aside class="sidebar col-sm-4 col-md-3">
<div id="promotions_left"></div>
<div class="side_categories"><ul class="nav nav-list"><li>
<a href="{root}catalogue/category/books_1/index.html">Books</a>
<ul>
{_shelves(listing)}
</ul></li></ul></div>
</aside>
<div class="col-sm-8 col-md-9">
<div class="page-header action"><h1>{escape(listing.heading)}</h1></div>
<form method="get" class="form-horizontal"><strong>{listing.total}</strong> results - showing \
<strong>{first}</strong> to <strong>{first + len(listing.products) - 1}</strong>.</form>
<section>
{_NOTICE}
<div>
<ol class="row">
{"".join(_pod(product, root) for product in listing.products)}</ol>
{_pager(listing)}
</div>
</section>
</div>
</div><!-- /row -->
</div></div>
""",
    )


def product_page(product: Product, category_number: int) -> bytes:
    """Return a product's page."""
    root = "../../"
    title = escape(product.title)
    category = product.work.category
    availability = f"In stock ({product.stock} available)"
    rows = (
        ("UPC", product.upc),
        ("Product Type", "Books"),
        ("Price (excl. tax)", product.price),
        ("Price (incl. tax)", product.price),
        ("Tax", "£0.00"),
        ("Availability", availability),
        ("Number of reviews", "0"),
        ("Author", product.author),
        ("Publisher", product.publisher),
        ("Year", str(product.year)),
        ("Language", product.language),
        ("Pages", str(product.pages)),
    )
    table = "\n".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in rows)
    return _page(
        product.title,
        root,
        f"""<div class="container-fluid page"><div class="page_inner">
<ul class="breadcrumb">
<li><a href="{root}index.html">Home</a></li>
<li><a href="../category/books_1/index.html">Books</a></li>
<li><a href="{root}{category_path(category, category_number)}/index.html">{escape(category)}</a></li>
<li class="active">{title}</li>
</ul>
<div class="content"><div id="content_inner">
<article class="product_page"><!-- Start of product page -->
<div class="row">
<div class="col-sm-6"><div id="product_gallery" class="carousel"><div class="thumbnail"><div class="carousel-inner">
<div class="item active"><img src="{root}{cover_path(product)}" alt="{title}" /></div>
</div></div></div></div>
<div class="col-sm-6 product_main">
<h1>{title}</h1>
<p class="price_color">{product.price}</p>
<p class="instock availability">
    <i class="icon-ok"></i>
        {availability}
</p>
{_star_rating(product)}
<hr/>
<a href="{root}checkout/basket.html?add={product.number}" rel="nofollow" class="btn btn-primary">Add to basket</a>
{_NOTICE}
</div><!-- /col-sm-6 -->
</div><!-- /row -->
<div id="product_description" class="sub-header"><h2>Product Description</h2></div>
<p>{escape(description_of(product))}</p>
<div class="sub-header"><h2>Product Information</h2></div>
<table class="table table-striped">
{table}
</table>
</article><!-- End of product page -->
</div></div>
</div></div>
""",
    )


def plain_page(heading: str, text: str, root: str) -> bytes:
    """Return a page that says one thing (an error, the basket)."""
    return _page(
        heading,
        root,
        f"""<div class="container-fluid page"><div class="page_inner">
<h1>{escape(heading)}</h1>
<p>{escape(text)}</p>
</div></div>
""",
    )


def _page(title: str, root: str, body: str) -> bytes:
    return f"""<!DOCTYPE html>
<html lang="en-us" class="no-js">
<head>
<title>
    {escape(title)} | Sample Bookshop - Sandbox
</title>
<meta http-equiv="content-type" content="text/html; charset=UTF-8" />
<meta name="viewport" content="width=device-width" />
<link rel="stylesheet" type="text/css" href="{root}static/oscar/css/styles.css" />
</head>
<body id="default" class="default">
<header class="header container-fluid"><div class="page_inner"><div class="row">
<div class="col-sm-8 h1"><a href="{root}index.html">Sample Bookshop</a><small> We love being scraped!</small></div>
</div></div></header>
{body}<footer class="footer container-fluid"></footer>
</body>
</html>
""".encode()


def _shelves(listing: Listing) -> str:
    return "\n".join(
        f'<li><a href="{listing.root}{category_path(name, number)}/index.html">{escape(name)}</a></li>'
        for name, number in listing.categories
    )


def _pod(product: Product, root: str) -> str:
    title = escape(product.title)
    link = f"{root}catalogue/{product.slug}/index.html"
    shown = title if len(product.title) <= 40 else f"{escape(product.title[:37])}..."
    return f"""<li class="col-xs-6 col-sm-4 col-md-3 col-lg-3">
<article class="product_pod">
<div class="image_container">
<a href="{link}"><img src="{root}{cover_path(product)}" alt="{title}" class="thumbnail"></a>
</div>
{_star_rating(product)}
<h3><a href="{link}" title="{title}">{shown}</a></h3>
<div class="product_price">
<p class="price_color">{product.price}</p>
<p class="instock availability">
    <i class="icon-ok"></i>
        In stock
</p>
</div>
</article>
</li>
"""


def _star_rating(product: Product) -> str:
    return f'<p class="star-rating {_STARS[product.stars]}">{_FIVE_ICONS}</p>'


def _pager(listing: Listing) -> str:
    if listing.pages == 1:
        return ""
    parts = ['<div><ul class="pager">']
    if listing.page > 1:
        previous = f"{listing.page_prefix}page-{listing.page - 1}.html"
        parts.append(f'<li class="previous"><a href="{previous}">previous</a></li>')
    parts.append(f'<li class="current">Page {listing.page} of {listing.pages}</li>')
    if listing.page < listing.pages:
        parts.append(f'<li class="next"><a href="{listing.page_prefix}page-{listing.page + 1}.html">next</a></li>')
    return "\n".join([*parts, "</ul></div>"])
