with history as (
    select
        product_id,
        min(dbt_valid_from) as first_seen_at,
        max(dbt_valid_to) as last_closed_at
    from {{ ref("snap_bookshop__prices") }}
    group by product_id
),

{%- set facts = [
    "product_id", "url", "upc_code", "title", "author_name", "publisher_name", "published_year", "language_code", "page_count",
    "category_name", "price", "currency_code", "stock_count", "is_in_stock", "star_count", "description", "cover_url",
] %}

last_versions as (
    select distinct on (product_id)
        {{ facts | join(", ") }}
    from {{ ref("snap_bookshop__prices") }}
    order by product_id, dbt_valid_from desc, dbt_valid_to desc nulls first
),

known as (
    select
        {{ facts | join(", ") }},
        true as is_listed
    from {{ ref("stg_bookshop__products") }}
    union all
    -- What left the shelves is known from history alone.
    select
        {{ facts | join(", ") }},
        false as is_listed
    from last_versions
    where product_id not in (select products.product_id from {{ ref("stg_bookshop__products") }} as products)
),

-- `materialized`: Postgres would otherwise fold each name once for every column that is made of its key.
named as materialized (
    select
        known.*,
        {{ display_name("known.author_name") }} as author_display_name,
        history.first_seen_at,
        case when not known.is_listed then history.last_closed_at end as delisted_at
    from known
    inner join history on known.product_id = history.product_id
),

keyed as materialized (
    select
        *,
        {{ title_key("title") }} as title_key,
        {{ title_key(main_title("title")) }} as main_title_key,
        {{ name_key("author_display_name") }} as author_key
    from named
)

select
    *,
    {{ last_name("author_key") }} as author_last_name,
    {{ first_name("author_key") }} as author_first_name,
    {{ initials_key("author_key") }} as author_initials_key
from keyed
