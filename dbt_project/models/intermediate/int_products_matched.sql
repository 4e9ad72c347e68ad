{#- Two languages that are both known must be the same. -#}
{%- set same_language = "(products.language_code = books.language_code) is not false" -%}

with products as (
    select * from {{ ref("int_products_known") }}
),

books as (
    select * from {{ ref("int_catalogue_books_grouped") }}
),

authors as (
    select * from {{ ref("int_catalogue_authors_keyed") }}
),

candidates as (
    select
        products.product_id,
        books.book_id,
        1 as preference,
        coalesce(products.language_code = books.language_code, false) as is_same_language
    from products
    inner join books on products.title_key = books.title_key and {{ same_language }}
    inner join authors on
        books.gutenberg_id = authors.gutenberg_id
        and products.author_last_name = authors.last_name
        and {{ first_names_agree("products.author_first_name", "authors.first_name") }}

    union all

    -- One of the two says no subtitle, or less of it: two different subtitles are two volumes.
    select
        products.product_id,
        books.book_id,
        2 as preference,
        coalesce(products.language_code = books.language_code, false) as is_same_language
    from products
    inner join books on
        products.main_title_key = books.main_title_key
        and (
            starts_with(products.title_key, books.title_key || ' ')
            or starts_with(books.title_key, products.title_key || ' ')
        )
        and {{ same_language }}
    inner join authors on
        books.gutenberg_id = authors.gutenberg_id
        and products.author_last_name = authors.last_name
        and {{ first_names_agree("products.author_first_name", "authors.first_name") }}

    union all

    -- The shop names no author: the whole title must be the same, and long enough to mean one book.
    select
        products.product_id,
        books.book_id,
        3 as preference,
        coalesce(products.language_code = books.language_code, false) as is_same_language
    from products
    inner join books on
        products.author_key is null
        and products.title_key = books.title_key
        and (products.title_key like '% %' or books.lead_author_id is null)
        and {{ same_language }}
),

ranked as (
    select
        *,
        dense_rank() over (
            partition by product_id
            order by preference, is_same_language desc
        ) as place
    from candidates
),

best as (
    select
        product_id,
        min(preference) as preference,
        count(distinct book_id) as candidate_count,
        min(book_id) as book_id
    from ranked
    where place = 1
    group by product_id
),

judged as (
    select
        products.product_id,
        case
            when best.candidate_count is null then 'none'
            -- A wrong price on a book is worse than none: what could be two books is neither.
            when best.candidate_count > 1 then 'ambiguous'
            when best.preference = 1 then 'title_and_author'
            when best.preference = 2 then 'main_title_and_author'
            else 'title_alone'
        end as match_rule,
        coalesce(best.candidate_count, 0)::integer as candidate_count,
        case when best.candidate_count = 1 then best.book_id end as catalogue_book_id,
        -- Products of one title, author and language are one book of the shop's, named after the first that was seen.
        case
            when products.title_key is null or products.author_key is null then products.product_id
            else first_value(products.product_id) over (
                partition by products.title_key, products.author_key, products.language_code
                order by products.first_seen_at, products.product_id
            )
        end as anchor_id
    from products
    left join best on products.product_id = best.product_id
)

select
    product_id,
    match_rule,
    candidate_count,
    coalesce(catalogue_book_id, {{ surrogate_key(["'bookshop'", "anchor_id"]) }}) as book_id,
    catalogue_book_id is not null as is_in_catalogue,
    catalogue_book_id is null and anchor_id = product_id as is_anchor
from judged
