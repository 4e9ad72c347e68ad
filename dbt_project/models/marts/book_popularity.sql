{%- set prior = var("popularity_prior_ratings") -%}

-- Who rated two editions of one book counts once, with the later rating.
with ratings as (
    select distinct on (book_id, user_id)
        book_id,
        user_id,
        rating,
        rated_at
    from {{ ref("fct_ratings") }}
    where book_id is not null
    order by book_id, user_id, rated_at desc, gutenberg_id
),

per_book as (
    select
        book_id,
        count(*) as ratings_count,
        sum(rating) as ratings_sum,
        max(rated_at) as last_rated_at
    from ratings
    group by book_id
),

overall as (
    select avg(rating) as mean_rating
    from ratings
),

downloads as (
    select
        grouped.book_id,
        sum(books.download_count)::bigint as download_count
    from {{ ref("int_catalogue_books_grouped") }} as grouped
    inner join {{ ref("stg_gutenberg__books") }} as books on grouped.gutenberg_id = books.gutenberg_id
    group by grouped.book_id
),

measured as (
    select
        books.book_id,
        books.is_withdrawn,
        coalesce(per_book.ratings_count, 0) as ratings_count,
        round(per_book.ratings_sum::numeric / per_book.ratings_count, 4) as average_rating,
        -- (prior * mean of all + sum of the book) / (prior + count of the book)
        round(
            ({{ prior }} * overall.mean_rating + coalesce(per_book.ratings_sum, 0))
            / ({{ prior }} + coalesce(per_book.ratings_count, 0)), 4
        ) as bayesian_rating,
        coalesce(downloads.download_count, 0) as download_count,
        per_book.last_rated_at
    from {{ ref("dim_books") }} as books
    cross join overall
    left join per_book on books.book_id = per_book.book_id
    left join downloads on books.book_id = downloads.book_id
)

select
    book_id,
    ratings_count,
    average_rating::numeric(6, 4) as average_rating,
    bayesian_rating::numeric(6, 4) as bayesian_rating,
    download_count,
    last_rated_at,
    case
        when not is_withdrawn
            then row_number() over (
                partition by is_withdrawn
                order by bayesian_rating desc nulls last, ratings_count desc, download_count desc, book_id
            )
    end as popularity_rank
from measured
