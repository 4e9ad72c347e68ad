"""A warehouse whose raw tables hold a revision of the sample world, without fetching or loading; dbt to run on it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from psycopg import sql

from dagster_project.dbt_assets.process import start
from dagster_project.dbt_assets.program import command, environment, project_options
from dagster_project.sample.catalogue import record_of
from dagster_project.sample.ratings import Rating, Readers
from dagster_project.sample.shop import Product
from dagster_project.sample.world import World
from dagster_project.settings import Settings
from dagster_project.warehouse.connection import connect

TABLES = {
    "gutenberg__books": "id bigint primary key, title text, authors jsonb, translators jsonb, editors jsonb, "
    "subjects jsonb, bookshelves jsonb, languages jsonb, summaries jsonb, formats jsonb, copyright boolean, "
    "media_type text, download_count bigint, issued date, updated_at timestamptz, withdrawn boolean",
    "bookshop__products": "url text, upc text primary key, title text, author text, publisher text, year bigint, "
    "language text, pages bigint, category text, price numeric, currency text, availability text, stock bigint, "
    "stars bigint, description text, cover_url text",
    "uploads__ratings": "user_id bigint, book_id bigint, rating bigint, rated_at timestamptz, "
    "primary key (user_id, book_id)",
}
KEYS = {"gutenberg__books": ["id"], "bookshop__products": ["upc"], "uploads__ratings": ["user_id", "book_id"]}


@dataclass
class Warehouse:
    """A database with the raw tables of the cards, and a folder where dbt may write."""

    settings: Settings
    database: str
    folder: Path
    results: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Of the last call of dbt: node -> its result."""

    @property
    def place(self) -> Settings:
        """The same with a data directory of its own, where a preloaded dbt may listen."""
        return self.settings.model_copy(update={"data_dir": self.folder, "secrets_dir": self.settings.secrets_path})

    def create_tables(self) -> None:
        """Make the raw tables as the loader does where nothing has come yet."""
        with connect(self.settings, "loader", self.database) as connection:
            for table, columns in TABLES.items():
                connection.execute(f"create table raw.{table} ({columns}, _load_id bigint not null)")

    def load(self, table: str, rows: Iterable[dict[str, Any]], *, at: str, delete_missing: bool = False) -> int:
        """Merge rows as one load that committed at a time; unchanged rows aren't touched. Gives the load's number."""
        given = list(rows)
        names = [name for name in given[0] if name != "_load_id"]
        columns = sql.SQL(", ").join(map(sql.Identifier, names))
        target, keys = sql.Identifier("raw", table), sql.SQL(", ").join(map(sql.Identifier, KEYS[table]))
        same = sql.SQL(" and ").join(
            sql.SQL("target.{0} = given.{0}").format(sql.Identifier(key)) for key in KEYS[table]
        )
        with connect(self.settings, "loader", self.database) as connection:
            found = connection.execute(
                "insert into bindery.loads (source, kind, status, started_at, finished_at) "
                "values (%s, 'load', 'committed', %s, %s) returning load_id",
                [table.partition("__")[0], at, at],
            ).fetchone()
            assert found is not None
            load_id = int(found[0])
            connection.execute(sql.SQL("create temporary table given (like {}) on commit drop").format(target))
            copy = sql.SQL("copy given ({}, _load_id) from stdin").format(columns)
            with connection.cursor() as cursor, cursor.copy(copy) as lines:
                for row in given:
                    lines.write_row([*(_text(row[name]) for name in names), load_id])
            connection.execute(
                sql.SQL(
                    "insert into {0} as target ({1}, _load_id) select {1}, _load_id from given on conflict ({2}) "
                    "do update set ({1}, _load_id) = ({3}, excluded._load_id) where ({4}) is distinct from ({3})"
                ).format(
                    target,
                    columns,
                    keys,
                    sql.SQL(", ").join(sql.Identifier("excluded", name) for name in names),
                    sql.SQL(", ").join(sql.Identifier("target", name) for name in names),
                )
            )
            if delete_missing:
                connection.execute(
                    sql.SQL("delete from {} as target where not exists (select 1 from given where {})").format(
                        target, same
                    )
                )
        return load_id

    def load_world(self, world: World, *, at: str) -> None:
        """Load what the sources give in a revision."""
        self.load("gutenberg__books", map(record_of, world.catalogue.slice(0, world.catalogue.count())), at=at)
        products = world.shop.slice(0, world.shop.count())
        self.load("bookshop__products", map(product_row, products), at=at, delete_missing=True)
        self.load("uploads__ratings", [rating._asdict() for rating in last_ratings(world).values()], at=at)

    def dbt(self, *arguments: str, succeeds: bool = True) -> str:
        """Run dbt as the transformer; give what it printed."""
        call = [*command(self.settings), *arguments, *project_options(self.settings, self.folder)]
        process = start(
            self.place,
            [*call, "--log-path", str(self.folder / "logs")],
            environment(self.settings, self.database),
            self.settings.dbt_project_dir,
            self.folder,
        )
        assert process.stdout is not None
        with process.stdout:
            printed = process.stdout.read()
        assert (process.wait() == 0) is succeeds, printed
        if (self.folder / "run_results.json").exists():
            told = json.loads((self.folder / "run_results.json").read_text())
            self.results = {each["unique_id"]: each for each in told["results"]}
        return printed

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """Ask the warehouse, as the transformer."""
        with connect(self.settings, "transformer", self.database) as connection:
            return connection.execute(query.encode()).fetchall()

    def one(self, query: str) -> Any:
        """Ask for one value."""
        return self.rows(query)[0][0]


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, dict)) else value


def product_row(product: Product) -> dict[str, Any]:
    """Give what the bookshop's card reads from a product's page."""
    return {
        "url": product_url(product), "upc": product.upc, "title": product.title, "author": product.author,
        "publisher": product.publisher, "year": product.year, "language": product.language, "pages": product.pages,
        "category": product.work.category, "price": product.price.removeprefix("£"), "currency": "GBP",
        "availability": "In stock", "stock": product.stock, "stars": product.stars, "description": None,
        "cover_url": f"http://127.0.0.1:7777/media/{product.number}.png",
    }  # fmt: skip


def product_url(product: Product) -> str:
    """Give the address of a product's page."""
    return f"http://127.0.0.1:7777/catalogue/{product.slug}/index.html"


def last_ratings(world: World) -> dict[tuple[int, int], Rating]:
    """Give each reader's last rating of each book, from all revisions up to the world's."""
    readers, last = Readers(world), dict[tuple[int, int], Rating]()
    for user in range(1, readers.count + 1):
        given = list(readers.at_first(user))
        for revision in range(2, world.revision + 1):
            given += readers.new_in(user, revision)
            given += readers.corrected_in(user, revision)
            given += readers.late_in(user, revision)
        for rating in given:
            known = last.get((user, rating.book_id))
            if known is None or known.rated_at <= rating.rated_at:
                last[user, rating.book_id] = rating
    return last


def moment(text: str) -> datetime:
    """Read an ISO time."""
    return datetime.fromisoformat(text)
