select
    author_id,
    mode() within group (order by author_name) as author_name,
    min(birth_year) as birth_year,
    max(death_year) as death_year,
    count(distinct book_id)::integer as book_count
from {{ ref("int_book_authors_unified") }}
group by author_id
