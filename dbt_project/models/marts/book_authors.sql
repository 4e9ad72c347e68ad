select
    book_id,
    author_id,
    position
from {{ ref("int_book_authors_unified") }}
