with keyed as materialized (
    select
        books.*,
        {{ title_key("books.title") }} as title_key,
        {{ title_key(main_title("books.title")) }} as main_title_key,
        lead_authors.author_id as lead_author_id
    from {{ ref("stg_gutenberg__books") }} as books
    left join lateral (
        select authors.author_id
        from {{ ref("int_catalogue_authors_keyed") }} as authors
        where authors.gutenberg_id = books.gutenberg_id
        order by authors.position
        limit 1
    ) as lead_authors on true
),

anchored as (
    select
        *,
        -- Records of one title, author and language are editions of one book, named after the oldest record. Without
        -- title or author nothing says that two records are one book.
        case
            when title_key is null or lead_author_id is null then gutenberg_id
            else min(gutenberg_id) over (partition by title_key, lead_author_id, language_code)
        end as anchor_id
    from keyed
)

select
    gutenberg_id,
    {{ surrogate_key(["'gutenberg'", "anchor_id"]) }} as book_id,
    title_key,
    main_title_key,
    lead_author_id,
    language_code,
    is_withdrawn,
    row_number() over (
        partition by anchor_id
        order by is_withdrawn, download_count desc nulls last, gutenberg_id
    ) = 1 as is_primary
from anchored
