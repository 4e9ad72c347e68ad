with catalogue as (
    select
        book_id,
        min(gutenberg_id) filter (where is_primary) as gutenberg_id,
        jsonb_agg(gutenberg_id order by gutenberg_id) as gutenberg_ids,
        bool_and(is_withdrawn) as is_withdrawn
    from {{ ref("int_catalogue_books_grouped") }}
    group by book_id
),

products as (
    select
        matched.book_id,
        matched.product_id,
        known.is_listed,
        row_number() over (
            partition by matched.book_id
            order by known.is_listed desc, known.is_in_stock desc, known.price asc nulls last, matched.product_id
        ) as place
    from {{ ref("int_products_matched") }} as matched
    inner join {{ ref("int_products_known") }} as known on matched.product_id = known.product_id
),

shop as (
    select
        book_id,
        min(product_id) filter (where place = 1) as product_id,
        count(*)::integer as product_count,
        bool_or(is_listed) as is_listed
    from products
    group by book_id
)

select
    coalesce(catalogue.book_id, shop.book_id) as book_id,
    case
        when shop.book_id is null then 'catalogue_only'
        when catalogue.book_id is null then 'shop_only'
        else 'both'
    end as match_kind,
    catalogue.gutenberg_id,
    coalesce(catalogue.gutenberg_ids, '[]'::jsonb) as gutenberg_ids,
    shop.product_id,
    coalesce(shop.product_count, 0) as product_count,
    coalesce(catalogue.is_withdrawn, false) as is_withdrawn,
    coalesce(shop.is_listed, false) as is_listed
from catalogue
full join shop on catalogue.book_id = shop.book_id
