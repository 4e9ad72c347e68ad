-- The last price changes, largest drop first.
select
    prices.valid_from,
    books.title,
    prices.previous_price,
    prices.price,
    prices.price_change_percent
from {{ ref("fct_prices") }} as prices
inner join {{ ref("dim_books") }} as books on prices.book_id = books.book_id
where prices.previous_price is not null and prices.is_current
order by prices.valid_from desc, prices.price_change_percent asc
