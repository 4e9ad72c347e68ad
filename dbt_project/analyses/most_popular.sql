-- What readers like best, with what it costs now.
select
    popularity.popularity_rank,
    books.title,
    books.author_names,
    popularity.bayesian_rating,
    popularity.ratings_count,
    books.price,
    books.currency_code
from {{ ref("book_popularity") }} as popularity
inner join {{ ref("dim_books") }} as books on popularity.book_id = books.book_id
where popularity.popularity_rank <= 20
order by popularity.popularity_rank
