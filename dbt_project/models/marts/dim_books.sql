with labels as (
    select
        gutenberg_id,
        jsonb_agg(label_name order by position) filter (where label_type = 'subject') as subjects,
        jsonb_agg(label_name order by position) filter (where label_type = 'bookshelf') as bookshelves
    from {{ ref("stg_gutenberg__labels") }}
    group by gutenberg_id
),

languages as (
    select
        gutenberg_id,
        jsonb_agg(language_code order by position) as language_codes
    from {{ ref("stg_gutenberg__languages") }}
    group by gutenberg_id
),

authors as (
    select
        book_id,
        string_agg(author_name, '; ' order by position, author_name) as author_names
    from {{ ref("int_book_authors_unified") }}
    group by book_id
)

select
    books.book_id,
    coalesce(catalogue.title, products.title, '(untitled)') as title,
    authors.author_names,
    coalesce(catalogue.language_code, products.language_code) as language_code,
    coalesce(
        languages.language_codes,
        case when products.language_code is not null then jsonb_build_array(products.language_code) end,
        '[]'::jsonb
    ) as language_codes,
    coalesce(labels.subjects, '[]'::jsonb) as subjects,
    coalesce(labels.bookshelves, '[]'::jsonb) as bookshelves,
    products.category_name,
    coalesce(products.description, catalogue.summary) as description,
    catalogue.issued_date,
    products.publisher_name,
    products.published_year,
    products.page_count,
    coalesce(products.cover_url, catalogue.cover_url) as cover_url,
    catalogue.epub_url,
    books.match_kind,
    books.gutenberg_id,
    books.gutenberg_ids,
    books.product_id,
    products.upc_code,
    books.is_withdrawn,
    books.is_listed,
    (case when books.is_listed then products.price end)::numeric(10, 2) as price,
    case when books.is_listed then products.currency_code end as currency_code,
    coalesce(books.is_listed and products.is_in_stock, false) as is_in_stock
from {{ ref("int_books_unified") }} as books
left join {{ ref("stg_gutenberg__books") }} as catalogue on books.gutenberg_id = catalogue.gutenberg_id
left join {{ ref("int_products_known") }} as products on books.product_id = products.product_id
left join labels on books.gutenberg_id = labels.gutenberg_id
left join languages on books.gutenberg_id = languages.gutenberg_id
left join authors on books.book_id = authors.book_id
