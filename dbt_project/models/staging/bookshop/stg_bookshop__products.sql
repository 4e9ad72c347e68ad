with products as (
    select
        products.*,
        -- The page's path: the same product whatever address the shop is served at.
        {{ surrogate_key(["regexp_replace(products.url, '^[a-z]+://[^/]+', '')"]) }} as product_id,
        coalesce(load_times.finished_at, now()) as loaded_at
    from {{ source("raw", "bookshop__products") }} as products
    left join {{ load_times() }} as load_times on products._load_id = load_times.load_id
),

latest as (
    select distinct on (product_id) *
    from products
    order by product_id, _load_id desc, url
)

select
    product_id,
    url,
    upper({{ tidy_text("upc") }}) as upc_code,
    {{ tidy_text("title") }} as title,
    -- Several authors are separated by a semicolon; the first one stands for the book, as in the catalogue.
    {{ tidy_text("split_part(author, ';', 1)") }} as author_name,
    {{ tidy_text("publisher") }} as publisher_name,
    year::integer as published_year,
    {{ language_code("language") }} as language_code,
    pages::integer as page_count,
    -- Shelves that say nothing.
    nullif(nullif({{ tidy_text("category") }}, 'Default'), 'Add a comment') as category_name,
    price::numeric(10, 2) as price,
    upper({{ tidy_text("currency") }}) as currency_code,
    coalesce(stock, 0) as stock_count,
    coalesce(stock > 0, lower(availability) like 'in stock%', false) as is_in_stock,
    stars::smallint as star_count,
    {{ tidy_text("description") }} as description,
    {{ tidy_text("cover_url") }} as cover_url,
    loaded_at,
    _load_id
from latest
