-- fct_ratings follows the catalogue alone, so that a broken shop doesn't stop it; here both meet.
select distinct ratings.book_id
from {{ ref("fct_ratings") }} as ratings
left join {{ ref("dim_books") }} as books on ratings.book_id = books.book_id
where ratings.book_id is not null and books.book_id is null
