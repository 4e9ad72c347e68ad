select
    user_id,
    book_id as gutenberg_id,
    rating::integer as rating,
    rated_at,
    coalesce(rating between 1 and 5 and rated_at is not null, false) as is_valid,
    _load_id
from {{ source("raw", "uploads__ratings") }}
