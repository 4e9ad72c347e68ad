{{ config(
    materialized="incremental",
    incremental_strategy="merge",
    unique_key=["user_id", "gutenberg_id"],
    on_schema_change="fail",
    pre_hook="{{ forget_vanished_ratings() }}",
) }}

with ratings as (
    select * from {{ ref("stg_uploads__ratings") }}
    where is_valid
),

books as (
    select
        gutenberg_id,
        book_id
    from {{ ref("int_catalogue_books_grouped") }}
)

{%- if is_incremental() %},

-- Corrected and late ratings come in a newer load, whatever their own time says.
last_load as (
    select coalesce(max(_load_id), 0) as load_id
    from {{ this }}
),

-- Records that were catalogued, or joined to another book, after they were rated.
moved as (
    select distinct known.gutenberg_id
    from {{ this }} as known
    left join books on known.gutenberg_id = books.gutenberg_id
    where known.book_id is distinct from books.book_id
)
{%- endif %}

select
    ratings.user_id,
    ratings.gutenberg_id,
    books.book_id,
    ratings.rating::smallint as rating,
    ratings.rated_at,
    ratings._load_id
from ratings
left join books on ratings.gutenberg_id = books.gutenberg_id
{%- if is_incremental() %}
where
    ratings._load_id > (select last_load.load_id from last_load)
    or ratings.gutenberg_id in (select moved.gutenberg_id from moved)
{%- endif %}
